//! Archives of ours, unpacked by others.

use super::seen::seen;
use super::source::{self, Part};
use crate::support::{Manifest, Need, Rules, Scene};
use layerfs::archive::tar::{Archive, Entry, Limits, Reader, Writer};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

const NEEDS: [Need; 4] = [Need::Root, Need::Program("tar"), Need::Program("bsdtar"), Need::Program("python3")];

/// Writes what is in the archive at `path` anew, in the same order.
fn rewritten(path: &Path) -> Vec<u8> {
    let open = || File::open(path).expect("the archive");
    let archive = Archive::open(open(), Limits::default()).expect("an archive");
    let mut reader = Reader::seekable(open(), Limits::default());
    let mut writer = Writer::new(Vec::new());
    while let Some(entry) = reader.next_entry().expect("an entry") {
        let mut data: Box<dyn Read> = Box::new(archive.data(&entry));
        writer.append(&Entry { header_offset: 0, ..entry }, &mut data).expect("an entry written");
    }
    writer.finish().expect("the end of the archive")
}

/// The source tree, and an archive of it in our own writing.
fn ours(scene: &Scene) -> (PathBuf, PathBuf) {
    let source = source::make(scene, &[Part::Odd, Part::Numbers, Part::Fractions, Part::Xattrs, Part::Holes]);
    let theirs = scene.path("theirs.tar");
    let format = ["--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", "--numeric-owner", "--sort=name"];
    scene.run("tar").arg("-C").arg(&source).args(format).arg("-cf").arg(&theirs).arg(".").ok();
    let bytes = rewritten(&theirs);
    assert!(bytes == rewritten(&theirs), "the same entries give different bytes");
    let ours = scene.path("ours.tar");
    std::fs::write(&ours, bytes).expect("write the archive");
    (source, ours)
}

fn rules() -> Rules {
    Rules { whole_seconds: true, ..Rules::default() }
}

#[test]
fn what_we_write_we_read() {
    let Some(scene) = Scene::begin(&NEEDS) else { return };
    let (source, ours) = ours(&scene);
    Manifest::of(source).assert_same(&seen(&ours), &rules());
}

#[test]
fn gnu_tar_unpacks_it() {
    let Some(scene) = Scene::begin(&NEEDS) else { return };
    let (source, ours) = ours(&scene);
    let unpacked = scene.dir("unpacked");
    let options = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"];
    scene.run("tar").arg("-C").arg(&unpacked).args(options).arg(&ours).ok();
    Manifest::of(source).assert_same(&Manifest::of(unpacked), &rules());
}

#[test]
fn bsdtar_unpacks_it() {
    let Some(scene) = Scene::begin(&NEEDS) else { return };
    let (source, ours) = ours(&scene);
    let unpacked = scene.dir("unpacked");
    scene.run("bsdtar").arg("-C").arg(&unpacked).args(["--xattrs", "--numeric-owner", "-xpf"]).arg(&ours).ok();
    // bsdtar leaves the times of the directory it unpacks to as they are.
    let rules = Rules { no_mtime_of_path: vec![".".to_owned()], ..rules() };
    Manifest::of(source).assert_same(&Manifest::of(unpacked), &rules);
}

#[test]
fn tarfile_unpacks_it() {
    let Some(scene) = Scene::begin(&NEEDS) else { return };
    let (source, ours) = ours(&scene);
    let unpacked = scene.dir("unpacked");
    let script = "
import tarfile, sys
with tarfile.open(sys.argv[1]) as archive:
    archive.extractall(sys.argv[2], numeric_owner=True)
";
    source::python(&scene, script).arg(&ours).arg(&unpacked).ok();
    // tarfile sets no extended attributes, no times of symlinks, and unpacks a second name of a symlink as a second one.
    let rules = Rules {
        without: vec!["xattrs"],
        no_mtime_of_kind: vec!["link"],
        except: vec!["link".to_owned(), "link-again".to_owned()],
        ..rules()
    };
    Manifest::of(source).assert_same(&Manifest::of(unpacked), &rules);
}
