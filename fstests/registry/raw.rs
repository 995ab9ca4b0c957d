//! Requests written by hand: for putting into a registry what no tool would make.

use crate::support::image::digest;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

/// An answer: status, headers in lower case, body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let line = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
        self.head.lines().find(line).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }
}

/// Sends one request to `address` (`127.0.0.1:port`).
pub(crate) fn request(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).expect("connect");
    let length = body.len();
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n");
    for (name, value) in headers {
        head = head + name + ": " + value + "\r\n";
    }
    stream.write_all((head + "\r\n").as_bytes()).and_then(|()| stream.write_all(body)).expect("a request");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a status");
    Answer { status, head, body: bytes[end..].to_vec() }
}

/// Puts a blob into the repository `name`; its descriptor.
pub(crate) fn put_blob(address: &str, name: &str, media_type: &str, bytes: &[u8]) -> Value {
    let digest = digest(bytes);
    let begun = request(address, "POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"");
    let location = begun.header("location").expect("a location");
    let path = location.split_once(address).map_or(location, |(_, path)| path);
    let path = format!("{path}&digest={digest}");
    let put = request(address, "PUT", &path, &[("content-type", "application/octet-stream")], bytes);
    assert_eq!(put.status, 201, "{}", String::from_utf8_lossy(&put.body));
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

/// Puts a manifest or index under `tag`; its descriptor.
pub(crate) fn put_manifest(address: &str, name: &str, tag: &str, manifest: &Value) -> Value {
    let bytes = serde_json::to_vec(manifest).expect("JSON");
    let media_type = manifest["mediaType"].as_str().expect("a media type");
    let path = format!("/v2/{name}/manifests/{tag}");
    let put = request(address, "PUT", &path, &[("content-type", media_type)], &bytes);
    assert_eq!(put.status, 201, "{}", String::from_utf8_lossy(&put.body));
    json!({"mediaType": media_type, "digest": digest(&bytes), "size": bytes.len()})
}

/// Media types that tests write.
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const OCI_PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
