//! The trees a build reads from: directories of the host, archives, stages and images.
//!
//! Owns how each is read without being led out of it. Must not know what is copied, nor why.

mod archive;
mod directory;
mod filtered;
mod stack;

pub use archive::ArchiveTree;
pub use directory::DirectoryTree;
pub use filtered::Filtered;
pub use stack::StackTree;

#[cfg(test)]
mod tests;
