//! `layerfs ls`: what is in an image, without a mount.

use super::image_argument::open_path;
use super::output::Format;
use super::registry_options::RegistryOptions;
use super::{Global, printable};
use crate::model::{FileKind, Meta};
use crate::union::{Directory, Node, Stack};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::process::ExitCode;
use time::OffsetDateTime;
use time::macros::format_description;

/// List what is in an image.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to list; the root of the image where no path is given. docker://IMAGE:PATH looks at an image at its registry
    #[arg(required = true, value_name = "IMAGE[:PATH]")]
    #[arg(add = clap_complete::ArgValueCompleter::new(super::complete::image_paths))]
    paths: Vec<String>,
    /// Say everything about each object
    #[arg(short)]
    long: bool,
    /// Go down into directories
    #[arg(short = 'R', long)]
    recursive: bool,
    /// A directory itself, not what is in it
    #[arg(short, long)]
    directory: bool,
    /// The shape of the output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    registry: RegistryOptions,
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
    let mut printer = Printer { args, out: io::stdout().lock(), objects: Vec::new(), begun: false };
    for text in &args.paths {
        let (_image, stack, path) = open_path(&store, text, &args.registry)?;
        list(&stack, &path, args, &mut printer).with_context(|| text.clone())?;
    }
    printer.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn list<W: Write>(stack: &Stack, path: &[u8], args: &Args, printer: &mut Printer<'_, W>) -> anyhow::Result<()> {
    let Some(node) = stack.resolve_following(path, !args.long || path.ends_with(b"/"))? else {
        bail!("no such file or directory");
    };
    let path = path.strip_suffix(b"/").unwrap_or(path);
    match node {
        Node::Directory(directory) if !args.directory => list_directory(stack, path, &directory, printer),
        other => {
            let name = if path.is_empty() { b"/" } else { path };
            let object = describe(stack, other, name.to_vec(), name.to_vec())?;
            printer.print_group(None, &[object])
        }
    }
}

fn list_directory<W: Write>(
    stack: &Stack,
    path: &[u8],
    directory: &Directory,
    printer: &mut Printer<'_, W>,
) -> anyhow::Result<()> {
    let names: Vec<Vec<u8>> = stack.list(&directory.sources)?.iter().map(|listed| listed.name.to_vec()).collect();
    let mut objects = Vec::with_capacity(names.len());
    for name in names {
        if let Some(node) = stack.child(&directory.sources, &name)? {
            objects.push(describe(stack, node, [path, b"/", &name].concat(), name)?);
        }
    }
    let below: Vec<_> = objects
        .iter_mut()
        .filter(|_| printer.args.recursive)
        .filter_map(|object| Some((object.path.clone(), object.directory.take()?)))
        .collect();
    let title = if path.is_empty() { b"/" } else { path };
    printer.print_group(Some(title), &objects)?;
    below.iter().try_for_each(|(path, directory)| list_directory(stack, path, directory, printer))
}

fn describe(stack: &Stack, node: Node, path: Vec<u8>, name: Vec<u8>) -> anyhow::Result<Object> {
    let (source, directory) = match node {
        Node::Directory(directory) => (directory.metadata, Some(directory)),
        Node::Other { source, .. } => (source, None),
    };
    let layer = stack.layer(source.layer)?;
    let meta = layer.meta(source.ino)?;
    let target = match meta.kind {
        FileKind::Symlink => Some(layer.read_link(source.ino)?.into_owned()),
        _ => None,
    };
    Ok(Object { path, name, meta, target, layer: source.layer.as_lower(), directory })
}

/// Writes what is listed in the shape that was asked for.
struct Printer<'a, W> {
    args: &'a Args,
    out: W,
    objects: Vec<Value>,
    begun: bool,
}

impl<W: Write> Printer<'_, W> {
    /// The objects of one directory, `title` its path, or single ones.
    fn print_group(&mut self, title: Option<&[u8]>, objects: &[Object]) -> anyhow::Result<()> {
        if self.args.format == Format::Json {
            self.objects.extend(objects.iter().map(to_json));
            return Ok(());
        }
        if let Some(title) = title.filter(|_| self.args.recursive || self.args.paths.len() > 1) {
            let gap = if self.begun { "\n" } else { "" };
            writeln!(self.out, "{gap}{}:", printable(title))?;
        }
        self.begun = true;
        if self.args.long { self.print_long(objects) } else { self.print_names(objects) }
    }

    fn print_names(&mut self, objects: &[Object]) -> anyhow::Result<()> {
        objects.iter().try_for_each(|object| Ok(writeln!(self.out, "{}", printable(&object.name))?))
    }

    fn print_long(&mut self, objects: &[Object]) -> anyhow::Result<()> {
        let rows: Vec<[String; 7]> = objects.iter().map(columns).collect();
        let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
        let widths = [width(1), width(2), width(3), width(4)];
        for [mode, links, uid, gid, size, time, name] in &rows {
            let [links_width, uid_width, gid_width, size_width] = widths;
            writeln!(
                self.out,
                "{mode} {links:>links_width$} {uid:<uid_width$} {gid:<gid_width$} {size:>size_width$} {time} {name}"
            )?;
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        if self.args.format == Format::Json {
            writeln!(self.out, "{}", serde_json::to_string_pretty(&self.objects)?)?;
        }
        Ok(self.out.flush()?)
    }
}

fn columns(object: &Object) -> [String; 7] {
    let meta = &object.meta;
    let size = match meta.kind {
        FileKind::CharDevice | FileKind::BlockDevice => format!("{}, {}", meta.device.major, meta.device.minor),
        _ => meta.size.to_string(),
    };
    let arrow = object.target.as_ref().map(|target| format!(" -> {}", printable(target))).unwrap_or_default();
    [
        mode_text(meta),
        meta.nlink.to_string(),
        meta.uid.to_string(),
        meta.gid.to_string(),
        size,
        time_text(meta),
        format!("{}{arrow}", printable(&object.name)),
    ]
}

fn time_text(meta: &Meta) -> String {
    let time = OffsetDateTime::from_unix_timestamp(meta.mtime.seconds).ok();
    let text = time.and_then(|time| time.format(format_description!("[year]-[month]-[day] [hour]:[minute]")).ok());
    text.unwrap_or_else(|| meta.mtime.seconds.to_string())
}

/// A type as ls(1) writes it.
pub(super) fn kind_letter(kind: FileKind) -> char {
    match kind {
        FileKind::File => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::CharDevice => 'c',
        FileKind::BlockDevice => 'b',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
    }
}

/// Type and permissions as ls(1) writes them.
fn mode_text(meta: &Meta) -> String {
    let mut text = String::from(kind_letter(meta.kind));
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = meta.permissions >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (meta.permissions & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn to_json(object: &Object) -> Value {
    let meta = &object.meta;
    let kind = match meta.kind {
        FileKind::File => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::CharDevice => "char-device",
        FileKind::BlockDevice => "block-device",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
    };
    json!({
        "Path": printable(&object.path),
        "Type": kind,
        "Mode": format!("{:04o}", meta.permissions),
        "Uid": meta.uid,
        "Gid": meta.gid,
        "Size": meta.size,
        "Links": meta.nlink,
        "ModTime": meta.mtime.seconds,
        "Device": match meta.kind {
            FileKind::CharDevice | FileKind::BlockDevice => json!([meta.device.major, meta.device.minor]),
            _ => Value::Null,
        },
        "Target": object.target.as_ref().map(|target| printable(target)),
        "Layer": object.layer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeviceNumber, Timestamp};

    #[test]
    fn modes_are_written_as_ls_does() {
        let time = Timestamp::default();
        let mut meta = Meta {
            kind: FileKind::File,
            permissions: 0o4755,
            uid: 0,
            gid: 0,
            nlink: 1,
            device: DeviceNumber::default(),
            size: 0,
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
        };
        assert_eq!(mode_text(&meta), "-rwsr-xr-x");
        meta.permissions = 0o2644;
        assert_eq!(mode_text(&meta), "-rw-r-Sr--");
        (meta.kind, meta.permissions) = (FileKind::Directory, 0o1777);
        assert_eq!(mode_text(&meta), "drwxrwxrwt");
    }
}
