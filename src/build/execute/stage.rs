//! One stage after the other, and the steps of each.

use super::cache::{self, Record};
use super::error::{BuildError, BuildResult, trying};
use super::events::Event;
use super::layers::Layers;
use super::results::StageResult;
use super::{Shared, copy_step, run_step};
use crate::build::copy::Tree;
use crate::build::dockerfile::Instruction;
use crate::build::plan::{Action, Origin, PlannedStage, Step};
use crate::oci::{Digest, ImageConfig};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

/// The stack of a stage's thread in bytes, of which only what is used takes memory: copies go down a tree by recursion, and a path of an
/// image may have as many components as there is room for in 32 KiB.
const STACK: usize = 64 << 20;

/// Runs every stage of the plan, each in a thread of its own.
pub(super) fn run_all(shared: &Shared<'_>) -> BuildResult<()> {
    let stages = &shared.build.plan.stages;
    let outcomes: Vec<BuildResult<()>> = thread::scope(|scope| {
        let start = |stage| {
            let started =
                thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || run_stage(shared, stage));
            // Whoever would wait for its result must not.
            started.map_err(trying("start a thread")).inspect_err(|_| shared.results.fail())
        };
        let threads: Vec<_> = stages.values().map(start).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, BuildResult<()>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(|thread| thread.and_then(join)).collect()
    });
    // The first failure of its own is the one to tell.
    let mut elsewhere = None;
    for outcome in outcomes {
        match outcome {
            Err(BuildError::Elsewhere) => elsewhere = Some(BuildError::Elsewhere),
            Err(error) => return Err(error),
            Ok(()) => {}
        }
    }
    elsewhere.map_or(Ok(()), Err)
}

fn run_stage(shared: &Shared<'_>, stage: &PlannedStage) -> BuildResult<()> {
    // Whoever waits for this stage must not wait for ever, however it ends.
    let unfinished = Unfinished(shared);
    let result = build_stage(shared, stage)?;
    shared.results.put(stage.index, result);
    std::mem::forget(unfinished);
    Ok(())
}

/// Ends all waiting when dropped.
struct Unfinished<'a>(&'a Shared<'a>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.results.fail();
    }
}

/// The layers that `origin` names.
pub(super) fn layers_of(shared: &Shared<'_>, origin: &Origin) -> BuildResult<Layers> {
    match origin {
        // The files of a context become a layer where a stage begins with them.
        Origin::Scratch | Origin::Files(_) => Ok(Layers::default()),
        Origin::Stage(index) => Ok(shared.results.wait(*index)?.layers),
        Origin::Image(reference) => match shared.build.images.get(reference) {
            Some(image) => Layers::of_image(shared.build.session, image),
            None => Err(BuildError::Unsupported(format!("image {reference} is not at hand"))),
        },
    }
}

/// The files that `origin` names.
pub(super) fn tree_of(shared: &Shared<'_>, origin: &Origin) -> BuildResult<Arc<dyn Tree>> {
    match origin {
        Origin::Files(name) => files_of(shared, name),
        other => layers_of(shared, other)?.tree(),
    }
}

fn files_of(shared: &Shared<'_>, name: &str) -> BuildResult<Arc<dyn Tree>> {
    let found = shared.build.contexts.get(name).cloned();
    found.ok_or_else(|| BuildError::Unsupported(format!("the context {name} is not at hand")))
}

/// A stage being built.
pub(super) struct Work<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) layers: Layers,
    config: ImageConfig,
    /// When the last step that made a layer did so.
    created: Option<String>,
    /// Whether earlier results of this stage are left alone.
    fresh: bool,
}

/// A layer that a step has just made.
pub(super) struct Made {
    pub(super) diff_id: Digest,
    /// Bytes of the tar.
    pub(super) size: u64,
}

fn build_stage(shared: &Shared<'_>, stage: &PlannedStage) -> BuildResult<StageResult> {
    let (layers, inherited) = match &stage.base {
        Origin::Stage(index) => {
            let base = shared.results.wait(*index)?;
            (base.layers, Some(base.config))
        }
        origin => (layers_of(shared, origin)?, None),
    };
    let mut config = stage.state.config.clone();
    if let Some(base) = inherited {
        // The times of the base's entries are known by now.
        for (own, known) in config.history.iter_mut().zip(base.history) {
            own.created = known.created;
        }
    }
    let created = config.history.get(..stage.inherited_history).and_then(|history| history.last());
    let created = created.and_then(|entry| entry.created.clone());
    let number = stage.index.to_string();
    let is_meant = |name: &String| Some(name) == stage.name.as_ref() || *name == number;
    let fresh = shared.build.options.no_cache_stages.iter().any(is_meant);
    let mut work = Work { shared, layers, config, created, fresh };
    if let Origin::Files(name) = &stage.base {
        let start = |work: &mut Work<'_>| {
            let (key, found) = copy_step::whole(work, files_of(shared, name)?)?;
            work.finish(key, found)?;
            if let Some(entry) = work.config.history.first_mut() {
                entry.created.clone_from(&work.created);
            }
            Ok(())
        };
        start(&mut work).map_err(|error| work.placed(error, &stage.from))?;
    }
    for step in &stage.steps {
        if shared.build.cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        if shared.results.has_failed() {
            return Err(BuildError::Elsewhere);
        }
        work.run(step)?;
    }
    work.config.rootfs.diff_ids = work.layers.all().iter().map(|layer| layer.record.diff_id).collect();
    Ok(StageResult { layers: work.layers, config: work.config })
}

impl Work<'_> {
    fn run(&mut self, step: &Step) -> BuildResult<()> {
        if step.action != Action::Metadata {
            self.run_counted(step)?;
        }
        let now = self.created.clone().unwrap_or_else(|| self.shared.build.options.clock.rfc3339());
        if let Some(entry) = step.history.and_then(|index| self.config.history.get_mut(index)) {
            entry.created = Some(now);
        }
        Ok(())
    }

    /// Whether earlier results are left alone here, if not everywhere.
    pub(super) fn ignores_cache(&self) -> bool {
        self.fresh
    }

    /// The error of an instruction with its place in the Dockerfile.
    fn placed(&self, error: BuildError, instruction: &Instruction) -> BuildError {
        if self.shared.build.cancel.is_cancelled() {
            // Whatever could not be finished could not because of that.
            return BuildError::Cancelled;
        }
        match error {
            BuildError::Step(_) | BuildError::Command { .. } | BuildError::Cancelled | BuildError::Elsewhere => error,
            other => BuildError::Step(Box::new(instruction.diagnostic(other.to_string()))),
        }
    }

    /// Runs a step that makes a layer; tells of it.
    fn run_counted(&mut self, step: &Step) -> BuildResult<()> {
        let number = self.shared.steps.fetch_add(1, Ordering::Relaxed) + 1;
        let reporter = self.shared.build.reporter;
        reporter.report(number, Event::Started(&step.title));
        let started = Instant::now();
        match self.attempt(step, number, started) {
            Ok(true) => reporter.report(number, Event::Cached),
            Ok(false) => reporter.report(number, Event::Done(started.elapsed())),
            Err(error) => {
                let error = self.placed(error, &step.instruction);
                reporter.report(number, Event::Failed(&message(&error)));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Makes the layer of a step or finds it; returns whether it was found.
    fn attempt(&mut self, step: &Step, number: usize, started: Instant) -> BuildResult<bool> {
        match &step.action {
            Action::Metadata => Ok(true),
            Action::Workdir { path, user } => {
                let tree = self.layers.tree()?;
                let (key, made) = copy_step::workdir(self, &*tree, path, user.as_deref())?;
                self.finish(key, made)
            }
            Action::Copy(action) => {
                let tree = self.layers.tree()?;
                let (key, made) = copy_step::copy(self, &*tree, step, action)?;
                self.finish(key, made)
            }
            Action::Run(action) => {
                let run = run_step::prepare(self, step, action)?;
                let key = run.key;
                let made = match cache::find(self, &key)? {
                    Some(record) => Found::Known(record),
                    None => Found::Made(run_step::run(self, &run, number, started)?),
                };
                self.finish(key, made)
            }
        }
    }

    /// Puts the layer of a step on top and remembers it; returns whether it was known.
    fn finish(&mut self, key: Digest, found: Found) -> BuildResult<bool> {
        let known = matches!(found, Found::Known(_));
        let record = match found {
            Found::Known(record) => record,
            Found::Made(Made { diff_id, size }) => {
                let record = Record { diff_id, size, created: self.shared.build.options.clock.rfc3339() };
                cache::remember(self.shared, &key, &record)?;
                record
            }
        };
        self.layers.push(self.shared.build.store, record.diff_id, record.size, key)?;
        self.created = Some(record.created);
        Ok(known)
    }
}

/// The layer of a step.
pub(super) enum Found {
    /// In the cache.
    Known(Record),
    /// Just made.
    Made(Made),
}

fn message(error: &BuildError) -> String {
    match error {
        BuildError::Step(place) | BuildError::Command { place, .. } => place.message.clone(),
        other => other.to_string(),
    }
}
