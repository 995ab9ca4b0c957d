//! A stage while its instructions are applied, and what is left to do for each of them.

use super::environment::Environment;
use crate::build::dockerfile::{Mount, Network, Transfer};
use crate::oci::{History, ImageConfig};

/// What `history` entries of this builder carry as their comment.
pub(super) const HISTORY_COMMENT: &str = "layerfs.build.v0";

/// The state of a stage after some of its instructions.
#[derive(Debug, Clone)]
pub struct StageState {
    /// The image's configuration; `rootfs` and the times of new history entries are filled in by who runs the steps.
    pub config: ImageConfig,
    /// Variables: the image's environment, ENV and ARG.
    pub environment: Environment,
    /// What ARG declared, for the history of RUN.
    pub(super) arguments: Vec<(String, Option<String>)>,
    /// Whether this stage has a CMD of its own, which a later ENTRYPOINT leaves alone.
    pub(super) cmd_set: bool,
    /// Whether an ENV of this stage names PATH, which is then not the one that every stage is given.
    pub(super) path_set: bool,
}

/// What an instruction leaves to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Nothing: it changed the configuration.
    Metadata,
    /// Make sure this directory exists.
    Workdir {
        /// Absolute path.
        path: String,
        /// Who owns it when it is made; root when none.
        user: Option<String>,
    },
    /// Run a command.
    Run(Box<RunAction>),
    /// Copy files.
    Copy(Box<CopyAction>),
}

/// A command to run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunAction {
    /// The arguments, the shell included.
    pub arguments: Vec<String>,
    /// A script to put at this path in the container for the time of the command: name and content.
    pub script: Option<(String, String)>,
    /// The environment.
    pub environment: Vec<String>,
    /// Proxies, which the cache must not know.
    pub proxies: Vec<(String, String)>,
    /// The user, empty for root.
    pub user: String,
    /// The working directory.
    pub workdir: String,
    /// The mounts.
    pub mounts: Vec<Mount>,
    /// The network, when the instruction says so.
    pub network: Option<Network>,
    /// Whether it asks for all privileges.
    pub insecure: bool,
}

/// Files to copy.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyAction {
    /// ADD instead of COPY: URLs and archives.
    pub add: bool,
    /// The arguments, expanded.
    pub transfer: Transfer,
    /// The destination: absolute, with a trailing slash where a directory is meant.
    pub destination: String,
}

/// The directory of files of a RUN that is one heredoc starting with `#!`.
pub(super) const SCRIPT_DIRECTORY: &str = "/dev/pipes/";

impl StageState {
    /// The state a stage starts with on an image. What the image wants run at the start of a build on it
    /// (`OnBuild`) is taken out of the configuration and returned.
    pub fn of_image(mut config: ImageConfig) -> (Self, Vec<String>) {
        let triggers = config.config.on_build.take().unwrap_or_default();
        config.created = None;
        if config.history.is_empty() {
            // The history is optional, but once there is one, every layer needs its entry.
            config.history = vec![History::default(); config.rootfs.diff_ids.len()];
        }
        (Self::with(config, Environment::default(), Vec::new()), triggers)
    }

    /// The state a stage starts with on another stage. Its arguments are inherited.
    pub fn of_stage(base: &Self) -> (Self, Vec<String>) {
        let mut config = base.config.clone();
        let triggers = config.config.on_build.take().unwrap_or_default();
        (Self::with(config, base.environment.clone(), base.arguments.clone()), triggers)
    }

    fn with(mut config: ImageConfig, mut environment: Environment, arguments: Vec<(String, Option<String>)>) -> Self {
        environment.set_lines(config.config.env.as_deref().unwrap_or_default());
        environment.ensure_path();
        let mut lines = Environment::default();
        lines.set_lines(config.config.env.as_deref().unwrap_or_default());
        lines.ensure_path();
        config.config.env = Some(lines.lines());
        Self { config, environment, arguments, cmd_set: false, path_set: false }
    }

    /// Notes a step in the history.
    pub(super) fn commit(&mut self, created_by: String, makes_layer: bool) {
        self.config.history.push(History {
            created_by: Some(created_by),
            comment: Some(HISTORY_COMMENT.to_owned()),
            empty_layer: !makes_layer,
            ..History::default()
        });
    }

    /// The shell of shell forms.
    pub(super) fn with_shell(&self, command: &str) -> Vec<String> {
        let mut arguments = self.config.config.shell.clone().filter(|shell| !shell.is_empty());
        let arguments = arguments.get_or_insert_with(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
        arguments.push(command.to_owned());
        std::mem::take(arguments)
    }

    /// The working directory, `/` when none is set.
    pub(super) fn workdir(&self) -> &str {
        self.config.config.working_dir.as_deref().filter(|path| !path.is_empty()).unwrap_or("/")
    }
}

/// `path` seen from `base`, absolute and without `.`, `..` and doubled slashes. A trailing slash or `/.` is kept as a slash
/// when `keep_slash`.
pub(super) fn absolute(base: &str, path: &str, keep_slash: bool) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let slash = keep_slash
        && !parts.is_empty()
        && (path.ends_with('/') || path.ends_with("/.") || path == "." || path.is_empty());
    format!("/{}{}", parts.join("/"), if slash { "/" } else { "" })
}
