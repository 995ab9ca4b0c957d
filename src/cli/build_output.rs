//! Where the result of `build` goes: the store, a directory, a tar, an archive of an image.

use super::progress::Bars;
use crate::build::copy::materialise;
use crate::build::execute::Built;
use crate::image::{SaveFormat, SaveOptions, save_archive};
use crate::model::RelPath;
use crate::oci::Reference;
use crate::store::Session;
use anyhow::{Context, anyhow};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;

/// `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    /// The store, as without the option.
    Store,
    /// The files, in a directory.
    Local(PathBuf),
    /// The files, in a tar; none is standard output.
    Tar(Option<PathBuf>),
    /// An OCI archive.
    Oci(Option<PathBuf>),
    /// A docker-archive.
    Docker(Option<PathBuf>),
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.contains('=') {
            return Ok(if text == "-" { Self::Tar(None) } else { Self::Local(text.into()) });
        }
        let (mut kind, mut path) = (None, None);
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("type", value)) => kind = Some(value),
                Some(("dest" | "path", value)) => path = Some(value).filter(|value| *value != "-"),
                _ => {
                    return Err(format!(
                        "unknown field {field:?}: type=local|tar|oci|docker|image,dest=PATH is expected"
                    ));
                }
            }
        }
        let path = path.map(PathBuf::from);
        match (kind.unwrap_or("local"), path) {
            ("local", Some(path)) => Ok(Self::Local(path)),
            ("local", None) => Err("type=local needs dest=DIRECTORY".to_owned()),
            ("tar", path) => Ok(Self::Tar(path)),
            ("oci", path) => Ok(Self::Oci(path)),
            ("docker", path) => Ok(Self::Docker(path)),
            ("image", _) => Ok(Self::Store),
            (other, _) => Err(format!("unknown type {other:?}: local, tar, oci, docker and image are known")),
        }
    }
}

/// Puts the result where it is wanted.
pub(super) fn deliver(
    session: &Session,
    built: &Built,
    destination: Option<&Destination>,
    tags: &[Reference],
) -> anyhow::Result<()> {
    match destination {
        None | Some(Destination::Store) => name(session, built, tags),
        Some(Destination::Local(path)) => {
            let tree = built.layers.tree()?;
            let exists = path.is_dir();
            if exists && path.read_dir()?.next().is_some() {
                return Err(anyhow!("{}: not empty", path.display()));
            }
            if exists {
                std::fs::remove_dir(path).with_context(|| path.display().to_string())?;
            }
            Ok(materialise(&*tree, &RelPath::root(), path)?)
        }
        Some(Destination::Tar(path)) => {
            let mut output = open(path.as_ref())?;
            built.layers.write_tar(&mut output)?;
            Ok(output.flush()?)
        }
        Some(Destination::Oci(path)) => save(session, built, tags, SaveFormat::OciArchive, path.as_ref()),
        Some(Destination::Docker(path)) => save(session, built, tags, SaveFormat::DockerArchive, path.as_ref()),
    }
}

/// Writes the image as an archive. It is in the store as well, under its names if it has any.
fn save(
    session: &Session,
    built: &Built,
    tags: &[Reference],
    format: SaveFormat,
    path: Option<&PathBuf>,
) -> anyhow::Result<()> {
    name(session, built, tags)?;
    let names: Vec<String> = tags.iter().map(|tag| tag.clone().or_latest().canonical()).collect();
    let images = if names.is_empty() { vec![built.id.to_string()] } else { names };
    let mut output = open(path)?;
    save_archive(session.store(), &images, format, &SaveOptions::default(), &mut output, &Bars::new(false))?;
    Ok(output.flush()?)
}

/// Names the image, or adds it without a name.
fn name(session: &Session, built: &Built, tags: &[Reference]) -> anyhow::Result<()> {
    if tags.is_empty() {
        return Ok(session.set_reference(None, &built.manifest)?);
    }
    for tag in tags {
        session.set_reference(Some(&tag.clone().or_latest()), &built.manifest)?;
    }
    Ok(())
}

fn open(path: Option<&PathBuf>) -> anyhow::Result<Box<dyn Write>> {
    Ok(match path {
        Some(path) => Box::new(File::create(path).with_context(|| path.display().to_string())?),
        None => Box::new(std::io::stdout().lock()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        for (text, expected) in [
            ("out", Ok(Destination::Local("out".into()))),
            ("-", Ok(Destination::Tar(None))),
            ("type=local,dest=out", Ok(Destination::Local("out".into()))),
            ("type=tar,dest=x.tar", Ok(Destination::Tar(Some("x.tar".into())))),
            ("type=tar", Ok(Destination::Tar(None))),
            ("dest=-,type=oci", Ok(Destination::Oci(None))),
            ("type=image", Ok(Destination::Store)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
        for text in ["type=zip,dest=x", "type=local", "dst=x"] {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
    }
}
