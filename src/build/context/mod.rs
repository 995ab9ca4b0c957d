//! The build context: which of its files a build sees, and reading them without leaving it.
//!
//! Owns the patterns of `.dockerignore` and of COPY. Must not know instructions or stages.

mod glob;
mod ignore;
mod matcher;

pub use glob::{BadPattern, Glob, has_wildcards};
pub use ignore::{ignore_file_names, ignore_patterns};
pub use matcher::{Matcher, ParentMatches};
