//! The configuration of an image: how to run it, its layers, its history.

use super::manifest::{InvalidDocument, parse_document, to_bytes};
use super::{Digest, Platform};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The configuration of an image (config.md), with Docker's extensions. Fields that are not known here are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The CPU architecture, as Go names it.
    #[serde(default)]
    pub architecture: String,
    /// The variant of the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The operating system, as Go names it.
    #[serde(default)]
    pub os: String,
    /// How a container of the image runs.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: ContainerConfig,
    /// The layers by their diffIDs.
    #[serde(default)]
    pub rootfs: RootFs,
    /// What made each layer, bottom first.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub history: Vec<History>,
    /// What else the document says.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How a container of an image runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// User, or user and group, of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Ports, `80/tcp`, as keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Value>>,
    /// Environment, `NAME=VALUE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// What always runs.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "words")]
    pub entrypoint: Option<Vec<String>>,
    /// Its arguments, or what runs where there is no entry point.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "words")]
    pub cmd: Option<Vec<String>>,
    /// Mount points of volumes, as keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, Value>>,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The signal that asks the process to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds after which it is killed (Docker).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Whether the command is already escaped (Windows).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args_escaped: Option<bool>,
    /// How to find out whether the container works (Docker).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthCheck>,
    /// Instructions to run when another image is built on this one (Docker).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// What runs the shell form of commands (Docker).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// What else the document says.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Docker's health check. Times are in nanoseconds; absent means inherited.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthCheck {
    /// `NONE`, or `CMD` or `CMD-SHELL` and what to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
    /// Between two checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
    /// What one check may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// How long failures do not count at first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<i64>,
    /// Between two checks while the container starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<i64>,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<i64>,
    /// What else the document says.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The digests of the uncompressed layers, bottom first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
    /// What else the document says.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new(), other: Map::new() }
    }
}

/// One step of the making of an image.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What else was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// What else the document says.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A configuration that contradicts itself or its manifest.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// No configuration.
    #[error(transparent)]
    Document(#[from] InvalidDocument),
    /// `rootfs.type` is something else than `layers`.
    #[error("invalid configuration: rootfs is of type {0:?}, expected \"layers\"")]
    RootFs(String),
    /// The number of steps that made a layer is not the number of layers.
    #[error("invalid configuration: the history tells of {history} layers, rootfs has {layers} diffIDs")]
    History {
        /// Steps that made a layer.
        history: usize,
        /// diffIDs.
        layers: usize,
    },
    /// The manifest and the configuration have different numbers of layers.
    #[error("the manifest lists {manifest} layers, the configuration {config} diffIDs")]
    Layers {
        /// Layers in the manifest.
        manifest: usize,
        /// diffIDs in the configuration.
        config: usize,
    },
}

impl ImageConfig {
    /// A configuration without layers for `platform`.
    pub fn new(platform: &Platform) -> Self {
        Self {
            created: None,
            author: None,
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
            os: platform.os.clone(),
            config: ContainerConfig::default(),
            rootfs: RootFs::default(),
            history: Vec::new(),
            other: Map::new(),
        }
    }

    /// Parses and checks a configuration.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidConfig> {
        let config: Self = parse_document("configuration", bytes)?;
        config.check()?;
        Ok(config)
    }

    /// Checks the rules between history and diffIDs. No history at all is allowed: it is optional.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        if self.rootfs.kind != "layers" {
            return Err(InvalidConfig::RootFs(self.rootfs.kind.clone()));
        }
        let history = self.history.iter().filter(|step| !step.empty_layer).count();
        let layers = self.rootfs.diff_ids.len();
        if !self.history.is_empty() && history != layers {
            return Err(InvalidConfig::History { history, layers });
        }
        Ok(())
    }

    /// Fails unless the manifest beside it has as many layers.
    pub fn check_layers(&self, manifest: usize) -> Result<(), InvalidConfig> {
        let config = self.rootfs.diff_ids.len();
        if manifest == config { Ok(()) } else { Err(InvalidConfig::Layers { manifest, config }) }
    }

    /// The document as it is stored and sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// The platform of the image.
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, self.variant.as_deref().unwrap_or_default())
    }

    /// The chainIDs of the layers, bottom first.
    pub fn chain_ids(&self) -> Vec<Digest> {
        chain_ids(&self.rootfs.diff_ids)
    }
}

/// The chainIDs of layers: what the first n of them together are called (config.md, "Layer ChainID").
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = chain.last().map_or(*diff_id, |parent| Digest::of(format!("{parent} {diff_id}").as_bytes()));
        chain.push(next);
    }
    chain
}

/// Go writes absent lists and objects as `null`.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A command: a list, or one word as old tools wrote it (Docker's `strslice`).
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        List(Vec<String>),
        Word(String),
    }
    Ok(Option::<Words>::deserialize(deserializer)?.map(|words| match words {
        Words::List(list) => list,
        Words::Word(word) => vec![word],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_extensions_and_unknown_fields_survive() {
        let text = concat!(
            r#"{"created":"2024-01-01T00:00:00.5Z","author":"me","architecture":"arm","variant":"v7","os":"linux","#,
            r#""config":{"User":"1:2","ExposedPorts":{"80/tcp":{}},"Env":["A=b"],"Entrypoint":["/x"],"Cmd":[],"#,
            r#""Volumes":{"/v":{}},"WorkingDir":"/w","Labels":{"a":"b"},"StopSignal":"SIGINT","StopTimeout":5,"#,
            r#""ArgsEscaped":true,"Healthcheck":{"Test":["CMD","x"],"Interval":1,"Timeout":2,"StartPeriod":3,"#,
            r#""StartInterval":4,"Retries":5,"New":1},"OnBuild":["RUN x"],"Shell":["/bin/sh"],"Hostname":"h","Memory":7},"#,
            r#""rootfs":{"type":"layers","diff_ids":[]},"#,
            r#""history":[{"created":"x","created_by":"y","author":"z","comment":"c","empty_layer":true,"new":{}}],"#,
            r#""docker_version":"20","container_config":{"Hostname":"h"}}"#
        );
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(config.to_bytes()).unwrap(), text);
    }

    #[test]
    fn null_is_absent_and_a_word_is_a_command() {
        let text = r#"{"config":{"Cmd":"sh","Entrypoint":null,"Env":null,"Labels":null},"history":null,
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.config.cmd, Some(vec!["sh".to_owned()]));
        assert_eq!(config.config.entrypoint, None);
        assert!(ImageConfig::parse(br#"{"config":null,"rootfs":{"type":"layers"}}"#).is_ok());
    }

    #[test]
    fn history_and_layers_must_agree() {
        let mut config = ImageConfig::new(&Platform::host());
        config.rootfs.diff_ids = vec![Digest::of(b"a"), Digest::of(b"b")];
        assert!(config.check().is_ok(), "no history is allowed");
        let step = |empty_layer| History { empty_layer, ..History::default() };
        config.history = vec![step(false), step(true), step(false)];
        assert!(config.check().is_ok());
        config.history.pop();
        assert!(matches!(config.check(), Err(InvalidConfig::History { history: 1, layers: 2 })));
        assert!(matches!(config.check_layers(3), Err(InvalidConfig::Layers { .. })));
        config.rootfs.kind = "layers+base".to_owned();
        assert!(matches!(config.check(), Err(InvalidConfig::RootFs(_))));
    }

    #[test]
    fn chain_ids_follow_the_specification() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let chain = chain_ids(&[a, b]);
        assert_eq!(chain, [a, Digest::of(format!("{a} {b}").as_bytes())]);
        assert!(chain_ids(&[]).is_empty());
    }
}
