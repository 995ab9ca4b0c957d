//! Extended headers: records `length key=value\n` (POSIX pax, "pax Extended Header").

use super::Xattr;
use crate::model::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// Namespace of extended attributes as star, GNU tar, Go and libarchive write them: raw value.
const SCHILY_XATTR: &[u8] = b"SCHILY.xattr.";

/// The same as libarchive also writes them: name percent-encoded, value in base64.
const LIBARCHIVE_XATTR: &[u8] = b"LIBARCHIVE.xattr.";

/// What extended headers say of an entry. Global headers and those of the entry are applied in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) device_major: Option<u64>,
    pub(super) device_minor: Option<u64>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) atime: Option<Timestamp>,
    pub(super) ctime: Option<Timestamp>,
    /// In the order of the records, a name possibly more than once; of the two notations the raw one wins.
    xattrs: Vec<(Xattr, XattrNotation)>,
    pub(super) sparse: SparseRecords,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum XattrNotation {
    Libarchive,
    Schily,
}

/// The records of GNU's sparse formats 0.0, 0.1 and 1.0 (GNU tar manual, "Storing Sparse Files").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SparseRecords {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    /// Size of the file, holes included.
    pub(super) size: Option<u64>,
    /// Offset and length of each piece (formats 0.0 and 0.1).
    pub(super) map: Option<Vec<(u64, u64)>>,
    /// An offset whose length is still to come (format 0.0).
    offset: Option<u64>,
}

/// A record that makes no sense; says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InvalidRecord(pub(super) &'static str);

impl Extended {
    /// Applies the records in `bytes`; an empty value takes back what was said before.
    pub(super) fn apply(&mut self, bytes: &[u8]) -> Result<(), InvalidRecord> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (key, value, after) = split_record(rest).ok_or(InvalidRecord("extended header"))?;
            self.apply_record(key, value)?;
            rest = after;
        }
        Ok(())
    }

    fn apply_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), InvalidRecord> {
        match key {
            b"path" => self.path = bytes(value),
            b"linkpath" => self.link_path = bytes(value),
            b"size" => self.size = decimal(value, "size")?,
            b"uid" => self.uid = decimal(value, "owner")?,
            b"gid" => self.gid = decimal(value, "group")?,
            b"SCHILY.devmajor" => self.device_major = decimal(value, "device number")?,
            b"SCHILY.devminor" => self.device_minor = decimal(value, "device number")?,
            b"mtime" => self.mtime = time(value)?,
            b"atime" => self.atime = time(value)?,
            b"ctime" => self.ctime = time(value)?,
            _ => {
                if let Some(name) = key.strip_prefix(SCHILY_XATTR) {
                    self.xattrs.push(((name.to_vec(), value.to_vec()), XattrNotation::Schily));
                } else if let Some(name) = key.strip_prefix(LIBARCHIVE_XATTR) {
                    let invalid = InvalidRecord("extended attribute");
                    let xattr = (percent_decode(name).ok_or(invalid)?, base64_decode(value).ok_or(invalid)?);
                    self.xattrs.push((xattr, XattrNotation::Libarchive));
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.apply(key, value)?;
                }
            }
        }
        Ok(())
    }

    /// The extended attributes, ordered by name, each once: the last of the stronger notation.
    pub(super) fn take_xattrs(&mut self) -> Vec<Xattr> {
        let mut xattrs = std::mem::take(&mut self.xattrs);
        xattrs.sort_by(|((one, _), first), ((two, _), second)| one.cmp(two).then(first.cmp(second)));
        let mut unique: Vec<Xattr> = Vec::with_capacity(xattrs.len());
        for (xattr, _) in xattrs {
            match unique.last_mut() {
                Some(last) if last.0 == xattr.0 => *last = xattr,
                _ => unique.push(xattr),
            }
        }
        unique
    }
}

impl SparseRecords {
    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), InvalidRecord> {
        const MAP: &str = "sparse map";
        match key {
            b"major" => self.major = decimal(value, MAP)?,
            b"minor" => self.minor = decimal(value, MAP)?,
            b"name" => self.name = bytes(value),
            b"size" | b"realsize" => self.size = decimal(value, MAP)?,
            b"offset" => self.offset = decimal(value, MAP)?,
            b"numbytes" => {
                let (Some(offset), Some(length)) = (self.offset.take(), decimal(value, MAP)?) else {
                    return Err(InvalidRecord(MAP));
                };
                self.map.get_or_insert_default().push((offset, length));
            }
            b"map" => self.map = parse_map(value)?,
            _ => {}
        }
        Ok(())
    }

    /// Whether any format of sparse file is described.
    pub(super) fn is_sparse(&self) -> bool {
        self.map.is_some() || self.major.is_some()
    }
}

fn parse_map(value: &[u8]) -> Result<Option<Vec<(u64, u64)>>, InvalidRecord> {
    let invalid = InvalidRecord("sparse map");
    if value.is_empty() {
        return Ok(None);
    }
    let numbers: Vec<u64> =
        value.split(|&byte| byte == b',').map(parse_decimal).collect::<Option<_>>().ok_or(invalid)?;
    let (pairs, []) = numbers.as_chunks::<2>() else { return Err(invalid) };
    Ok(Some(pairs.iter().map(|&[offset, length]| (offset, length)).collect()))
}

/// Key, value and what follows the first record of `bytes`.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(MAX_LENGTH_DIGITS + 1).position(|&byte| byte == b' ')?;
    let length: usize = parse_decimal(bytes.get(..space)?)?.try_into().ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=').filter(|at| *at > 0)?;
    Some((record.get(..equals)?, record.get(equals + 1..)?, rest))
}

/// Digits of the longest length that a record can have in an address space of 64 bits.
const MAX_LENGTH_DIGITS: usize = 20;

fn bytes(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty()).then(|| value.to_vec())
}

fn decimal(value: &[u8], field: &'static str) -> Result<Option<u64>, InvalidRecord> {
    if value.is_empty() {
        return Ok(None);
    }
    parse_decimal(value).map(Some).ok_or(InvalidRecord(field))
}

/// A number of decimal digits only.
pub(super) fn parse_decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, &digit| match digit {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

fn time(value: &[u8]) -> Result<Option<Timestamp>, InvalidRecord> {
    if value.is_empty() {
        return Ok(None);
    }
    parse_time(value).map(Some).ok_or(InvalidRecord("time"))
}

/// Seconds since the epoch with a sign and a fraction; digits beyond nanoseconds are dropped.
fn parse_time(value: &[u8]) -> Option<Timestamp> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |&byte| byte == b'.');
    let whole = i64::try_from(parse_decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds = fraction
        .iter()
        .chain(std::iter::repeat(&b'0'))
        .take(9)
        .fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanoseconds) {
        (false, _) => Timestamp { seconds: whole, nanoseconds },
        (true, 0) => Timestamp::from_seconds(-whole),
        (true, _) => Timestamp { seconds: (-whole).checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (code, after) = rest.split_at_checked(2)?;
        decoded.push(u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()?);
        rest = after;
    }
    Some(decoded)
}

/// libarchive leaves the padding out.
fn base64_decode(text: &[u8]) -> Option<Vec<u8>> {
    let engine = if text.ends_with(b"=") { STANDARD } else { STANDARD_NO_PAD };
    engine.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let digits = (1..9).find(|digits| (body.len() + digits).to_string().len() == *digits).unwrap();
        [(body.len() + digits).to_string().as_bytes(), &body].concat()
    }

    fn applied(records: &[(&str, &[u8])]) -> Result<Extended, InvalidRecord> {
        let mut extended = Extended::default();
        extended.apply(&records.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<_>>())?;
        Ok(extended)
    }

    #[test]
    fn records_are_split_by_length_not_by_lines() {
        let mut extended =
            applied(&[("SCHILY.xattr.user.a", b"x\n9 path=y\n"), ("path", b"p"), ("unknown", b"")]).unwrap();
        assert_eq!(extended.path.as_deref(), Some(&b"p"[..]));
        assert_eq!(extended.take_xattrs(), [(b"user.a".to_vec(), b"x\n9 path=y\n".to_vec())]);
    }

    #[test]
    fn an_empty_value_takes_back() {
        let extended = applied(&[("path", b"p"), ("size", b"1"), ("path", b""), ("size", b"")]).unwrap();
        assert_eq!(extended, Extended::default());
    }

    #[test]
    fn malformed_records_are_refused() {
        for bytes in [
            &b"x"[..],
            b"8 path=p",
            b"9 path=pp\n",
            b"99 path=p\n",
            b"0 path=p\n",
            b"2 ",
            b"5 =v\n",
            b"5 kv\n",
            b"-9 path=p\n",
            b"99999999999999999999999 path=p\n",
        ] {
            assert_eq!(
                Extended::default().apply(bytes),
                Err(InvalidRecord("extended header")),
                "{}",
                bytes.escape_ascii()
            );
        }
        for (key, value, field) in [
            ("size", &b"-1"[..], "size"),
            ("size", b"99999999999999999999", "size"),
            ("uid", b"x", "owner"),
            ("mtime", b"1e3", "time"),
            ("mtime", b"1.-5", "time"),
            ("LIBARCHIVE.xattr.user.%4", b"", "extended attribute"),
            ("LIBARCHIVE.xattr.user.a", b"!", "extended attribute"),
            ("GNU.sparse.map", b"1,2,3", "sparse map"),
            ("GNU.sparse.numbytes", b"1", "sparse map"),
        ] {
            assert_eq!(applied(&[(key, value)]), Err(InvalidRecord(field)), "{key}");
        }
    }

    #[test]
    fn times_have_signs_and_fractions() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("1.5", 1, 500_000_000),
            ("1350244992.023960108", 1_350_244_992, 23_960_108),
            ("1.0000000019", 1, 1),
            ("-1", -1, 0),
            ("-1.5", -2, 500_000_000),
            ("-0.25", -1, 750_000_000),
            ("1.", 1, 0),
        ] {
            assert_eq!(parse_time(text.as_bytes()), Some(Timestamp { seconds, nanoseconds }), "{text}");
        }
    }

    #[test]
    fn the_raw_notation_of_xattrs_wins_and_names_come_sorted() {
        let mut extended = applied(&[
            ("SCHILY.xattr.user.z", b"old"),
            ("SCHILY.xattr.user.z", b"raw"),
            ("LIBARCHIVE.xattr.user.z", b"Y29kZWQ"),
            ("LIBARCHIVE.xattr.user.%3D", b"Y29kZWQ="),
        ])
        .unwrap();
        let expected = [(b"user.=".to_vec(), b"coded".to_vec()), (b"user.z".to_vec(), b"raw".to_vec())];
        assert_eq!(extended.take_xattrs(), expected);
    }

    #[test]
    fn sparse_maps_of_both_record_formats() {
        let zero = applied(&[
            ("GNU.sparse.size", b"100"),
            ("GNU.sparse.offset", b"1"),
            ("GNU.sparse.numbytes", b"2"),
            ("GNU.sparse.offset", b"10"),
            ("GNU.sparse.numbytes", b"5"),
        ])
        .unwrap();
        let one = applied(&[("GNU.sparse.size", b"100"), ("GNU.sparse.map", b"1,2,10,5")]).unwrap();
        assert_eq!(zero.sparse, one.sparse);
        assert_eq!(zero.sparse.map, Some(vec![(1, 2), (10, 5)]));
    }
}
