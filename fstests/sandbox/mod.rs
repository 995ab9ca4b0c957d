//! Commands in a sandbox: what they see, what they can do, and what they cannot.

mod trial;

use crate::support::{Need, Scene};
use trial::{ALL, busybox_root, run, script};

const NEEDS: &[Need] = &[Need::Root, Need::UserNamespace, Need::Program("busybox")];

#[test]
fn a_command_runs_for_everyone() {
    let Some(scene) = Scene::begin(NEEDS) else { return };
    for (at, &starter) in ALL.iter().enumerate() {
        let root = busybox_root(&scene, starter, &format!("root{at}"));
        let lines = "id -u; pwd; hostname; echo bad >&2; echo *; cat /proc/1/comm; exit 7";
        let result = run(&scene, starter, &script(&root, lines));
        assert_eq!(result.error, None, "{starter:?}");
        assert_eq!((result.code, result.stderr.as_str()), (7, "bad\n"), "{starter:?}");
        let lines: Vec<&str> = result.stdout.lines().collect();
        assert_eq!(lines, ["0", "/", "box", "bin dev etc proc root sys tmp var", "layerfs-init"], "{starter:?}");
        // The mount points that were made are gone again.
        assert!(!root.join("proc").exists() && !root.join("dev").exists() && !root.join("sys").exists());
    }
}
