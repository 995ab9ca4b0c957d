//! Options that `run` and `exec` share, named as Docker names them.

use super::error::WithHint;
use crate::run::{is_in_proc, is_root};
use crate::sandbox::{Capabilities, Mount, Source, capability_by_name};
use anyhow::{Context, anyhow, bail};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

/// How a command runs in a container.
#[derive(Debug, Default, clap::Args)]
pub(super) struct ContainerOptions {
    /// Give our standard input to the command
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub(super) tty: bool,
    /// A variable of the environment, NAME=VALUE, or NAME for ours
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(super) env: Vec<String>,
    /// Variables of the environment from a file, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory, made if it is missing
    #[arg(short, long, value_name = "PATH")]
    pub(super) workdir: Option<String>,
    /// User and group, names of the image or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(super) user: Option<String>,
    /// All capabilities, no filter of system calls, nothing hidden
    #[arg(long)]
    pub(super) privileged: bool,
    /// A capability beyond Docker's default ones, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// One of Docker's default capabilities less, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// seccomp=unconfined or no-new-privileges
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
}

impl ContainerOptions {
    /// Refuses a terminal to whom has none: a shell would wait for someone who cannot type. To be asked before anything is made.
    pub(super) fn check_terminal(&self) -> anyhow::Result<()> {
        if self.tty && self.interactive && !std::io::stdin().is_terminal() {
            return Err(anyhow!("the input device is not a TTY"))
                .hint("leave out -t where input comes from a pipe or a file");
        }
        Ok(())
    }

    /// The capabilities asked for; `None` for the default.
    pub(super) fn capabilities(&self) -> anyhow::Result<Option<Capabilities>> {
        if self.cap_add.is_empty() && self.cap_drop.is_empty() {
            return Ok(None);
        }
        let is_all = |name: &String| name.eq_ignore_ascii_case("all");
        let mut set = Capabilities::docker();
        if self.cap_add.iter().any(is_all) {
            set = Capabilities::all();
        } else if self.cap_drop.iter().any(is_all) {
            set = Capabilities::none();
        }
        let known = |name: &String| {
            capability_by_name(name)
                .with_context(|| format!("no such capability: {name}"))
                .hint("capabilities(7) lists them: NET_ADMIN or CAP_NET_ADMIN, or ALL")
        };
        for name in self.cap_drop.iter().filter(|name| !is_all(name)) {
            set = set.without(known(name)?);
        }
        for name in self.cap_add.iter().filter(|name| !is_all(name)) {
            set = set.with(known(name)?);
        }
        Ok(Some(set))
    }

    /// Whether no filter of system calls was asked for.
    pub(super) fn unconfined(&self) -> anyhow::Result<bool> {
        let mut unconfined = false;
        for option in &self.security_opt {
            match option.replacen(':', "=", 1).as_str() {
                "seccomp=unconfined" => unconfined = true,
                "no-new-privileges" | "no-new-privileges=true" | "no-new-privileges=false" => {}
                _ => bail!("the security option {option} is not supported"),
            }
        }
        Ok(unconfined)
    }

    pub(super) fn no_new_privileges(&self) -> bool {
        self.security_opt.iter().any(|option| {
            option == "no-new-privileges" || option.ends_with("privileges=true") || option.ends_with("privileges:true")
        })
    }

    /// The variables of the files, in their order, and then those that are given.
    pub(super) fn variables(&self) -> anyhow::Result<Vec<OsString>> {
        let mut all = Vec::new();
        for path in &self.env_file {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))
                .hint("--env-file names a text file with a line NAME=VALUE for each variable")?;
            let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
            for line in lines {
                all.extend(variable(line).with_context(|| path.display().to_string())?);
            }
        }
        for text in &self.env {
            all.extend(variable(text)?);
        }
        Ok(all)
    }
}

/// `NAME=VALUE` as it is, `NAME` with our value; `None` when we have none.
fn variable(text: &str) -> anyhow::Result<Option<OsString>> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    if name.is_empty() {
        return Err(anyhow!("{text:?} is no variable of the environment: its name is missing"))
            .hint("NAME=VALUE is expected, or NAME for the value that it has here");
    }
    if value.is_some() {
        return Ok(Some(text.into()));
    }
    Ok(std::env::var_os(name).map(|value| {
        let mut pair = OsString::from(name);
        pair.push("=");
        pair.push(value);
        pair
    }))
}

/// `PATH[:size=BYTES[,mode=OCTAL]]`, with Docker's options of mount(8); programs in it are executed with `exec` only.
pub(super) fn tmpfs(text: &str) -> anyhow::Result<Mount> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    if !path.starts_with('/') {
        return Err(anyhow!("{path} is not an absolute path"))
            .hint(format!("--tmpfs takes a path of the container that begins with /, such as /{path}"));
    }
    if is_root(path) {
        bail!("{path} is the container's root, on which nothing can be mounted");
    }
    if is_in_proc(path) {
        bail!("{path} is in the container's /proc, in which nothing can be mounted");
    }
    let (mut size, mut mode, mut read_only, mut executable) = (None, 0o1777, false, false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", value)) => size = Some(bytes(value)?),
            Some(("mode", value)) => mode = u32::from_str_radix(value, 8).with_context(|| option.to_owned())?,
            None if option == "ro" => read_only = true,
            None if option == "exec" => executable = true,
            None if option == "noexec" => executable = false,
            None if ["rw", "nosuid", "nodev"].contains(&option) => {}
            _ => bail!("the option {option} of a tmpfs is not supported"),
        }
    }
    Ok(Mount { target: path.into(), source: Source::Tmpfs { size, mode, executable }, read_only })
}

const BYTES: &str = "a number of bytes has k, m or g behind it for larger units: 512m, 2g";

/// A number of bytes, with b, k, m or g behind it.
pub(super) fn bytes(text: &str) -> anyhow::Result<u64> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (digits, factor) = match lower.char_indices().last() {
        Some((at, 'k')) => (lower.split_at(at).0, 1 << 10),
        Some((at, 'm')) => (lower.split_at(at).0, 1 << 20),
        Some((at, 'g')) => (lower.split_at(at).0, 1 << 30),
        _ => (lower, 1),
    };
    let number: Option<u64> = digits.parse().ok();
    let number = number.with_context(|| format!("{text} is not a number of bytes")).hint(BYTES)?;
    number.checked_mul(factor).with_context(|| format!("{text} is too much")).hint(BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Capability;

    #[test]
    fn sizes() {
        for (text, expected) in [("1", 1), ("2k", 2048), ("3m", 3 << 20), ("1g", 1 << 30), ("5MB", 5 << 20), ("7b", 7)]
        {
            assert_eq!(bytes(text).expect(text), expected, "{text}");
        }
        assert!(bytes("x").is_err() && bytes("99999999999g").is_err());
    }

    #[test]
    fn regression_variables_have_names() {
        let variables = |texts: &[&str]| {
            let env = texts.iter().map(|text| (*text).to_owned()).collect();
            ContainerOptions { env, ..ContainerOptions::default() }.variables()
        };
        assert_eq!(variables(&["A=b=c", "D=", "LAYERFS_IS_NOT_SET"]).expect("named"), ["A=b=c", "D="]);
        for nameless in ["=x", "=", ""] {
            let refused = variables(&["A=b", nameless]).expect_err(nameless).to_string();
            assert!(refused.contains("its name is missing"), "{refused}");
        }
    }

    #[test]
    fn capabilities_are_added_and_dropped() {
        let options = |add: &[&str], drop: &[&str]| ContainerOptions {
            cap_add: add.iter().map(|name| (*name).to_owned()).collect(),
            cap_drop: drop.iter().map(|name| (*name).to_owned()).collect(),
            ..ContainerOptions::default()
        };
        assert_eq!(options(&[], &[]).capabilities().expect("none"), None);
        let set = options(&["SYS_ADMIN"], &["CHOWN"]).capabilities().expect("known").expect("given");
        assert!(set.contains(Capability::SysAdmin) && !set.contains(Capability::Chown));
        let set = options(&["CAP_CHOWN"], &["all"]).capabilities().expect("known").expect("given");
        assert_eq!(set, Capabilities::none().with(Capability::Chown));
        assert!(options(&["nonsense"], &[]).capabilities().is_err());
    }
}
