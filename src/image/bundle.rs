//! An image layout about to be written.

use super::error::{ImageError, ImageResult};
use super::progress::Progress;
use crate::archive::tar::{Entry, EntryKind, EntryPath, Error as TarError, Limits, Writer};
use crate::oci::{ANNOTATION_REF_NAME, Descriptor, Digest, Index};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Where the bytes of a blob are.
#[derive(Debug, Clone)]
pub(super) enum BlobSource {
    /// Here.
    Bytes(Vec<u8>),
    /// In a file of so many bytes.
    File { path: PathBuf, size: u64 },
}

/// Everything that goes into a layout.
#[derive(Debug, Default)]
pub(super) struct Bundle {
    pub(super) blobs: BTreeMap<Digest, BlobSource>,
    /// The entries of `index.json`.
    pub(super) index: Vec<Descriptor>,
    /// The items of `manifest.json`.
    pub(super) docker: Vec<Value>,
}

impl Bundle {
    /// Writes a tar: the documents that say what is in it first, so that who reads it as a stream knows, then the blobs
    /// ordered by digest.
    pub(super) fn write_tar(&self, docker: bool, output: &mut dyn Write, progress: &dyn Progress) -> ImageResult<()> {
        let mut archive = TarOutput { writer: Writer::new(output) };
        archive.file("oci-layout", &BlobSource::Bytes(OCI_LAYOUT.to_vec()), &|_| ())?;
        let index = Index::new(self.index.clone()).to_bytes();
        archive.file("index.json", &BlobSource::Bytes(index), &|_| ())?;
        if docker {
            let items = Value::Array(self.docker.clone()).to_string().into_bytes();
            archive.file("manifest.json", &BlobSource::Bytes(items), &|_| ())?;
        }
        archive.directory("blobs")?;
        archive.directory("blobs/sha256")?;
        let bar = progress.layer("saving", Some(self.size()));
        for (digest, source) in &self.blobs {
            archive.file(&format!("blobs/sha256/{}", digest.hex()), source, &|bytes| bar.advance(bytes))?;
        }
        archive.writer.finish().map_err(|source| tar_error(&source.to_string(), source))?;
        Ok(())
    }

    /// Writes a directory. `index.json` moves last, so that a layout that is there stays whole whatever happens. Of one that is
    /// new, a failure leaves nothing.
    pub(super) fn write_directory(&self, directory: &Path, progress: &dyn Progress) -> ImageResult<()> {
        let index = merged_index(directory, &self.index)?;
        let written = self.write_layout(directory, &index, progress);
        if written.is_err() {
            self.remove_unfinished(directory);
        }
        written
    }

    /// Removes what was written of a layout that has no index. Only what is known to be of it, and only directories that are
    /// empty then; the failure that led here is the one to tell.
    fn remove_unfinished(&self, directory: &Path) {
        if directory.join("index.json").exists() {
            return;
        }
        let blobs = directory.join("blobs/sha256");
        for file in self.blobs.keys().map(|digest| blobs.join(digest.hex())).chain([directory.join("oci-layout")]) {
            let _ = fs::remove_file(file);
        }
        for empty in [blobs.as_path(), &directory.join("blobs"), directory] {
            let _ = fs::remove_dir(empty);
        }
    }

    fn write_layout(&self, directory: &Path, index: &Index, progress: &dyn Progress) -> ImageResult<()> {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(|source| write_error(&blobs, source))?;
        let bar = progress.layer("saving", Some(self.size()));
        for (digest, source) in &self.blobs {
            let target = blobs.join(digest.hex());
            if !target.exists() {
                let mut input = open(source)?;
                replace(&target, &mut Watched { input: &mut *input, seen: &|bytes| bar.advance(bytes) })?;
            }
        }
        replace(&directory.join("oci-layout"), &mut &*OCI_LAYOUT)?;
        replace(&directory.join("index.json"), &mut &*index.to_bytes())
    }

    fn size(&self) -> u64 {
        let size = |source: &BlobSource| match source {
            BlobSource::Bytes(bytes) => bytes.len() as u64,
            BlobSource::File { size, .. } => *size,
        };
        self.blobs.values().map(size).sum()
    }
}

/// The index of a layout with `entries` added: in place of those of the same name.
fn merged_index(directory: &Path, entries: &[Descriptor]) -> ImageResult<Index> {
    let path = directory.join("index.json");
    let name = |entry: &Descriptor| entry.annotations.get(ANNOTATION_REF_NAME).cloned();
    let mut index = match fs::read(&path) {
        Ok(bytes) => {
            Index::parse(&bytes).map_err(|source| ImageError::Document { what: path.display().to_string(), source })?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut listed = fs::read_dir(directory).into_iter().flatten();
            if listed.next().is_some() {
                let error = io::Error::other("the directory is not empty and no image layout");
                return Err(write_error(directory, error));
            }
            Index::new(Vec::new())
        }
        Err(source) => return Err(ImageError::Read { what: path.display().to_string(), source }),
    };
    for entry in entries {
        let named = name(entry).is_some();
        index.manifests.retain(|old| if named { name(old) != name(entry) } else { old != entry });
        index.manifests.push(entry.clone());
    }
    Ok(index)
}

fn open(source: &BlobSource) -> ImageResult<Box<dyn Read + '_>> {
    Ok(match source {
        BlobSource::Bytes(bytes) => Box::new(bytes.as_slice()),
        BlobSource::File { path, .. } => {
            let file = File::open(path);
            Box::new(file.map_err(|source| ImageError::Read { what: path.display().to_string(), source })?)
        }
    })
}

/// Writes a file beside `target`, makes it durable and gives it its name.
fn replace(target: &Path, input: &mut dyn Read) -> ImageResult<()> {
    let directory = target.parent().unwrap_or(Path::new("."));
    let mut write = || -> io::Result<()> {
        let mut stage = tempfile::Builder::new().prefix(".layerfs-").permissions(mode(0o644)).tempfile_in(directory)?;
        io::copy(input, stage.as_file_mut())?;
        stage.as_file().sync_data()?;
        stage.persist(target)?;
        Ok(())
    };
    write().map_err(|source| write_error(target, source))
}

fn mode(bits: u32) -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(bits)
}

fn write_error(path: &Path, source: io::Error) -> ImageError {
    ImageError::Write { what: path.display().to_string(), source }
}

/// The failure of a writer of archives, told as one of what it writes to.
fn tar_error(name: &str, source: TarError) -> ImageError {
    match source {
        TarError::Write { source } => ImageError::Write { what: "the archive".to_owned(), source },
        TarError::Source { source, .. } => ImageError::Read { what: name.to_owned(), source },
        source => ImageError::Archive { what: "the archive".to_owned(), source },
    }
}

/// A tar being written.
struct TarOutput<W: Write> {
    writer: Writer<W>,
}

impl<W: Write> TarOutput<W> {
    fn file(&mut self, name: &str, source: &BlobSource, progress: &dyn Fn(u64)) -> ImageResult<()> {
        let size = match source {
            BlobSource::Bytes(bytes) => bytes.len() as u64,
            BlobSource::File { size, .. } => *size,
        };
        let mut input = open(source)?;
        let entry = Entry::new(path(name)?, EntryKind::File { size, extents: Vec::new() });
        let appended = self.writer.append(&entry, &mut Watched { input: &mut *input, seen: progress });
        appended.map_err(|source| tar_error(name, source))
    }

    fn directory(&mut self, name: &str) -> ImageResult<()> {
        let appended = self.writer.append_empty(&Entry::new(path(name)?, EntryKind::Directory));
        appended.map_err(|source| tar_error(name, source))
    }
}

fn path(name: &str) -> ImageResult<EntryPath> {
    EntryPath::parse(name.as_bytes(), &Limits::default())
        .map_err(|error| ImageError::NotAnImage { what: name.to_owned(), detail: error.to_string() })
}

/// An input whose progress is told.
struct Watched<'a> {
    input: &'a mut dyn Read,
    seen: &'a dyn Fn(u64),
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        (self.seen)(count as u64);
        Ok(count)
    }
}
