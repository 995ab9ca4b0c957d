//! Where the result of `build` goes: the store, a directory, a tar, an archive of an image.

use super::WithHint;
use super::progress::Bars;
use crate::build::copy::materialise_into;
use crate::build::execute::Built;
use crate::image::{SaveFormat, SaveOptions, save_archive};
use crate::model::RelPath;
use crate::oci::Reference;
use crate::store::Session;
use anyhow::Context;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;

/// `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    /// The store, as without the option, under these names too; and a registry.
    Store {
        /// Further names.
        names: Vec<Reference>,
        /// Whether it is pushed.
        push: bool,
    },
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
        let (mut names, mut push) = (Vec::new(), false);
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("type", value)) => kind = Some(value),
                Some(("name", value)) => {
                    names.push(Reference::parse_new(value).map_err(|error| format!("{value:?}: {error}"))?);
                }
                Some(("push", value)) => {
                    push = value.parse().map_err(|_| format!("push={value}: true or false is expected"))?;
                }
                Some(("dest" | "path", value)) => path = Some(value).filter(|value| *value != "-"),
                _ => {
                    return Err(format!(
                        "unknown field {field:?}: type=local|tar|oci|docker|image|registry,dest=PATH is expected"
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
            ("image", _) => Ok(Self::Store { names, push }),
            ("registry", _) => Ok(Self::Store { names, push: true }),
            (other, _) => Err(format!("unknown type {other:?}: local, tar, oci, docker, image and registry are known")),
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
        None | Some(Destination::Store { .. }) => name(session, built, tags),
        Some(Destination::Local(path)) => {
            let tree = built.layers.tree()?;
            std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
            materialise_into(&*tree, &RelPath::root(), path)
                .hint("choose an empty directory, or remove what is in the way there")
        }
        Some(Destination::Tar(path)) => write(path.as_ref(), |output| Ok(built.layers.write_tar(output)?)),
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
    let (options, bars) = (SaveOptions::default(), Bars::new(false));
    write(path, |output| Ok(save_archive(session.store(), &images, format, &options, output, &bars)?))
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

/// Writes an archive to a file, which appears as a whole, or to standard output.
fn write(path: Option<&PathBuf>, archive: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>) -> anyhow::Result<()> {
    match path {
        Some(path) => super::save::write_file(path, archive),
        None => super::output::archive(archive),
    }
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
            ("type=image", Ok(Destination::Store { names: Vec::new(), push: false })),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
        for text in ["type=zip,dest=x", "type=local", "dst=x"] {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
    }
}
