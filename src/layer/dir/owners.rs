//! Owners and modes that an unpacked directory cannot hold itself: the attribute in which rootless tools keep them,
//! the mapping of IDs and squashing.
//!
//! Owns the text of `override_stat` (containers/storage, pkg/idtools) and the ID maps. Must not know descriptors.

use crate::model::{DeviceNumber, FileKind, Meta};
use std::str::FromStr;

/// Where podman, buildah and fuse-overlayfs keep owner and mode of files that a plain user stores.
pub const CONTAINERS_OVERRIDE: &[u8] = b"user.containers.override_stat";
/// fuse-overlayfs' own attribute of the same content, for everyone.
pub const FUSE_OVERLAYFS_OVERRIDE: &[u8] = b"user.fuseoverlayfs.override_stat";
/// fuse-overlayfs' attribute for `xattr_permissions=1`, which takes privileges to write.
pub const PRIVILEGED_OVERRIDE: &[u8] = b"security.fuseoverlayfs.override_stat";

/// Owner, mode and type that replace those of the stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverrideStat {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits, `0o7777`.
    pub permissions: u16,
    /// The type and device number, when the object is stored as a plain file.
    pub stands_for: Option<(FileKind, DeviceNumber)>,
}

/// Text that is no override.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed override_stat")]
pub struct MalformedOverride;

impl OverrideStat {
    /// Reads `uid:gid:mode` with an octal mode, and an optional `:type`; fuse-overlayfs 1.x has the type in the mode.
    pub fn parse(text: &[u8]) -> Result<Self, MalformedOverride> {
        let text = std::str::from_utf8(text).map_err(|_| MalformedOverride)?;
        let mut fields = text.trim_end_matches('\0').splitn(4, ':');
        let mut field = || fields.next().ok_or(MalformedOverride);
        let uid = field()?.parse().map_err(|_| MalformedOverride)?;
        let gid = field()?.parse().map_err(|_| MalformedOverride)?;
        let mode = u32::from_str_radix(field()?, 8).map_err(|_| MalformedOverride)?;
        let stands_for = match (fields.next(), mode & libc::S_IFMT) {
            (Some(text), _) => parse_type(text)?,
            (None, libc::S_IFIFO) => Some((FileKind::Fifo, DeviceNumber::default())),
            (None, libc::S_IFSOCK) => Some((FileKind::Socket, DeviceNumber::default())),
            (None, _) => None,
        };
        Ok(Self { uid, gid, permissions: (mode & 0o7777) as u16, stands_for })
    }

    /// The text that [`OverrideStat::parse`] reads back.
    pub fn to_text(&self, stored_as: FileKind) -> String {
        let (kind, device) = self.stands_for.unwrap_or((stored_as, DeviceNumber::default()));
        let kind = match kind {
            FileKind::File => "file".to_owned(),
            FileKind::Directory => "dir".to_owned(),
            FileKind::Symlink => "symlink".to_owned(),
            FileKind::Fifo => "pipe".to_owned(),
            FileKind::Socket => "socket".to_owned(),
            FileKind::BlockDevice => format!("block-{}-{}", device.major, device.minor),
            FileKind::CharDevice => format!("char-{}-{}", device.major, device.minor),
        };
        format!("{}:{}:0{:o}:{kind}", self.uid, self.gid, self.permissions)
    }

    /// The text as fuse-overlayfs 1.x writes it: with the type in the mode. It has none for devices.
    pub fn to_mode_text(&self, stored_as: FileKind) -> String {
        match self.stands_for {
            Some((FileKind::BlockDevice | FileKind::CharDevice, _)) => self.to_text(stored_as),
            other => {
                let kind = other.map_or(stored_as, |(kind, _)| kind);
                format!("{}:{}:{:o}", self.uid, self.gid, kind.mode_bits() | u32::from(self.permissions))
            }
        }
    }

    /// Puts the override over `meta`.
    pub fn apply(&self, meta: &mut Meta) {
        meta.uid = self.uid;
        meta.gid = self.gid;
        meta.permissions = self.permissions;
        if let Some((kind, device)) = self.stands_for {
            meta.kind = kind;
            meta.device = device;
        }
    }
}

/// The type named by `text`; none for the types that the object is stored as itself.
fn parse_type(text: &str) -> Result<Option<(FileKind, DeviceNumber)>, MalformedOverride> {
    let device = |numbers: &str| {
        let (major, minor) = numbers.split_once('-').ok_or(MalformedOverride)?;
        let number = |text| u32::from_str(text).map_err(|_| MalformedOverride);
        Ok(DeviceNumber { major: number(major)?, minor: number(minor)? })
    };
    Ok(match text {
        "file" | "dir" | "symlink" | "" => None,
        "pipe" => Some((FileKind::Fifo, DeviceNumber::default())),
        "socket" => Some((FileKind::Socket, DeviceNumber::default())),
        _ => match (text.strip_prefix("block-"), text.strip_prefix("char-")) {
            (Some(numbers), _) => Some((FileKind::BlockDevice, device(numbers)?)),
            (None, Some(numbers)) => Some((FileKind::CharDevice, device(numbers)?)),
            (None, None) => return Err(MalformedOverride),
        },
    })
}

/// A map of IDs: ranges `first on disk : first in the mount : length`. Empty maps everything to itself.
///
/// podman calls the first the container's ID and the second the host's (containers/storage, drivers/overlay): layers are stored with
/// the IDs of a container, and a mount shows those that become them again in the container's user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdMap(Vec<(u32, u32, u32)>);

/// A map that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ID mapping {0:?} is not a list of DISK:MOUNT:LENGTH")]
pub struct MalformedMap(pub String);

impl IdMap {
    /// Reads ranges `disk:mount:length`, one after the other, separated by `:` or `,`. podman puts a `:` before the first.
    pub fn parse(text: &str) -> Result<Self, MalformedMap> {
        let malformed = || MalformedMap(text.to_owned());
        let numbers = text.split([':', ',']).filter(|number| !number.is_empty()).map(str::parse);
        let numbers: Vec<u32> = numbers.collect::<Result<_, _>>().map_err(|_| malformed())?;
        let (ranges, rest) = numbers.as_chunks::<3>();
        if ranges.is_empty() || !rest.is_empty() {
            return Err(malformed());
        }
        Ok(Self(ranges.iter().map(|&[disk, mount, length]| (disk, mount, length)).collect()))
    }

    /// The ID in the mount of what is `id` on disk; none when the map does not name it.
    pub fn to_mount(&self, id: u32) -> Option<u32> {
        self.translate(id, |&range| range)
    }

    /// The ID on disk of what is `id` in the mount; none when the map does not name it.
    pub fn to_disk(&self, id: u32) -> Option<u32> {
        self.translate(id, |&(disk, mount, length)| (mount, disk, length))
    }

    fn translate(&self, id: u32, direction: impl Fn(&(u32, u32, u32)) -> (u32, u32, u32)) -> Option<u32> {
        if self.0.is_empty() {
            return Some(id);
        }
        self.0.iter().map(direction).find_map(|(from, to, length)| {
            let offset = id.checked_sub(from).filter(|offset| *offset < length)?;
            to.checked_add(offset)
        })
    }
}

/// How owners on disk become owners in the mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owners {
    /// User IDs.
    pub uids: IdMap,
    /// Group IDs.
    pub gids: IdMap,
    /// Everything belongs to this user.
    pub squash_uid: Option<u32>,
    /// Everything belongs to this group.
    pub squash_gid: Option<u32>,
}

/// What the kernel shows for an ID that no map names (`overflowuid`).
const OVERFLOW_ID: u32 = 65534;

impl Owners {
    /// Whether owners are shown as they are stored.
    pub fn is_identity(&self) -> bool {
        *self == Self::default()
    }

    /// Owner and group in the mount.
    pub fn to_mount(&self, uid: u32, gid: u32) -> (u32, u32) {
        (
            self.squash_uid.unwrap_or_else(|| self.uids.to_mount(uid).unwrap_or(OVERFLOW_ID)),
            self.squash_gid.unwrap_or_else(|| self.gids.to_mount(gid).unwrap_or(OVERFLOW_ID)),
        )
    }

    /// Owner and group on disk; none when one of them has no place there. Squashing changes what is shown, not what is stored.
    pub fn to_disk(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        Some((self.uids.to_disk(uid)?, self.gids.to_disk(gid)?))
    }

    /// Owner and group on disk of what someone makes: nobody's where no map names its maker, as fuse-overlayfs has it. podman makes
    /// mount points that way, and gives them to someone afterwards.
    pub fn of_creator(&self, uid: u32, gid: u32) -> (u32, u32) {
        (self.uids.to_disk(uid).unwrap_or(OVERFLOW_ID), self.gids.to_disk(gid).unwrap_or(OVERFLOW_ID))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn override_stat_is_read_as_podman_writes_it() {
        let plain = OverrideStat { uid: 0, gid: 42, permissions: 0o4755, stands_for: None };
        assert_eq!(OverrideStat::parse(b"0:42:4755"), Ok(plain));
        assert_eq!(OverrideStat::parse(b"0:42:04755:file"), Ok(plain));
        assert_eq!(OverrideStat::parse(plain.to_text(FileKind::File).as_bytes()), Ok(plain));
        let device =
            OverrideStat { stands_for: Some((FileKind::CharDevice, DeviceNumber { major: 1, minor: 3 })), ..plain };
        assert_eq!(plain.to_mode_text(FileKind::File).len(), plain.to_mode_text(FileKind::Directory).len() + 1);
        assert_eq!(OverrideStat::parse(plain.to_mode_text(FileKind::File).as_bytes()), Ok(plain));
        let pipe = OverrideStat { stands_for: Some((FileKind::Fifo, DeviceNumber::default())), ..plain };
        assert_eq!(OverrideStat::parse(pipe.to_mode_text(FileKind::File).as_bytes()), Ok(pipe));
        assert_eq!(device.to_text(FileKind::File), "0:42:04755:char-1-3");
        assert_eq!(OverrideStat::parse(b"0:42:4755:char-1-3"), Ok(device));
        for wrong in [&b""[..], b"1", b"1:2", b"1:2:9", b"a:b:c", b"1:2:755:thing", b"\xff:1:2"] {
            assert_eq!(OverrideStat::parse(wrong), Err(MalformedOverride), "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn maps_translate_both_ways() {
        let map = IdMap::parse("0:1000:1:1:100000:65536").unwrap();
        assert_eq!(map.to_mount(0), Some(1000));
        assert_eq!(map.to_mount(5), Some(100_004));
        assert_eq!(map.to_disk(100_004), Some(5));
        assert_eq!(map.to_mount(70_000), None);
        assert_eq!(map.to_disk(0), None);
        assert_eq!(IdMap::default().to_disk(7), Some(7));
        assert_eq!(IdMap::parse(":0:1000:1:1:100000:65536"), Ok(map), "as podman writes it");
        for wrong in ["", ":", "0:1", "a:b:c", "0:0:-1", "0:1:2:3"] {
            assert!(IdMap::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn squashing_wins_over_maps() {
        let owners = Owners { squash_uid: Some(0), uids: IdMap::parse("0:1000:1").unwrap(), ..Owners::default() };
        assert_eq!(owners.to_mount(77, 5), (0, 5));
        assert_eq!(owners.to_disk(3, 5), None);
        assert_eq!(owners.of_creator(3, 5), (OVERFLOW_ID, 5));
        assert_eq!(owners.of_creator(1000, 5), (0, 5));
    }
}
