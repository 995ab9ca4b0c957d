//! Archives that go by once: standard input, compressed files.
//!
//! What a file is for is said by a document that may come after it. So every file is judged by its first bytes: what
//! looks like a layer is brought into the store at once, what is small is kept as a document, the rest goes by. Layers
//! that turn out not to be needed are collected when the session ends; nothing is spooled.

use super::archive_files::{LayerContext, follow, link_target, outer_error};
use super::error::{ImageError, ImageResult};
use super::ingest::{Expected, Ingested, ingest_layer};
use crate::archive::compression::{Compression, Decoder, detect, plain};
use crate::archive::tar::{self, EntryKind, EntryPath};
use crate::oci::{Digest, InvalidDocument, LayerCompression, Mismatch};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::{self, Cursor, Read};

/// Bytes that tell a layer from a document: one tar header.
const HEAD: usize = 512;
/// All documents of an archive together, in bytes.
const DOCUMENTS_MAX: u64 = 256 << 20;

/// What has gone by.
#[derive(Debug, Default)]
pub(super) struct Streamed {
    documents: HashMap<EntryPath, Vec<u8>>,
    layers: HashMap<EntryPath, Ingested>,
    links: HashMap<EntryPath, EntryPath>,
    /// What looked like a layer and is none. Only where something calls it a layer is that a failure.
    refused: Mutex<HashMap<EntryPath, ImageError>>,
    /// Which layers the store has, by the digests of their compressed forms.
    known: HashMap<Digest, Digest>,
    documents_size: u64,
    /// Files that are no layers and larger than documents may be, with their sizes in bytes.
    large: HashMap<EntryPath, u64>,
}

impl Streamed {
    /// Reads an archive, compressed or not, to its end.
    pub(super) fn read(what: &str, input: impl Read, context: &LayerContext<'_>) -> ImageResult<Self> {
        let read_error = |source: io::Error| match source.get_ref() {
            Some(_) => ImageError::NotAnImage { what: what.to_owned(), detail: source.to_string() },
            None => ImageError::Read { what: what.to_owned(), source },
        };
        let input = plain(input, context.limits.expansion).map_err(read_error)?;
        let decoder = Decoder::new(input, context.limits.expansion).map_err(read_error)?;
        let mut reader = tar::Reader::new(decoder, tar::Limits::default());
        let mut streamed = Self { known: context.session.store().diff_ids()?, ..Self::default() };
        while let Some(entry) = reader.next_entry().map_err(|source| outer_error(what, source))? {
            streamed.add(&entry, &mut reader.data(), context)?;
        }
        reader.drain().map_err(|source| outer_error(what, source))?;
        Ok(streamed)
    }

    /// Whether the document `name` has gone by.
    pub(super) fn has_document(&self, name: &str) -> bool {
        parse(name).is_some_and(|path| {
            follow(&self.documents, &self.links, &path).is_some() || follow(&self.large, &self.links, &path).is_some()
        })
    }

    /// The document `name`; an error where it was larger than `limit` in bytes.
    pub(super) fn document(&self, name: &str, limit: u64) -> ImageResult<Option<Vec<u8>>> {
        let Some(path) = parse(name) else { return Ok(None) };
        if let Some(&size) = follow(&self.large, &self.links, &path) {
            let source = InvalidDocument::TooLarge { what: "the document", size, limit };
            return Err(ImageError::Document { what: name.to_owned(), source });
        }
        Ok(follow(&self.documents, &self.links, &path).cloned())
    }

    /// The layer `name`, which must be what is expected.
    pub(super) fn layer(
        &self,
        context: &LayerContext<'_>,
        name: &str,
        expected: &Expected,
    ) -> ImageResult<Option<Ingested>> {
        let Some(path) = parse(name) else { return Ok(None) };
        if let Some(layer) = follow(&self.layers, &self.links, &path) {
            return check(layer, name, expected).map(|()| Some(layer.clone()));
        }
        if let Some(target) = self.resolve(&path)
            && let Some(error) = self.refused.lock().remove(&target)
        {
            return Err(error);
        }
        // Small, and by its looks no layer: reading it as one says what is wrong with it.
        let Some(bytes) = follow(&self.documents, &self.links, &path) else { return Ok(None) };
        let progress = context.progress.layer(name, Some(bytes.len() as u64));
        ingest_layer(context.session, &mut Cursor::new(bytes), expected, context.limits, &*progress).map(Some)
    }

    fn add(&mut self, entry: &tar::Entry, data: &mut dyn Read, context: &LayerContext<'_>) -> ImageResult<()> {
        if let Some(target) = link_target(entry) {
            self.links.insert(entry.path.clone(), target);
            return Ok(());
        }
        let EntryKind::File { size, .. } = entry.kind else { return Ok(()) };
        if let Some(layer) = self.present(&entry.path, size, context)? {
            self.layers.insert(entry.path.clone(), layer);
            return Ok(());
        }
        let name = String::from_utf8_lossy(entry.path.as_bytes()).into_owned();
        let read_error = |source| ImageError::Read { what: name.clone(), source };
        let mut head = Vec::new();
        data.take(HEAD as u64).read_to_end(&mut head).map_err(read_error)?;
        if looks_like_layer(&head) {
            let expected =
                Expected { label: Some(name.clone()), blob: named_blob(&entry.path, size), ..Expected::default() };
            let progress = context.progress.layer(&short(&name), Some(size));
            let mut input = Cursor::new(head).chain(data);
            match ingest_layer(context.session, &mut input, &expected, context.limits, &*progress) {
                Ok(layer) => drop(self.layers.insert(entry.path.clone(), layer)),
                // Where it is the archive itself that is damaged, reading on will tell.
                Err(error) if error.is_damaged_input() || matches!(error, ImageError::Toc { .. }) => {
                    self.refused.lock().insert(entry.path.clone(), error);
                }
                Err(error) => return Err(error),
            }
        } else if size <= context.limits.manifest {
            self.keep_document(entry, head, data)?;
        } else {
            self.large.insert(entry.path.clone(), size);
        }
        Ok(())
    }

    /// Where a path leads, when it leads to a file that was refused.
    fn resolve(&self, path: &EntryPath) -> Option<EntryPath> {
        let refused: HashMap<EntryPath, EntryPath> =
            self.refused.lock().keys().map(|path| (path.clone(), path.clone())).collect();
        follow(&refused, &self.links, path).cloned()
    }

    fn keep_document(&mut self, entry: &tar::Entry, head: Vec<u8>, data: &mut dyn Read) -> ImageResult<()> {
        let name = || String::from_utf8_lossy(entry.path.as_bytes()).into_owned();
        let mut bytes = head;
        data.read_to_end(&mut bytes).map_err(|source| ImageError::Read { what: name(), source })?;
        self.documents_size += bytes.len() as u64;
        if self.documents_size > DOCUMENTS_MAX {
            let detail = format!("its documents take more than {DOCUMENTS_MAX} bytes");
            return Err(ImageError::NotAnImage { what: name(), detail });
        }
        self.documents.insert(entry.path.clone(), bytes);
        Ok(())
    }

    /// The layer of a blob that is named by its digest, when the store has it.
    fn present(&self, path: &EntryPath, size: u64, context: &LayerContext<'_>) -> ImageResult<Option<Ingested>> {
        let Some((digest, _)) = named_blob(path, size) else { return Ok(None) };
        let session = context.session;
        if let Some(diff_id) = self.known.get(&digest) {
            if !super::has_layer(session, diff_id, &digest, None)? {
                return Ok(None);
            }
            let forms = session.store().compressed(diff_id)?;
            let form = forms.into_iter().find(|form| form.digest == digest && form.size == size);
            let kind = form.and_then(|form| crate::oci::MediaType::parse(&form.media_type).ok());
            let Some(compression) = kind.and_then(crate::oci::MediaType::layer_compression) else { return Ok(None) };
            let tar_size = session.store().blob_size(diff_id)?.unwrap_or_default();
            return Ok(Some(Ingested { diff_id: *diff_id, tar_size, digest, size, compression }));
        }
        let plain = session.store().toc_path(&digest).exists()
            && session.has_blob(&digest)?
            && session.store().blob_size(&digest)? == Some(size);
        let layer = Ingested { diff_id: digest, tar_size: size, digest, size, compression: LayerCompression::None };
        Ok(Some(layer).filter(|_| plain))
    }
}

/// Compares a layer that has gone by with what the documents say of it.
fn check(layer: &Ingested, name: &str, expected: &Expected) -> ImageResult<()> {
    let mismatch = |source| Err(ImageError::Mismatch { layer: name.to_owned(), source });
    if let Some((digest, size)) = expected.blob {
        if size != layer.size {
            return mismatch(Mismatch::Size { digest, expected: size, actual: layer.size });
        }
        if digest != layer.digest {
            return mismatch(Mismatch::Digest { expected: digest, actual: layer.digest });
        }
    }
    match expected.diff_id {
        Some(diff_id) if diff_id != layer.diff_id => {
            mismatch(Mismatch::Digest { expected: diff_id, actual: layer.diff_id })
        }
        _ => Ok(()),
    }
}

/// Whether a file that begins with `head` is a layer: compressed, a tar, or an empty tar.
fn looks_like_layer(head: &[u8]) -> bool {
    let compressed = detect(head).is_ok_and(|compression| compression != Compression::Plain);
    let tar = head.len() == HEAD && (is_tar_header(head) || head.iter().all(|&byte| byte == 0));
    compressed || tar
}

/// Whether the checksum of a tar header is right: the sum of its bytes, those of the field itself counted as spaces.
fn is_tar_header(block: &[u8]) -> bool {
    let field = block.get(148..156).unwrap_or_default();
    let digits = field.iter().filter(|byte| (b'0'..=b'7').contains(byte));
    let stored = digits.fold(0_u64, |sum, digit| sum * 8 + u64::from(digit - b'0'));
    let all: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    let own: u64 = field.iter().map(|&byte| u64::from(byte)).sum();
    stored > 0 && all - own + 8 * u64::from(b' ') == stored
}

/// The digest that the name of a blob in an image layout promises.
fn named_blob(path: &EntryPath, size: u64) -> Option<(Digest, u64)> {
    let hex = path.as_bytes().strip_prefix(b"blobs/sha256/")?;
    let digest = Digest::from_hex(std::str::from_utf8(hex).ok()?).ok()?;
    Some((digest, size))
}

fn short(name: &str) -> String {
    name.trim_start_matches("blobs/sha256/").trim_end_matches("/layer.tar").chars().take(12).collect()
}

fn parse(name: &str) -> Option<EntryPath> {
    EntryPath::parse(name.as_bytes(), &tar::Limits::default()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_told_from_documents() {
        assert!(looks_like_layer(&[0x1f, 0x8b, 8]));
        assert!(looks_like_layer(&[0x28, 0xb5, 0x2f, 0xfd]));
        assert!(looks_like_layer(&[0; HEAD]));
        assert!(!looks_like_layer(b"{\"a\":1}"));
        assert!(!looks_like_layer(&[b' '; HEAD]));
        assert!(!looks_like_layer(b""));
        let mut archive = Vec::new();
        let entry = tar::Entry::new(parse("x").unwrap(), EntryKind::Directory);
        let mut writer = tar::Writer::new(&mut archive);
        writer.append_empty(&entry).unwrap();
        writer.finish().unwrap();
        assert!(looks_like_layer(&archive[..HEAD]));
    }
}
