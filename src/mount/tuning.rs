//! What root can raise after mounting.

use log::debug;
use std::path::Path;

/// Read-ahead of the mount in KiB. The kernel offers a FUSE server 128, which a server can only lower.
const READ_AHEAD_KIB: &str = "1024";

/// Raises the read-ahead of the mount on `mount_point`. Only root of the machine may; everyone else keeps what there is.
pub(super) fn raise_read_ahead(mount_point: &Path) {
    let Some(device) = device_of(mount_point) else { return };
    let path = format!("/sys/class/bdi/{device}/read_ahead_kb");
    if let Err(error) = std::fs::write(&path, READ_AHEAD_KIB) {
        debug!("read-ahead stays as it is: {path}: {error}");
    }
}

/// The `major:minor` of what is mounted on `mount_point`, without touching the mount.
pub(super) fn device_of(mount_point: &Path) -> Option<String> {
    let table = std::fs::read("/proc/self/mountinfo").ok()?;
    crate::sys::mount_lines(&table).filter(|line| line.mount_point == mount_point).last().map(|line| line.device)
}
