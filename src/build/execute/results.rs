//! The results of stages, and waiting for them.

use super::error::{BuildError, BuildResult};
use super::layers::Layers;
use crate::oci::ImageConfig;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;

/// A stage that is done.
#[derive(Debug, Clone)]
pub(super) struct StageResult {
    pub(super) layers: Layers,
    pub(super) config: ImageConfig,
}

/// What stages have come to so far.
#[derive(Debug, Default)]
pub(super) struct Results {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    done: BTreeMap<usize, StageResult>,
    failed: bool,
}

impl Results {
    /// The result of the stage `index`, once it is there.
    pub(super) fn wait(&self, index: usize) -> BuildResult<StageResult> {
        let mut state = self.state.lock();
        loop {
            if let Some(result) = state.done.get(&index) {
                return Ok(result.clone());
            }
            if state.failed {
                return Err(BuildError::Elsewhere);
            }
            self.changed.wait(&mut state);
        }
    }

    /// The result of the stage `index`, which is done.
    pub(super) fn take(&self, index: usize) -> BuildResult<StageResult> {
        self.state.lock().done.remove(&index).ok_or(BuildError::Elsewhere)
    }

    pub(super) fn put(&self, index: usize, result: StageResult) {
        self.state.lock().done.insert(index, result);
        self.changed.notify_all();
    }

    /// Ends all waiting.
    pub(super) fn fail(&self) {
        self.state.lock().failed = true;
        self.changed.notify_all();
    }

    pub(super) fn has_failed(&self) -> bool {
        self.state.lock().failed
    }
}
