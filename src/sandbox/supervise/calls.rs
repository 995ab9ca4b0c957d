//! What each notified call does.

use super::Records;
use super::creation;
use super::credentials::{Book, Credentials, Ids};
use super::sink::{NodeKind, Ownership};
use super::target::{At, Machine, Target};
use crate::sys::seccomp::{Answer, write_stat, write_statx};
use rustix::fs::{CWD, FileType, Mode, Stat, StatxFlags};
use rustix::io::{Errno, Result};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// `AUDIT_ARCH_I386`.
const I386: u32 = 0x4000_0003;
/// The most groups a process can have (`NGROUPS_MAX`).
const MOST_GROUPS: usize = 65536;

/// A call by what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Chown { follow: bool },
    Fchown,
    Fchownat,
    Stat { follow: bool },
    Fstat,
    Newfstatat,
    Statx,
    Mknod,
    Mknodat,
    Mkdir,
    Mkdirat,
    Symlink,
    Symlinkat,
    Open,
    Openat,
    Creat,
    Set(Kind),
    SetRealEffective(Kind),
    SetThree(Kind),
    SetFileSystem(Kind),
    GetReal(Kind),
    GetEffective(Kind),
    GetThree(Kind),
    Setgroups,
    Getgroups,
}

/// Which of a process's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    User,
    Group,
}

use Call::{
    Chown, Creat, Fchown, Fchownat, Fstat, GetEffective, GetReal, GetThree, Getgroups, Mkdir, Mkdirat, Mknod, Mknodat,
    Newfstatat, Open, Openat, Set, SetFileSystem, SetRealEffective, SetThree, Setgroups, Stat as StatCall, Statx,
    Symlink, Symlinkat,
};
use Kind::{Group, User};

const TABLE: &[(&str, Call)] = &[
    ("chown", Chown { follow: true }),
    ("lchown", Chown { follow: false }),
    ("fchown", Fchown),
    ("fchownat", Fchownat),
    ("stat", StatCall { follow: true }),
    ("lstat", StatCall { follow: false }),
    ("fstat", Fstat),
    ("newfstatat", Newfstatat),
    ("statx", Statx),
    ("mknod", Mknod),
    ("mknodat", Mknodat),
    ("mkdir", Mkdir),
    ("mkdirat", Mkdirat),
    ("symlink", Symlink),
    ("symlinkat", Symlinkat),
    ("creat", Creat),
    ("setuid", Set(User)),
    ("setgid", Set(Group)),
    ("setreuid", SetRealEffective(User)),
    ("setregid", SetRealEffective(Group)),
    ("setresuid", SetThree(User)),
    ("setresgid", SetThree(Group)),
    ("setfsuid", SetFileSystem(User)),
    ("setfsgid", SetFileSystem(Group)),
    ("getuid", GetReal(User)),
    ("getgid", GetReal(Group)),
    ("geteuid", GetEffective(User)),
    ("getegid", GetEffective(Group)),
    ("getresuid", GetThree(User)),
    ("getresgid", GetThree(Group)),
    ("setgroups", Setgroups),
    ("getgroups", Getgroups),
];

/// The names in [`TABLE`], and on i386 those of the variants with 32-bit numbers.
pub(super) const NAMES: &[&str] = &[
    "chown",
    "lchown",
    "fchown",
    "fchownat",
    "stat",
    "lstat",
    "fstat",
    "newfstatat",
    "statx",
    "mknod",
    "mknodat",
    "mkdir",
    "mkdirat",
    "symlink",
    "symlinkat",
    "creat",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setfsuid",
    "setfsgid",
    "getuid",
    "getgid",
    "geteuid",
    "getegid",
    "getresuid",
    "getresgid",
    "setgroups",
    "getgroups",
    "chown32",
    "lchown32",
    "fchown32",
    "setuid32",
    "setgid32",
    "setreuid32",
    "setregid32",
    "setresuid32",
    "setresgid32",
    "setfsuid32",
    "setfsgid32",
    "getuid32",
    "getgid32",
    "geteuid32",
    "getegid32",
    "getresuid32",
    "getresgid32",
    "setgroups32",
    "getgroups32",
];

impl Call {
    /// The call of a name, and whether its numbers have 32 bits (on i386 the old ones have 16).
    pub(super) fn by_name(name: &str, architecture: u32) -> Option<(Self, bool)> {
        match name {
            "open" => return Some((Open, true)),
            "openat" => return Some((Openat, true)),
            _ => {}
        }
        let old = architecture == I386 && !name.ends_with("32");
        let bare = name.strip_suffix("32").unwrap_or(name);
        let (_, call) = TABLE.iter().find(|(known, _)| *known == bare)?;
        // Structures of i386 are laid out differently; the kernel's own answer shows unmapped owners as nobody.
        let structured = matches!(call, StatCall { .. } | Fstat | Newfstatat | Setgroups | Getgroups | GetThree(_));
        (!(old && structured)).then_some((*call, !old))
    }
}

/// Carries out a call; `None` when the answer has already gone out.
pub(super) fn carry_out(
    call: Call,
    wide: bool,
    target: &Target<'_>,
    records: &Records,
    book: &mut Book,
) -> Result<Option<Answer>> {
    let who = book.look_up(target.thread(), &Machine);
    let id = |number: usize| optional_id(target.argument(number), wide);
    let answer = match call {
        Chown { follow } => {
            let path = target.path(target.argument(0))?;
            let node = target.resolve(At { dir: libc::AT_FDCWD, follow, empty: false }, &path)?;
            chown(&node, id(1), id(2), &who, records)?
        }
        Fchown => chown(&target.descriptor(target.int(0))?, id(1), id(2), &who, records)?,
        Fchownat => {
            let path = target.path(target.argument(1))?;
            chown(&target.resolve(at_flags(target, 4)?, &path)?, id(2), id(3), &who, records)?
        }
        StatCall { follow } => stat(target, At { dir: libc::AT_FDCWD, follow, empty: false }, (0, 1), records)?,
        Newfstatat => stat(target, at_flags(target, 3)?, (1, 2), records)?,
        Fstat => match target.descriptor(target.int(0)) {
            Ok(node) => stat_of(target, &node, 1, records)?,
            Err(_) => Answer::Continue,
        },
        Statx => statx(target, records)?,
        Mknod | Mknodat => return creation::make_node(target, usize::from(call == Mknodat), &who, records).map(Some),
        Mkdir | Mkdirat => {
            return creation::make_directory(target, usize::from(call == Mkdirat), &who, records).map(Some);
        }
        Symlink | Symlinkat => return creation::make_link(target, call == Symlinkat, &who, records).map(Some),
        Open => return creation::open(target, 0, Some(target.int(1)), &who, records),
        Openat => return creation::open(target, 1, Some(target.int(2)), &who, records),
        Creat => return creation::open(target, 0, None, &who, records),
        GetReal(User) => number(who.user.real),
        GetReal(Group) => number(who.group.real),
        GetEffective(User) => number(who.user.effective),
        GetEffective(Group) => number(who.group.effective),
        GetThree(kind) => get_three(target, ids(&who, kind))?,
        Getgroups => get_groups(target, &who.groups)?,
        Set(_) | SetRealEffective(_) | SetThree(_) | SetFileSystem(_) | Setgroups => {
            return change(call, wide, target, who, book).map(Some);
        }
    };
    Ok(Some(answer))
}

/// A number where all ones mean "leave it".
fn optional_id(argument: u64, wide: bool) -> Option<u32> {
    let id = argument as u32;
    let (id, none) = if wide { (id, u32::MAX) } else { (id & 0xffff, 0xffff) };
    (id != none).then_some(id)
}

fn number(id: u32) -> Answer {
    Answer::Value(i64::from(id))
}

fn ids(who: &Credentials, kind: Kind) -> Ids {
    match kind {
        User => who.user,
        Group => who.group,
    }
}

fn change(call: Call, wide: bool, target: &Target<'_>, before: Credentials, book: &mut Book) -> Result<Answer> {
    let mut now = before.clone();
    let privileged = before.privileged();
    let id = |number: usize| optional_id(target.argument(number), wide);
    let (Set(kind) | SetRealEffective(kind) | SetThree(kind) | SetFileSystem(kind)) = call else {
        now.groups = given_groups(target, privileged)?;
        book.change(target.thread(), before, now, &Machine);
        return Ok(Answer::Value(0));
    };
    let changed = match kind {
        User => &mut now.user,
        Group => &mut now.group,
    };
    let mut value = 0;
    match call {
        Set(_) => changed.set(id(0).ok_or(Errno::INVAL)?, privileged)?,
        SetRealEffective(_) => changed.set_real_effective(id(0), id(1), privileged)?,
        SetThree(_) => changed.set_three([id(0), id(1), id(2)], privileged)?,
        _ => value = changed.set_file_system(id(0).unwrap_or(u32::MAX), privileged && id(0).is_some()),
    }
    book.change(target.thread(), before, now, &Machine);
    Ok(number(value))
}

fn given_groups(target: &Target<'_>, privileged: bool) -> Result<Vec<u32>> {
    if !privileged {
        return Err(Errno::PERM);
    }
    let count = target.argument(0) as usize;
    if count > MOST_GROUPS {
        return Err(Errno::INVAL);
    }
    target.numbers(target.argument(1), count)
}

fn get_three(target: &Target<'_>, ids: Ids) -> Result<Answer> {
    for (at, id) in [ids.real, ids.effective, ids.saved].into_iter().enumerate() {
        target.write(target.argument(at), &id.to_ne_bytes())?;
    }
    Ok(Answer::Value(0))
}

fn get_groups(target: &Target<'_>, groups: &[u32]) -> Result<Answer> {
    let room = target.int(0);
    match usize::try_from(room) {
        Err(_) => return Err(Errno::INVAL),
        Ok(0) => {}
        Ok(room) if room < groups.len() => return Err(Errno::INVAL),
        Ok(_) if groups.is_empty() => {}
        Ok(_) => {
            let bytes: Vec<u8> = groups.iter().flat_map(|gid| gid.to_ne_bytes()).collect();
            target.write(target.argument(1), &bytes)?;
        }
    }
    Ok(Answer::Value(groups.len() as i64))
}

/// The directory in argument 0 and the flags in argument `flags` of an *at call.
fn at_flags(target: &Target<'_>, flags: usize) -> Result<At> {
    let flags = target.int(flags);
    if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT | libc::AT_STATX_SYNC_TYPE)
        != 0
    {
        return Err(Errno::INVAL);
    }
    Ok(At {
        dir: target.int(0),
        follow: flags & libc::AT_SYMLINK_NOFOLLOW == 0,
        empty: flags & libc::AT_EMPTY_PATH != 0,
    })
}

/// chown(2) on the books. As the kernel does, takes setuid and setgid away from a file, whoever asks.
fn chown(node: &OwnedFd, uid: Option<u32>, gid: Option<u32>, who: &Credentials, records: &Records) -> Result<Answer> {
    let seen = rustix::fs::fstat(node)?;
    if who.user.file_system != 0 {
        let owner = owner_of(node, &seen, records)?;
        let own = owner.uid == who.user.file_system;
        if !own
            || uid.is_some_and(|uid| uid != owner.uid)
            || gid.is_some_and(|gid| gid != owner.gid && !who.in_group(gid))
        {
            return Err(Errno::PERM);
        }
    }
    records.set_owner(node.as_fd(), uid, gid)?;
    let mode = seen.st_mode & 0o7777;
    let lost = 0o4000 | if mode & 0o010 != 0 { 0o2000 } else { 0 };
    if FileType::from_raw_mode(seen.st_mode) == FileType::RegularFile && mode & lost != 0 {
        let path = format!("/proc/self/fd/{}", node.as_raw_fd());
        rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(mode & !lost), rustix::fs::AtFlags::empty())?;
    }
    Ok(Answer::Value(0))
}

/// Who owns an object in the container's eyes; what is not the starter's is nobody's, as the kernel shows it.
pub(super) fn owner_of(node: &OwnedFd, seen: &Stat, records: &Records) -> Result<Ownership> {
    const NOBODY: u32 = 65534;
    if let Some(record) = records.ownership(node.as_fd(), seen)? {
        return Ok(record);
    }
    let uid = if seen.st_uid == rustix::process::geteuid().as_raw() { 0 } else { NOBODY };
    let gid = if seen.st_gid == rustix::process::getegid().as_raw() { 0 } else { NOBODY };
    Ok(Ownership { uid, gid, device: None })
}

/// A call of the stat family with its path and its buffer in these arguments. What cannot be found the kernel answers for.
fn stat(target: &Target<'_>, at: At, (path, buffer): (usize, usize), records: &Records) -> Result<Answer> {
    let Ok(path) = target.path(target.argument(path)) else { return Ok(Answer::Continue) };
    match target.resolve(at, &path) {
        Ok(node) => stat_of(target, &node, buffer, records),
        Err(_) => Ok(Answer::Continue),
    }
}

fn stat_of(target: &Target<'_>, node: &OwnedFd, buffer: usize, records: &Records) -> Result<Answer> {
    let mut seen = rustix::fs::fstat(node)?;
    let Some(record) = records.ownership(node.as_fd(), &seen)? else { return Ok(Answer::Continue) };
    (seen.st_uid, seen.st_gid) = (record.uid, record.gid);
    if let Some((kind, device)) = record.device {
        seen.st_mode = seen.st_mode & !libc::S_IFMT | file_type(kind);
        seen.st_rdev = device;
        seen.st_size = 0;
    }
    target.check()?;
    write_stat(target.thread(), target.argument(buffer), &seen)?;
    Ok(Answer::Value(0))
}

fn statx(target: &Target<'_>, records: &Records) -> Result<Answer> {
    let at = At {
        dir: target.int(0),
        follow: target.int(2) & libc::AT_SYMLINK_NOFOLLOW == 0,
        empty: target.int(2) & libc::AT_EMPTY_PATH != 0,
    };
    // The kernel takes no path at all for an empty one with AT_EMPTY_PATH since 6.11.
    let path = if target.argument(1) == 0 { Ok(std::ffi::OsString::new()) } else { target.path(target.argument(1)) };
    let Ok(node) = path.and_then(|path| target.resolve(at, &path)) else { return Ok(Answer::Continue) };
    let Some(record) = records.ownership(node.as_fd(), &rustix::fs::fstat(&node)?)? else {
        return Ok(Answer::Continue);
    };
    let mask = StatxFlags::from_bits_retain(target.argument(3) as u32) | StatxFlags::BASIC_STATS;
    let mut seen = rustix::fs::statx(&node, "", rustix::fs::AtFlags::EMPTY_PATH, mask)?;
    (seen.stx_uid, seen.stx_gid) = (record.uid, record.gid);
    if let Some((kind, device)) = record.device {
        seen.stx_mode = seen.stx_mode & !(libc::S_IFMT as u16) | file_type(kind) as u16;
        (seen.stx_rdev_major, seen.stx_rdev_minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        seen.stx_size = 0;
    }
    target.check()?;
    write_statx(target.thread(), target.argument(4), &seen)?;
    Ok(Answer::Value(0))
}

fn file_type(kind: NodeKind) -> u32 {
    match kind {
        NodeKind::Character => libc::S_IFCHR,
        NodeKind::Block => libc::S_IFBLK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_call() {
        for name in NAMES {
            assert!(Call::by_name(name, 0).is_some(), "{name}");
        }
    }

    #[test]
    fn old_numbers_of_i386_have_sixteen_bits() {
        assert_eq!(Call::by_name("chown", I386), Some((Chown { follow: true }, false)));
        assert_eq!(Call::by_name("chown32", I386), Some((Chown { follow: true }, true)));
        assert_eq!(Call::by_name("stat", I386), None);
        assert_eq!(optional_id(0xffff, false), None);
        assert_eq!(optional_id(0xffff, true), Some(0xffff));
        assert_eq!(optional_id(u64::from(u32::MAX), true), None);
    }
}
