//! Tables: which source goes where, as what.

use super::mem::{MemTree, path};
use super::*;
use crate::archive::compression::ExpansionLimit;
use crate::archive::tar::{Entry, EntryKind, EntryPath, Limits, Reader, Writer};
use crate::build::context::Matcher;
use crate::model::{RelPath, Timestamp};
use std::io::{Seek, Write};

const CONTEXT: &str = "
    f a one
    f b two 600 5:6
    f x.txt text
    f x.md mark
    d dir 700 5:6
    f dir/c three 4755
    f dir/sub/d four
    l dir/link c
    l dir/up ../a
    d empty 711
    l tofile a
    l todir dir
    l abs /dir/sub
    l out ../../../a
    l loop loop
    l gone nothing
    f [x] odd
    h hard a";

const STAGE: &str = "
    d app 750 7:7
    f app/old old
    d app/dir 701 7:7
    f file here
    l link app
    l linkfile file
    l dangling new/place
    l escape ../../app
    f etc/passwd root:x:0:0:root:/:/bin/sh
    f etc/group adm:x:4:";

fn rules() -> Rules {
    Rules { owner: Some(Owner::default()), ..Rules::default() }
}

/// The new entries as lines: `path kind mode uid:gid`.
fn lines(destination: &Destination<'_>) -> Vec<String> {
    let line = |(path, entry): (&crate::model::RelPath, &NewEntry)| {
        let kind = match &entry.kind {
            NewKind::Directory { fresh } => if *fresh { "new" } else { "dir" }.to_owned(),
            NewKind::File { content: Content::Tree { path, .. }, .. } => format!("file{path}"),
            NewKind::File { size, .. } => format!("file({size})"),
            NewKind::HardLink(target) => format!("link{target}"),
            NewKind::Symlink(target) => format!("->{}", target.escape_ascii()),
            other => format!("{other:?}"),
        };
        format!("{path} {kind} {:o} {}:{}", entry.permissions, entry.owner.uid, entry.owner.gid)
    };
    destination.entries().iter().map(line).collect()
}

fn copied(sources: &[&str], target: &str, rules: &Rules) -> CopyResult<Vec<String>> {
    let (context, stage) = (MemTree::new(CONTEXT), MemTree::new(STAGE));
    let mut destination = Destination::new(&stage, Timestamp::from_seconds(1));
    let mut copier = Copier::new(&mut destination, rules, target);
    for source in sources {
        copier.copy(0, &context, source)?;
    }
    Ok(lines(&destination))
}

#[test]
fn sources_and_destinations() {
    for (sources, target, expected) in [
        (vec!["a"], "/b", vec!["/b file/a 644 0:0"]),
        (vec!["./a"], "/new/b", vec!["/new new 755 0:0", "/new/b file/a 644 0:0"]),
        (vec!["/a"], "/new/", vec!["/new new 755 0:0", "/new/a file/a 644 0:0"]),
        (vec!["a"], "/app", vec!["/app/a file/a 644 0:0"]),
        (vec!["a"], "/file", vec!["/file file/a 644 0:0"]),
        (vec!["a"], "/link", vec!["/app/a file/a 644 0:0"]),
        (vec!["a"], "/link/z", vec!["/app/z file/a 644 0:0"]),
        (vec!["a"], "/linkfile", vec!["/file file/a 644 0:0"]),
        (vec!["a"], "/dangling", vec!["/new new 755 0:0", "/new/place file/a 644 0:0"]),
        (vec!["a"], "/dangling/", vec!["/new new 755 0:0", "/new/place new 755 0:0", "/new/place/a file/a 644 0:0"]),
        (vec!["a"], "/escape/q", vec!["/app/q file/a 644 0:0"]),
        (vec!["a", "b"], "/", vec!["/a file/a 644 0:0", "/b file/b 600 0:0"]),
        (vec!["a", "b"], "/app", vec!["/app/a file/a 644 0:0", "/app/b file/b 600 0:0"]),
        (vec!["hard", "a"], "/x/", vec!["/x new 755 0:0", "/x/a link/x/hard 644 0:0", "/x/hard file/hard 644 0:0"]),
        (vec!["x.*"], "/x/", vec!["/x new 755 0:0", "/x/x.md file/x.md 644 0:0", "/x/x.txt file/x.txt 644 0:0"]),
        (vec!["no*"], "/x/", vec![]),
        (vec!["../a"], "/q", vec!["/q file/a 644 0:0"]),
        (vec!["todir/../a"], "/q", vec!["/q file/a 644 0:0"]),
        (vec!["nowhere/../../../x.m*"], "/q", vec!["/q file/x.md 644 0:0"]),
        (vec!["\\[x\\]"], "/q", vec!["/q file/[x] 644 0:0"]),
        (vec!["[[]x]"], "/q/", vec!["/q new 755 0:0", "/q/[x] file/[x] 644 0:0"]),
        (vec!["*/c"], "/q", vec!["/q file/dir/c 4755 0:0"]),
        (vec!["tofile"], "/q", vec!["/q file/a 644 0:0"]),
        (vec!["tofile"], "/q/", vec!["/q new 755 0:0", "/q/tofile file/a 644 0:0"]),
        (vec!["out"], "/q", vec!["/q file/a 644 0:0"]),
        (vec!["abs"], "/q", vec!["/q new 755 0:0", "/q/d file/dir/sub/d 644 0:0"]),
        (vec!["empty"], "/q", vec!["/q new 755 0:0"]),
        (vec!["empty"], "/app", vec![]),
        (vec!["todir/sub"], "/q", vec!["/q new 755 0:0", "/q/d file/dir/sub/d 644 0:0"]),
        (
            vec!["dir"],
            "/app",
            vec![
                "/app/c file/dir/c 4755 0:0",
                "/app/link ->c 777 0:0",
                "/app/sub new 755 0:0",
                "/app/sub/d file/dir/sub/d 644 0:0",
                "/app/up ->../a 777 0:0",
            ],
        ),
        (
            vec!["dir/"],
            "/link/dir",
            vec![
                "/app/dir/c file/dir/c 4755 0:0",
                "/app/dir/link ->c 777 0:0",
                "/app/dir/sub new 755 0:0",
                "/app/dir/sub/d file/dir/sub/d 644 0:0",
                "/app/dir/up ->../a 777 0:0",
            ],
        ),
    ] {
        let result = copied(&sources, target, &rules()).unwrap_or_else(|error| panic!("{sources:?} {target}: {error}"));
        assert_eq!(result, expected, "{sources:?} {target}");
    }
    let whole = copied(&["."], "/app/", &rules()).unwrap();
    assert!(
        whole.contains(&"/app/dir dir 700 0:0".to_owned()),
        "a directory that is there takes the metadata of the source"
    );
    assert!(whole.contains(&"/app/todir ->dir 777 0:0".to_owned()), "a symlink inside a source stays one");
    assert_eq!(
        copied(&["dir"], "/", &Rules::default()).unwrap()[0],
        "/c file/dir/c 4755 0:0",
        "owners are kept without --chown"
    );
    assert!(copied(&["b"], "/", &Rules::default()).unwrap()[0].ends_with("600 5:6"));
}

#[test]
fn what_cannot_be_copied_is_told() {
    for (sources, target, expected) in [
        (vec!["nope"], "/", "\"/nope\": not found"),
        (vec!["./dir/nope"], "/", "\"/dir/nope\": not found"),
        (vec!["gone"], "/", "\"/gone\": not found"),
        (vec!["loop"], "/", "too many levels of symbolic links"),
        (vec!["a", "b"], "/q", "the destination must be a directory and end with a /: /q"),
        (vec!["a", "b"], "/file", "the destination must be a directory"),
        (vec!["a"], "/file/", "/file: not a directory"),
        (vec!["a"], "/file/x", "/file: not a directory"),
        (vec!["dir"], "/file", "/file: not a directory"),
        (vec!["[a"], "/", "syntax error in pattern"),
    ] {
        let message = copied(&sources, target, &rules()).unwrap_err().to_string();
        assert!(message.contains(expected), "{sources:?} {target}: {message}");
    }
    let (context, stage) = (MemTree::new("f dir x"), MemTree::new("d q/dir\nf q/dir2 x"));
    let mut destination = Destination::new(&stage, Timestamp::default());
    let error = Copier::new(&mut destination, &rules(), "/q").copy(0, &context, "dir").unwrap_err();
    assert_eq!(error.to_string(), "/q/dir: cannot replace a directory with a file");
    let error = Copier::new(&mut destination, &rules(), "/q/").copy(0, &MemTree::new("d x/dir2"), "x").unwrap_err();
    assert_eq!(error.to_string(), "/q/dir2: not a directory");
}

/// The key of the cache had the digest of one content and the layer another.
#[test]
fn regression_a_file_that_is_changed_after_it_was_hashed_is_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f");
    std::fs::write(&file, "one").unwrap();
    let tree = crate::build::trees::DirectoryTree::open(directory.path()).unwrap();
    let rules = Rules::default();
    let mut destination = Destination::new(&Empty, Timestamp::from_seconds(0));
    Copier::new(&mut destination, &rules, "/").copy(0, &tree, "f").unwrap();
    let data = Data { trees: &[&tree], archives: &[] };
    write_layer(&destination, data, None, Vec::new()).unwrap();
    std::fs::write(&file, "two").unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
    let error = write_layer(&destination, data, None, Vec::new()).unwrap_err();
    assert!(matches!(error, CopyError::Changing { .. }), "{error}");
}

#[test]
fn flags_change_owners_modes_and_selection() {
    let chown = Rules { owner: Some(Owner { uid: 1, gid: 2 }), ..Rules::default() };
    assert_eq!(
        copied(&["a"], "/n/m/", &chown).unwrap(),
        ["/n new 755 1:2", "/n/m new 755 1:2", "/n/m/a file/a 644 1:2"]
    );
    let chmod = Rules { mode: Some(ModeChange::parse("u=rwX,go=").unwrap()), ..rules() };
    assert_eq!(
        copied(&["dir"], "/n", &chmod).unwrap(),
        [
            "/n new 700 0:0",
            "/n/c file/dir/c 700 0:0",
            "/n/link ->c 777 0:0",
            "/n/sub new 700 0:0",
            "/n/sub/d file/dir/sub/d 600 0:0",
            "/n/up ->../a 777 0:0"
        ]
    );
    let exclude = |patterns: &[&str]| Rules { exclude: Matcher::new(patterns).unwrap(), ..rules() };
    assert_eq!(copied(&["x.*"], "/", &exclude(&["*.txt"])).unwrap(), ["/x.md file/x.md 644 0:0"]);
    assert_eq!(
        copied(&["dir"], "/", &exclude(&["sub", "l*"])).unwrap(),
        ["/c file/dir/c 4755 0:0", "/up ->../a 777 0:0"]
    );
    assert_eq!(
        copied(&["dir"], "/", &exclude(&["*", "!sub/d"])).unwrap(),
        ["/sub new 755 0:0", "/sub/d file/dir/sub/d 644 0:0"]
    );
    assert_eq!(
        copied(&["dir"], "/", &exclude(&["**/d", "up", "link"])).unwrap(),
        ["/c file/dir/c 4755 0:0", "/sub new 755 0:0"]
    );
    assert_eq!(copied(&["di*"], "/n", &exclude(&["*"])).unwrap(), ["/n new 755 0:0"]);
    assert_eq!(copied(&["x.*"], "/n", &exclude(&["*"])).unwrap(), [""; 0]);
    let link = Rules { link: true, ..rules() };
    assert_eq!(copied(&["a"], "/link/z", &link).unwrap(), ["/link new 755 0:0", "/link/z file/a 644 0:0"]);
    assert_eq!(copied(&["a"], "/app/z", &link).unwrap(), ["/app/z file/a 644 0:0"]);
}

#[test]
fn regression_directories_on_the_way_get_the_mode() {
    for (mode, expected) in [("2711", "711"), ("640", "640"), ("g+w,o=", "770"), ("a+t", "755")] {
        let chmod = Rules { mode: Some(ModeChange::parse(mode).unwrap()), ..rules() };
        let found = copied(&["a"], "/n/m/z", &chmod).unwrap();
        let [above, below] = ["/n", "/n/m"].map(|path| format!("{path} new {expected} 0:0"));
        assert_eq!(found[..2], [above, below], "{mode}");
    }
    let chmod = Rules { mode: Some(ModeChange::parse("700").unwrap()), ..rules() };
    assert_eq!(copied(&["a"], "/app/z", &chmod).unwrap(), ["/app/z file/a 700 0:0"], "what is there stays");
}

#[test]
fn regression_only_files_need_a_directory_named_as_one() {
    let both = ["/n new 755 0:0", "/n/c file/dir/c 4755 0:0"];
    for sources in [vec!["dir", "empty"], vec!["*i*", "empty"], vec!["empty", "dir/c"]] {
        let found = copied(&sources, "/n", &rules()).unwrap();
        assert_eq!(found[..2], both, "{sources:?}");
    }
    for sources in [vec!["a", "b"], vec!["x.*"], vec!["a", "a"]] {
        for target in ["/n", "/file", "/link/n"] {
            let error = copied(&sources, target, &rules()).unwrap_err();
            assert!(matches!(error, CopyError::NoDirectory { .. }), "{sources:?} {target}: {error}");
        }
    }
    assert!(matches!(copied(&["a", "dir"], "/n", &rules()), Err(CopyError::NotADirectory { .. })));
}

#[test]
fn parents_keep_the_path() {
    let parents = Rules { parents: true, ..rules() };
    for (source, expected) in [
        (
            "dir/sub/d",
            vec![
                "/n new 755 0:0",
                "/n/dir new 700 0:0",
                "/n/dir/sub new 755 0:0",
                "/n/dir/sub/d file/dir/sub/d 644 0:0",
            ],
        ),
        ("dir/./sub/d", vec!["/n new 755 0:0", "/n/sub new 755 0:0", "/n/sub/d file/dir/sub/d 644 0:0"]),
        (
            "./dir/sub",
            vec![
                "/n new 755 0:0",
                "/n/dir new 700 0:0",
                "/n/dir/sub new 755 0:0",
                "/n/dir/sub/d file/dir/sub/d 644 0:0",
            ],
        ),
        ("*/c", vec!["/n new 755 0:0", "/n/dir new 700 0:0", "/n/dir/c file/dir/c 4755 0:0"]),
        (
            "**/d",
            vec![
                "/n new 755 0:0",
                "/n/dir new 700 0:0",
                "/n/dir/sub new 755 0:0",
                "/n/dir/sub/d file/dir/sub/d 644 0:0",
            ],
        ),
        ("empty", vec!["/n new 755 0:0", "/n/empty new 711 0:0"]),
        ("none*", vec!["/n new 755 0:0"]),
    ] {
        assert_eq!(copied(&[source], "/n/", &parents).unwrap(), expected, "{source}");
    }
    assert!(matches!(copied(&["dir/zip"], "/n/", &parents), Err(CopyError::NotFound { .. })));
}

#[test]
fn owners_are_found_in_the_image() {
    let image = MemTree::new("f etc/group adm:x:4:me\nf usr/p root:x:0:0:root:/:/bin/sh\nl etc/passwd ../usr/p");
    let two = MemTree::new("f etc/passwd me:x:10:20::/:/bin/sh\nf etc/group adm:x:4:me");
    for (text, expected) in [
        ("1:2", Ok((1, 2))),
        ("5", Ok((5, 5))),
        ("root", Ok((0, 0))),
        ("root:adm", Ok((0, 4))),
        ("3:adm", Ok((3, 4))),
        (":adm", Ok((0, 4))),
        ("nobody", Err("unable to find user nobody: no matching entries in /etc/passwd")),
        ("0:wheel", Err("unable to find group wheel: no matching entries in /etc/group")),
    ] {
        let result = resolve_owner(&image, text).map(|owner| (owner.uid, owner.gid)).map_err(|error| error.to_string());
        assert_eq!(result, expected.map_err(str::to_owned), "{text}");
    }
    assert_eq!(resolve_owner(&two, "me").unwrap(), Owner { uid: 10, gid: 20 });
    assert_eq!(resolve_user(&two, "10").unwrap(), Owner { uid: 10, gid: 20 });
    assert_eq!(resolve_user(&two, "11").unwrap(), Owner { uid: 11, gid: 0 });
    assert!(resolve_owner(&Empty, "root").is_err());
}

/// The layer of a destination, as lines.
fn layer_of(destination: &Destination<'_>, data: Data<'_>) -> Vec<String> {
    let bytes = write_layer(destination, data, Some(50), Vec::new()).unwrap();
    let mut reader = Reader::new(bytes.as_slice(), Limits::default());
    let mut lines = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let content = reader.read_data(&entry, 1 << 20).unwrap();
        let kind = match &entry.kind {
            EntryKind::Directory => "/".to_owned(),
            EntryKind::HardLink { target } => format!("=>{}", target.as_bytes().escape_ascii()),
            EntryKind::Symlink { target } => format!("->{}", target.escape_ascii()),
            _ => format!(" {}", content.escape_ascii()),
        };
        lines.push(format!(
            "{}{kind} {:o} {}:{} @{}",
            entry.path.as_bytes().escape_ascii(),
            entry.permissions,
            entry.uid,
            entry.gid,
            entry.mtime.seconds
        ));
    }
    lines
}

#[test]
fn layers_hold_what_was_added_and_the_directories_above() {
    let (context, stage) = (MemTree::new(CONTEXT), MemTree::new(STAGE));
    let mut destination = Destination::new(&stage, Timestamp::from_seconds(1));
    let rules = rules();
    let mut copier = Copier::new(&mut destination, &rules, "/app/dir/");
    copier.copy(0, &context, "hard").unwrap();
    copier.copy(0, &context, "a").unwrap();
    copier.put_file("in/line", b"text".as_slice().into(), 0o644, Timestamp::from_seconds(99)).unwrap();
    let data = Data { trees: &[&context], archives: &[] };
    assert_eq!(
        layer_of(&destination, data),
        [
            "app/ 750 7:7 @50",
            "app/dir/ 701 7:7 @50",
            "app/dir/a one 644 0:0 @50",
            "app/dir/hard=>app/dir/a 644 0:0 @50",
            "app/dir/line text 644 0:0 @50"
        ]
    );
    let key = fingerprint(&destination, data).unwrap();
    let other = MemTree::new(&CONTEXT.replace("f a one", "f a onE"));
    assert_eq!(fingerprint(&destination, data).unwrap(), key);
    assert_ne!(fingerprint(&destination, Data { trees: &[&other], archives: &[] }).unwrap(), key);
    let mut destination = Destination::new(&stage, Timestamp::default());
    Copier::new(&mut destination, &rules, "/").copy(0, &MemTree::new("f .wh.x y"), ".").unwrap();
    assert!(write_layer(&destination, Data { trees: &[&context], archives: &[] }, None, Vec::new()).is_err());
}

fn archive(entries: &[(&str, EntryKind, &str)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, kind, data) in entries {
        let path = EntryPath::parse(path.as_bytes(), &Limits::default()).unwrap();
        writer.append(&Entry { uid: 3, gid: 4, ..Entry::new(path, kind.clone()) }, &mut data.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

fn opened(bytes: &[u8]) -> Option<Opened> {
    open_archive("x", Box::new(bytes), tempfile::tempfile().unwrap()).unwrap()
}

fn file(size: u64) -> EntryKind {
    EntryKind::File { size, extents: Vec::new() }
}

#[test]
fn archives_are_known_by_their_content() {
    let tar = archive(&[("a", file(1), "1")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&tar).unwrap();
    let mut plain_gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    plain_gzip.write_all(b"no tar").unwrap();
    let mut bzip = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    bzip.write_all(&tar).unwrap();
    // `printf hi | xz`: a stream that is no tar.
    let xz = [
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21, 0x01, 0x16, 0x00,
        0x00, 0x00,
    ];
    for (name, bytes, expected) in [
        ("plain", tar.clone(), true),
        ("gzip", gzip.finish().unwrap(), true),
        ("zstd", zstd::encode_all(tar.as_slice(), 1).unwrap(), true),
        ("bzip2", bzip.finish().unwrap(), true),
        ("gzip of something else", plain_gzip.finish().unwrap(), false),
        ("broken xz", xz.to_vec(), false),
        ("text", b"hello".to_vec(), false),
        ("empty", Vec::new(), false),
        ("zeros", vec![0; 1024], false),
        ("zip", b"PK\x03\x04".repeat(400), false),
    ] {
        assert_eq!(opened(&bytes).is_some(), expected, "{name}");
    }
}

#[test]
fn archives_are_unpacked_into_the_stage() {
    let bytes = archive(&[
        ("./", EntryKind::Directory, ""),
        ("app/old", file(3), "new"),
        ("app/dir", file(1), "x"),
        ("link/through", file(1), "y"),
        ("s", EntryKind::Symlink { target: b"/outside".to_vec() }, ""),
        ("s/in", file(1), "z"),
        ("hard", EntryKind::HardLink { target: EntryPath::parse(b"app/old", &Limits::default()).unwrap() }, ""),
        ("file", EntryKind::Directory, ""),
    ]);
    let stage = MemTree::new(&format!("{STAGE}\nf app/dir/in hidden"));
    let mut destination = Destination::new(&stage, Timestamp::from_seconds(1));
    let rules = Rules::default();
    let opened = opened(&bytes).unwrap();
    Copier::new(&mut destination, &rules, "/").unpack("x", 0, &opened).unwrap();
    let mut file = opened.file.try_clone().unwrap();
    file.rewind().unwrap();
    assert_eq!(
        layer_of(&destination, Data { trees: &[], archives: &[file] }),
        [
            "app/ 750 7:7 @50",
            "app/dir x 644 3:4 @0",
            "app/old new 644 3:4 @0",
            "app/through y 644 3:4 @0",
            "file/ 755 3:4 @0",
            "hard=>app/old 644 3:4 @0",
            "outside/ 755 0:0 @1",
            "outside/in z 644 3:4 @0",
            "s->/outside 777 3:4 @0",
        ]
    );
    assert_eq!(destination.entries()[&path("file")].permissions, 0o755);
}

#[test]
fn regression_files_go_into_a_directory_that_has_some() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("out");
    let outside = dir.path().join("outside");
    std::fs::create_dir_all(place.join("d/kept")).unwrap();
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(place.join("d/old"), "before").unwrap();
    std::os::unix::fs::symlink(&outside, place.join("through")).unwrap();
    let tree = MemTree::new("d d 700\nf d/old after\nf d/new x\nl link target\nf through/in y\nf top z");
    for _ in 0..2 {
        materialise_into(&tree, &RelPath::root(), &place).unwrap();
        assert_eq!(std::fs::read(place.join("d/old")).unwrap(), b"after");
        assert!(place.join("d/kept").is_dir() && place.join("top").is_file() && place.join("link").is_symlink());
        assert!(place.join("through").symlink_metadata().unwrap().is_dir(), "no symlink is followed");
    }
    assert!(std::fs::read_dir(&outside).unwrap().next().is_none());
    std::fs::create_dir(place.join("file")).unwrap();
    let refused = materialise_into(&MemTree::new("f file x"), &RelPath::root(), &place).unwrap_err();
    assert!(refused.to_string().contains("out/file") && place.join("file").is_dir(), "{refused}");
}

/// Zeros without end, compressed as well as any format can.
#[test]
fn regression_an_archive_that_expands_beyond_measure_is_refused() {
    let limit = ExpansionLimit { ratio: 100, free: 1 << 20 };
    let tar = archive(&[("zeros", file(8 << 20), &"\0".repeat(8 << 20))]);
    let packed = zstd::bulk::compress(&tar, 19).unwrap();
    let open = |bytes: &[u8], limit| {
        let data = Box::new(std::io::Cursor::new(bytes.to_vec()));
        super::archive::open_limited("bomb", data, tempfile::tempfile().unwrap(), limit)
    };
    let refused = open(&packed, limit).unwrap_err().to_string();
    assert!(refused.contains("expands more than 100:1"), "{refused}");
    assert!(open(&packed, ExpansionLimit::default()).unwrap().is_some());
    assert!(open(&tar, limit).unwrap().is_some(), "a plain one does not expand");
}
