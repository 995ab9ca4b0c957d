//! How `ls` shows objects: names, lines as `ls -l`, JSON.

use super::{Args, Object};
use crate::cli::output::{Format, json_text};
use crate::cli::owners::Owners;
use crate::cli::printable;
use crate::model::{FileKind, Meta};
use serde_json::{Value, json};
use std::io::Write;
use time::OffsetDateTime;
use time::macros::format_description;

/// Writes what is listed in the shape that was asked for.
pub(super) struct Printer<'a, W> {
    args: &'a Args,
    out: W,
    objects: Vec<Value>,
    begun: bool,
}

impl<'a, W: Write> Printer<'a, W> {
    /// A printer to `out`.
    pub(super) fn new(args: &'a Args, out: W) -> Self {
        Self { args, out, objects: Vec::new(), begun: false }
    }

    /// The objects of one directory, `title` its path where that is to be told, or single ones.
    pub(super) fn group(
        &mut self,
        title: Option<&[u8]>,
        objects: &mut [Object],
        owners: &Owners,
    ) -> anyhow::Result<()> {
        self.sort(objects);
        if self.args.format == Format::Json {
            self.objects.extend(objects.iter().map(|object| to_json(object, owners)));
            return Ok(());
        }
        if let Some(title) = title {
            let gap = if self.begun { "\n" } else { "" };
            writeln!(self.out, "{gap}{}:", printable(title))?;
        }
        self.begun = true;
        if self.args.long { self.long(objects, owners) } else { self.names(objects) }
    }

    /// Names come sorted; ties in another order stay in that of the names.
    fn sort(&self, objects: &mut [Object]) {
        if self.args.by_size {
            objects.sort_by_key(|object| std::cmp::Reverse(object.meta.size));
        } else if self.args.by_time {
            objects.sort_by_key(|object| std::cmp::Reverse(object.meta.mtime));
        }
        if self.args.reverse {
            objects.reverse();
        }
    }

    fn names(&mut self, objects: &[Object]) -> anyhow::Result<()> {
        objects.iter().try_for_each(|object| Ok(writeln!(self.out, "{}", printable(&object.name))?))
    }

    fn long(&mut self, objects: &[Object], owners: &Owners) -> anyhow::Result<()> {
        let rows: Vec<[String; 7]> = objects.iter().map(|object| self.columns(object, owners)).collect();
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let [links_width, user_width, group_width, size_width] = [width(1), width(2), width(3), width(4)];
        for [mode, links, user, group, size, time, name] in &rows {
            writeln!(
                self.out,
                "{mode} {links:>links_width$} {user:<user_width$} {group:<group_width$} {size:>size_width$} {time} {name}"
            )?;
        }
        Ok(())
    }

    fn columns(&self, object: &Object, owners: &Owners) -> [String; 7] {
        let meta = &object.meta;
        let size = match meta.kind {
            FileKind::CharDevice | FileKind::BlockDevice => format!("{}, {}", meta.device.major, meta.device.minor),
            _ if self.args.human_readable => binary_size(meta.size),
            _ => meta.size.to_string(),
        };
        let named = |name: Option<&str>, number: u32| match name {
            Some(name) if !self.args.numeric => name.to_owned(),
            _ => number.to_string(),
        };
        let arrow = object.target.as_ref().map(|target| format!(" -> {}", printable(target))).unwrap_or_default();
        [
            mode_text(meta),
            meta.nlink.to_string(),
            named(owners.user(meta.uid), meta.uid),
            named(owners.group(meta.gid), meta.gid),
            size,
            time_text(meta),
            format!("{}{arrow}", printable(&object.name)),
        ]
    }

    /// Writes what only the end can tell.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        if self.args.format == Format::Json {
            writeln!(self.out, "{}", json_text(&self.objects)?)?;
        }
        Ok(self.out.flush()?)
    }
}

/// Bytes as `ls -h` writes them: powers of 1024, rounded up, one decimal below ten.
fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];
    let (mut unit, mut scale) = (0, 1_u64);
    while bytes / scale >= 1024 && unit + 1 < UNITS.len() {
        (unit, scale) = (unit + 1, scale << 10);
    }
    let letter = UNITS.get(unit).copied().unwrap_or_default();
    let tenths = (u128::from(bytes) * 10).div_ceil(u128::from(scale));
    if unit > 0 && tenths < 100 {
        format!("{}.{}{letter}", tenths / 10, tenths % 10)
    } else {
        format!("{}{letter}", bytes.div_ceil(scale))
    }
}

fn time_text(meta: &Meta) -> String {
    let time = OffsetDateTime::from_unix_timestamp(meta.mtime.seconds).ok();
    let text = time.and_then(|time| time.format(format_description!("[year]-[month]-[day] [hour]:[minute]")).ok());
    text.unwrap_or_else(|| meta.mtime.seconds.to_string())
}

/// A type as ls(1) writes it.
pub(in crate::cli) fn kind_letter(kind: FileKind) -> char {
    match kind {
        FileKind::File => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::CharDevice => 'c',
        FileKind::BlockDevice => 'b',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
    }
}

/// Type and permissions as ls(1) writes them.
fn mode_text(meta: &Meta) -> String {
    let mut text = String::from(kind_letter(meta.kind));
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = meta.permissions >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (meta.permissions & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn to_json(object: &Object, owners: &Owners) -> Value {
    let meta = &object.meta;
    let kind = match meta.kind {
        FileKind::File => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::CharDevice => "char-device",
        FileKind::BlockDevice => "block-device",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
    };
    json!({
        "Path": printable(&object.path),
        "Type": kind,
        "Mode": format!("{:04o}", meta.permissions),
        "Uid": meta.uid,
        "Gid": meta.gid,
        "User": owners.user(meta.uid),
        "Group": owners.group(meta.gid),
        "Size": meta.size,
        "Links": meta.nlink,
        "ModTime": meta.mtime.seconds,
        "Device": match meta.kind {
            FileKind::CharDevice | FileKind::BlockDevice => json!([meta.device.major, meta.device.minor]),
            _ => Value::Null,
        },
        "Target": object.target.as_ref().map(|target| printable(target)),
        "Layer": object.layer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeviceNumber, Timestamp};

    #[test]
    fn modes_are_written_as_ls_does() {
        let time = Timestamp::default();
        let mut meta = Meta {
            kind: FileKind::File,
            permissions: 0o4755,
            uid: 0,
            gid: 0,
            nlink: 1,
            device: DeviceNumber::default(),
            size: 0,
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
        };
        assert_eq!(mode_text(&meta), "-rwsr-xr-x");
        meta.permissions = 0o2644;
        assert_eq!(mode_text(&meta), "-rw-r-Sr--");
        (meta.kind, meta.permissions) = (FileKind::Directory, 0o1777);
        assert_eq!(mode_text(&meta), "drwxrwxrwt");
    }

    #[test]
    fn sizes_are_written_as_ls_does() {
        let cases = [
            (0, "0"),
            (1023, "1023"),
            (1024, "1.0K"),
            (1025, "1.1K"),
            (10_240, "10K"),
            (10_241, "11K"),
            (1_048_575, "1024K"),
            (1_048_576, "1.0M"),
            (u64::MAX, "16E"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(binary_size(bytes), expected, "{bytes}");
        }
    }
}
