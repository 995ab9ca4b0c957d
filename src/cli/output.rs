//! What verbs print: data on standard output, as text or JSON.

use clap::ValueEnum;

/// The shape of what a listing or describing verb prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}
