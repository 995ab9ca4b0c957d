//! What to do about the failures of the store and of images: one place, so that every verb gives the same advice.

use crate::archive::tar;
use crate::commit;
use crate::diff;
use crate::image::ImageError;
use crate::mount::MountError;
use crate::oci::{InvalidDigest, InvalidDocument, InvalidReference};
use crate::run::RunError;
use crate::sandbox::SandboxError;
use crate::store::StoreError;

/// The advice that goes with the first failure in the chain that has any.
pub(super) fn of(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let image = cause.downcast_ref::<ImageError>().and_then(for_image);
        let commit = || cause.downcast_ref::<commit::Error>().and_then(for_commit);
        let store = || cause.downcast_ref::<StoreError>().and_then(for_store);
        let reference = || cause.downcast_ref::<InvalidReference>().map(for_reference);
        let diff = || cause.downcast_ref::<diff::Error>().and_then(for_diff);
        let mount = || cause.downcast_ref::<MountError>().and_then(MountError::hint);
        let run = || cause.downcast_ref::<RunError>().and_then(for_run);
        image.or_else(store).or_else(commit).or_else(diff).or_else(reference).or_else(mount).or_else(run)
    })
}

fn for_run(error: &RunError) -> Option<String> {
    let text = match error {
        RunError::NoCommand => "name one after the image: `layerfs run IMAGE COMMAND`",
        RunError::Account(_) => ACCOUNTS,
        RunError::Volume(..) => "-v takes HOST:CONTAINER[:ro], paths that begin with / (the host's also with ./ or ~/)",
        // Looked up inside, hence told in words only.
        RunError::Sandbox(SandboxError::Refused(what)) if what.starts_with("find the user") => ACCOUNTS,
        RunError::Sandbox(SandboxError::Exec { reason, .. }) => match reason.kind() {
            std::io::ErrorKind::NotFound => {
                "a command is looked for inside of the container; a line for its shell is given as `sh -c 'LINE'`"
            }
            std::io::ErrorKind::PermissionDenied => "it is no program, or may not be executed by this user",
            _ if reason.raw_os_error() == Some(libc::ENOEXEC) => {
                "it is made for another platform, or is a script without a line `#!INTERPRETER`"
            }
            _ => return None,
        },
        RunError::Sandbox(_) | RunError::Io { .. } => return None,
    };
    Some(text.to_owned())
}

/// What does for a user that the image has no name for.
const ACCOUNTS: &str =
    "names are those of the image: `layerfs cat IMAGE:/etc/passwd`; -u also takes any number, UID[:GID]";

/// A transparent error does not stand in the chain beside what it holds.
fn for_commit(error: &commit::Error) -> Option<String> {
    match error {
        commit::Error::Image(error) => for_image(error),
        commit::Error::Store(error) => for_store(error),
        commit::Error::Diff(error) => for_diff(error),
        commit::Error::Thread => None,
    }
}

fn for_diff(error: &diff::Error) -> Option<String> {
    let text = match error {
        diff::Error::Changing { .. } => "let whoever writes to it finish, then try again",
        diff::Error::Archive(tar::Error::Write { source }) if is_full(source) => ELSEWHERE,
        _ => return None,
    };
    Some(text.to_owned())
}

/// What is written outside of the store does not fit.
const ELSEWHERE: &str = "make room there, or write to another place with --output";

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

pub(super) fn for_store(error: &StoreError) -> Option<String> {
    let text = match error {
        _ if error.is_disk_full() => "`layerfs df` shows what takes the space, `layerfs prune` frees what nobody needs",
        StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            "--root or LAYERFS_ROOT chooses a store that is yours"
        }
        StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
            "a store that is mounted read-only can be read and mounted without --rw; --root or LAYERFS_ROOT chooses another"
        }
        StoreError::NotADirectory(_) => "--root and LAYERFS_ROOT name a directory, which is made where there is none",
        StoreError::NotAStore(_) => {
            "--root names an empty directory or a store; `layerfs load oci:DIR` reads an image layout"
        }
        StoreError::Version { .. } => "use the version of layerfs that made it, or another --root",
        StoreError::Damaged { .. } | StoreError::MissingBlob { .. } | StoreError::Mismatch(_) => {
            "`layerfs fsck --repair` mends what can be mended and names what is lost"
        }
        StoreError::Document { .. } | StoreError::Config { .. } => "`layerfs fsck` tells which images are affected",
        StoreError::NoSuchImage(_) => {
            "`layerfs images` lists what is there; `layerfs load` and `layerfs pull` bring more"
        }
        StoreError::Ambiguous { .. } => "give more digits of the ID; `layerfs images --no-trunc` shows all of them",
        StoreError::NoPlatform { .. } => "load or pull it again with --platform or --all-platforms",
        StoreError::ImageInUse { .. } => "unmount or remove what uses it, or use --force",
        StoreError::NoSuchContainer(_) => "`layerfs ps -a` lists the named mounts",
        StoreError::ContainerExists(name) => {
            return Some(format!("choose another name, or remove it: `layerfs rm {name}`"));
        }
        StoreError::ContainerRuns(name) => {
            return Some(format!("end its command first: `layerfs stop {name}`"));
        }
        StoreError::ContainerBusy(name) => return Some(format!("unmount it first: `layerfs umount {name}`")),
        StoreError::Reference { source, .. } => return Some(for_reference(source)),
        StoreError::ContainerName(_) => "a name has two characters or more, the first of them a letter or a digit",
        StoreError::SameName => "give another name",
        StoreError::Io { .. } | StoreError::CacheKey(_) => return None,
    };
    Some(text.to_owned())
}

pub(super) fn for_image(error: &ImageError) -> Option<String> {
    let text = match error {
        ImageError::Store(error) => return for_store(error),
        ImageError::Write { source, .. } if is_full(source) => ELSEWHERE,
        ImageError::Reference { source, .. } => return Some(for_reference(source)),
        ImageError::NotAnImage { .. } => {
            "load takes docker-archives, OCI archives and OCI layout directories; `layerfs import` takes a tar of a root file system"
        }
        ImageError::NotATar { what, detail: "it is a directory" } => {
            return Some(format!("make a tar of it on the way: tar -C {what} -c . | layerfs import - NAME"));
        }
        ImageError::NotATar { .. } => {
            "import takes a tar of a root file system, also one compressed by gzip, zstd, bzip2 or xz: tar -C DIR -c . | layerfs import - NAME"
        }
        ImageError::NoPlatform { .. } => "choose one with --platform, or take all with --all-platforms",
        ImageError::NoSuchName { .. } => "give one of the names listed, or none to load everything",
        ImageError::SeveralImages { .. } => "choose one: `oci:DIR:TAG` or `docker-archive:FILE:REFERENCE`",
        ImageError::LayerLost { .. } | ImageError::Open { .. } => {
            "`layerfs fsck` tells which images are affected; load or pull them again, or remove them: `layerfs rmi`"
        }
        ImageError::Document { source: InvalidDocument::NotAnImage { .. }, .. } => {
            "charts, signatures and other artifacts are for the tools that made them"
        }
        ImageError::Document { source: InvalidDocument::TooLarge { .. }, .. } => {
            "an honest document that large is taken with --limit manifest=BYTES"
        }
        ImageError::MediaType { .. } | ImageError::Document { source: InvalidDocument::MediaType(_), .. } => {
            "the image must be saved again with layers of the common types: tar, gzip or zstd"
        }
        ImageError::Document { .. } | ImageError::Config { .. } => {
            "the archive was written wrongly; save the image again"
        }
        ImageError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            "check the path; `-` reads standard input"
        }
        ImageError::Tar { source: tar::Error::Limit { .. }, .. } => {
            "an honest layer that large is taken with --limit WHAT=NUMBER"
        }
        _ if error.is_refused_entry() => "no tool should unpack such a layer: build the image again",
        _ if error.is_unsupported_compression() => {
            "uncompress it first, or compress it by gzip, zstd, bzip2 or xz; layers only by gzip or zstd"
        }
        _ if error.is_damaged_input() => "the archive is damaged or was cut short: fetch or save it again",
        _ => return None,
    };
    Some(text.to_owned())
}

/// What a reference looks like.
pub(super) const REFERENCE: &str = "a reference is [HOST[:PORT]/]PATH[:TAG][@DIGEST], the path in lower case";

fn for_reference(error: &InvalidReference) -> String {
    let text = match error {
        InvalidReference::Digest(InvalidDigest::Algorithm(_)) => "give the image's sha256 digest, or its tag",
        InvalidReference::NewDigest => "give it a name and a tag: NAME:TAG",
        InvalidReference::LooksLikeDigest => "sha256:… stands for an ID; choose another name",
        _ => REFERENCE,
    };
    text.to_owned()
}
