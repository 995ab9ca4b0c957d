//! Layers written by GNU tar, bsdtar and Python's tarfile, with everything odd that these can write, are seen through
//! a mount as `umoci unpack` makes them.

use crate::image_tree::{seen_through_mount, umoci_rules, unpacked_by_umoci};
use crate::support::tree::{Notation, parse, to_directory};
use crate::support::{Image, Manifest, Need, Scene, Who};

const NEEDS: [Need; 5] =
    [Need::Root, Need::Fuse, Need::Program("umoci"), Need::Program("bsdtar"), Need::Program("python3")];

/// A tree with most of what a layer may hold; times before 1970 and fractions only where the format has them.
const TREE: &str = "
    dir   etc 0750 3:4
    file  etc/name =hello 0640 1000:1001 @1234567890
    hard  etc/second =>etc/name
    link  etc/alias ->name
    link  etc/long-target ->aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    file  etc/setuid =x 06755
    file  etc/sticky =x 01644
    dir   tmp 01777
    char  dev/null dev=1:3 0666
    block dev/disk dev=8:300 0660 0:6
    fifo  run/pipe 0600
    file  empty
    file  block #512
    file  more #513
    file  big #300000
    dir   nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn
    dir   nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn/mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm
    file  nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn/mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm/oooooooooooooooooooooooooooooooooooooooooo =long
    dir   gone
    file  gone/file =x
    dir   remade
    file  remade/old =old
    file  becomes-directory =x
    dir   becomes-file
    file  becomes-file/inside =x
";

/// What only PAX and GNU's own format can say.
const WIDE: &str = "
    file  wide/owner =x 3000000:3000001
    file  wide/\\xff\\xfe\\x20name =not-utf-8
    file  wide/old =x @-86400
    file  wide/new =x @4102444800
";

/// What only PAX can say.
const PAX: &str = "
    file  pax/fraction =x @1234567890.123456789
    file  pax/before =x @-5.25
    file  pax/marked =x +user.colour=red +user.binary=\\x01\\x02\\xff
";

const UPPER: &str = "
    whiteout gone
    dir      remade 0700
    opaque   remade
    file     remade/new =new
    dir      becomes-directory
    file     becomes-directory/inside =x
    file     becomes-file =x
    dir      etc 0750 3:4
    whiteout etc/second
    file     etc/name =changed
";

/// The tree as a layer written by a program that reads a directory.
fn written_by(scene: &Scene, text: &str, command: &str) -> Vec<u8> {
    let directory = scene.path("tree");
    to_directory(&parse(text), &directory, Notation::Aufs);
    scene
        .sh(format!(
            "cd tree && truncate -s 3M sparse && printf x >>sparse && touch -d @5 sparse . && {command} >../layer.tar"
        ))
        .ok();
    std::fs::remove_dir_all(directory).unwrap();
    std::fs::read(scene.path("layer.tar")).unwrap()
}

/// Loads the layers and compares with umoci.
#[track_caller]
fn check(scene: &Scene, name: &str, layers: Vec<Vec<u8>>) -> Manifest {
    check_with(scene, name, layers.clone(), layers)
}

/// Loads `layers` and compares with what umoci makes of `plain`, the same layers as it can read them.
#[track_caller]
fn check_with(scene: &Scene, name: &str, layers: Vec<Vec<u8>>, plain: Vec<Vec<u8>>) -> Manifest {
    eprintln!("-- {name}");
    let write = |layers: Vec<Vec<u8>>| {
        layers.into_iter().fold(Image::new(), Image::layer_tar).write_oci(&scene.path("oci"), "latest")
    };
    let oci = write(plain);
    let expected = unpacked_by_umoci(scene, &oci);
    std::fs::remove_dir_all(oci).unwrap();
    let oci = write(layers);
    let seen = seen_through_mount(scene, Who::Me, &format!("oci:{}:latest", oci.display()));
    std::fs::remove_dir_all(oci).unwrap();
    // Directories that no layer has an entry for: umoci gives them the time of the unpacking, we the epoch.
    let mut rules = umoci_rules();
    let implied = seen.0.iter().filter(|(_, record)| record.kind == "dir" && record.mtime == (0, 0));
    rules.no_mtime_of_path.extend(implied.map(|(path, _)| path.clone()));
    expected.assert_same(&seen, &rules);
    seen
}

#[test]
fn gnu_tar() {
    let Some(scene) = Scene::begin(&NEEDS) else { return };
    let wide = [TREE, WIDE].concat();
    let pax = [TREE, WIDE, PAX].concat();
    let rows = [
        ("ustar", TREE, "tar -c --format=ustar --exclude='*long-target' --exclude=nnn* ."),
        ("gnu", wide.as_str(), "tar -c --format=gnu ."),
        ("gnu without the leading ./", wide.as_str(), "tar -c --format=gnu $(ls -A)"),
        ("gnu sparse", wide.as_str(), "tar -cS --format=gnu ."),
        ("pax", pax.as_str(), "tar -c --format=pax --xattrs --xattrs-include='*' ."),
        ("pax sparse 0.0", pax.as_str(), "tar -cS --sparse-version=0.0 --format=pax --xattrs --xattrs-include='*' ."),
        ("pax sparse 0.1", pax.as_str(), "tar -cS --sparse-version=0.1 --format=pax --xattrs --xattrs-include='*' ."),
        ("pax sparse 1.0", pax.as_str(), "tar -cS --sparse-version=1.0 --format=pax --xattrs --xattrs-include='*' ."),
        (
            "pax with a global header",
            pax.as_str(),
            "tar -c --format=pax --pax-option=globexthdr.name=g,comment=hello .",
        ),
        ("hard links as files", wide.as_str(), "tar -c --hard-dereference --format=gnu ."),
        ("large blocks", wide.as_str(), "tar -c -b 200 --format=gnu ."),
    ];
    for (name, text, command) in rows {
        let layers = |command: &str| vec![written_by(&scene, text, command), written_by(&scene, UPPER, command)];
        // umoci knows neither GNU's own sparse files nor global headers.
        let plain = command
            .replace("-cS --format=gnu", "-c --format=gnu")
            .replace(" --pax-option=globexthdr.name=g,comment=hello", "");
        let seen = check_with(&scene, name, layers(command), layers(&plain));
        assert!(!seen.0.contains_key("gone") && !seen.0.contains_key("remade/old"), "{name}: whiteouts");
        assert_eq!(seen.at("sparse").size, (3 << 20) + 1, "{name}");
    }
}

#[test]
fn bsdtar() {
    let Some(scene) = Scene::begin(&NEEDS) else { return };
    let pax = [TREE, WIDE, PAX].concat();
    let rows = [
        ("ustar", TREE, "bsdtar -c --format ustar --exclude '*long-target' --exclude 'nnn*' ."),
        ("pax", pax.as_str(), "bsdtar -c --format pax --xattrs ."),
        ("restricted pax", pax.as_str(), "bsdtar -c --format paxr --xattrs ."),
        ("gnutar", TREE, "bsdtar -c --format gnutar ."),
        ("sparse", pax.as_str(), "bsdtar -c --format pax --read-sparse --xattrs ."),
    ];
    for (name, text, command) in rows {
        let lower = written_by(&scene, text, command);
        let upper = written_by(&scene, UPPER, command);
        check(&scene, name, vec![lower, upper]);
    }
}

/// Runs a Python script that has `add(name, kind, data, **fields)` and writes the layer `layer.tar`.
fn written_by_python(scene: &Scene, format: &str, body: &str) -> Vec<u8> {
    let body: Vec<String> = body.lines().map(|line| format!("    {}", line.trim())).collect();
    let script = format!(
        "import io, tarfile\n\
         def entry(tar, name, kind=tarfile.REGTYPE, data=b'', **fields):\n\
         \x20   info = tarfile.TarInfo(name)\n\
         \x20   info.type, info.size, info.mtime = kind, len(data), 1500000000\n\
         \x20   info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644\n\
         \x20   for key, value in fields.items(): setattr(info, key, value)\n\
         \x20   tar.addfile(info, io.BytesIO(data))\n\
         DIR, LINK, SYM = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE\n\
         with tarfile.open('layer.tar', 'w', format=tarfile.{format}, errors='surrogateescape') as tar:\n\
         \x20   add = lambda *a, **k: entry(tar, *a, **k)\n{}",
        body.join("\n")
    );
    scene.run("python3").arg("-c").arg(script).ok();
    std::fs::read(scene.path("layer.tar")).unwrap()
}

#[test]
fn python_tarfile() {
    let Some(scene) = Scene::begin(&NEEDS) else { return };
    let lower = "
        add('./', DIR, mode=0o711, mtime=5)
        add('a', DIR)
        add('a/one', data=b'one')
        add('a/two', LINK, linkname='a/one')
        add('a/three', LINK, linkname='./a/one')
        add('sub/missing/parents', data=b'x', mode=0o600)
        add('twice', data=b'first')
        add('twice', data=b'second, longer')
        add('d/', DIR, mode=0o700)
        add('d', DIR, mode=0o755, mtime=77)
        add('old-style', tarfile.AREGTYPE, b'old')
        add('link', SYM, linkname='a', mode=0o777)
        add('replaced', data=b'file'); add('replaced', DIR)
        add('fifo', tarfile.FIFOTYPE)
        add('null', tarfile.CHRTYPE, devmajor=1, devminor=3)
    ";
    let upper = "
        add('.wh.twice', data=b'')
        add('a/.wh.one')
        add('d/.wh..wh..opq')
        add('d/new', data=b'new')
        add('.wh.nowhere'); add('nowhere-dir/.wh.file')
        add('a/two', data=b'own now')
    ";
    for format in ["USTAR_FORMAT", "GNU_FORMAT", "PAX_FORMAT"] {
        let layers = vec![written_by_python(&scene, format, lower), written_by_python(&scene, format, upper)];
        let seen = check(&scene, format, layers);
        assert_eq!(seen.at("a/three").size, 3, "{format}: the other names of a link keep the old inode");
    }
    let odd = "
        add('owner', uid=3000000, gid=4000000, data=b'x')
        add('n' * 255, data=b'long')
        add('/'.join(['p' * 100] * 12), data=b'deep')
        add('\\udcff\\udcfe', data=b'bytes')
        add('past', mtime=-3.5, data=b'x'); add('future', mtime=8589934592.25, data=b'x')
        add('xattr', data=b'x', pax_headers={'SCHILY.xattr.user.colour': 'red'})
        add('s', SYM, linkname='t' * 1000)
    ";
    check(&scene, "what PAX can say", vec![written_by_python(&scene, "PAX_FORMAT", odd)]);
    // umoci refuses contiguous files; they are files.
    let layer = written_by_python(&scene, "GNU_FORMAT", "add('contiguous', tarfile.CONTTYPE, b'contiguous')");
    let archive = Image::new().layer_tar(layer).write_docker_archive(&scene.path("image.tar"), "contiguous:latest");
    let seen = seen_through_mount(&scene, Who::Me, &archive.to_string_lossy());
    assert_eq!((seen.at("contiguous").kind.as_str(), seen.at("contiguous").size), ("file", 10));
}

/// Whiteouts hit lower layers only, wherever they stand in the tar. (umoci depends on the order here: no comparison.)
#[test]
fn the_order_of_whiteouts_in_a_layer_does_not_matter() {
    let Some(scene) = Scene::begin(&NEEDS) else { return };
    let lower = "dir d\nfile d/old =old\nfile foo =lower\ndir dir\nfile dir/old =old\nfile keep =keep";
    let lines = [
        "whiteout foo",
        "file foo =upper",
        "dir d",
        "opaque d",
        "file d/new =new",
        "whiteout dir",
        "dir dir",
        "file dir/new =new",
    ];
    let orders: [Vec<&str>; 2] = [lines.to_vec(), lines.iter().rev().copied().collect()];
    for order in orders {
        let image = Image::new().layer(lower).layer(&order.join("\n"));
        let archive = image.write_docker_archive(&scene.path("image.tar"), "order:latest");
        let seen = seen_through_mount(&scene, Who::Me, &archive.to_string_lossy());
        let names: Vec<&str> = seen.0.keys().map(String::as_str).collect();
        assert_eq!(names, [".", "d", "d/new", "dir", "dir/new", "foo", "keep"], "{order:?}");
        assert_eq!(seen.at("foo").size, 5);
    }
}

/// Missing parents: what lower layers say, else 0755 root; through a lower layer's symlink they land at its target.
#[test]
fn missing_parents_come_from_below() {
    let Some(scene) = Scene::begin(&NEEDS) else { return };
    let lower =
        Image::new().layer("dir mode 0700 5:6 @77\nlink lib ->usr/lib\ndir usr\ndir usr/lib 0711\nlink abs ->/usr/lib");
    let image = lower.layer("file mode/new =x\nfile new/dir/file =x\nfile lib/through =x\nfile abs/absolute =x");
    let oci = image.write_oci(&scene.path("oci"), "latest");
    let seen = seen_through_mount(&scene, Who::Me, &format!("oci:{}:latest", oci.display()));
    assert_eq!((seen.at("mode").mode, seen.at("mode").uid, seen.at("mode").gid), (0o700, 5, 6));
    assert_eq!((seen.at("new/dir").mode, seen.at("new/dir").uid), (0o755, 0));
    assert_eq!(seen.at("lib").kind, "link");
    assert_eq!(
        (seen.at("usr/lib/through").size, seen.at("usr/lib/absolute").size, seen.at("usr/lib").mode),
        (1, 1, 0o711)
    );
}

/// A file of nine gigabytes that is almost all hole.
#[test]
fn sizes_beyond_eight_gigabytes() {
    use std::os::unix::fs::FileExt;
    let Some(scene) = Scene::begin(&NEEDS) else { return };
    scene.sh("mkdir tree && truncate -s 9G tree/huge && printf tail >>tree/huge && printf head | dd of=tree/huge conv=notrunc status=none").ok();
    for (format, name) in [("gnu", "gnu"), ("pax", "pax")] {
        scene.sh(format!("tar -cS --format={format} -C tree huge >layer.tar")).ok();
        let image = Image::new().layer_tar(std::fs::read(scene.path("layer.tar")).unwrap());
        let archive = image.write_docker_archive(&scene.path("image.tar"), &format!("huge:{name}"));
        let reference = scene.load(&archive.to_string_lossy());
        let mount = scene.mount(["mount", &reference], name);
        let file = std::fs::File::open(mount.join("huge")).unwrap();
        assert_eq!(file.metadata().unwrap().len(), (9 << 30) + 4, "{name}");
        for (offset, wanted) in [(0, b"head"), (5 << 30, b"\0\0\0\0"), (9 << 30, b"tail")] {
            let mut bytes = [1; 4];
            file.read_exact_at(&mut bytes, offset).unwrap();
            assert_eq!(&bytes, wanted, "{name} at {offset}");
        }
        drop(file);
        mount.unmount();
    }
}
