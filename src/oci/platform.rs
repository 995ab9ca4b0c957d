//! Platforms: operating system, architecture, variant.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use std::str::FromStr;

/// The platform an image runs on. As it stands in documents it is kept unchanged; [`Self::normalized`] is what is
/// compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The CPU architecture, as Go names it.
    pub architecture: String,
    /// The operating system, as Go names it.
    pub os: String,
    /// The version of the operating system (Windows).
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the operating system that are needed.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// The variant of the architecture: `v7` of arm, `v3` of amd64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What else the document says.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A text that names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid platform {0:?}: expected OS/ARCHITECTURE[/VARIANT]")]
pub struct InvalidPlatform(pub String);

impl Platform {
    /// The platform of `os`, `architecture` and `variant`, the latter empty for none.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            os_version: None,
            os_features: Vec::new(),
            variant: Some(variant.to_owned()).filter(|variant| !variant.is_empty()),
            other: Map::new(),
        }
    }

    /// The platform this program was built for.
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, "").normalized()
    }

    /// The platform in the names Go uses: `x86_64` is `amd64`, `aarch64` and `arm64/v8` are `arm64`, `armhf` is
    /// `arm/v7` (containerd, platforms/database.go).
    #[must_use]
    pub fn normalized(&self) -> Self {
        let os = match self.os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            os => os.to_owned(),
        };
        let variant = self.variant.as_deref().unwrap_or_default().to_ascii_lowercase();
        let (architecture, variant) = normalize_architecture(&self.architecture.to_ascii_lowercase(), &variant);
        Self {
            os,
            architecture,
            variant: Some(variant).filter(|variant| !variant.is_empty()),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            other: Map::new(),
        }
    }

    /// How well an image of `candidate` serves where this platform is wanted: none when it does not run there, 0 for
    /// the same platform, more for older variants.
    pub fn distance_to(&self, candidate: &Self) -> Option<u32> {
        let (wanted, offered) = (self.normalized(), candidate.normalized());
        if wanted.os != offered.os || wanted.architecture != offered.architecture {
            return None;
        }
        let (wanted, offered) = (wanted.variant_level(), offered.variant_level());
        wanted.checked_sub(offered)
    }

    /// The entry of `candidates` that serves best; the first of equals.
    pub fn best<'a, T>(&self, candidates: &'a [T], platform: impl Fn(&T) -> Option<Self>) -> Option<&'a T> {
        candidates
            .iter()
            .filter_map(|candidate| Some((self.distance_to(&platform(candidate)?)?, candidate)))
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, candidate)| candidate)
    }

    /// The variant as a number; the base level of an architecture is what no variant means there.
    fn variant_level(&self) -> u32 {
        let level = self.variant.as_deref().and_then(|variant| variant.trim_start_matches('v').parse().ok());
        level.unwrap_or(match self.architecture.as_str() {
            "arm64" => 8,
            "arm" => 7,
            _ => 1,
        })
    }
}

fn normalize_architecture(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = match (architecture, variant) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        ("powerpc64" | "powerpc64le", _) if cfg!(target_endian = "little") => ("ppc64le", ""),
        (architecture, variant) => (architecture, variant),
    };
    (architecture.to_owned(), variant.to_owned())
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    /// Parses `OS/ARCHITECTURE[/VARIANT]`; one word alone is an operating system or an architecture, the other part
    /// being this machine's.
    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let valid = |part: &&str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(valid) {
            return Err(InvalidPlatform(text.to_owned()));
        }
        let host = Self::host();
        Ok(match parts.as_slice() {
            [word] if is_known_os(word) => Self::new(word, &host.architecture, ""),
            [word] if is_known_architecture(word) => Self::new("linux", word, ""),
            [os, architecture] => Self::new(os, architecture, ""),
            [os, architecture, variant] => Self::new(os, architecture, variant),
            _ => return Err(InvalidPlatform(text.to_owned())),
        }
        .normalized())
    }
}

fn is_known_os(word: &str) -> bool {
    matches!(word, "linux" | "windows" | "darwin" | "macos" | "freebsd" | "openbsd" | "netbsd" | "android" | "wasi")
}

fn is_known_architecture(word: &str) -> bool {
    let architecture = normalize_architecture(word, "").0;
    matches!(
        architecture.as_str(),
        "386" | "amd64" | "arm" | "arm64" | "ppc64le" | "ppc64" | "riscv64" | "s390x" | "mips64le" | "loong64" | "wasm"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn spellings_mean_one_platform() {
        assert_eq!(parse("linux/x86_64").to_string(), "linux/amd64");
        assert_eq!(parse("linux/arm64/v8").to_string(), "linux/arm64");
        assert_eq!(parse("linux/aarch64").to_string(), "linux/arm64");
        assert_eq!(parse("linux/arm").to_string(), "linux/arm/v7");
        assert_eq!(parse("arm64").to_string(), "linux/arm64");
        assert_eq!(parse("linux/amd64/v1").to_string(), "linux/amd64");
        assert!("".parse::<Platform>().is_err());
        assert!("linux/".parse::<Platform>().is_err());
        assert!("nonsense".parse::<Platform>().is_err());
        assert!("a/b/c/d".parse::<Platform>().is_err());
    }

    #[test]
    fn the_nearest_older_variant_serves() {
        let offered = ["linux/arm/v5", "linux/arm/v6", "linux/arm64", "linux/amd64"].map(parse);
        let best = |wanted: &str| parse(wanted).best(&offered, |offer| Some(offer.clone())).map(ToString::to_string);
        assert_eq!(best("linux/arm/v7").as_deref(), Some("linux/arm/v6"));
        assert_eq!(best("linux/arm/v5").as_deref(), Some("linux/arm/v5"));
        assert_eq!(best("linux/arm64/v8").as_deref(), Some("linux/arm64"));
        assert_eq!(best("linux/amd64/v3").as_deref(), Some("linux/amd64"));
        assert_eq!(best("linux/s390x"), None);
        assert_eq!(best("windows/amd64"), None);
    }
}
