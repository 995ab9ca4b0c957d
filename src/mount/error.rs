//! Why something could not be mounted or unmounted, and what to do about it.

use crate::fs::FsError;
use crate::fuse::SessionError;
use crate::layer::staging::StagingError;
use crate::layer::upper::UpperError;
use crate::union::{LayerError, StackError};
use std::io;
use std::path::PathBuf;

/// Why something could not be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// There is no such directory.
    #[error("mount point {} does not exist", .0.display())]
    NoMountPoint(PathBuf),
    /// It is no directory.
    #[error("mount point {} is not a directory", .0.display())]
    NotDirectory(PathBuf),
    /// There is something in it.
    #[error("mount point {} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// Something is mounted there.
    #[error("mount point {} is in use: {kind} is mounted there", .path.display())]
    Busy {
        /// The mount point.
        path: PathBuf,
        /// The type of what is mounted.
        kind: String,
    },
    /// The mount point cannot be used.
    #[error("cannot use {} as mount point", .path.display())]
    MountPoint {
        /// The mount point.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// There is no FUSE device.
    #[error("/dev/fuse does not exist")]
    NoDevice,
    /// The FUSE device cannot be opened.
    #[error("cannot open /dev/fuse")]
    Device(#[source] io::Error),
    /// A plain user needs the helper program.
    #[error("fusermount3 not found, and a plain user cannot mount without it")]
    NoHelper,
    /// The helper program refused.
    #[error("fusermount3: {0}")]
    Helper(String),
    /// `allow_other` is not for plain users here.
    #[error("only root may use allow_other: user_allow_other is not set in /etc/fuse.conf")]
    AllowOther,
    /// The system refused to mount.
    #[error("cannot mount on {}", .path.display())]
    Mount {
        /// The mount point.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The system refused to unmount.
    #[error("cannot unmount {}", .path.display())]
    Unmount {
        /// The mount point.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Somebody uses the mount.
    #[error("{} is busy: a process has a file or its working directory there", .0.display())]
    StillUsed(PathBuf),
    /// Nothing of ours is mounted under that name.
    #[error("{0} is not mounted by layerfs")]
    NotMounted(String),
    /// An option that nobody knows.
    #[error("unknown mount option `{0}`")]
    UnknownOption(String),
    /// An option with a value that it does not take.
    #[error("mount option `{option}`: {problem}")]
    BadOption {
        /// The option as given.
        option: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The image has no such layer.
    #[error("no layer {index}: the image has {count}, counted from 0 at the bottom")]
    NoLayer {
        /// The layer asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// No lower directory at all.
    #[error("no lowerdir given")]
    NoLower,
    /// An upper directory has to have a workdir.
    #[error("upperdir needs a workdir")]
    NoWork,
    /// A workdir is of no use alone.
    #[error("workdir without an upperdir")]
    NoUpper,
    /// A directory cannot be used.
    #[error("{option} {}", .path.display())]
    Directory {
        /// The option that names it.
        option: &'static str,
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// One directory lies in the other.
    #[error("{one} and {other} overlap: a change of one would change the other")]
    Overlapping {
        /// One of them, behind the name of its option.
        one: String,
        /// The other, in the same way.
        other: String,
    },
    /// The mount point lies in a lower directory, and that cannot be opened without what is mounted in it.
    #[error("the mount point {} lies in lowerdir {}: {source}", .mount_point.display(), .lower.display())]
    MountedInside {
        /// Where it was to be mounted.
        mount_point: PathBuf,
        /// The lower directory.
        lower: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A lower directory cannot be used.
    #[error(transparent)]
    Layer(LayerError),
    /// The upper directory cannot be used.
    #[error(transparent)]
    Upper(#[from] UpperError),
    /// The root of the upper could not be made like that of the image.
    #[error("cannot prepare the upper directory: {0}")]
    Root(#[source] FsError),
    /// The layers make no stack.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// The session failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The background process ended without a word.
    #[error("the background process ended before the mount was ready")]
    Background,
    /// A system call of the service around the mount failed.
    #[error("{context}")]
    Io {
        /// What was being done.
        context: String,
        /// The cause.
        source: io::Error,
    },
}

impl MountError {
    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoMountPoint(path) => format!("make it: mkdir -p {}", path.display()),
            Self::NotDirectory(_) => "an image is mounted on a directory: make an empty one".to_owned(),
            Self::NotEmpty(_) => "choose an empty directory, or hide what is in it with -o nonempty".to_owned(),
            Self::Busy { path, kind } if kind.ends_with("layerfs") => {
                format!("unmount it first: layerfs umount {}", path.display())
            }
            Self::Busy { .. } => "choose another directory, or mount over it with -o nonempty".to_owned(),
            Self::NoDevice => "load the module: modprobe fuse; a container needs --device /dev/fuse".to_owned(),
            Self::Device(_) => "a plain user needs read and write access: chmod 666 /dev/fuse".to_owned(),
            Self::NoHelper => "install the package fuse3, or run as root".to_owned(),
            Self::AllowOther => "ask the administrator to put the line user_allow_other into /etc/fuse.conf".to_owned(),
            Self::StillUsed(path) => format!(
                "find out who: fuser -vm {0}; or detach it now and let it end when they do: layerfs umount --lazy {0}",
                path.display()
            ),
            Self::NotMounted(_) => "see what is mounted: layerfs ps".to_owned(),
            Self::NoLower => "give the directories to unite: -o lowerdir=TOP:...:BOTTOM".to_owned(),
            Self::NoWork => "give an empty directory on the same file system: -o workdir=DIR".to_owned(),
            Self::NoUpper => "give the directory that takes the changes: -o upperdir=DIR".to_owned(),
            Self::Upper(UpperError::Staging(StagingError::InUse { .. })) => {
                "unmount the other mount first; layerfs ps lists them".to_owned()
            }
            Self::Upper(UpperError::Staging(StagingError::DifferentFilesystems { .. })) => {
                "choose a workdir beside the upperdir".to_owned()
            }
            Self::Upper(UpperError::NoXattrs { .. } | UpperError::NoWhiteouts { .. }) => {
                "choose an upperdir on ext4, xfs, btrfs or tmpfs".to_owned()
            }
            Self::Upper(UpperError::Staging(StagingError::Io { .. }) | UpperError::Io { .. } | UpperError::Layer(_)) => {
                "upperdir and workdir are directories on one file system that this user may write to".to_owned()
            }
            Self::Directory { option, path, source } => match source.kind() {
                io::ErrorKind::NotFound if *option != "lowerdir" => format!("make it: mkdir -p {}", path.display()),
                io::ErrorKind::PermissionDenied => "choose a directory that this user may read".to_owned(),
                _ if *option == "lowerdir" => {
                    "lowerdir is a list of directories, the topmost first, with a colon between them: ls -d shows whether one is there"
                        .to_owned()
                }
                _ => format!("{option} is a directory that takes changes; the file system below must be writable"),
            },
            Self::Overlapping { .. } => {
                "choose directories none of which is inside another; only a lowerdir may have the others in it".to_owned()
            }
            Self::MountedInside { .. } => {
                "choose a mount point outside of it: only who may mount (root) can look at a directory without its mounts".to_owned()
            }
            Self::BadOption { .. } => "see the options that exist: layerfs overlay --help, layerfs mount --help".to_owned(),
            Self::MountPoint { .. } => "choose an empty directory that is yours".to_owned(),
            Self::Background => "see what happens: mount again with --foreground -vv".to_owned(),
            Self::NoLayer { .. } => "see the layers: layerfs history IMAGE".to_owned(),
            Self::UnknownOption(_) => "see the options that exist: layerfs mount --help".to_owned(),
            _ => return None,
        })
    }
}
