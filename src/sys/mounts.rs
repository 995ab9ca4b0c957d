//! What is mounted, as the kernel lists it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountLine {
    /// The file system's number, `MAJOR:MINOR`.
    pub device: String,
    /// Where, as the process sees it.
    pub mount_point: PathBuf,
    /// The type, with its subtype.
    pub kind: String,
}

/// The mounts in `table` (proc_pid_mountinfo(5)).
pub fn mount_lines(table: &[u8]) -> impl Iterator<Item = MountLine> {
    table.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let device = String::from_utf8(fields.nth(2)?.to_vec()).ok()?;
        let mount_point = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some(MountLine { device, mount_point, kind: String::from_utf8_lossy(kind).into_owned() })
    })
}

/// Space, tab, newline and backslash stand as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_parsed() {
        let table = b"36 35 98:0 / /mnt/a\\040b rw,noatime master:1 - fuse.layerfs image ro\n\
            37 35 0:52 /sub /x rw - ext3 /dev/root rw\nnonsense\n";
        let lines: Vec<_> = mount_lines(table).collect();
        let expected = [("98:0", "/mnt/a b", "fuse.layerfs"), ("0:52", "/x", "ext3")];
        let expected = expected.map(|(device, mount_point, kind)| MountLine {
            device: device.to_owned(),
            mount_point: mount_point.into(),
            kind: kind.to_owned(),
        });
        assert_eq!(lines, expected);
    }
}
