//! `--volume HOST:CONTAINER[:OPTIONS]`.

use super::{RunError, failed};
use crate::sandbox::{Mount, Source};
use std::path::{Path, PathBuf};

/// The bind mount that `text` asks for. A directory of the host that is missing is made, as Docker does.
pub fn parse(text: &str) -> Result<Mount, RunError> {
    let bad = |why| RunError::Volume(text.to_owned(), why);
    let mut parts = text.split(':');
    let (Some(host), Some(target)) = (parts.next(), parts.next()) else {
        return Err(bad("it needs a path of the host and one of the container, HOST:CONTAINER"));
    };
    let mut read_only = false;
    for option in parts.flat_map(|part| part.split(',')) {
        match option {
            "ro" | "readonly" => read_only = true,
            // Labels of SELinux and ways of propagation: there is nothing to relabel, and nothing is propagated.
            "rw" | "z" | "Z" | "private" | "rprivate" | "slave" | "rslave" | "cached" | "delegated" | "consistent" => {}
            _ => return Err(bad("its options may be ro or rw")),
        }
    }
    if !target.starts_with('/') {
        return Err(bad("the path of the container must be absolute"));
    }
    if is_root(target) {
        return Err(bad("nothing can be mounted on the container's root"));
    }
    if is_in_proc(target) {
        return Err(bad("nothing can be mounted in the container's /proc"));
    }
    if !host.starts_with(['/', '.', '~']) {
        return Err(bad("volumes with a name are not supported, give a path that begins with / or ./"));
    }
    let host = host_path(host)?;
    Ok(Mount { target: target.into(), source: Source::Host(host.into()), read_only })
}

/// Whether the absolute path `target` is the container's root, in one of the ways to write it.
pub fn is_root(target: &str) -> bool {
    let mut depth = 0_usize;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    depth == 0
}

/// What may be mounted on in /proc, as runc has it (libcontainer, `checkProcMount`): what tells of the machine, which something like lxcfs
/// may tell better.
const PROC_FILES: [&str; 11] = [
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "net/dev",
    "slabinfo",
    "stat",
    "swaps",
    "sys/crypto/fips_enabled",
    "sys/kernel/ns_last_pid",
    "uptime",
];

/// Whether the absolute path `target` is the container's /proc or in it, but for the few files that may be.
pub fn is_in_proc(target: &str) -> bool {
    let mut parts: Vec<&str> = Vec::new();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    match parts.split_first() {
        Some((&"proc", below)) => !PROC_FILES.contains(&below.join("/").as_str()),
        _ => false,
    }
}

fn host_path(text: &str) -> Result<PathBuf, RunError> {
    let path = match text.strip_prefix('~') {
        Some(rest) => Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(rest.trim_start_matches('/')),
        None => std::path::absolute(text).map_err(failed(format!("find {text}")))?,
    };
    if !path.exists() {
        std::fs::create_dir_all(&path).map_err(failed(format!("make the directory {}", path.display())))?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_nothing_is_mounted_in_proc() {
        for target in ["/proc", "/proc/", "//proc/./x", "/a/../proc/sys", "/proc/cpuinfo/x"] {
            let refused = parse(&format!("/tmp:{target}")).expect_err(target).to_string();
            assert!(refused.contains("/proc"), "{refused}");
        }
        for target in ["/proc/cpuinfo", "/proc/net/dev", "/process", "/a/proc", "/sys"] {
            assert!(parse(&format!("/tmp:{target}")).is_ok(), "{target}");
        }
    }

    #[test]
    fn volumes() {
        let dir = tempfile::tempdir().expect("a directory");
        let host = dir.path().join("new").display().to_string();
        let mount = parse(&format!("{host}:/data:ro,z")).expect("a volume");
        assert!(mount.read_only && mount.target == "/data" && Path::new(&host).is_dir());
        for bad in ["/only", "name:/data", "/x:relative", "/x:/y:bogus", "/x:/", "/x://.", "/x:/a/.."] {
            assert!(matches!(parse(bad), Err(RunError::Volume(..))), "{bad}");
        }
    }
}
