//! The Dockerfile language: bytes in, instructions with their places out.
//!
//! Owns lines, directives, continuation, heredocs, flags, arguments, the shell lexer of variable expansion, and what is
//! said about mistakes. Parsers take text; who read the file is no matter here. Semantics are those of BuildKit's
//! Dockerfile frontend (docs.docker.com/reference/dockerfile), its quirks included where Dockerfiles rely on them.
//!
//! Problems, and what solves each:
//! 1. An instruction is spread over lines with comments and blank lines inside: [`lines::LogicalLine`] joins them and
//!    remembers where every piece came from, so that a caret points into the file and not into the joined text.
//! 2. Quotes survive parsing and are removed by expansion, because only expansion knows the variables: [`lexer::Lexer`].
//! 3. A heredoc is found in the joined line, its body in the lines after it: [`heredoc`].

mod arguments;
mod expand;
mod flags;
mod heredoc;
mod instruction;
mod lexer;
mod lines;
mod mount;
mod parse;
mod pattern;
mod source;
mod suggest;
mod typed;

pub use expand::ExpandError;
pub use heredoc::{Heredoc, is_heredoc};
pub use instruction::{
    Command, CommandLine, CopySource, Healthcheck, Instruction, KeyValue, Network, Run, Stage, Transfer,
};
pub use lexer::{LexError, Lexer, Variables};
pub use mount::{Mount, MountKind, Sharing};
pub use parse::{Dockerfile, parse, parse_trigger};
pub use source::{Diagnostic, Source, Span};
pub use suggest::nearest;

#[cfg(test)]
mod tests;
