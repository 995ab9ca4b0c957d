//! What to mount for an image, a name or directories: background process, control socket, list of mounts.
//!
//! Must not know the FUSE protocol.
//!
//! 1. A mount is made by root with mount(2), inside a user namespace too, and by a plain user through `fusermount3`
//!    ([`attach`]).
//! 2. The verb returns when the mount answers, and its errors reach the terminal: the program starts itself again in the
//!    background, and the first process waits for the second's word ([`background`]).
//! 3. Who asks what is mounted must not touch a mount that may hang: every server writes a record and listens on a socket
//!    beside it ([`registry`], [`control`]).

mod attach;
pub mod background;
mod control;
mod error;
mod hold;
pub mod image;
mod inside;
mod options;
pub mod overlay;
pub mod overlay_options;
mod registry;
mod serve;
mod tuning;
mod unmount;
pub mod writable;

pub use control::{Hold, Request as ControlRequest, Response as ControlResponse, ask, hold_names};
pub use error::MountError;
pub use hold::{Holder, hold_running, mount_points_of_running};
pub use inside::Inside;
pub use options::MountOptions;
pub use registry::{MountRecord, Registry};
pub use serve::{MountPlan, serve};
pub use unmount::{Unmount, unmount};
