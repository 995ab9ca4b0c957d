//! ADD of a URL.

use super::error::{BuildError, BuildResult, trying};
use super::stage::Work;
use crate::model::Name;
use crate::oci::{Digest, Hasher};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// How long a server may take to answer at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file that was fetched, in a directory of its own.
pub(super) struct Fetched {
    pub(super) directory: PathBuf,
    pub(super) name: Name,
}

/// Fetches `url`. The file is readable by its owner only, as Docker makes it, and as old as the server says.
pub(super) fn fetch(work: &Work<'_>, url: &str, checksum: Option<&str>) -> BuildResult<Fetched> {
    let failed = |reason: String| BuildError::Fetch { url: url.to_owned(), reason };
    let expected: Option<Digest> =
        checksum.map(|text| text.parse().map_err(|error| failed(format!("checksum {text}: {error}")))).transpose()?;
    let directory = work.shared.build.session.stage_path();
    std::fs::create_dir(&directory).map_err(trying("make a directory in the store"))?;
    let name = Name::new(&file_name(url)).map_err(|error| failed(error.to_string()))?;
    let config =
        ureq::Agent::config_builder().timeout_connect(Some(PATIENCE)).timeout_recv_response(Some(PATIENCE)).build();
    let mut response =
        ureq::Agent::new_with_config(config).get(url).call().map_err(|error| failed(error.to_string()))?;
    let modified = response.headers().get("last-modified").and_then(|value| value.to_str().ok());
    let modified = modified.and_then(|text| OffsetDateTime::parse(text, &Rfc2822).ok());
    let place = directory.join(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let options = File::options().write(true).create_new(true).open(&place);
    let mut file = options.map_err(trying("make a file in the store"))?;
    let mut body = work.shared.build.cancel.guard_input(response.body_mut().as_reader());
    let digest = receive(&mut body, &mut file).map_err(|error| failed(error.to_string()))?;
    if let Some(expected) = expected.filter(|expected| *expected != digest) {
        return Err(failed(format!("digest mismatch: {digest}, expected {expected}")));
    }
    let times = modified.map_or(std::time::SystemTime::UNIX_EPOCH, std::time::SystemTime::from);
    file.set_modified(times).map_err(trying("set the time of a file"))?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    file.set_permissions(private).map_err(trying("set the mode of a file"))?;
    Ok(Fetched { directory, name })
}

/// The name of what is at `url`: the last part of its path, escapes resolved; BuildKit's `__unnamed__` where the path is the root.
fn file_name(url: &str) -> Vec<u8> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let path = path.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let path: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
    let mut parts = path.rsplit(|&byte| byte == b'/');
    parts.find(|part| !part.is_empty()).unwrap_or(b"__unnamed__").to_vec()
}

fn receive(input: &mut dyn Read, output: &mut File) -> std::io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = input.read(&mut buffer)?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { return Ok(hasher.finish().0) };
        hasher.update(piece);
        output.write_all(piece)?;
    }
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn regression_names_are_the_last_part_of_the_path() {
        for (url, expected) in [
            ("http://h/a/b.txt", "b.txt"),
            ("https://h/a/b?c=/d#/e", "b"),
            ("http://h", "__unnamed__"),
            ("http://h/?x", "__unnamed__"),
            ("http://h//", "__unnamed__"),
            ("http://h/dir/", "dir"),
            ("http://h/a%20b%2b.tar", "a b+.tar"),
            ("http://h/a%2Fb", "b"),
            ("http://h/100%", "100%"),
        ] {
            assert_eq!(file_name(url), expected.as_bytes(), "{url}");
        }
    }
}
