//! One small build: its context, its Dockerfile, what must come of it.
//!
//! ```text
//! === name [buildah]
//! context lines as in `support::tree`; `tar NAME FORMAT` is an archive of in/file and in/link, `gz NAME` a compressed text
//! --- args
//! arguments of build; CONTEXT stands for the directory
//! --- Dockerfile
//! FROM base          busybox with the user app
//! --- tree
//! only               nothing else is there
//! /path 644 0:0 =content        /path 755 0:0 /        /path ->target        /path 644 0:0 fifo        !/absent
//! --- config
//! {"Env": […], "Layers": 2, "AddedLayers": 1, "History": […], "LastHistory": […], "Author": "…"}
//! ```

use crate::support::run::Done;
use crate::support::tree::{self, Notation};
use crate::support::{Scene, Who};
use layerfs::archive::tar::{Entry, EntryKind, EntryPath, Limits, Reader, Writer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A row of the table.
#[derive(Debug, Clone, Default)]
pub(super) struct Case {
    pub(super) name: String,
    /// Whether buildah is to come to the same.
    pub(super) buildah: bool,
    pub(super) context: Vec<String>,
    pub(super) args: Vec<String>,
    pub(super) dockerfile: String,
    tree: Vec<String>,
    config: Option<Value>,
}

impl Case {
    pub(super) fn parse_all(text: &str) -> Vec<Self> {
        let blocks = text.split("=== ").filter(|block| !block.trim().is_empty());
        blocks.map(Self::parse).collect()
    }

    fn parse(block: &str) -> Self {
        let (title, body) = block.split_once('\n').expect("a title line");
        let mut case = Self { buildah: title.ends_with(" [buildah]"), ..Self::default() };
        title.trim_end_matches(" [buildah]").clone_into(&mut case.name);
        let mut section = "context";
        let mut config = String::new();
        for line in body.lines() {
            if let Some(name) = line.strip_prefix("--- ") {
                section = name;
                continue;
            }
            match section {
                "Dockerfile" => case.dockerfile.extend([line, "\n"]),
                _ if line.is_empty() => {}
                "context" => case.context.push(line.to_owned()),
                "args" => case.args.extend(line.split_whitespace().map(str::to_owned)),
                "tree" => case.tree.push(line.to_owned()),
                "config" => config.push_str(line),
                other => panic!("{}: section {other}", case.name),
            }
        }
        if !config.is_empty() {
            case.config = Some(serde_json::from_str(&config).unwrap_or_else(|error| panic!("{}: {error}", case.name)));
        }
        case
    }

    /// Whether files are expected.
    pub(super) fn has_tree(&self) -> bool {
        !self.tree.is_empty()
    }

    /// Writes the context into a directory.
    pub(super) fn write_context(&self, directory: &Path) {
        let (made, plain): (Vec<&String>, Vec<&String>) =
            self.context.iter().partition(|line| line.starts_with("tar ") || line.starts_with("gz "));
        let text: String = plain.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        tree::to_directory(&tree::parse(&text), directory, Notation::Trusted);
        for line in made {
            let words: Vec<&str> = line.split(' ').collect();
            let bytes = match words.as_slice() {
                ["gz", _] => compress(b"only a text", "gzip"),
                ["tar", _, format] => compress(&archive(), format),
                other => panic!("{other:?}"),
            };
            std::fs::write(directory.join(words[1]), bytes).expect("a file of the context");
        }
        std::fs::write(directory.join("Dockerfile"), &self.dockerfile).expect("the Dockerfile");
    }
}

fn archive() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let mut add = |name: &str, kind: EntryKind, permissions, data: &[u8]| {
        let path = EntryPath::parse(name.as_bytes(), &Limits::default()).expect("a path");
        let entry = Entry { permissions, uid: 3, gid: 4, ..Entry::new(path, kind) };
        writer.append(&entry, &mut &*data).expect("an entry");
    };
    add("in/", EntryKind::Directory, 0o755, b"");
    add("in/file", EntryKind::File { size: 6, extents: Vec::new() }, 0o640, b"packed");
    add("in/link", EntryKind::Symlink { target: b"file".to_vec() }, 0o777, b"");
    writer.finish().expect("an archive")
}

/// `bytes` through the program that users would use.
fn compress(bytes: &[u8], format: &str) -> Vec<u8> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    if format == "plain" {
        return bytes.to_vec();
    }
    let mut child = Command::new(format).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect(format);
    child.stdin.take().expect("piped").write_all(bytes).expect("the compressor reads");
    child.wait_with_output().expect(format).stdout
}

/// What a tree holds: a line for each path.
pub(super) type Tree = BTreeMap<String, String>;

/// Reads a tar as a tree. Hard links show as the file they name.
pub(super) fn read_tar(bytes: &[u8]) -> Tree {
    let mut reader = Reader::new(bytes, Limits::default());
    let mut tree = Tree::new();
    while let Some(entry) = reader.next_entry().expect("a tar") {
        let data = reader.read_data(&entry, 1 << 24).expect("data");
        let path = format!("/{}", escape(entry.path.as_bytes()));
        let head = format!("{:o} {}:{}", entry.permissions, entry.uid, entry.gid);
        let mut line = match &entry.kind {
            EntryKind::File { .. } => format!("{head} ={}", escape(&data)),
            EntryKind::Directory => format!("{head} /"),
            EntryKind::Symlink { target } => format!("->{}", escape(target)),
            EntryKind::HardLink { target } => tree[&format!("/{}", escape(target.as_bytes()))].clone(),
            EntryKind::Fifo => format!("{head} fifo"),
            other => format!("{head} {other:?}"),
        };
        for (name, value) in &entry.xattrs {
            line.extend([" ", &escape(name), "=", &escape(value)]);
        }
        tree.insert(path, line);
    }
    tree.remove("/");
    tree
}

/// Bytes as one word.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        match byte {
            b'!'..=b'~' if byte != b'\\' => text.push(byte as char),
            _ => text.extend(["\\x", &format!("{byte:02x}")]),
        }
    }
    text
}

/// A store with the image `base`, and builds in it.
pub(super) struct Workshop<'a> {
    pub(super) scene: &'a Scene,
    who: Who,
    home: PathBuf,
}

const BASE: &str = "\
FROM scratch
COPY busybox /bin/busybox
RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]
COPY passwd group /etc/
RUN mkdir -m 1777 /tmp && mkdir -p /home/app && chown app:app /home/app && mkdir /root /var /run
ENV PATH=/bin
CMD [\"/bin/sh\"]
";

impl<'a> Workshop<'a> {
    pub(super) fn open(scene: &'a Scene, who: Who) -> Self {
        let home = match who {
            Who::Plain => scene.plain_dir("plain-workshop"),
            _ => scene.dir("workshop"),
        };
        let workshop = Self { scene, who, home };
        let base = workshop.directory("base");
        std::fs::copy("/bin/busybox", base.join("busybox")).expect("busybox-static");
        let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
        std::fs::write(base.join("passwd"), passwd).expect("passwd");
        std::fs::write(base.join("group"), "root:x:0:\nadm:x:4:app\napp:x:1000:\n").expect("group");
        std::fs::write(base.join("Dockerfile"), BASE).expect("the Dockerfile");
        workshop.build(&base, "base", &[]).ok();
        workshop
    }

    /// A directory of the workshop that its owner may write to.
    pub(super) fn directory(&self, name: &str) -> PathBuf {
        let path = self.home.join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        path
    }

    pub(super) fn store(&self) -> PathBuf {
        self.home.join("store")
    }

    /// `layerfs build` of the directory `context`.
    pub(super) fn build(&self, context: &Path, tag: &str, args: &[String]) -> Done {
        let mut run = self.layerfs(&["build", "--progress=plain", "-t", tag]);
        for arg in args {
            run = run.arg(arg.replace("CONTEXT", &context.display().to_string()));
        }
        run.arg(context).output()
    }

    pub(super) fn layerfs(&self, arguments: &[&str]) -> crate::support::Run {
        self.scene.layerfs(arguments).env("LAYERFS_ROOT", self.store()).who(self.who)
    }

    /// The files of an image.
    pub(super) fn tree(&self, tag: &str) -> Tree {
        let context = self.directory("look");
        std::fs::write(context.join("Dockerfile"), format!("FROM {tag}\n")).expect("the Dockerfile");
        let tar = self.layerfs(&["build", "-q", "-o", "type=tar,dest=-"]).arg(&context).ok();
        read_tar(&tar.stdout)
    }

    pub(super) fn inspect(&self, tag: &str) -> Value {
        self.layerfs(&["inspect", tag]).ok().json()[0].clone()
    }

    /// Builds a case and compares; the message tells what is wrong.
    pub(super) fn check(&self, case: &Case) -> Result<String, String> {
        let tag = tag_of(&case.name);
        let context = self.directory(&format!("context-{tag}"));
        case.write_context(&context);
        let done = self.build(&context, &tag, &case.args);
        if !done.status.success() {
            return Err(format!("{}: {}", case.name, done.error_text()));
        }
        let mut wrong = Vec::new();
        // Looking at an image would run its triggers.
        if !case.tree.is_empty() {
            compare_tree(&case.tree, &self.tree(&tag), &mut wrong);
        }
        if let Some(Value::Object(expected)) = &case.config {
            self.compare_config(&tag, expected, &mut wrong);
        }
        if wrong.is_empty() { Ok(tag) } else { Err(format!("{}:\n  {}", case.name, wrong.join("\n  "))) }
    }

    fn compare_config(&self, tag: &str, expected: &serde_json::Map<String, Value>, wrong: &mut Vec<String>) {
        let image = self.inspect(tag);
        let history = self.layerfs(&["history", "--no-trunc", "--format", "json", tag]).ok().json();
        let created = |entry: &Value| entry["CreatedBy"].clone();
        let mut history: Vec<Value> = history.as_array().expect("a history").iter().map(created).collect();
        history.reverse();
        let layers = image["RootFS"]["Layers"].as_array().map_or(0, Vec::len);
        for (key, value) in expected {
            let found = match key.as_str() {
                "Layers" => layers.into(),
                "AddedLayers" => {
                    let base = self.inspect("base")["RootFS"]["Layers"].as_array().map_or(0, Vec::len);
                    layers.saturating_sub(base).into()
                }
                "History" => Value::Array(history.clone()),
                "LastHistory" => {
                    let count = value.as_array().map_or(0, Vec::len);
                    Value::Array(history[history.len().saturating_sub(count)..].to_vec())
                }
                "Author" => image["Author"].clone(),
                key => image["Config"].get(key).cloned().unwrap_or_default(),
            };
            if found != *value {
                wrong.push(format!("{key} is {found}, expected {value}"));
            }
        }
    }
}

/// A name as an image's tag.
pub(super) fn tag_of(name: &str) -> String {
    let letters: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    letters.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

fn compare_tree(expected: &[String], found: &Tree, wrong: &mut Vec<String>) {
    let mut known = Vec::new();
    for line in expected {
        if line == "only" {
            continue;
        }
        if let Some(absent) = line.strip_prefix('!') {
            if found.contains_key(absent) {
                wrong.push(format!("{absent} is there"));
            }
            continue;
        }
        let (path, rest) = line.split_once(' ').expect("a path and what is there");
        known.push(path);
        let Some(actual) = found.get(path) else {
            wrong.push(format!("{path} is missing"));
            continue;
        };
        // The mode of a symlink may be given; its owner is then too.
        let same = match (rest.strip_suffix('*'), rest.split_once("->")) {
            (Some(head), _) => actual.starts_with(head),
            (_, Some((_, target))) => *actual == format!("->{target}"),
            _ => actual == rest,
        };
        if !same {
            wrong.push(format!("{path} is {actual}, expected {rest}"));
        }
    }
    if expected.first().is_some_and(|line| line == "only") {
        wrong.extend(
            found.keys().filter(|path| !known.contains(&path.as_str())).map(|path| format!("{path} is there too")),
        );
    }
}
