//! Under which name a hard link of a lower layer comes to the upper.

use super::{Overlay, ROOT};
use crate::support::Scene;
use std::fs;

/// As in the kernel with `index=on`: the one by which it is changed, whatever was looked up before.
#[test]
fn regression_a_hard_link_is_copied_up_under_the_name_that_was_used() {
    let Some(scene) = Scene::begin(ROOT) else { return };
    for change in [
        "echo Z >>zz",
        "chmod 600 zz",
        "chown 5:6 zz",
        "truncate -s 1 zz",
        "setfattr -n user.a -v 1 zz",
        "ln zz new; rm new",
        "echo Z >zz",
        "cat aa zz aa; touch zz",
    ] {
        let overlay = Overlay::new(&scene, &["file aa =H\nhard mm =>aa\nhard zz =>aa"], ",index=on");
        scene.sh("ls -l; ls -l").in_dir(&overlay.at).ok();
        scene.sh(change).in_dir(&overlay.at).ok();
        scene
            .sh("sync -f .; [ \"$(md5sum <aa)\" = \"$(md5sum <zz)\" ]; [ $(stat -c %h mm) = 3 ]")
            .in_dir(&overlay.at)
            .ok();
        overlay.unmount();
        let names: Vec<_> = fs::read_dir(scene.path("upper"))
            .expect("the upper")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(names, ["zz"], "{change}");
        for part in ["lower0", "upper", "work"] {
            fs::remove_dir_all(scene.path(part)).expect("remove");
        }
    }
}
