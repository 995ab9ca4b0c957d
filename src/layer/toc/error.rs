//! What can go wrong with a table of contents.

use std::io;

/// Why the entries of an archive do not make a layer.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An entry that no layer can have.
    #[error("entry \"{path}\": {problem}")]
    Entry {
        /// The entry's name, escaped.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The tables would be larger than the format allows.
    #[error("the layer is too large: {0}")]
    TooLarge(&'static str),
    /// A file's data lie behind the end of the tar: the size given is not that of the archive read.
    #[error("the data of a file lie beyond the end of the tar")]
    BeyondTar,
}

/// Why a TOC cannot be used. All but [`OpenError::Io`] call for rebuilding it from the tar.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file cannot be read.
    #[error("cannot read the {file}")]
    Io {
        /// Which of the two files.
        file: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// No TOC at all.
    #[error("not a table of contents")]
    Magic,
    /// Written by another version.
    #[error("the table of contents has format version {found}, this is {expected}")]
    Version {
        /// The version in the file.
        found: u32,
        /// The version of this program.
        expected: u32,
    },
    /// The file contradicts itself.
    #[error("the table of contents is damaged: {0}")]
    Damaged(&'static str),
    /// The tar is not the one that the TOC describes.
    #[error("the tar has {found} bytes, the table of contents says {expected}")]
    TarSize {
        /// Bytes of the file.
        found: u64,
        /// Bytes that the TOC says.
        expected: u64,
    },
}
