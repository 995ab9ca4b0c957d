//! The records of an extended header, for writing.

use super::Xattr;

/// Extended attributes that describe the place where the object was kept, not the object.
const LEFT_OUT: [&[u8]; 4] = [b"trusted.overlay.", b"user.overlay.", b"user.fuseoverlayfs.", b"security.selinux"];

/// Records in the order in which they are written.
#[derive(Debug, Default)]
pub(super) struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        self.0.push((key.to_vec(), value.to_vec()));
    }

    /// Puts a record before all others, once.
    pub(super) fn push_first(&mut self, key: &[u8], value: &[u8]) {
        if self.0.first().is_none_or(|(first, _)| first != key) {
            self.0.insert(0, (key.to_vec(), value.to_vec()));
        }
    }

    /// Puts a record in the place of one with the same key, or last.
    pub(super) fn replace(&mut self, key: &[u8], value: &[u8]) {
        self.0.retain(|(other, _)| other != key);
        self.push(key, value);
    }

    /// Adds the extended attributes that belong into an archive, ordered by name.
    pub(super) fn push_xattrs(&mut self, xattrs: &[Xattr]) {
        let mut kept: Vec<&Xattr> =
            xattrs.iter().filter(|(name, _)| !LEFT_OUT.iter().any(|prefix| name.starts_with(prefix))).collect();
        kept.sort();
        for (name, value) in kept {
            // A key ends at the first `=`; the other notation can say such names.
            if name.contains(&b'=') {
                self.push(&[b"LIBARCHIVE.xattr.", percent_encode(name).as_slice()].concat(), &base64_encode(value));
            } else {
                self.push(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
            }
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0.iter().flat_map(|(key, value)| record(key, value)).collect()
    }
}

/// `length key=value\n`, where the length counts its own digits.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + b" =\n".len();
    let mut length = body;
    while body + length.to_string().len() != length {
        length = body + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn percent_encode(name: &[u8]) -> Vec<u8> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'%' && byte != b'=';
    name.iter()
        .flat_map(|&byte| if is_plain(byte) { vec![byte] } else { format!("%{byte:02X}").into_bytes() })
        .collect()
}

fn base64_encode(value: &[u8]) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(value).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_record_counts_itself() {
        assert_eq!(record(b"path", b"x"), b"9 path=x\n");
        assert_eq!(record(b"path", b"xx"), b"11 path=xx\n");
        for length in 0..2000 {
            let record = record(b"k", &vec![b'v'; length]);
            let space = record.iter().position(|&byte| byte == b' ').unwrap();
            assert_eq!(record.len().to_string().as_bytes(), &record[..space]);
        }
    }

    #[test]
    fn xattrs_of_the_store_are_left_out() {
        let mut records = Records::default();
        let xattr = |name: &str| (name.as_bytes().to_vec(), b"v".to_vec());
        records.push_xattrs(&[
            xattr("user.z"),
            xattr("user.a=b"),
            xattr("security.capability"),
            xattr("security.selinux"),
            xattr("trusted.overlay.opaque"),
            xattr("user.overlay.origin"),
            xattr("user.fuseoverlayfs.opaque"),
        ]);
        let text = String::from_utf8(records.into_bytes()).unwrap();
        let keys: Vec<_> = text.lines().map(|line| line.split([' ', '=']).nth(1).unwrap()).collect();
        assert_eq!(keys, ["SCHILY.xattr.security.capability", "LIBARCHIVE.xattr.user.a%3Db", "SCHILY.xattr.user.z"]);
    }
}
