//! Archives made by GNU tar, bsdtar and Python's tarfile, in every format that each of them writes.

use super::seen::{layer, seen};
use super::source::{self, Part};
use crate::support::{Manifest, Need, Rules, Scene};
use layerfs::union::{EntryKind, Layer};
use std::path::{Path, PathBuf};

const NEEDS: [Need; 3] = [Need::Program("tar"), Need::Program("bsdtar"), Need::Program("python3")];

/// Whole seconds, as formats without extended headers have them.
fn whole_seconds() -> Rules {
    Rules { whole_seconds: true, ..Rules::default() }
}

/// tarfile makes hard links of files only: symlinks with two names become two.
fn without_linked_symlinks() -> Rules {
    Rules { except: vec!["link".to_owned(), "link-again".to_owned()], ..whole_seconds() }
}

fn gnu_tar(scene: &Scene, source: &Path, arguments: &[&str]) -> PathBuf {
    let archive = scene.path(format!("gnu{}.tar", arguments.concat().replace('/', "_")));
    let run = scene.run("tar").arg("-C").arg(source).arg("--numeric-owner").args(arguments);
    run.arg("-cf").arg(&archive).arg(".").ok();
    archive
}

fn bsdtar(scene: &Scene, source: &Path, arguments: &[&str]) -> PathBuf {
    let archive = scene.path(format!("bsd{}.tar", arguments.concat()));
    scene.run("bsdtar").arg("-C").arg(source).args(arguments).arg("-cf").arg(&archive).arg(".").ok();
    archive
}

fn tarfile(scene: &Scene, source: &Path, format: &str) -> PathBuf {
    let archive = scene.path(format!("python-{format}.tar"));
    let script = format!(
        "import tarfile, sys\nwith tarfile.open(sys.argv[1], 'w', format=tarfile.{format}) as archive: archive.add('.')"
    );
    source::python(scene, &script).arg(&archive).in_dir(source).ok();
    archive
}

#[test]
fn gnu_tar_in_its_own_format() {
    let Some(scene) = Scene::begin(&NEEDS) else { return };
    let source = source::make(&scene, &[Part::Odd, Part::Numbers, Part::Holes]);
    let expected = Manifest::of(&source);
    for arguments in [&["--format=gnu"][..], &["--format=gnu", "--sparse"], &["--format=oldgnu", "--sparse"]] {
        expected.assert_same(&seen(&gnu_tar(&scene, &source, arguments)), &whole_seconds());
    }
}

#[test]
fn gnu_tar_in_pax_format() {
    let Some(scene) = Scene::begin(&NEEDS) else { return };
    let source = source::make(&scene, &[Part::Odd, Part::Numbers, Part::Fractions, Part::Xattrs, Part::Holes]);
    let expected = Manifest::of(&source);
    let base = ["--format=pax", "--xattrs", "--xattrs-include=*"];
    for sparse in [
        &[][..],
        &["--sparse", "--sparse-version=0.0"],
        &["--sparse", "--sparse-version=0.1"],
        &["--sparse", "--sparse-version=1.0"],
    ] {
        let archive = gnu_tar(&scene, &source, &[&base[..], sparse].concat());
        expected.assert_same(&seen(&archive), &Rules::default());
    }
}

#[test]
fn old_formats() {
    let Some(scene) = Scene::begin(&NEEDS) else { return };
    let source = source::make(&scene, &[]);
    let expected = Manifest::of(&source);
    for archive in [gnu_tar(&scene, &source, &["--format=ustar"]), bsdtar(&scene, &source, &["--format=ustar"])] {
        expected.assert_same(&seen(&archive), &whole_seconds());
    }
    expected.assert_same(&seen(&tarfile(&scene, &source, "USTAR_FORMAT")), &without_linked_symlinks());
    // V7 knows files, directories and links only.
    let source = scene.path("source");
    scene.sh("rm -f source/fifo source/char source/block").ok();
    let archive = gnu_tar(&scene, &source, &["--format=v7"]);
    let rules = Rules { no_mtime_of_path: vec![".".to_owned()], ..whole_seconds() };
    Manifest::of(&source).assert_same(&seen(&archive), &rules);
}

#[test]
fn bsdtar_in_its_formats() {
    let Some(scene) = Scene::begin(&NEEDS) else { return };
    let source = source::make(&scene, &[Part::Odd, Part::Numbers, Part::Fractions, Part::Xattrs, Part::Holes]);
    let expected = Manifest::of(&source);
    let archive = bsdtar(&scene, &source, &["--format=pax", "--xattrs", "--read-sparse"]);
    // libarchive writes seconds rounded down before a fraction that counts up: -5.25 comes out as -6.75.
    let no_mtime_of_path = ["before-epoch", "old-fraction"].map(str::to_owned).to_vec();
    expected.assert_same(&seen(&archive), &Rules { no_mtime_of_path, ..Rules::default() });
    let archive = bsdtar(&scene, &source, &["--format=gnutar"]);
    // In GNU's format it cuts times off at what eleven octal digits hold.
    let no_mtime_of_path = ["old", "late", "before-epoch", "old-fraction"].map(str::to_owned).to_vec();
    let rules = Rules { without: vec!["xattrs"], no_mtime_of_path, ..whole_seconds() };
    expected.assert_same(&seen(&archive), &rules);
}

#[test]
fn tarfile_in_its_formats() {
    let Some(scene) = Scene::begin(&NEEDS) else { return };
    let source = source::make(&scene, &[Part::Odd, Part::Numbers, Part::Holes]);
    let expected = Manifest::of(&source);
    for format in ["GNU_FORMAT", "PAX_FORMAT"] {
        expected.assert_same(&seen(&tarfile(&scene, &source, format)), &without_linked_symlinks());
    }
}

#[test]
fn a_sparse_file_of_ten_gibibytes() {
    let Some(scene) = Scene::begin(&NEEDS) else { return };
    let source = scene.dir("source");
    let script = "
with open('huge', 'wb') as f:
    f.seek(10 << 30); f.write(b'end of huge')
with open('after', 'wb') as f:
    f.write(b'after')
";
    source::python(&scene, script).in_dir(&source).ok();
    for arguments in [
        &["--format=gnu", "--sparse"][..],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
    ] {
        let layer = layer(&gnu_tar(&scene, &source, arguments));
        let find = |name: &[u8]| match layer.lookup(layer.root(), name).unwrap() {
            Some(EntryKind::Node { ino, .. }) => ino,
            other => panic!("{other:?}"),
        };
        let huge = find(b"huge");
        let meta = layer.meta(huge).unwrap();
        assert_eq!(meta.size, (10 << 30) + 11, "{arguments:?}");
        assert!(meta.blocks < 100, "{} blocks", meta.blocks);
        let mut tail = [0; 20];
        let count = layer.read_at(huge, (10 << 30) - 5, &mut tail).unwrap();
        assert_eq!(&tail[..count], b"\0\0\0\0\0end of huge");
        let mut after = [0; 9];
        let count = layer.read_at(find(b"after"), 0, &mut after).unwrap();
        assert_eq!(&after[..count], b"after");
    }
}

#[test]
fn oddities_that_only_a_program_can_write() {
    let Some(scene) = Scene::begin(&NEEDS) else { return };
    let archive = scene.path("odd.tar");
    let script = r"
import tarfile, io, sys
def entry(name, kind=tarfile.REGTYPE, content=b'', **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(content))
archive = tarfile.open(sys.argv[1], 'w', format=tarfile.PAX_FORMAT, pax_headers={'comment': 'global', 'gid': '77'})
entry('a', content=b'first')
entry('b', tarfile.LNKTYPE, linkname='a')
entry('./a', content=b'second', pax_headers={'SCHILY.xattr.user.x': 'y', 'mtime': '-1.5'})
entry('./dir/implied/file', content=b'f', uid=2**31, gid=5)
entry('s', tarfile.SYMTYPE, linkname='dir')
entry('s/through', content=b't')
entry('absolute', tarfile.LNKTYPE, linkname='/dir/through')
entry('contiguous', tarfile.CONTTYPE, content=b'c')
entry('old-dir/', tarfile.AREGTYPE)
entry('/rooted', content=b'r')
entry('with-size', tarfile.DIRTYPE, mode=0o711)
archive.close()
";
    source::python(&scene, script).arg(&archive).ok();
    let manifest = seen(&archive);
    let hash = |name: &str| manifest.at(name).sha256.clone();
    assert_ne!(hash("a"), hash("b"), "the link keeps what it was made to");
    assert_eq!((manifest.at("a").nlink, manifest.at("b").nlink), (1, 1));
    assert_eq!(manifest.at("a").xattrs.get("user.x").map(String::as_str), Some("y"));
    assert_eq!(manifest.at("a").mtime, (-2, 500_000_000));
    assert_eq!(manifest.at("a").gid, 77, "of the global header");
    assert_eq!((manifest.at("dir").mode, manifest.at("dir").uid), (0o755, 0));
    assert_eq!(manifest.at("dir/implied/file").uid, 1 << 31);
    assert_eq!(manifest.at("dir/through").first_name, "absolute");
    assert_eq!(manifest.at("contiguous").kind, "file");
    assert_eq!(manifest.at("old-dir").kind, "dir");
    assert_eq!(manifest.at("rooted").size, 1);
    assert_eq!(manifest.at("with-size").mode, 0o711);
}
