//! `layerfs ls`: what is in an image, without a mount.
//!
//! [`filter`] has the tests of find, [`print`] the shapes of the output; this file finds what is listed.

mod filter;
mod print;

use super::image_argument::open_path;
use super::output::{Format, until_closed};
use super::owners::Owners;
use super::registry_options::RegistryOptions;
use super::{Global, WithHint, glob};
use crate::diff::meta;
use crate::model::{FileKind, Meta, RelPath};
use crate::union::{Directory, Node, Stack, Visit, Walk};
use anyhow::{Context, bail};
use filter::{Filter, Tests};
use print::Printer;
pub(super) use print::kind_letter;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

/// List what is in an image
///
/// PATH may be a pattern, quoted from the shell: `*`, `?` and `[…]` match within a name, `**` any number of directories, a leading
/// dot must be written. Names that begin with a dot are always listed. With --newer, --size or --type only what passes
/// all of these is listed; together with -R by its path, one a line, as find prints it.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(super) struct Args {
    /// What to list; the root of the image where no path is given. docker://IMAGE:PATH looks at an image at its registry
    #[arg(required = true, value_name = "IMAGE[:PATH]")]
    #[arg(add = clap_complete::ArgValueCompleter::new(super::complete::image_paths))]
    paths: Vec<String>,
    /// Say everything about each object, owners by the names that the image has for them
    #[arg(short)]
    long: bool,
    /// With -l: owners as numbers
    #[arg(short = 'n', long)]
    numeric: bool,
    /// With -l: sizes as 1.1K, 23M, 4.0G, powers of 1024
    #[arg(short = 'h', long)]
    human_readable: bool,
    /// Go down into directories
    #[arg(short = 'R', long)]
    recursive: bool,
    /// A directory itself, not what is in it
    #[arg(short, long)]
    directory: bool,
    /// Largest first
    #[arg(short = 'S', conflicts_with = "by_time")]
    by_size: bool,
    /// Latest modified first
    #[arg(short = 't')]
    by_time: bool,
    /// The other way round
    #[arg(short, long)]
    reverse: bool,
    /// Accepted as in ls: what begins with a dot is listed anyway
    #[arg(short = 'a', short_alias = 'A', long, hide = true)]
    all: bool,
    #[command(flatten)]
    tests: Tests,
    /// The shape of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    registry: RegistryOptions,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// One object of the listing.
#[derive(Debug)]
struct Object {
    path: Vec<u8>,
    name: Vec<u8>,
    meta: Meta,
    target: Option<Vec<u8>>,
    layer: Option<usize>,
    directory: Option<Directory>,
}

/// Runs the verb.
pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    let list = || {
        let mut printer = Printer::new(args, BufWriter::new(io::stdout().lock()));
        let code = super::error::each(&args.paths, |text| {
            let (_image, stack, path) = open_path(&store, text, &args.registry)?;
            let mut lister = Lister {
                args,
                stack: &stack,
                owners: Owners::of(&stack),
                filter: args.tests.in_image(&stack)?,
                titled: args.recursive || args.paths.len() > 1,
                printer: &mut printer,
            };
            lister.list(&path).with_context(|| text.clone())
        })?;
        printer.finish()?;
        Ok(code)
    };
    until_closed(list())
}

/// Lists what is asked for in one image.
struct Lister<'a, 'b, W> {
    args: &'a Args,
    stack: &'b Stack,
    owners: Owners,
    filter: Filter,
    /// Whether the names of directories stand above what is in them.
    titled: bool,
    printer: &'b mut Printer<'a, W>,
}

impl<W: Write> Lister<'_, '_, W> {
    /// As ls: first what is no directory, then each directory.
    fn list(&mut self, path: &[u8]) -> anyhow::Result<()> {
        let paths = glob::expand(self.stack, path)?;
        if paths.is_empty() {
            bail!("nothing matches");
        }
        if self.args.recursive && self.args.tests.any() {
            return self.find(&paths);
        }
        self.titled |= paths.len() > 1;
        let (mut objects, mut directories) = (Vec::new(), Vec::new());
        for path in paths {
            let node = self.resolve(&path)?;
            let path = path.strip_suffix(b"/").unwrap_or(&path).to_vec();
            match node {
                Node::Directory(directory) if !self.args.directory => directories.push((path, directory)),
                other => {
                    let name = if path.is_empty() { b"/".to_vec() } else { path };
                    objects.push(describe(self.stack, &other, name.clone(), name)?);
                }
            }
        }
        if !objects.is_empty() {
            self.print(None, objects)?;
        }
        directories.iter().try_for_each(|(path, directory)| self.directory(path, directory))
    }

    fn resolve(&self, path: &[u8]) -> anyhow::Result<Node> {
        let follow = !self.args.long || path.ends_with(b"/");
        let node = match self.stack.resolve_following(path, follow)? {
            None if !path.ends_with(b"/") => self.stack.resolve_following(path, false)?,
            found => found,
        };
        node.context("no such file or directory").hint("see what there is: layerfs ls -R IMAGE:DIRECTORY")
    }

    fn directory(&mut self, path: &[u8], directory: &Directory) -> anyhow::Result<()> {
        let mut work = vec![(path.to_vec(), directory.clone())];
        while let Some((path, directory)) = work.pop() {
            let mut objects = Vec::new();
            for (name, node) in self.stack.children(&directory.sources)? {
                objects.push(describe(self.stack, &node, [&path, &b"/"[..], &name].concat(), name.to_vec())?);
            }
            if self.args.recursive {
                let below = objects.iter_mut().rev();
                work.extend(below.filter_map(|object| Some((object.path.clone(), object.directory.take()?))));
            }
            self.print(Some(if path.is_empty() { b"/" } else { &path }), objects)?;
        }
        Ok(())
    }

    /// As find: everything that passes the tests, by its path, what the search begins with included.
    fn find(&mut self, paths: &[Vec<u8>]) -> anyhow::Result<()> {
        let mut objects = Vec::new();
        for path in paths {
            let node = self.resolve(path)?;
            let begin = path.strip_suffix(b"/").unwrap_or(path);
            let mut walk = Walk::new(self.stack, RelPath::root(), node);
            while let Some(Visit { path, node }) = walk.step()? {
                if self.filter.passes(node.kind(), &meta(self.stack, node)?) {
                    let path = match (path.is_root(), begin.is_empty()) {
                        (true, true) => b"/".to_vec(),
                        (true, false) => begin.to_vec(),
                        (false, _) => [begin, b"/", &path.to_bytes()].concat(),
                    };
                    objects.push(describe(self.stack, node, path.clone(), path)?);
                }
            }
        }
        self.printer.group(None, &mut objects, &self.owners)
    }

    fn print(&mut self, title: Option<&[u8]>, mut objects: Vec<Object>) -> anyhow::Result<()> {
        if self.args.tests.any() {
            objects.retain(|object| self.filter.passes(object.meta.kind, &object.meta));
        }
        self.printer.group(title.filter(|_| self.titled), &mut objects, &self.owners)
    }
}

fn describe(stack: &Stack, node: &Node, path: Vec<u8>, name: Vec<u8>) -> anyhow::Result<Object> {
    let meta = meta(stack, node)?;
    let (source, directory) = match node {
        Node::Directory(directory) => (directory.metadata, Some(directory.clone())),
        Node::Other { source, .. } => (*source, None),
    };
    let target = match meta.kind {
        FileKind::Symlink => Some(stack.layer(source.layer)?.read_link(source.ino)?.into_owned()),
        _ => None,
    };
    Ok(Object { path, name, meta, target, layer: source.layer.as_lower(), directory })
}
