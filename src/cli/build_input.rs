//! What `build` works on: the Dockerfile, the context, the ignore file.

use super::WithHint;
use crate::build::context::{Matcher, ignore_file_names, ignore_patterns};
use crate::build::copy::{Empty, Tree, open_archive, resolve};
use crate::build::dockerfile::Source;
use crate::build::trees::{ArchiveTree, DirectoryTree, Filtered};
use crate::store::Session;
use anyhow::{Context, anyhow};
use std::fs::File;
use std::io::{Cursor, IsTerminal, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A Dockerfile larger than this is none, in bytes.
const DOCKERFILE_MAX: u64 = 16 << 20;

/// A Dockerfile and the files it may copy.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) dockerfile: Arc<Source>,
    pub(super) context: Arc<dyn Tree>,
}

/// Reads the input that the command line names.
pub(super) fn read_input(context: &str, file: Option<&str>, session: &Session) -> anyhow::Result<Input> {
    if context == "-" {
        return from_stdin(file, session);
    }
    if context.contains("://") || context.starts_with("git@") {
        return Err(anyhow!("{context}: a context must be a directory or `-`"))
            .hint("fetch it first, or pipe a tar: `curl … | layerfs build -`");
    }
    let directory = Path::new(context);
    let tree = DirectoryTree::open(directory).and_then(|tree| tree.without(&session.store().stage()));
    let tree = tree.with_context(|| format!("cannot open the context {context}"))?;
    let path = file.map_or_else(|| directory.join("Dockerfile"), PathBuf::from);
    let (name, text) = if file == Some("-") {
        ("Dockerfile".to_owned(), read_stdin()?)
    } else {
        let opened = File::open(&path);
        let opened = opened.with_context(|| format!("cannot open the Dockerfile {}", path.display()));
        (path.display().to_string(), read_text(opened.hint("name it with -f")?)?)
    };
    let beside = (file != Some("-")).then(|| ignore_file_names(&path.to_string_lossy()).0);
    let beside = beside.map(PathBuf::from).filter(|path| path.is_file());
    let ignore = match beside {
        Some(path) => Some(std::fs::read(&path).with_context(|| path.display().to_string())?),
        None => read_from(&tree, ".dockerignore")?,
    };
    Ok(Input { dockerfile: source(name, text)?, context: filtered(tree, ignore)? })
}

/// The files of a named context: those of a directory but what its `.dockerignore` names.
pub(super) fn named_files(directory: &str, session: &Session) -> anyhow::Result<Arc<dyn Tree>> {
    let tree = DirectoryTree::open(Path::new(directory)).and_then(|tree| tree.without(&session.store().stage()));
    let tree = tree.with_context(|| format!("cannot open the context {directory}"))?;
    let ignore = read_from(&tree, ".dockerignore")?;
    filtered(tree, ignore)
}

/// A tar with everything, or a Dockerfile alone.
fn from_stdin(file: Option<&str>, session: &Session) -> anyhow::Result<Input> {
    if file == Some("-") {
        return Err(anyhow!("the context and the Dockerfile cannot both come from standard input"));
    }
    if std::io::stdin().is_terminal() {
        return Err(anyhow!("the context is to come from standard input, but it is a terminal"))
            .hint("pipe a tar or a Dockerfile in, or name a directory");
    }
    let scratch = |what: &str| {
        let path = session.stage_path();
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        file.with_context(|| format!("cannot keep the {what}"))
    };
    let mut whole = scratch("standard input")?;
    std::io::copy(&mut std::io::stdin().lock(), &mut whole).context("cannot read standard input")?;
    whole.rewind()?;
    let data = Box::new(whole.try_clone()?);
    if whole.metadata()?.len() == 0 {
        return Err(anyhow!("standard input is empty, and the context was to come from there"))
            .hint("pipe a tar or a Dockerfile in: `tar -c . | layerfs build -`, `layerfs build - < Dockerfile`");
    }
    let Some(opened) = open_archive("standard input", data, scratch("context")?)? else {
        whole.rewind()?;
        return Ok(Input { dockerfile: source("Dockerfile".to_owned(), read_text(whole)?)?, context: Arc::new(Empty) });
    };
    let tree = ArchiveTree::new(opened).context("the context is no usable archive")?;
    let name = file.unwrap_or("Dockerfile");
    let text = read_from(&tree, name)?.ok_or_else(|| anyhow!("{name} is not in the context"))?;
    let ignore = match read_from(&tree, &ignore_file_names(name).0)? {
        Some(text) => Some(text),
        None => read_from(&tree, ".dockerignore")?,
    };
    Ok(Input { dockerfile: source(name.to_owned(), read_text(Cursor::new(text))?)?, context: filtered(tree, ignore)? })
}

fn read_stdin() -> anyhow::Result<String> {
    let text = read_text(std::io::stdin().lock())?;
    if text.is_empty() {
        return Err(anyhow!("standard input is empty, and the Dockerfile was to come from there"))
            .hint("pipe it in: `layerfs build -f - CONTEXT < Dockerfile`");
    }
    Ok(text)
}

fn read_text(input: impl Read) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    input.take(DOCKERFILE_MAX + 1).read_to_end(&mut bytes).context("cannot read the Dockerfile")?;
    if bytes.len() as u64 > DOCKERFILE_MAX {
        return Err(anyhow!("the Dockerfile is larger than {DOCKERFILE_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        anyhow!("the Dockerfile is not UTF-8 in line {}", before.split(|&byte| byte == b'\n').count())
    })
}

fn source(name: String, text: String) -> anyhow::Result<Arc<Source>> {
    if text.trim().is_empty() {
        return Err(anyhow!("the Dockerfile ({name}) cannot be empty"));
    }
    Ok(Source::new(name, text))
}

/// The file `name` of a tree; none when there is none.
fn read_from(tree: &dyn Tree, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
    let path = resolve(tree, name.as_bytes(), true)?;
    let stat = tree.stat(&path).with_context(|| name.to_owned())?;
    if stat.is_none_or(|stat| stat.kind.is_directory()) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    tree.open(&path)
        .and_then(|data| data.take(DOCKERFILE_MAX).read_to_end(&mut bytes))
        .with_context(|| name.to_owned())?;
    Ok(Some(bytes))
}

fn filtered<T: Tree + 'static>(tree: T, ignore: Option<Vec<u8>>) -> anyhow::Result<Arc<dyn Tree>> {
    let patterns = ignore.map(|text| ignore_patterns(&text)).unwrap_or_default();
    let matcher = Matcher::new(&patterns).context("the ignore file is malformed")?;
    Ok(if matcher.is_empty() { Arc::new(tree) } else { Arc::new(Filtered::new(tree, matcher)) })
}
