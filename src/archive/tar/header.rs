//! The fields of one header block, in all dialects that share its layout: V7, ustar, GNU, star.

use super::input::Block;

/// A header block whose checksum is right.
#[derive(Debug)]
pub(super) struct Header<'a> {
    fields: &'a tar::Header,
}

impl<'a> Header<'a> {
    /// Takes `block` for a header; none where its checksum is wrong.
    pub(super) fn new(block: &'a Block) -> Option<Self> {
        let header = Self { fields: tar::Header::from_byte_slice(block) };
        let stored = number(&header.fields.as_old().cksum)?;
        let field = &header.fields.as_old().cksum;
        let spaces = field.len() as i64 * i64::from(b' ');
        let sum = |bytes: &[u8]| i64::from(bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>());
        let unsigned = sum(block) - sum(field) + spaces;
        // Historic archivers summed signed characters.
        let signed_sum = |bytes: &[u8]| i64::from(bytes.iter().map(|&byte| i32::from(byte as i8)).sum::<i32>());
        let signed = || signed_sum(block) - signed_sum(field) + spaces;
        (stored == unsigned || stored == signed()).then_some(header)
    }

    pub(super) fn type_flag(&self) -> u8 {
        let [flag] = self.fields.as_old().linkflag;
        flag
    }

    /// The name, with the prefix that ustar splits off.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(&self.fields.as_old().name);
        let Some(ustar) = self.fields.as_ustar() else { return name.to_vec() };
        // star keeps times behind a shorter prefix and says so in the last four bytes.
        let is_star = self.fields.as_bytes().ends_with(b"tar\0");
        let prefix = if is_star { ustar.prefix.get(..STAR_PREFIX).unwrap_or_default() } else { &ustar.prefix };
        match text(prefix) {
            b"" => name.to_vec(),
            prefix => [prefix, name].join(&b'/'),
        }
    }

    pub(super) fn link_name(&self) -> &'a [u8] {
        text(&self.fields.as_old().linkname)
    }

    pub(super) fn size(&self) -> Option<u64> {
        number(&self.fields.as_old().size)?.try_into().ok()
    }

    pub(super) fn permissions(&self) -> Option<u16> {
        Some((number(&self.fields.as_old().mode)? & 0o7777) as u16)
    }

    pub(super) fn uid(&self) -> Option<u32> {
        number(&self.fields.as_old().uid)?.try_into().ok()
    }

    pub(super) fn gid(&self) -> Option<u32> {
        number(&self.fields.as_old().gid)?.try_into().ok()
    }

    /// Seconds since the epoch.
    pub(super) fn mtime(&self) -> Option<i64> {
        number(&self.fields.as_old().mtime)
    }

    /// Times of last access and change, where a GNU header has them (incremental archives).
    pub(super) fn gnu_times(&self) -> (Option<i64>, Option<i64>) {
        let Some(gnu) = self.fields.as_gnu() else { return (None, None) };
        let time = |field: &[u8; 12]| number(field).filter(|_| field[0] != 0);
        (time(&gnu.atime), time(&gnu.ctime))
    }

    /// Major and minor number of a device. V7 headers have none: zeros.
    pub(super) fn device(&self) -> Option<(u32, u32)> {
        let (major, minor) = match (self.fields.as_ustar(), self.fields.as_gnu()) {
            (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
            (None, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
            (None, None) => return Some((0, 0)),
        };
        Some((number(major)?.try_into().ok()?, number(minor)?.try_into().ok()?))
    }

    /// What an old GNU sparse header says: size of the file and the first pieces of the map.
    pub(super) fn gnu_sparse(&self) -> Option<(u64, SparseMap)> {
        let gnu = self.fields.as_gnu()?;
        let size = number(&gnu.realsize)?.try_into().ok()?;
        Some((size, (pieces(&gnu.sparse)?, gnu.is_extended())))
    }
}

/// A part of a sparse map: offset and length of each piece, and whether a further block of the map follows.
pub(super) type SparseMap = (Vec<(u64, u64)>, bool);

/// Bytes of the prefix in a header of star.
const STAR_PREFIX: usize = 131;

/// One further block of an old GNU sparse map.
pub(super) fn gnu_sparse_block(block: &Block) -> Option<SparseMap> {
    let mut header = tar::GnuExtSparseHeader::new();
    header.as_mut_bytes().copy_from_slice(block);
    Some((pieces(header.sparse())?, header.is_extended()))
}

fn pieces(fields: &[tar::GnuSparseHeader]) -> Option<Vec<(u64, u64)>> {
    fields
        .iter()
        .take_while(|piece| !piece.is_empty())
        .map(|piece| Some((number(&piece.offset)?.try_into().ok()?, number(&piece.numbytes)?.try_into().ok()?)))
        .collect()
}

/// The bytes of a field up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A numeric field: octal, padded with spaces or NULs, empty for 0; or, with the highest bit set, a big-endian number in
/// base 256 and two's complement (GNU).
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 == 0 {
        return octal(field);
    }
    // Bit 6 of the first byte is the sign.
    let first = i64::from((first << 1) as i8 >> 1);
    rest.iter().try_fold(first, |sum, &byte| sum.checked_mul(256)?.checked_add(i64::from(byte)))
}

fn octal(field: &[u8]) -> Option<i64> {
    let padding = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| !padding(byte)).unwrap_or(field.len());
    let digits = text(field.get(start..)?).trim_ascii_end();
    digits.iter().try_fold(0i64, |sum, &digit| match digit {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_octal_and_base_256() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"777777777777", Some(0o777_777_777_777)),
            (b"12x", None),
            (b"8", None),
            (b"\x80\0\0\0\0\x20\0\0", Some(0x20_0000)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00", Some(-256)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(number(field), expected, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn a_checksum_may_be_signed() {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[0] = 0xe4;
        header.set_cksum();
        assert!(Header::new(header.as_bytes()).is_some());
        let unsigned = header.cksum().unwrap();
        header.as_old_mut().cksum.copy_from_slice(format!("{:06o}\0 ", unsigned - 256).as_bytes());
        assert!(Header::new(header.as_bytes()).is_some());
        header.as_old_mut().cksum.copy_from_slice(format!("{:06o}\0 ", unsigned - 255).as_bytes());
        assert!(Header::new(header.as_bytes()).is_none());
        assert!(Header::new(&[b'x'; 512]).is_none());
    }
}
