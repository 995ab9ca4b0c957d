//! Images from Dockerfiles: the front end, the stages and their order, the cache, the execution of steps.
//!
//! Owns the Dockerfile language and what its instructions mean. Must not know how a person is told about it.

pub mod context;
pub mod copy;
pub mod dockerfile;
pub mod execute;
pub mod plan;
pub mod trees;
