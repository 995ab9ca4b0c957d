//! From an image's configuration and what was asked for to what runs.

use super::RunError;
use crate::sandbox::account::{self, Databases};
use crate::sandbox::{Capabilities, Limits, Mount, Network, Root, Source, Spec, WindowSize};
use std::ffi::OsString;
use std::path::PathBuf;

/// The search path of a container whose image sets none (moby, `oci/defaults.go`).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an image says about running it.
#[derive(Debug, Clone, Default)]
pub struct Image {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub env: Vec<String>,
    pub user: String,
    pub working_dir: String,
}

/// What was asked for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The command and its arguments; empty for the image's.
    pub command: Vec<OsString>,
    /// Takes the place of the image's entry point and command; an empty one takes both away.
    pub entrypoint: Option<String>,
    /// `NAME=value`.
    pub env: Vec<OsString>,
    pub user: Option<String>,
    pub working_dir: Option<String>,
    pub hostname: String,
    pub no_network: bool,
    pub read_only: bool,
    pub mounts: Vec<Mount>,
    /// A terminal of this size.
    pub terminal: Option<WindowSize>,
    /// All capabilities, no filter, nothing hidden.
    pub privileged: bool,
    /// Capabilities beyond or below Docker's.
    pub capabilities: Option<Capabilities>,
    pub no_seccomp: bool,
    pub no_new_privileges: bool,
    /// Processes and memory in bytes; `None` for the default.
    pub processes: Option<u64>,
    pub memory: Option<u64>,
    /// Resource limits as setrlimit(2) numbers them: (resource, soft, hard).
    pub resources: Vec<(u32, u64, u64)>,
    /// Further lines of /etc/hosts.
    pub hosts: String,
}

/// The specification of a container with its root at `root`.
pub fn compose(image: &Image, asked: &Asked, root: Root, files: Databases<'_>) -> Result<Spec, RunError> {
    let argv = arguments(image, asked)?;
    let account = account::resolve(files, asked.user.as_deref().unwrap_or(&image.user))?;
    let mut spec = Spec::new(root, argv);
    spec.env = environment_of(&image.env, &asked.env, &asked.hostname, &account.home, asked.terminal.is_some());
    let cwd = asked.working_dir.as_deref().unwrap_or(&image.working_dir);
    spec.cwd = PathBuf::from("/").join(cwd).into();
    spec.user = account.user;
    spec.hostname.clone_from(&asked.hostname);
    spec.network = if asked.no_network { Network::None } else { Network::Host };
    spec.root_read_only = asked.read_only;
    spec.mounts = host_files(asked);
    spec.mounts.extend(asked.mounts.iter().cloned());
    // In whatever order they were asked for: what is mounted on a directory above would hide the others.
    spec.mounts.sort_by_key(|mount| PathBuf::from(&mount.target).components().count());
    spec.capabilities = asked.capabilities.unwrap_or_else(Capabilities::docker);
    spec.seccomp = !asked.no_seccomp;
    spec.no_new_privileges = asked.no_new_privileges;
    spec.terminal = asked.terminal;
    spec.limits = Limits {
        processes: asked.processes.or(spec.limits.processes),
        memory: asked.memory,
        resources: asked.resources.clone(),
    };
    if asked.privileged {
        spec.capabilities = Capabilities::all();
        spec.seccomp = false;
        spec.masked.clear();
        spec.read_only.clear();
    }
    Ok(spec)
}

/// Entry point and command together, as Docker has it: a given entry point takes the image's command away too.
fn arguments(image: &Image, asked: &Asked) -> Result<Vec<OsString>, RunError> {
    let (mut argv, default): (Vec<OsString>, &[String]) = match &asked.entrypoint {
        Some(given) => (Some(given).filter(|given| !given.is_empty()).map(OsString::from).into_iter().collect(), &[]),
        None => (image.entrypoint.iter().map(OsString::from).collect(), &image.cmd),
    };
    if asked.command.is_empty() {
        argv.extend(default.iter().map(OsString::from));
    } else {
        argv.extend(asked.command.iter().cloned());
    }
    if argv.is_empty() { Err(RunError::NoCommand) } else { Ok(argv) }
}

/// Docker's environment: its own variables, then the image's, then those asked for; a later one takes the place of an earlier one of the same name.
pub fn environment_of(
    image: &[String],
    asked: &[OsString],
    hostname: &str,
    home: &str,
    terminal: bool,
) -> Vec<OsString> {
    let mut env: Vec<OsString> = vec![format!("PATH={PATH}").into(), format!("HOSTNAME={hostname}").into()];
    if terminal {
        env.push("TERM=xterm".into());
    }
    for pair in image.iter().map(OsString::from).chain(asked.iter().cloned()) {
        let name = name_of(&pair);
        match env.iter_mut().find(|known| name_of(known) == name) {
            Some(known) => *known = pair,
            None => env.push(pair),
        }
    }
    if !env.iter().any(|pair| name_of(pair) == b"HOME") {
        env.push(format!("HOME={home}").into());
    }
    env
}

fn name_of(pair: &OsString) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    pair.as_bytes().split(|byte| *byte == b'=').next().unwrap_or_default().to_vec()
}

/// /etc/resolv.conf, /etc/hosts and /etc/hostname: the host's business, and no part of what the container changes.
fn host_files(asked: &Asked) -> Vec<Mount> {
    let file = |target: &str, bytes: Vec<u8>| Mount {
        target: target.into(),
        source: Source::Content { bytes, mode: 0o644, uid: 0, gid: 0 },
        // As Docker's, a part of what --read-only is about.
        read_only: asked.read_only,
    };
    let hosts = format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n127.0.1.1\t{}\n{}",
        asked.hostname, asked.hosts
    );
    vec![
        // A host without one has no names to offer.
        file("/etc/resolv.conf", std::fs::read("/etc/resolv.conf").unwrap_or_default()),
        file("/etc/hosts", hosts.into_bytes()),
        file("/etc/hostname", format!("{}\n", asked.hostname).into_bytes()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn entry_point_and_command_together() {
        type Words = &'static [&'static str];
        type Case = (Words, Words, Option<&'static str>, Words, Option<Words>);
        let cases: [Case; 9] = [
            (&[], &["c"], None, &[], Some(&["c"])),
            (&[], &["c"], None, &["x", "y"], Some(&["x", "y"])),
            (&["e", "1"], &["c"], None, &[], Some(&["e", "1", "c"])),
            (&["e", "1"], &["c"], None, &["x"], Some(&["e", "1", "x"])),
            (&["e", "1"], &["c"], Some("n"), &[], Some(&["n"])),
            (&["e", "1"], &["c"], Some("n"), &["x"], Some(&["n", "x"])),
            (&["e"], &["c"], Some(""), &["x"], Some(&["x"])),
            (&["e"], &["c"], Some(""), &[], None),
            (&[], &[], None, &[], None),
        ];
        for (entrypoint, cmd, given, command, expected) in cases {
            let image = Image { entrypoint: words(entrypoint), cmd: words(cmd), ..Image::default() };
            let asked = Asked {
                entrypoint: given.map(str::to_owned),
                command: command.iter().map(OsString::from).collect(),
                ..Asked::default()
            };
            let expected = expected.map(|list| list.iter().map(OsString::from).collect::<Vec<_>>());
            assert_eq!(arguments(&image, &asked).ok(), expected, "{entrypoint:?} {cmd:?} {given:?} {command:?}");
        }
    }

    #[test]
    fn later_variables_take_the_place_of_earlier_ones() {
        let env =
            environment_of(&words(&["A=1", "PATH=/x", "B=2"]), &["A=3".into(), "C=".into()], "box", "/root", true);
        let expected = ["PATH=/x", "HOSTNAME=box", "TERM=xterm", "A=3", "B=2", "C=", "HOME=/root"];
        assert_eq!(env, expected.map(OsString::from));
    }
}
