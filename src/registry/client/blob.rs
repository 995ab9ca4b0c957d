//! Fetching blobs: streams that outlive connections.

use super::manifest::Repository;
use crate::oci::Digest;
use crate::registry::Error;
use crate::registry::http::{Failure, FailureKind, Request, Response, TransportError};
use std::io::{self, Read};
use ureq::http::{HeaderValue, Method, header};

/// Bytes that must have arrived since the last interruption for it to count as the first one again: a connection that breaks
/// more often than this is no connection.
const PROGRESS: u64 = 64 << 10;

/// Where a blob can be fetched from.
#[derive(Debug, Clone)]
pub struct BlobSource {
    /// The repository.
    pub repository: Repository,
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes as the manifest says.
    pub size: u64,
}

impl Repository {
    /// Whether the registry has the blob, and its size in bytes (0 when it does not say).
    pub fn has_blob(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        let request = Request::new(Method::HEAD, self.url(&format!("blobs/{digest}")));
        let response = self.host.send(request, &self.scopes)?;
        match response.status {
            200 => Ok(Some(response.content_length().unwrap_or(0))),
            404 => Ok(None),
            _ => Err(self.refused(response, &self.full_name())),
        }
    }
}

impl BlobSource {
    /// Opens the blob at `offset`; what lies before is somebody else's.
    pub fn open(self, offset: u64) -> BlobReader {
        BlobReader { source: self, offset, body: None, interruptions: 0, last_interruption: offset }
    }

    /// Fetches a whole small blob (a configuration) and verifies it.
    pub fn fetch(self, limit: u64) -> Result<Vec<u8>, Error> {
        let what = self.name();
        let registry = self.repository.host.name().to_owned();
        if self.size > limit {
            return Err(Error::TooLarge { registry, what, limit });
        }
        let (expected, size) = (self.digest, self.size);
        let mut bytes = Vec::new();
        self.open(0).read_to_end(&mut bytes).map_err(|error| from_io(error, &what))?;
        let actual = Digest::of(&bytes);
        if actual != expected || bytes.len() as u64 != size {
            return Err(Error::DigestMismatch { registry, what, expected, actual });
        }
        Ok(bytes)
    }

    fn name(&self) -> String {
        format!("blob {} of {}", self.digest.short(), self.repository.full_name())
    }
}

/// The error inside an I/O error of a [`BlobReader`], or the I/O error as an interruption.
pub fn from_io(error: io::Error, what: &str) -> Error {
    match error.downcast::<Error>() {
        Ok(inner) => inner,
        Err(error) => Error::Interrupted { what: what.to_owned(), failure: Failure::from_io(&error) },
    }
}

/// A blob's bytes from some offset to its end. A connection that breaks or stalls is opened again where it left off; reading
/// fails with an [`Error`] inside the I/O error when that does not help. Ends after the announced size at the latest.
#[derive(Debug)]
pub struct BlobReader {
    source: BlobSource,
    offset: u64,
    body: Option<Response>,
    interruptions: u32,
    last_interruption: u64,
}

impl BlobReader {
    /// Asks for the bytes from `offset` on.
    fn request(&self, offset: u64) -> Result<Response, Error> {
        let repository = &self.source.repository;
        let mut request = Request::new(Method::GET, repository.url(&format!("blobs/{}", self.source.digest)));
        if offset > 0 {
            let range = format!("bytes={offset}-");
            request.headers.insert(header::RANGE, HeaderValue::from_str(&range).map_err(|_| self.protocol("range"))?);
            log::debug!("{}: resumed at byte {offset}", self.source.name());
        }
        repository.host.send(request, &repository.scopes)
    }

    fn connect(&mut self) -> Result<Response, Error> {
        let repository = &self.source.repository;
        let mut response = self.request(self.offset)?;
        if response.status == 416 && self.offset > 0 {
            // A server that knows ranges by name only. What is there already must not keep the rest from coming for ever.
            response = self.request(0)?;
        }
        match response.status {
            206 if self.offset > 0 => {
                let start = response.header("content-range").and_then(range_start);
                if start.is_some_and(|start| start != self.offset) {
                    return Err(self.protocol("the answer begins at another byte than was asked for"));
                }
            }
            // The server does not know ranges: what is there already comes again.
            200 => skip(&mut response, self.offset).map_err(|failure| self.interrupted(failure))?,
            201..=299 => return Err(self.protocol(&format!("answers {} to a request for a blob", response.status))),
            _ => return Err(repository.refused(response, &self.source.name())),
        }
        let announced = response.content_length().filter(|length| self.offset == 0 && *length != self.source.size);
        if let Some(length) = announced {
            return Err(self.protocol(&format!("the blob has {length} bytes, the manifest says {}", self.source.size)));
        }
        Ok(response)
    }

    fn protocol(&self, reason: &str) -> Error {
        let registry = self.source.repository.host.name().to_owned();
        Error::Protocol { registry, what: self.source.name(), reason: reason.to_owned() }
    }

    fn interrupted(&self, failure: Failure) -> Error {
        Error::Interrupted { what: self.source.name(), failure }
    }

    /// Waits before the next connection, or says why there will be none.
    fn pause(&mut self, failure: Failure) -> Result<(), Error> {
        if self.offset >= self.last_interruption.saturating_add(PROGRESS) {
            self.interruptions = 0;
        }
        self.last_interruption = self.offset;
        let transport = self.source.repository.host.transport();
        let wait = transport.limits().retry.wait(self.interruptions, None).filter(|_| failure.is_transient());
        let Some(wait) = wait else { return Err(self.interrupted(failure)) };
        log::debug!("{}: {failure} at byte {}, again in {wait:?}", self.source.name(), self.offset);
        if !transport.cancel().sleep(wait) {
            return Err(TransportError::Cancelled.into());
        }
        self.interruptions += 1;
        Ok(())
    }

    fn try_read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let left = self.source.size.saturating_sub(self.offset);
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Some(buffer) = buffer.get_mut(..room).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        loop {
            if self.source.repository.host.transport().cancel().is_cancelled() {
                return Err(TransportError::Cancelled.into());
            }
            let mut response = match self.body.take() {
                Some(response) => response,
                None => match self.connect() {
                    Err(Error::Interrupted { failure, .. }) => {
                        self.pause(failure)?;
                        continue;
                    }
                    outcome => outcome?,
                },
            };
            let failure = match response.body.read(buffer) {
                Ok(0) => Failure::new(FailureKind::Interrupted, "the connection ended early"),
                Ok(read) => {
                    self.offset += read as u64;
                    self.body = Some(response);
                    return Ok(read);
                }
                Err(error) => Failure::from_io(&error),
            };
            self.pause(failure)?;
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_read(buffer).map_err(io::Error::other)
    }
}

fn skip(response: &mut Response, bytes: u64) -> Result<(), Failure> {
    let skipped = io::copy(&mut (&mut response.body).take(bytes), &mut io::sink());
    match skipped.map_err(|error| Failure::from_io(&error))? {
        skipped if skipped == bytes => Ok(()),
        _ => Err(Failure::new(FailureKind::Interrupted, "the connection ended early")),
    }
}

/// The first byte of a `Content-Range: bytes 5-9/10`.
fn range_start(value: &str) -> Option<u64> {
    value.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        assert_eq!(range_start("bytes 5-9/10"), Some(5));
        assert_eq!(range_start("bytes */10"), None);
        assert_eq!(range_start("items 5-9/10"), None);
    }
}
