//! A repository and its manifests.

use super::host::Host;
use crate::oci::{Digest, ManifestKind, MediaType};
use crate::registry::Error;
use crate::registry::http::{Payload, Request, Response};
use std::sync::Arc;
use ureq::http::{HeaderValue, Method, header};

/// What we can use, in the order of preference.
const ACCEPT: [MediaType; 4] =
    [MediaType::OciIndex, MediaType::OciManifest, MediaType::DockerManifestList, MediaType::DockerManifest];

/// A manifest or index as it came.
#[derive(Debug, Clone)]
pub struct RawManifest {
    /// Its media type as declared by the answer, where it was.
    pub media_type: Option<String>,
    /// The digest of its bytes.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl RawManifest {
    /// What it says.
    pub fn parse(&self, what: &str) -> Result<ManifestKind, Error> {
        let invalid = |source| Error::Document { what: what.to_owned(), source };
        // Proxies and static servers declare JSON or bytes; the document itself knows better then.
        let declared = self.media_type.as_deref().filter(|text| MediaType::parse(text).is_ok());
        let kind = ManifestKind::parse(declared, &self.bytes);
        match (kind, declared) {
            (Err(_), Some(_)) => ManifestKind::parse(None, &self.bytes).map_err(invalid),
            (kind, _) => kind.map_err(invalid),
        }
    }
}

/// A repository at a registry.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(super) host: Arc<Host>,
    pub(super) name: String,
    pub(super) scopes: Vec<String>,
    push: bool,
}

impl Repository {
    /// The repository `name` at `host`, for pulling.
    pub fn to_pull(host: Arc<Host>, name: &str) -> Self {
        let scopes = vec![format!("repository:{name}:pull")];
        Self { host, name: name.to_owned(), scopes, push: false }
    }

    /// The repository `name` at `host`, for pushing; `sources` are repositories that blobs may be mounted from.
    pub fn to_push(host: Arc<Host>, name: &str, sources: &[String]) -> Self {
        let mut scopes = vec![format!("repository:{name}:pull,push")];
        scopes.extend(sources.iter().map(|source| format!("repository:{source}:pull")));
        Self { host, name: name.to_owned(), scopes, push: true }
    }

    /// The registry.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// `host/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.host.name(), self.name)
    }

    /// Gets the manifest that `tag_or_digest` names. Bytes that do not match a digest are an error.
    /// One of more than `limit` bytes is one too.
    pub fn manifest(&self, tag_or_digest: &str, limit: u64) -> Result<RawManifest, Error> {
        let what =
            format!("{}{}{tag_or_digest}", self.full_name(), if tag_or_digest.contains(':') { "@" } else { ":" });
        let make = || self.manifest_request(Method::GET, tag_or_digest);
        let mut answer = self.host.send_for_bytes(make, &self.scopes, limit)?;
        if answer.0.status != 200 {
            let response = self.host.send(make(), &self.scopes)?;
            if response.status != 200 {
                return Err(self.refused(response, &what));
            }
            // It has come to its senses; if not for long, that is enough.
            answer = self.host.send_for_bytes(make, &self.scopes, limit)?;
            if answer.0.status != 200 {
                return Err(self.refused(self.host.send(make(), &self.scopes)?, &what));
            }
        }
        let (parts, bytes) = answer;
        let registry = self.host.name().to_owned();
        let Some(bytes) = bytes else { return Err(Error::TooLarge { registry, what, limit }) };
        let actual = Digest::of(&bytes);
        let named = if tag_or_digest.contains(':') { Some(tag_or_digest) } else { parts.digest.as_deref() };
        if let Some(expected) = named.and_then(|text| text.parse::<Digest>().ok()).filter(|digest| *digest != actual) {
            return Err(Error::DigestMismatch { registry, what, expected, actual });
        }
        Ok(RawManifest { media_type: parts.content_type, digest: actual, bytes })
    }

    /// The digest that `tag` has at the registry; `None` when there is no such manifest or the registry does not say.
    pub fn manifest_digest(&self, tag: &str) -> Result<Option<Digest>, Error> {
        let response = self.host.send(self.manifest_request(Method::HEAD, tag), &self.scopes)?;
        match response.status {
            200 => Ok(response.header("docker-content-digest").and_then(|text| text.parse().ok())),
            404 => Ok(None),
            _ => Err(self.refused(response, &format!("{}:{tag}", self.full_name()))),
        }
    }

    /// Puts a manifest under a tag or its digest.
    pub fn put_manifest(&self, tag_or_digest: &str, media_type: MediaType, bytes: &[u8]) -> Result<(), Error> {
        let mut request = Request::new(Method::PUT, self.url(&format!("manifests/{tag_or_digest}")));
        request.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type.as_str()));
        request.payload = Payload::Bytes(bytes);
        let response = self.host.send(request, &self.scopes)?;
        if !(200..300).contains(&response.status) {
            return Err(self.refused(response, &self.full_name()));
        }
        let actual = Digest::of(bytes);
        let said = response.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
        match said.filter(|said| *said != actual) {
            Some(expected) => {
                let registry = self.host.name().to_owned();
                Err(Error::DigestMismatch {
                    registry,
                    what: format!("the manifest of {}", self.full_name()),
                    expected,
                    actual,
                })
            }
            None => Ok(()),
        }
    }

    fn manifest_request(&self, method: Method, tag_or_digest: &str) -> Request<'static> {
        let mut request = Request::new(method, self.url(&format!("manifests/{tag_or_digest}")));
        for kind in ACCEPT {
            request.headers.append(header::ACCEPT, HeaderValue::from_static(kind.as_str()));
        }
        request
    }

    pub(super) fn url(&self, path: &str) -> crate::registry::http::Url {
        self.host.url(&format!("{}/{path}", self.name))
    }

    pub(super) fn refused(&self, response: Response, what: &str) -> Error {
        self.host.refused(response, what, self.push)
    }
}
