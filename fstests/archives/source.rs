//! A tree of everything that archives can say, made in the file system.

use crate::support::{Run, Scene};
use std::path::PathBuf;

/// What every format can say: short names, whole seconds, small owners.
const PLAIN: &str = r#"
import os, stat
def file(path, content=b"", mode=0o644):
    with open(path, "wb") as f:
        f.write(content)
    os.chmod(path, mode)
os.makedirs("dir/nested/deeper")
file("plain", b"content\n")
file("empty")
file("big", bytes(range(256)) * 5000)
file("setuid", b"x", 0o6755)
file("nothing", b"secret", 0)
os.mkdir("sticky"); os.chmod("sticky", 0o1777)
os.mkdir("closed"); os.chmod("closed", 0o700)
file("dir/nested/first", b"shared")
os.link("dir/nested/first", "dir/second")
os.link("dir/nested/first", "third")
os.symlink("plain", "link")
os.symlink("/nowhere/at all", "dangling")
os.link("link", "link-again", follow_symlinks=False)
os.mkfifo("fifo", 0o600)
if os.geteuid() == 0:
    os.mknod("char", stat.S_IFCHR | 0o620, os.makedev(5, 1))
    os.mknod("block", stat.S_IFBLK | 0o660, os.makedev(259, 70000))
    os.chown("dir/nested", 1234, 4321)
    os.lchown("dangling", 99, 98)
"#;

/// What needs extended headers of one kind or the other.
const ODD: &str = r#"
long = "n" * 255
file(long, b"255 bytes")
deep = "/".join(["level-%d-" % i + "x" * 90 for i in range(5)])
os.makedirs(deep)
file(deep + "/leaf", b"deep")
os.symlink("target/" * 60, "long-link")
os.link(deep + "/leaf", deep + "/hard")
file(b"\xff\xfe not utf-8", b"bytes")
file("\u00fcml\u00e4ut \u2603", b"utf-8")
file("new\nline", b"n")
file("back\\slash \"quote\" =equals=", b"b")
file(" blank ", b"b")
os.symlink("\u00fc", "link-to-utf8")
"#;

/// Owners and times beyond what octal fields hold.
const NUMBERS: &str = r#"
for name, seconds in [("old", -12345), ("epoch", 0), ("late", 2**33 + 5)]:
    file(name, name.encode())
    os.utime(name, ns=(seconds * 10**9, seconds * 10**9))
if os.geteuid() == 0:
    file("owned", b"o"); os.chown("owned", 3000000, 2**31 + 7)
"#;

/// Times within a second, before and after 1970.
const FRACTIONS: &str = r#"
for name, ns in [("fraction", 1600000000123456789), ("old-fraction", -5250000000), ("before-epoch", -1)]:
    file(name, b"f")
    os.utime(name, ns=(ns, ns))
"#;

/// Extended attributes with bytes that are no text.
const XATTRS: &str = r#"
file("attributes", b"a")
os.setxattr("attributes", "user.text", b"value")
os.setxattr("attributes", "user.bytes", b"\0\n\xff=\n12 path=x\n")
os.setxattr("attributes", "user.empty", b"")
os.mkdir("attributed"); os.setxattr("attributed", "user.dir", b"d")
if os.geteuid() == 0:
    file("capable", b"c", 0o755)
    os.setxattr("capable", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.setxattr("attributes", "trusted.own", b"t")
    os.chmod("capable", 0o755)
"#;

/// Files with holes at the beginning, between and at the end.
const HOLES: &str = r#"
def holes(path, size, pieces):
    with open(path, "wb") as f:
        for offset, content in pieces:
            f.seek(offset); f.write(content)
        f.truncate(size)
holes("all-hole", 3 << 20, [])
holes("start", (1 << 20) + 4, [(1 << 20, b"tail")])
holes("middle", 2 << 20, [(0, b"h" * 5000), (1 << 20, b"m" * 70000), ((2 << 20) - 3, b"end")])
holes("many", 8 << 20, [(i << 18, bytes([i + 1]) * 4096) for i in range(30)])
"#;

/// Sets all times that a test did not set, so that they are the same in every format.
const SETTLE: &str = r#"
for parent, dirs, files in os.walk(b".", topdown=False):
    for name in files + dirs:
        path = os.path.join(parent, name)
        if os.lstat(path).st_mtime > 1700000000 and os.lstat(path).st_mtime < 2**33:
            os.utime(path, ns=(1650000000 * 10**9, 1650000000 * 10**9), follow_symlinks=False)
os.utime(".", ns=(1650000000 * 10**9, 1650000000 * 10**9))
os.chmod(".", 0o751)
"#;

/// Parts of a source tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Odd,
    Numbers,
    Fractions,
    Xattrs,
    Holes,
}

/// Makes a tree with the plain things and `parts`, and returns its path.
pub(super) fn make(scene: &Scene, parts: &[Part]) -> PathBuf {
    let root = scene.dir("source");
    let mut script = PLAIN.to_owned();
    for part in parts {
        script.push_str(match part {
            Part::Odd => ODD,
            Part::Numbers => NUMBERS,
            Part::Fractions => FRACTIONS,
            Part::Xattrs => XATTRS,
            Part::Holes => HOLES,
        });
    }
    script.push_str(SETTLE);
    python(scene, &script).in_dir(&root).ok();
    root
}

/// A Python program.
pub(super) fn python(scene: &Scene, script: &str) -> Run {
    scene.run("python3").arg("-c").arg(script)
}
