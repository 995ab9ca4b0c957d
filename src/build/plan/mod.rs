//! What a Dockerfile comes to before anything runs: the stages that are needed, their steps, the final configurations.
//!
//! Owns the meaning of instructions as pure functions: variables and their scopes, effects on the image's configuration,
//! the texts of the history, the graph of stages. Must not know disks, mounts or processes; base images come through
//! [`Images`].

mod change;
mod effect;
mod environment;
mod format;
mod ports;
mod stages;
mod state;

pub use change::{InvalidChange, change};
pub use environment::{Environment, PROXY_ARGUMENTS};
pub use stages::{Images, NamedContext, Origin, Plan, PlannedStage, Settings, Step, context_name, plan};
pub use state::{Action, CopyAction, RunAction, StageState};

#[cfg(test)]
mod tests;
