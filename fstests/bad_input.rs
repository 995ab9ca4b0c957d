//! What is wrong with the input is told in one clear line with a hint, and nothing is left in the store.

use crate::support::{Image, Manifest, Need, Rules, Scene, image::digest};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Runs `layerfs` with these arguments, which must fail as the rules of the command line say, name each of `parts`,
/// and leave the store as it was.
#[track_caller]
fn refused(scene: &Scene, name: &str, arguments: &[&str], parts: &[&str]) {
    eprintln!("-- {name}");
    let store = scene.path("me/store");
    let before = Manifest::of(&store);
    let done = scene.layerfs(arguments).output().fails(1, parts);
    let text = done.error_text();
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    assert!(lines[0].starts_with("layerfs: "), "{name}: {text}");
    assert!(lines[1..].iter().all(|line| line.starts_with("hint: ")) && lines.len() >= 2, "{name}: {text}");
    assert!(!lines[0].ends_with('.'), "{name}: {text}");
    // Reading may touch caches and locks: what counts is the content.
    // Which compressed bytes are which layer is a fact that is true whatever becomes of the image it came with.
    let rules = Rules { without: vec!["mtime"], except: vec!["compressed".into()], ..Rules::default() };
    before.assert_same(&Manifest::of(&store), &rules);
}

fn scene_with_image() -> Option<Scene> {
    let scene = Scene::begin(&[Need::Fuse])?;
    let archive = image().write_docker_archive(&scene.path("good.tar"), "good:latest");
    scene.load(&archive.to_string_lossy());
    Some(scene)
}

fn image() -> Image {
    Image::new().layer("dir etc\nfile etc/name =hello\nfile noise #50000")
}

/// Writes an OCI layout whose manifest was changed by `change`, and returns it as a source.
fn changed_oci(scene: &Scene, name: &str, change: impl FnOnce(&mut Value)) -> String {
    let directory = image().layer("file only-in-this =one").write_oci(&scene.path(name), "latest");
    let index_path = directory.join("index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&index_path).unwrap()).unwrap();
    let old = blob(&directory, index["manifests"][0]["digest"].as_str().unwrap());
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(old).unwrap()).unwrap();
    change(&mut manifest);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    std::fs::write(blob(&directory, &digest(&bytes)), &bytes).unwrap();
    index["manifests"][0]["digest"] = json!(digest(&bytes));
    index["manifests"][0]["size"] = json!(bytes.len());
    std::fs::write(index_path, index.to_string()).unwrap();
    format!("oci:{}:latest", directory.display())
}

fn blob(directory: &Path, digest: &str) -> PathBuf {
    directory.join("blobs/sha256").join(&digest["sha256:".len()..])
}

/// Who names a digest relies on it.
#[test]
fn regression_no_image_is_called_by_the_digest_of_another() {
    let Some(scene) = scene_with_image() else { return };
    let lie = format!("known@{}", digest(b"something else"));
    let layout = image().write_oci(&scene.path("lie"), &lie);
    let loaded = scene.layerfs(["load", "-q", "-i"]).arg(&layout).ok().text();
    assert!(loaded.starts_with("sha256:"), "{loaded}");
    scene.layerfs(["inspect", &lie]).output().fails(1, &["no such image"]);
    std::fs::write(scene.dir("context").join("Dockerfile"), "FROM good\n").unwrap();
    let context = scene.path("context").to_string_lossy().into_owned();
    let layout = layout.to_string_lossy().into_owned();
    for arguments in [
        &["build", "-t", &lie, &context] as &[&str],
        &["build", "-o", &format!("type=image,name={lie}"), &context],
        &["load", "--tag", &lie, "-i", &layout],
        &["squash", "good", &lie],
        &["commit", "x", &lie],
    ] {
        scene.layerfs(arguments).output().fails(2, &["refusing to create a tag with a digest", "hint: "]);
    }
}

#[test]
fn regression_nobody_waits_for_a_fifo_in_a_layout() {
    let Some(scene) = scene_with_image() else { return };
    let directory = image().write_oci(&scene.path("fifo"), "latest");
    let index = directory.join("index.json");
    std::fs::remove_file(&index).unwrap();
    scene.run("mkfifo").arg(&index).ok();
    refused(&scene, "a FIFO for a document", &["load", "-i", directory.to_str().unwrap()], &["fifo"]);
}

#[test]
fn damaged_archives() {
    let Some(scene) = scene_with_image() else { return };
    let whole =
        std::fs::read(image().layer("file two #90000").write_docker_archive(&scene.path("two.tar"), "two:latest"))
            .unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = scene.path(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    };
    for part in [1, 300, 511, 512, 5000, whole.len() / 2] {
        let path = write("cut.tar", &whole[..part]);
        refused(&scene, &format!("cut after {part} bytes"), &["load", "-i", &path], &["cut.tar"]);
    }
    let mut flipped = whole.clone();
    let position = whole.len() / 2;
    flipped[position] ^= 1;
    let path = write("flipped.tar", &flipped);
    refused(&scene, "a flipped bit", &["load", "-i", &path], &["sha256:"]);
    let path = write("text.tar", b"this is no archive at all");
    refused(&scene, "no archive", &["load", "-i", &path], &["text.tar"]);
    let path = write("empty.tar", b"");
    refused(&scene, "an empty file", &["load", "-i", &path], &["empty.tar"]);
    refused(&scene, "no such file", &["load", "-i", "/nowhere/image.tar"], &["/nowhere/image.tar"]);
    let directory = scene.dir("directory").to_string_lossy().into_owned();
    refused(&scene, "a directory that is no layout", &["load", "-i", &directory], &["directory"]);
}

#[test]
fn contradictions_in_image_layouts() {
    let Some(scene) = scene_with_image() else { return };
    let other = format!("sha256:{}", "a".repeat(64));
    let source = changed_oci(&scene, "missing", |manifest| manifest["layers"][1]["digest"] = json!(other));
    refused(&scene, "a blob that is not there", &["load", "-i", &source], &["aaaa"]);
    let source = changed_oci(&scene, "size", |manifest| manifest["layers"][1]["size"] = json!(7));
    refused(&scene, "a wrong size", &["load", "-i", &source], &["7"]);
    let source =
        changed_oci(&scene, "media", |manifest| manifest["layers"][1]["mediaType"] = json!("application/x-unheard-of"));
    refused(&scene, "an unknown media type", &["load", "-i", &source], &["application/x-unheard-of"]);
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let source = changed_oci(&scene, "foreign", |manifest| manifest["layers"][1]["mediaType"] = json!(foreign));
    refused(&scene, "a foreign layer", &["load", "-i", &source], &["foreign"]);
    let source = changed_oci(&scene, "fewer", |manifest| drop(manifest["layers"].as_array_mut().unwrap().pop()));
    refused(&scene, "fewer layers than diffIDs", &["load", "-i", &source], &[]);
    let source = changed_oci(&scene, "swapped", |manifest| manifest["layers"].as_array_mut().unwrap().reverse());
    refused(&scene, "layers in another order", &["load", "-i", &source], &["sha256:"]);
    let source = changed_oci(&scene, "damaged", |_| {});
    let directory = scene.path("damaged");
    let largest = std::fs::read_dir(directory.join("blobs/sha256"))
        .unwrap()
        .flatten()
        .max_by_key(|entry| entry.metadata().unwrap().len());
    let path = largest.unwrap().path();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&path, bytes).unwrap();
    refused(&scene, "a damaged blob", &["load", "-i", &source], &[]);
    refused(
        &scene,
        "a tag that is not there",
        &["load", "-i", &format!("oci:{}:other", directory.display())],
        &["other"],
    );
    let source = changed_oci(&scene, "platform", |_| {});
    refused(&scene, "another platform", &["load", "--platform", "linux/s390x", "-i", &source], &["s390x"]);
}

#[test]
fn hostile_layers() {
    let Some(scene) = scene_with_image() else { return };
    let rows: [(&str, &[u8], u8, &[u8]); 5] = [
        ("upwards", b"../outside", b'0', b""),
        ("upwards in the middle", b"a/../../outside", b'0', b""),
        ("a bare whiteout", b"etc/.wh.", b'0', b""),
        ("a link to the outside", b"etc/link", b'1', b"../../outside"),
        ("a type nobody knows", b"etc/what", b'Z', b""),
    ];
    for (name, path, kind, target) in rows {
        let mut header = tar::Header::new_ustar();
        let fields = header.as_ustar_mut().expect("a ustar header");
        fields.name[..path.len()].copy_from_slice(path);
        fields.linkname[..target.len()].copy_from_slice(target);
        fields.typeflag = [kind];
        header.set_mode(0o644);
        header.set_size(0);
        header.set_cksum();
        let mut layer = header.as_bytes().to_vec();
        layer.resize(512 + 1024, 0);
        let archive = Image::new().layer_tar(layer).write_docker_archive(&scene.path("hostile.tar"), "hostile:latest");
        refused(&scene, name, &["load", "-i", &archive.to_string_lossy()], &[]);
    }
}

#[test]
fn mounts_that_cannot_be() {
    let Some(scene) = scene_with_image() else { return };
    let point = scene.dir("mnt").to_string_lossy().into_owned();
    let missing = scene.path("not-there").to_string_lossy().into_owned();
    refused(&scene, "no such mount point", &["mount", "good:latest", &missing], &["not-there"]);
    let file = scene.path("good.tar").to_string_lossy().into_owned();
    refused(&scene, "the mount point is a file", &["mount", "good:latest", &file], &["good.tar"]);
    std::fs::write(scene.path("mnt/file"), "x").unwrap();
    refused(&scene, "the mount point is not empty", &["mount", "good:latest", &point], &["mnt"]);
    std::fs::remove_file(scene.path("mnt/file")).unwrap();
    refused(&scene, "no such image", &["mount", "--pull", "never", "other:latest", &point], &["other"]);
    refused(&scene, "no reference at all", &["mount", "NOT A NAME", &point], &["NOT A NAME"]);
    refused(&scene, "no such layer", &["mount", "--layer", "7", "good:latest", &point], &["7"]);
    refused(&scene, "an option nobody knows", &["mount", "-o", "unheard-of", "good:latest", &point], &["unheard-of"]);
    refused(&scene, "not mounted", &["umount", &point], &["mnt"]);
    let mount = scene.mount(["mount", "good:latest"], "busy");
    let busy = mount.path().to_string_lossy().into_owned();
    refused(&scene, "mounted already", &["mount", "good:latest", &busy], &["busy"]);
    let held = std::fs::File::open(mount.join("noise")).unwrap();
    refused(&scene, "busy", &["umount", &busy], &["busy"]);
    drop(held);
    mount.unmount();
    assert!(scene.mounts().is_empty());
}

#[test]
fn regression_arguments_behind_a_bad_one_have_their_turn() {
    let Some(scene) = scene_with_image() else { return };
    let done = scene.layerfs(["cat", "good:/nosuch", "good:/etc/name"]).output().fails(1, &["good:/nosuch", "hint: "]);
    assert_eq!(done.text(), "hello");
    let mount = scene.mount(["mount", "good:latest"], "mnt");
    let other = scene.dir("other");
    scene.layerfs([Path::new("umount"), &other, mount.path()]).output().fails(1, &["other"]);
    assert!(scene.mounts().is_empty());
}

#[test]
fn what_was_meant_is_told() {
    let Some(scene) = scene_with_image() else { return };
    let out = scene.path("out").to_string_lossy().into_owned();
    let file = scene.path("good.tar").to_string_lossy().into_owned();
    refused(&scene, "nothing to copy", &["cp", "good:/etc/*.conf", &out], &["good:/etc/*.conf: no such file"]);
    refused(&scene, "into an image", &["cp", &file, "good:/etc"], &["out of images and containers only"]);
    refused(&scene, "no colon", &["ls", "good/etc"], &["did you mean good:/etc?"]);
    refused(&scene, "overlay", &["overlay", "-o", "foo=bar", &out], &["layerfs overlay --help"]);
    scene.layerfs(["cp", "good:/etc/n*", &out]).output().ok();
    assert_eq!(std::fs::read(&out).unwrap(), b"hello");
    scene.layerfs(["whence", "good:/etc/name"]).output().ok();
    refused(
        &scene,
        "no layer has it",
        &["whence", "good", "/etc/nam"],
        &["no layer of good has /etc/nam", "layerfs ls -a good:/etc"],
    );
    refused(&scene, "into nothing", &["cp", "good:/etc/name", "/no/such/directory/x"], &["/no/such/directory/x"]);
    let directory = scene.dir("a/name").display().to_string();
    refused(
        &scene,
        "onto a directory",
        &["cp", "good:/etc/name", &scene.path("a").display().to_string()],
        &[&directory],
    );
    let copied = scene.layerfs(["cp", "good:/etc/name", &out]).output().ok();
    assert!(copied.error_text().starts_with("1 object, "), "{}", copied.error_text());
}

#[test]
fn what_is_no_tar_is_not_imported() {
    let Some(scene) = scene_with_image() else { return };
    let write = |name: &str, bytes: &[u8]| {
        let path = scene.path(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    };
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    refused(&scene, "nothing", &["import", "/dev/null", "x"], &["/dev/null is no tar: it is empty", "tar -C DIR"]);
    let path = write("empty.gz", &gzip(b""));
    refused(&scene, "nothing, compressed", &["import", &path, "x"], &["empty.gz is no tar: it is empty"]);
    for (name, bytes) in [("short", b"hello" as &[u8]), ("long", &[b'x'; 5000])] {
        let path = write(name, bytes);
        refused(&scene, name, &["import", &path, "x"], &["is no tar: it does not begin with a tar header"]);
    }
    let directory = scene.dir("tree").to_string_lossy().into_owned();
    let advice = format!("tar -C {directory} -c . | layerfs import - NAME");
    refused(&scene, "a directory", &["import", &directory], &["is no tar: it is a directory", &advice]);
    // The end of an archive alone is an archive.
    for (name, bytes) in [("end", vec![0; 1024]), ("end.gz", gzip(&[0; 1024]))] {
        let path = write(name, &bytes);
        scene.layerfs(["import", &path, "nothing:1"]).ok();
        assert_eq!(scene.layerfs(["ls", "-A", "nothing:1:/"]).ok().text(), "");
    }
}

#[test]
fn directories_of_an_overlay_are_named_by_their_options() {
    let Some(scene) = scene_with_image() else { return };
    let [lower, upper, work, point] =
        ["lower", "upper", "work", "mnt"].map(|name| scene.dir(name).display().to_string());
    let file = scene.path("good.tar").display().to_string();
    let missing = scene.path("missing").display().to_string();
    let inside = scene.dir("upper/inside").display().to_string();
    for (lower, upper, work, said) in [
        (&missing, &upper, &work, "lowerdir"),
        (&file, &upper, &work, "lowerdir"),
        (&lower, &missing, &work, "upperdir"),
        (&lower, &file, &work, "upperdir"),
        (&lower, &upper, &missing, "workdir"),
        (&lower, &upper, &file, "workdir"),
        (&lower, &upper, &inside, "workdir"),
        (&lower, &inside, &upper, "upperdir"),
        (&inside, &upper, &work, "lowerdir"),
    ] {
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        refused(&scene, &options, &["overlay", "-o", &options, &point], &[&format!("{said} ")]);
    }
    let both = format!("lowerdir={lower}:{missing}");
    refused(&scene, "the second of two", &["overlay", "-o", &both, &point], &[&format!("lowerdir {missing}: ")]);
    refused(&scene, "a bad value", &["overlay", "-o", "lowerdir=/,index=x", &point], &["index=x"]);
}

#[test]
fn a_root_that_is_no_directory() {
    let Some(scene) = scene_with_image() else { return };
    let file = scene.path("good.tar").display().to_string();
    for root in [file.clone(), format!("{file}/below/it")] {
        let said = format!("{file} is not a directory, so no store can be there");
        refused(&scene, "a root that is a file", &["--root", &root, "images"], &[&said, "--root and LAYERFS_ROOT"]);
    }
    let done = scene
        .layerfs(["images"])
        .env("LAYERFS_ROOT", "")
        .output()
        .fails(2, &["--root <DIR>", "hint: --root and LAYERFS_ROOT"]);
    assert_eq!(done.error_text().lines().count(), 2);
}

#[test]
fn verbs_about_images_that_are_not_there() {
    let Some(scene) = scene_with_image() else { return };
    let rows: [&[&str]; 7] = [
        &["inspect", "other:latest"],
        &["history", "other:latest"],
        &["rmi", "other:latest"],
        &["tag", "other:latest", "new:latest"],
        &["ls", "other:latest:/"],
        &["cat", "other:latest:/etc/name"],
        &["cat", "good:latest:/etc/nothing"],
    ];
    for arguments in rows {
        let wanted = if arguments[1].contains("nothing") { "nothing" } else { "other" };
        refused(&scene, arguments[0], arguments, &[wanted]);
    }
}

/// What runs a command leaves its codes to the command.
#[test]
fn regression_wrong_usage_of_run_and_exec_is_exit_code_125() {
    let Some(scene) = Scene::begin(&[]) else { return };
    for arguments in [
        &["run", "--nosuch"] as &[&str],
        &["run"],
        &["run", "-d", "box"],
        &["run", "--ulimit", "foo=1", "box"],
        &["run", "--add-host", "foo", "box"],
        &["-v", "exec", "--nosuch", "box", "true"],
        &["exec", "box"],
    ] {
        scene.layerfs(arguments).output().fails(125, &["layerfs: ", "\nhint: "]);
    }
    scene.layerfs(["run", "--help"]).ok();
}

#[test]
fn regression_what_is_given_wrongly_is_told_with_a_hint() {
    let Some(scene) = scene_with_image() else { return };
    let (lost, directory) = (scene.path("nodir/x"), scene.dir("there"));
    let (lost, directory) = (lost.to_str().unwrap(), directory.to_str().unwrap());
    for (arguments, part) in [
        (&["save", "good", "-o", lost] as &[&str], "there is no directory"),
        (&["export", "good", "-o", lost], "there is no directory"),
        (&["save", "good", "-o", directory], "hint: name a file in it; `layerfs save -o oci:"),
        (&["squash", "good", "-n", "9"], "has 1 layers, not 9"),
        (&["diff", "good", "--layers", "0..9"], "there is no layer 9"),
        (&["cat", "good:/etc/name/"], "not a directory"),
        (&["build", "--secret", "id=s,src=/nosuch", "."], "/nosuch: No such file or directory"),
    ] {
        refused(&scene, arguments[0], arguments, &[part]);
        assert!(!scene.layerfs(arguments).output().error_text().contains(".layerfs-"), "{arguments:?}");
    }
    scene.layerfs(["ls", "good:/etc/name/"]).output().fails(1, &["not a directory"]);
    for (arguments, part) in [
        (&["run", "-m", "x", "good"] as &[&str], "x is not a number of bytes\nhint: "),
        (&["run", "--env-file", "/nosuch", "good"], "cannot read /nosuch: No such file or directory\nhint: "),
        (&["run", "--cap-drop", "foo", "good"], "no such capability: foo\nhint: "),
        (&["run", "--tmpfs", "rel", "good"], "rel is not an absolute path\nhint: "),
    ] {
        scene.layerfs(arguments).arg("true").output().fails(125, &[part]);
    }
}

/// A mistyped name of a store leaves nothing behind.
#[test]
fn regression_who_looks_makes_no_store() {
    let Some(scene) = Scene::begin(&[]) else { return };
    let root = scene.path("mistyped/store");
    for arguments in [&["images"] as &[&str], &["images", "-q", "--filter", "dangling=true"], &["ps", "-a"]] {
        scene.layerfs(arguments).env("LAYERFS_ROOT", &root).ok();
    }
    let before = ["images", "--filter", "before=x"];
    scene.layerfs(before).env("LAYERFS_ROOT", &root).output().fails(1, &["x", "hint: "]);
    scene.layerfs(["images", "--filter", "x"]).env("LAYERFS_ROOT", &root).output().fails(1, &["invalid filter"]);
    assert!(!scene.path("mistyped").exists());
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let done = scene.layerfs(["images"]).command().stdout(full).output().expect("it runs");
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && told.contains("standard output cannot be written: No space left"), "{told}");
}

/// Wrong usage is exit code 2.
#[test]
fn wrong_usage() {
    let Some(scene) = Scene::begin(&[]) else { return };
    let told = scene.layerfs(["unheard-of"]).output().fails(2, &["layerfs: ", "unheard-of"]).error_text();
    assert_eq!(told.lines().nth(1), Some("hint: `layerfs --help` lists what there is"));
    let templates = scene.layerfs(["images", "--format", "{{.ID}}"]).output().fails(2, &["--format json", "jq"]);
    assert!(templates.error_text().lines().count() == 2, "{}", templates.error_text());
    for arguments in [&["load", "--unheard-of"] as &[&str], &["mount"], &["mount", "one"], &["tag", "one"]] {
        let told = scene.layerfs(arguments).output().fails(2, &["layerfs: ", "\nhint: usage: layerfs "]).error_text();
        assert!(told.lines().skip(1).all(|line| line.starts_with("hint: ")), "{told}");
    }
}
