//! COPY, ADD and WORKDIR: a layer computed against the stage.

use super::cache::{self, Key};
use super::error::{BuildError, BuildResult, trying};
use super::fetch::fetch;
use super::stage::{Found, Made, Work, tree_of};
use crate::build::context::Matcher;
use crate::build::copy::{
    Copier, Data, Destination, Empty, ModeChange, Rules, Tree, fingerprint, open_archive, resolve, resolve_owner,
    resolve_user, write_layer,
};
use crate::build::dockerfile::{CopySource, Transfer};
use crate::build::plan::{CopyAction, Step};
use crate::build::trees::DirectoryTree;
use crate::image::{Expected, Limits, NoProgress, ingest_layer};
use crate::model::{FileKind, RelPath, Timestamp};
use crate::oci::Digest;
use std::fs::File;
use std::sync::Arc;
use std::thread;

/// Room in the pipe between the writer of a layer and what stores it, in bytes: fewer wake-ups.
const PIPE: usize = 1 << 20;

/// WORKDIR: the directory, if it is not there. Made by root unless USER says otherwise.
pub(super) fn workdir(
    work: &Work<'_>,
    stage: &dyn Tree,
    path: &str,
    user: Option<&str>,
) -> BuildResult<(Digest, Found)> {
    let owner = user.map(|user| resolve_user(stage, user)).transpose()?.unwrap_or_default();
    let mut destination = Destination::new(stage, now(work));
    destination.make_directory(path, owner)?;
    let mut key = Key::above(work.layers.chain_id());
    key.list(&["workdir", path, &format!("{}:{}", owner.uid, owner.gid)]);
    store(work, key.finish(), &destination, Data { trees: &[], archives: &[] })
}

fn now(work: &Work<'_>) -> Timestamp {
    Timestamp::from_seconds(work.shared.build.options.clock.seconds())
}

/// The trees and archives of one copy, in the order of their numbers.
#[derive(Default)]
struct Inputs {
    trees: Vec<Arc<dyn Tree>>,
    archives: Vec<File>,
}

/// COPY or ADD.
pub(super) fn copy(
    work: &Work<'_>,
    stage: &dyn Tree,
    step: &Step,
    action: &CopyAction,
) -> BuildResult<(Digest, Found)> {
    let transfer = &action.transfer;
    let source: Arc<dyn Tree> = match step.origins.first() {
        Some(origin) => tree_of(work.shared, origin)?,
        None => Arc::clone(&work.shared.build.context),
    };
    let source = work.shared.build.cancel.guard(source);
    let rules = rules(stage, transfer)?;
    let mut inputs = Inputs { trees: vec![source], archives: Vec::new() };
    let mut destination = Destination::new(stage, now(work));
    let mut copier = Copier::new(&mut destination, &rules, &action.destination);
    check_sources(transfer, step, &inputs)?;
    for source in &transfer.sources {
        match source {
            CopySource::Inline(heredoc) => {
                let data = heredoc.content.as_bytes().into();
                copier.put_file(&heredoc.name, data, 0o644, now(work))?;
            }
            CopySource::Path(url) if is_url(url) => {
                let name = fetch(work, url, transfer.checksum.as_deref())?;
                let number = inputs.trees.len();
                inputs
                    .trees
                    .push(Arc::new(DirectoryTree::open(&name.directory).map_err(trying("open what was fetched"))?));
                let path = crate::model::RelPath::root().join(name.name);
                let unpacked = transfer.unpack == Some(true);
                add_file(work, &mut copier, &mut inputs, number, &path, url, unpacked)?;
            }
            CopySource::Path(pattern) => {
                let unpack = action.add && transfer.unpack != Some(false);
                let unpacked = unpack && unpack_sources(work, &mut copier, &mut inputs, pattern)?;
                if !unpacked {
                    let tree = Arc::clone(inputs.trees.first().ok_or(BuildError::Elsewhere)?);
                    copier.copy(0, &*tree, pattern)?;
                }
            }
        }
    }
    for socket in copier.sockets() {
        work.shared.build.reporter.warn(&format!("{socket}: a socket cannot be part of an image, and is left out"));
    }
    let trees: Vec<&dyn Tree> = inputs.trees.iter().map(|tree| &**tree).collect();
    let data = Data { trees: &trees, archives: &inputs.archives };
    let mut key = Key::above(work.layers.chain_id());
    key.text("copy");
    key.bytes(fingerprint(&destination, data)?.as_bytes());
    store(work, key.finish(), &destination, data)
}

/// All files of a tree, as the layer that a stage begins with.
pub(super) fn whole(work: &Work<'_>, tree: Arc<dyn Tree>) -> BuildResult<(Digest, Found)> {
    let tree = work.shared.build.cancel.guard(tree);
    let mut destination = Destination::new(&Empty, now(work));
    let rules = Rules::default();
    Copier::new(&mut destination, &rules, "/").copy_path(0, &*tree, &RelPath::root())?;
    let data = Data { trees: &[&*tree], archives: &[] };
    let mut key = Key::above(None);
    key.text("copy");
    key.bytes(fingerprint(&destination, data)?.as_bytes());
    store(work, key.finish(), &destination, data)
}

fn rules(stage: &dyn Tree, transfer: &Transfer) -> BuildResult<Rules> {
    let chown = transfer.chown.as_deref().filter(|text| !text.is_empty());
    let chmod = transfer.chmod.as_deref().filter(|text| !text.is_empty());
    Ok(Rules {
        owner: chown.map(|text| resolve_owner(stage, text)).transpose()?,
        mode: chmod.map(ModeChange::parse).transpose()?,
        exclude: Matcher::new(&transfer.exclude).map_err(crate::build::copy::CopyError::from)?,
        // With --chmod BuildKit copies as if --link were not there.
        link: transfer.link && chmod.is_none(),
        parents: transfer.parents,
    })
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Refuses sources of kinds that are not supported.
fn check_sources(transfer: &Transfer, step: &Step, inputs: &Inputs) -> BuildResult<()> {
    let refuse =
        |path: &str, message: String| Err(BuildError::Step(Box::new(step.instruction.diagnostic_at(path, message))));
    let copy = matches!(step.instruction.command, crate::build::dockerfile::Command::Copy(_));
    for source in &transfer.sources {
        let CopySource::Path(path) = source else { continue };
        if is_git(path) {
            return refuse(path, format!("{path}: sources in git repositories are not supported"));
        }
        if copy && is_url(path) {
            return refuse(path, "source can't be a URL for COPY".to_owned());
        }
    }
    debug_assert!(!inputs.trees.is_empty());
    Ok(())
}

fn is_git(path: &str) -> bool {
    let without_fragment = path.split('#').next().unwrap_or(path);
    path.starts_with("git@")
        || path.starts_with("git://")
        || path.starts_with("ssh://")
        || (is_url(path) && without_fragment.rsplit_once('.').is_some_and(|(_, end)| end == "git"))
}

/// Unpacks the archives among what `pattern` names and copies the rest; false when there is no archive.
fn unpack_sources(
    work: &Work<'_>,
    copier: &mut Copier<'_, '_>,
    inputs: &mut Inputs,
    pattern: &str,
) -> BuildResult<bool> {
    let tree = Arc::clone(inputs.trees.first().ok_or(BuildError::Elsewhere)?);
    let mut archives = Vec::new();
    let sources = Copier::sources(&*tree, pattern)?;
    for source in &sources {
        let real = resolve(&*tree, &source.to_bytes(), true)?;
        let stat = tree.stat(&real).map_err(trying(real.to_string()))?;
        let file = stat.is_some_and(|stat| stat.kind == FileKind::File);
        archives.push(if file { open_one(work, &*tree, &real)? } else { None });
    }
    if archives.iter().all(Option::is_none) {
        return Ok(false);
    }
    for (source, archive) in sources.iter().zip(archives) {
        match archive {
            Some(opened) => {
                copier.unpack(&source.to_string(), inputs.archives.len(), &opened)?;
                inputs.archives.push(opened.file);
            }
            None => copier.copy_path(0, &*tree, source)?,
        }
    }
    Ok(true)
}

fn open_one(
    work: &Work<'_>,
    tree: &dyn Tree,
    path: &crate::model::RelPath,
) -> BuildResult<Option<crate::build::copy::Opened>> {
    let data = tree.open(path).map_err(trying(path.to_string()))?;
    Ok(open_archive(&path.to_string(), data, scratch(work)?)?)
}

/// A file of the session that has no name any more.
fn scratch(work: &Work<'_>) -> BuildResult<File> {
    let path = work.shared.build.session.stage_path();
    let make = || {
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok::<_, std::io::Error>(file)
    };
    make().map_err(trying("make a file in the store"))
}

/// Adds what was fetched: as a file, or unpacked where that is asked for.
fn add_file(
    work: &Work<'_>,
    copier: &mut Copier<'_, '_>,
    inputs: &mut Inputs,
    number: usize,
    path: &crate::model::RelPath,
    url: &str,
    unpack: bool,
) -> BuildResult<()> {
    let tree = Arc::clone(inputs.trees.get(number).ok_or(BuildError::Elsewhere)?);
    if unpack && let Some(opened) = open_one(work, &*tree, path)? {
        copier.unpack(url, inputs.archives.len(), &opened)?;
        inputs.archives.push(opened.file);
        return Ok(());
    }
    Ok(copier.copy_path(number, &*tree, path)?)
}

/// Finds the layer of `key`, or writes it.
fn store(work: &Work<'_>, key: Digest, destination: &Destination<'_>, data: Data<'_>) -> BuildResult<(Digest, Found)> {
    if let Some(record) = cache::find(work, &key)? {
        return Ok((key, Found::Known(record)));
    }
    let (mut reader, writer) = std::io::pipe().map_err(trying("make a pipe"))?;
    // A smaller pipe works as well.
    let _ = rustix::pipe::fcntl_setpipe_size(&writer, PIPE);
    let latest = work.shared.build.options.clock.latest();
    let made = thread::scope(|scope| {
        let writing = scope.spawn(move || write_layer(destination, data, latest, writer).map(drop));
        let expected = Expected { label: Some("the new layer".to_owned()), ..Expected::default() };
        let stored = ingest_layer(work.shared.build.session, &mut reader, &expected, &Limits::default(), &NoProgress);
        // The writer must not wait for a reader that has given up.
        let drained = if stored.is_err() { std::io::copy(&mut reader, &mut std::io::sink()).is_ok() } else { true };
        drop(reader);
        let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // What was stored of a layer that could not be written is nobody's.
        written?;
        let stored = stored?;
        debug_assert!(drained);
        Ok::<_, BuildError>(Made { diff_id: stored.diff_id, size: stored.tar_size })
    })?;
    Ok((key, Found::Made(made)))
}
