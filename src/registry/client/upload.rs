//! Sending blobs: mounts, monolithic and chunked uploads.
//!
//! 1. *An upload breaks off*: the registry says how far it got (`Range`) and the rest follows; where it has forgotten, a new upload
//!    begins. Both happen only so often without progress.
//! 2. *A small blob* is sent with one request; a large one in chunks, so that little is lost when a connection breaks.

use super::manifest::Repository;
use crate::oci::Digest;
use crate::registry::Error;
use crate::registry::http::{FailureKind, Payload, Request, Response, TransportError, Url};
use std::io::{self, Read};
use ureq::http::{HeaderValue, Method, header};

/// Blobs up to this many bytes go in one request.
const MONOLITHIC: u64 = 4 << 20;
/// Bytes in a chunk: what is lost at most when a connection breaks, against the round trips it costs.
const CHUNK: u64 = 64 << 20;

/// What a registry answers to the wish to mount a blob.
#[derive(Debug)]
pub enum Mount {
    /// The blob is in the repository now.
    Mounted,
    /// It must be uploaded: this upload has begun.
    Upload(Upload),
}

/// An upload that has begun: where the next bytes go.
#[derive(Debug)]
pub struct Upload {
    location: Url,
    /// Bytes the registry has.
    offset: u64,
}

/// Opens a blob's bytes from an offset on.
pub(super) type OpenAt<'a> = dyn Fn(u64) -> io::Result<Box<dyn Read + Send>> + Sync + 'a;

impl Repository {
    /// Begins an upload.
    pub fn begin_upload(&self) -> Result<Upload, Error> {
        let mut request = Request::new(Method::POST, self.url("blobs/uploads/"));
        request.payload = Payload::Bytes(&[]);
        let response = self.host.send(request, &self.scopes)?;
        if response.status != 202 {
            return Err(self.refused(response, &self.full_name()));
        }
        self.next(&response)
    }

    /// Asks for `digest` to be taken over from the repository `from` of the same registry.
    pub fn mount(&self, digest: &Digest, from: &str) -> Result<Mount, Error> {
        let url = self.url("blobs/uploads/").with_parameter("mount", &digest.to_string()).with_parameter("from", from);
        let mut request = Request::new(Method::POST, url);
        request.payload = Payload::Bytes(&[]);
        let response = self.host.send(request, &self.scopes)?;
        match response.status {
            201 => Ok(Mount::Mounted),
            202 => Ok(Mount::Upload(self.next(&response)?)),
            // Not allowed to read the other repository: the blob is simply sent.
            401 | 403 | 404 | 405 => Ok(Mount::Upload(self.begin_upload()?)),
            _ => Err(self.refused(response, &self.full_name())),
        }
    }

    /// Sends a blob of `size` bytes into `upload`; `sent` hears how far it is.
    pub fn upload(
        &self,
        upload: Option<Upload>,
        digest: &Digest,
        size: u64,
        open: &OpenAt<'_>,
        sent: &(dyn Fn(u64) + Sync),
    ) -> Result<(), Error> {
        let mut upload = upload;
        let mut failures = 0;
        let mut best = 0;
        loop {
            let current = match upload.take() {
                Some(upload) => upload,
                None => self.begin_upload()?,
            };
            let (location, error) = match self.send_all(current, digest, size, open, sent) {
                Ok(()) => return Ok(()),
                Err(broken) => *broken,
            };
            let transport = self.host.transport();
            let Some(wait) = transport.limits().retry.wait(failures, error.retry_after()).filter(|_| may_pass(&error))
            else {
                return Err(error);
            };
            log::debug!("{}: {error}, again in {wait:?}", digest.short());
            if !transport.cancel().sleep(wait) {
                return Err(TransportError::Cancelled.into());
            }
            upload = self.resume(&location);
            let reached = upload.as_ref().map_or(0, |upload| upload.offset);
            failures = if reached > best { 0 } else { failures + 1 };
            best = best.max(reached);
        }
    }

    /// One attempt at everything that is left. A failure comes with the place to ask how far it got.
    fn send_all(
        &self,
        mut upload: Upload,
        digest: &Digest,
        size: u64,
        open: &OpenAt<'_>,
        sent: &(dyn Fn(u64) + Sync),
    ) -> Result<(), Box<(Url, Error)>> {
        if upload.offset == 0 && size <= MONOLITHIC {
            self.finish(&upload, digest, size, &|| open(0))
                .map_err(|error| Box::new((upload.location.clone(), error)))?;
            sent(size);
            return Ok(());
        }
        while upload.offset < size {
            let length = CHUNK.min(size - upload.offset);
            upload = match self.send_chunk(&upload, length, open, sent) {
                Ok(next) => next,
                Err(error) => return Err(Box::new((upload.location.clone(), error))),
            };
        }
        let nothing = || Ok(Box::new(io::empty()) as Box<dyn Read + Send>);
        self.finish(&upload, digest, 0, &nothing).map_err(|error| Box::new((upload.location.clone(), error)))
    }

    fn send_chunk(
        &self,
        upload: &Upload,
        length: u64,
        open: &OpenAt<'_>,
        sent: &(dyn Fn(u64) + Sync),
    ) -> Result<Upload, Error> {
        let end = upload.offset + length;
        let mut request = Request::new(Method::PATCH, upload.location.clone());
        let range = format!("{}-{}", upload.offset, end - 1);
        if let Ok(range) = HeaderValue::from_str(&range) {
            request.headers.insert(header::CONTENT_RANGE, range);
        }
        request.headers.insert(header::CONTENT_TYPE, OCTETS);
        let stream = || open(upload.offset);
        request.payload = Payload::Stream { length, open: &stream };
        let response = self.send_once(request)?;
        if !matches!(response.status, 202 | 204 | 201) {
            return Err(self.refused(response, &self.full_name()));
        }
        let mut next = self.next(&response)?;
        next.offset = end;
        sent(end);
        Ok(next)
    }

    /// The last request: what is left in one piece, and the digest to check.
    fn finish(
        &self,
        upload: &Upload,
        digest: &Digest,
        length: u64,
        open: &dyn Fn() -> io::Result<Box<dyn Read + Send>>,
    ) -> Result<(), Error> {
        let url = upload.location.clone().with_parameter("digest", &digest.to_string());
        let mut request = Request::new(Method::PUT, url);
        request.headers.insert(header::CONTENT_TYPE, OCTETS);
        request.payload = Payload::Stream { length, open };
        let response = self.send_once(request)?;
        if !(200..300).contains(&response.status) {
            return Err(self.refused(response, &format!("upload of {} to {}", digest.short(), self.full_name())));
        }
        let said = response.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
        match said.filter(|said| said != digest) {
            Some(actual) => {
                let (registry, what) = (self.host.name().to_owned(), format!("the upload to {}", self.full_name()));
                Err(Error::DigestMismatch { registry, what, expected: *digest, actual })
            }
            None => Ok(()),
        }
    }

    /// Sends a request that moves an upload on: repeating it blindly would send bytes twice, so each failure goes back to the
    /// caller, who asks the registry how far it got.
    fn send_once(&self, request: Request<'_>) -> Result<Response, Error> {
        self.host.send_once(request, &self.scopes)
    }

    /// How far the upload at `location` got; `None` when the registry has forgotten it.
    fn resume(&self, location: &Url) -> Option<Upload> {
        let request = Request::new(Method::GET, location.clone());
        let response = self.host.send(request, &self.scopes).ok()?;
        if !matches!(response.status, 200..=204) {
            return None;
        }
        let mut upload = self.next(&response).ok()?;
        upload.offset = received(response.header("range")?)?;
        Some(upload)
    }

    fn next(&self, response: &Response) -> Result<Upload, Error> {
        let location = response.header("location").and_then(|location| response.url.join(location));
        let registry = self.host.name().to_owned();
        let location = location.ok_or_else(|| Error::Protocol {
            registry,
            what: format!("upload to {}", self.full_name()),
            reason: "the answer does not say where to send the data".to_owned(),
        })?;
        Ok(Upload { location, offset: 0 })
    }
}

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// The bytes behind a `Range: 0-N`, which counts its last byte; docker's registry says `0-0` for none and for one, and one byte
/// is sent again rather than lost.
fn received(range: &str) -> Option<u64> {
    let end: u64 = range.trim().trim_start_matches("bytes=").split_once('-')?.1.parse().ok()?;
    Some(if end == 0 { 0 } else { end + 1 })
}

fn may_pass(error: &Error) -> bool {
    match error {
        Error::Transport(TransportError::Failed { failure, .. }) => {
            failure.is_transient() || failure.kind == FailureKind::Protocol
        }
        Error::Status { status, .. } => matches!(status, 408 | 416 | 425 | 429 | 500..=599),
        // The upload is forgotten, or its token has ended: both are made anew.
        Error::NotFound { .. } | Error::BadCredentials { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::http::Failure;

    #[test]
    fn ranges_count_their_last_byte() {
        for (range, bytes) in [("0-0", Some(0)), ("0-99", Some(100)), ("bytes=0-99", Some(100)), ("none", None)] {
            assert_eq!(received(range), bytes, "{range}");
        }
        let failure = Failure::new(FailureKind::Interrupted, "x");
        let failed = TransportError::Failed { request: "PUT x".into(), failure, attempts: 1 };
        assert!(may_pass(&failed.into()));
    }
}
