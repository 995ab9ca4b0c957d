//! Carries a plan out: layers are made or found in the cache, stage by stage, and become an image.
//!
//! Owns the order of work, the cache, and what a step leaves behind. Must not know how a person is told about it: that is
//! the business of a [`Reporter`].
//!
//! Problems, and what solves each:
//! 1. Stages that do not need each other run at the same time: a thread each, and whoever needs a result waits for it
//!    ([`results::Results`]). A failure ends all of them.
//! 2. A step is not done twice: its key is made of the layers below it, what it does, and the contents it reads
//!    ([`cache`]). A step that was interrupted leaves no record.
//! 3. COPY needs no mount, RUN gets one of its own that nobody else sees, and its upper goes away with the session.

mod assemble;
mod cache;
mod cache_mounts;
mod cancel;
mod copy_step;
mod error;
mod events;
mod fetch;
mod layers;
mod mounts;
mod results;
mod run_step;
mod stage;

pub use assemble::Built;
pub use cache_mounts::{CacheMount, cache_mounts, free_cache_mounts};
pub use cancel::Cancel;
pub use error::{BuildError, BuildResult};
pub use events::{Event, Quiet, Reporter};
pub use layers::Layers;
pub use mounts::Secret;

use super::copy::Tree;
use super::plan::Plan;
use crate::commit::Clock;
use crate::oci::{Digest, Reference};
use crate::store::{ImageRecord, Session, Store};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// What a build works with.
#[derive(Debug)]
pub struct Build<'a> {
    /// The store.
    pub store: &'a Store,
    /// Keeps everything that was made until it has a name.
    pub session: &'a Session,
    /// What to do.
    pub plan: &'a Plan,
    /// The context, ignore file applied.
    pub context: Arc<dyn Tree>,
    /// The files of named contexts.
    pub contexts: &'a BTreeMap<String, Arc<dyn Tree>>,
    /// The images the plan names.
    pub images: &'a BTreeMap<String, ImageRecord>,
    /// How.
    pub options: Options,
    /// Who is told.
    pub reporter: &'a dyn Reporter,
    /// Ends the build early.
    pub cancel: Cancel,
}

/// How a build is done.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether recorded results are used.
    pub use_cache: bool,
    /// Results of other images: keys with the layers they stand for.
    pub cache_from: BTreeMap<Digest, Digest>,
    /// Secrets by id.
    pub secrets: BTreeMap<String, Secret>,
    /// Whether RUN has no network unless it asks for it.
    pub no_network: bool,
    /// Memory a RUN may take, in bytes.
    pub memory: Option<u64>,
    /// Resource limits of a RUN as setrlimit(2) numbers them: (resource, soft, hard).
    pub resources: Vec<(u32, u64, u64)>,
    /// Further lines of a RUN's /etc/hosts.
    pub hosts: String,
    /// Stages whose recorded results are not used, by name in lower case or by number.
    pub no_cache_stages: Vec<String>,
    /// An OCI runtime that runs the commands, in place of our own executor.
    pub runtime: Option<std::ffi::OsString>,
    /// All layers of the build become one.
    pub squash: bool,
    /// The names of the result.
    pub names: Vec<Reference>,
    /// Now.
    pub clock: Clock,
    /// The program that starts sandboxes, where this process is another one.
    pub program: Option<std::path::PathBuf>,
}

impl Options {
    /// A build with cache and network, without secrets or names.
    pub fn new(clock: Clock) -> Self {
        Self {
            use_cache: true,
            cache_from: BTreeMap::new(),
            secrets: BTreeMap::new(),
            no_network: false,
            memory: None,
            resources: Vec::new(),
            hosts: String::new(),
            no_cache_stages: Vec::new(),
            runtime: None,
            squash: false,
            names: Vec::new(),
            clock,
            program: None,
        }
    }
}

/// What all stages of a build share.
#[derive(Debug)]
struct Shared<'a> {
    build: &'a Build<'a>,
    results: results::Results,
    steps: AtomicUsize,
}

impl Build<'_> {
    /// Builds the target and stores the image, without giving it a name yet.
    pub fn run(&self) -> BuildResult<Built> {
        let shared = Shared { build: self, results: results::Results::default(), steps: AtomicUsize::new(0) };
        stage::run_all(&shared)?;
        let stage = shared.results.take(self.plan.target)?;
        assemble::assemble(self, stage)
    }
}

/// The cache keys an image was built with, each with the layer it stands for. None when it was not built here.
pub fn keys_of(image: &ImageRecord) -> BTreeMap<Digest, Digest> {
    assemble::keys_of(image)
}
