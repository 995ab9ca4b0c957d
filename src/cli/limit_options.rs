//! `--ulimit` and `--add-host`: what `build` and `run` give a command beyond the image.

use std::net::IpAddr;
use std::str::FromStr;

/// A resource limit: `nofile=1024:2048`, soft and hard, or one number for both; -1 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ulimit {
    /// As setrlimit(2) numbers it.
    pub(super) resource: u32,
    pub(super) soft: u64,
    pub(super) hard: u64,
}

/// In the kernel's order (asm-generic/resource.h). An address space cannot be limited, as with Docker.
const RESOURCES: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

impl FromStr for Ulimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, values) = text.split_once('=').ok_or_else(|| format!("{text:?} is no limit such as nofile=1024"))?;
        let number = RESOURCES.iter().position(|known| *known == name && *known != "as");
        let number = number.ok_or_else(|| format!("invalid ulimit type: {name}"))?;
        let value = |text: &str| match text {
            "-1" => Ok(u64::MAX),
            _ => text.parse().map_err(|_| format!("{text:?} is no number")),
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (value(soft)?, value(hard)?);
        if soft > hard {
            return Err(format!("the soft limit of {name} must not be above the hard one: {values}"));
        }
        Ok(Self { resource: number as u32, soft, hard })
    }
}

impl From<Ulimit> for (u32, u64, u64) {
    fn from(limit: Ulimit) -> Self {
        (limit.resource, limit.soft, limit.hard)
    }
}

/// A line of /etc/hosts: `NAME:ADDRESS` or `NAME=ADDRESS`; the address may stand in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    name: String,
    address: IpAddr,
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || format!("bad format for add-host: {text:?}");
        let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(bad)?;
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(bad());
        }
        if address == "host-gateway" {
            // Containers have the host's own network.
            return Ok(Self { name: name.to_owned(), address: std::net::Ipv4Addr::LOCALHOST.into() });
        }
        let plain = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        let address = plain.parse().map_err(|_| format!("invalid IP address in add-host: {address:?}"))?;
        Ok(Self { name: name.to_owned(), address })
    }
}

impl Host {
    /// As it stands in /etc/hosts.
    pub(super) fn line(&self) -> String {
        format!("{}\t{}\n", self.address, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_resources() {
        let limit = |text: &str| text.parse::<Ulimit>().map(<(u32, u64, u64)>::from);
        assert_eq!(limit("nofile=1024"), Ok((7, 1024, 1024)));
        assert_eq!(limit("core=0:-1"), Ok((4, 0, u64::MAX)));
        for wrong in ["nofile", "files=1", "nofile=x", "nofile=2:1", "as=1"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lines_of_hosts() {
        let line = |text: &str| text.parse::<Host>().map(|host| host.line());
        assert_eq!(line("a:1.2.3.4"), Ok("1.2.3.4\ta\n".to_owned()));
        assert_eq!(line("a=::1"), Ok("::1\ta\n".to_owned()));
        assert_eq!(line("a:[2001:db8::1]"), Ok("2001:db8::1\ta\n".to_owned()));
        assert_eq!(line("me:host-gateway"), Ok("127.0.0.1\tme\n".to_owned()));
        for wrong in ["a", ":1.2.3.4", "a:b", "a b:1.2.3.4"] {
            assert!(line(wrong).is_err(), "{wrong}");
        }
    }
}
