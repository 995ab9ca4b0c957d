//! Variables: ordered, the later value wins; and those that are there without being declared.

use crate::build::dockerfile::Variables;
use crate::oci::Platform;
use std::collections::BTreeMap;

/// Build arguments that a RUN sees without ARG, and that neither the cache nor the history know.
pub const PROXY_ARGUMENTS: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// The PATH of a Linux container whose image has none (Docker's default).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Named values in the order of their first setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(Vec<(String, String)>);

impl Variables for Environment {
    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Environment {
    /// Sets `key`.
    pub fn set(&mut self, key: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => value.clone_into(known),
            None => self.0.push((key.to_owned(), value.to_owned())),
        }
    }

    /// Sets what lines `NAME=VALUE` say.
    pub fn set_lines(&mut self, lines: &[String]) {
        for line in lines {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            self.set(key, value);
        }
    }

    /// Sets PATH where there is none.
    pub(super) fn ensure_path(&mut self) {
        if self.value("PATH").is_none() {
            self.set("PATH", DEFAULT_PATH);
        }
    }

    /// Lines `NAME=VALUE`.
    pub fn lines(&self) -> Vec<String> {
        self.0.iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    /// The arguments every Dockerfile knows in its global scope; `given` overrides them.
    pub(super) fn predefined(platform: &Platform, target: Option<&str>, given: &BTreeMap<String, String>) -> Self {
        let mut environment = Self::default();
        let variant = platform.variant.as_deref().unwrap_or_default();
        let mut name = format!("{}/{}", platform.os, platform.architecture);
        if !variant.is_empty() {
            name = format!("{name}/{variant}");
        }
        for side in ["BUILD", "TARGET"] {
            for (key, value) in [
                ("PLATFORM", name.as_str()),
                ("OS", &platform.os),
                ("OSVERSION", ""),
                ("ARCH", &platform.architecture),
                ("VARIANT", variant),
            ] {
                environment.set(&format!("{side}{key}"), value);
            }
        }
        environment.set("TARGETSTAGE", target.unwrap_or("default"));
        for (key, value) in given {
            if environment.value(key).is_some() {
                environment.set(key, value);
            }
        }
        environment
    }
}

/// The proxies among the build arguments, in upper and lower case as programs look for them.
pub(super) fn proxies(given: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (key, value) in given {
        let lower = key.to_lowercase();
        if PROXY_ARGUMENTS.contains(&lower.as_str()) && !value.is_empty() {
            found.push((lower.to_uppercase(), value.clone()));
            found.push((lower, value.clone()));
        }
    }
    found
}
