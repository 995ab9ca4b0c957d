//! User and group numbers: which mapping the caller can have, and how the kernel is told.
//!
//! Owns /etc/subuid and /etc/subgid and the calls of newuidmap and newgidmap.

use super::SandboxError;
use super::spec::{IdRange, Identity};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

impl Identity {
    /// The best the caller can have: the host's numbers for root, ranges for a user that has them (and the programs that grant them),
    /// else a single number.
    pub fn detect() -> Self {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        if uid == 0 {
            return Self::Host;
        }
        let user = user_name(uid);
        let ranges = |file: &str| subordinate(&fs::read_to_string(file).unwrap_or_default(), user.as_deref(), uid);
        let (uids, gids) = (ranges("/etc/subuid"), ranges("/etc/subgid"));
        let tools = ["newuidmap", "newgidmap"].iter().all(|tool| in_path(tool));
        if uids.is_empty() || gids.is_empty() || !tools {
            return Self::Single;
        }
        Self::Ranges { uids: own_first(uid, &uids), gids: own_first(gid, &gids) }
    }

    /// Whether the sandbox has a user namespace of its own.
    pub fn is_mapped(&self) -> bool {
        *self != Self::Host
    }

    /// Whether the container has the group `gid`.
    pub fn has_group(&self, gid: u32) -> bool {
        match self {
            Self::Host => true,
            Self::Single => gid == 0,
            Self::Ranges { gids, .. } => {
                gids.iter().any(|range| (range.inside..range.inside.saturating_add(range.count)).contains(&gid))
            }
        }
    }
}

/// The caller's own number as the container's 0, then the ranges in the order of the file.
fn own_first(own: u32, ranges: &[(u32, u32)]) -> Vec<IdRange> {
    let mut all = vec![IdRange { inside: 0, outside: own, count: 1 }];
    let mut next = 1_u32;
    for &(outside, count) in ranges {
        let count = count.min(u32::MAX - next);
        all.push(IdRange { inside: next, outside, count });
        next += count;
    }
    all
}

/// The ranges (start, count) that `text`, in the format of subuid(5), gives a user by name or number.
fn subordinate(text: &str, user: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    let own = |name: &str| Some(name) == user || name == number;
    let range = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (start, count) = (fields.next()?.trim().parse().ok()?, fields.next()?.trim().parse().ok()?);
        (own(name) && count > 0).then_some((start, count))
    };
    text.lines().filter_map(range).collect()
}

/// The name of a user of the host, by /etc/passwd.
fn user_name(uid: u32) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let line = lines.find(|fields| fields.get(2).and_then(|number| number.parse().ok()) == Some(uid))?;
    line.first().map(|name| (*name).to_owned())
}

fn in_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(tool).is_file())
}

/// Tells the kernel the numbers of the user namespace that the process `pid` has just made.
pub(super) fn write_maps(identity: &Identity, pid: u32) -> Result<(), SandboxError> {
    match identity {
        Identity::Host => Ok(()),
        Identity::Single => {
            // Without this the kernel gives a plain user no group (user_namespaces(7)); setgroups in the container is answered by the supervisor.
            write_proc(pid, "setgroups", "deny")?;
            write_proc(pid, "uid_map", &format!("0 {} 1\n", rustix::process::geteuid().as_raw()))?;
            write_proc(pid, "gid_map", &format!("0 {} 1\n", rustix::process::getegid().as_raw()))
        }
        Identity::Ranges { uids, gids } if rustix::process::geteuid().is_root() => {
            write_proc(pid, "uid_map", &lines(uids))?;
            write_proc(pid, "gid_map", &lines(gids))
        }
        Identity::Ranges { uids, gids } => {
            run_tool("newuidmap", pid, uids)?;
            run_tool("newgidmap", pid, gids)
        }
    }
}

fn lines(ranges: &[IdRange]) -> String {
    ranges
        .iter()
        .map(|range| format!("{} {} {}", range.inside, range.outside, range.count))
        .collect::<Vec<_>>()
        .join("\n")
        + "\n"
}

fn write_proc(pid: u32, file: &str, content: &str) -> Result<(), SandboxError> {
    let path = Path::new("/proc").join(pid.to_string()).join(file);
    fs::write(&path, content)
        .map_err(|source| SandboxError::Map { tool: path.display().to_string(), reason: source.to_string() })
}

fn run_tool(tool: &str, pid: u32, ranges: &[IdRange]) -> Result<(), SandboxError> {
    let numbers =
        ranges.iter().flat_map(|range| [range.inside, range.outside, range.count]).map(|number| number.to_string());
    let failed = |reason: String| SandboxError::Map { tool: tool.to_owned(), reason };
    let output = Command::new(tool).arg(pid.to_string()).args(numbers).stdin(Stdio::null()).output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "alice:100000:65536\nbob:200000:65536\n1001:300000:10\nalice:bad:1\nalice:5:0\n";
        assert_eq!(subordinate(text, Some("alice"), 1001), [(100_000, 65536), (300_000, 10)]);
        assert_eq!(subordinate(text, Some("carol"), 7), []);
        assert_eq!(subordinate(text, None, 1001), [(300_000, 10)]);
    }

    #[test]
    fn the_caller_is_the_containers_root() {
        let all = own_first(1001, &[(100_000, 65536), (300_000, 10)]);
        assert_eq!(lines(&all), "0 1001 1\n1 100000 65536\n65537 300000 10\n");
    }
}
