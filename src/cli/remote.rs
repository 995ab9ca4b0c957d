//! `docker://IMAGE[:PATH]`: a look at an image that stays at its registry.
//!
//! Layers are fetched from the top, until nothing below them can change the answer. Those that are not needed are stood in for by
//! empty ones, so that layers keep their numbers.

use super::registry_options::{RegistryOptions, told};
use crate::image::open_layer;
use crate::model::FileKind;
use crate::oci::{Platform, chain_ids};
use crate::registry::client::Session;
use crate::registry::pull::{Silent, WantedLayer};
use crate::registry::remote::RemoteImage;
use crate::store::{self, LayerRecord, Store};
use crate::union::{EntryKind, Layer, LayerResult, MemLayer};
use serde_json::{Value, json};
use std::sync::Arc;

/// What such a name begins with.
pub(super) const PREFIX: &str = "docker://";
/// Symlinks followed for one path, as in the kernel.
const SYMLINKS: usize = 40;

/// Layers of a remote image, kept from being collected while this lives.
#[derive(Debug)]
pub(super) struct RemoteLayers {
    /// Bottom first; empty ones where nothing was fetched.
    pub(super) layers: Vec<Arc<dyn Layer>>,
    _session: store::Session,
}

/// Opens what is needed of the image `name` to answer for `path`.
pub(super) fn open(store: &Store, name: &str, path: &[u8], options: &RegistryOptions) -> anyhow::Result<RemoteLayers> {
    let session = options.session(None)?;
    let image = told(RemoteImage::find(&session, name, None))?;
    let writer = store.session()?;
    let layers = fetch_from_top(store, &session, &writer, &image, path)?;
    Ok(RemoteLayers { layers, _session: writer })
}

/// What `inspect` says of an image at its registry.
pub(super) fn describe(name: &str, platform: Option<&Platform>, options: &RegistryOptions) -> anyhow::Result<Value> {
    let session = options.session(None)?;
    let image = told(RemoteImage::find(&session, name, platform))?;
    let config = serde_json::to_value(&image.config)?;
    let layers = image.layers();
    let size: u64 = layers.iter().map(|layer| layer.descriptor.size).sum();
    let layer = |layer: &WantedLayer| {
        json!({
            "DiffID": layer.diff_id,
            "Digest": layer.descriptor.digest,
            "MediaType": layer.descriptor.media_type,
            "CompressedSize": layer.descriptor.size,
        })
    };
    Ok(json!({
        "Id": image.manifest.config.digest,
        "RepoTags": [image.reference.familiar()],
        "RepoDigests": [image.reference.with_digest(image.target.digest).familiar()],
        "Parent": "",
        "Comment": image.config.history.last().and_then(|step| step.comment.clone()).unwrap_or_default(),
        "Created": image.config.created,
        "DockerVersion": config.get("docker_version").and_then(Value::as_str).unwrap_or_default(),
        "Author": image.config.author.clone().unwrap_or_default(),
        "Config": config.get("config"),
        "Architecture": image.config.architecture,
        "Variant": image.config.variant,
        "Os": image.config.os,
        "OsVersion": config.get("os.version").and_then(Value::as_str).unwrap_or_default(),
        "CompressedSize": size,
        "RootFS": { "Type": "layers", "Layers": image.config.rootfs.diff_ids },
        "Digest": image.target.digest,
        "Labels": image.config.config.labels,
        "Annotations": image.manifest.annotations,
        "ManifestType": image.descriptor.media_type,
        "User": image.config.config.user,
        "History": image.config.history,
        "Manifest": { "Digest": image.descriptor.digest, "MediaType": image.descriptor.media_type },
        "Target": { "Digest": image.target.digest, "MediaType": image.target.media_type },
        "Platforms": image.platforms.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "Layers": layers.iter().map(layer).collect::<Vec<_>>(),
    }))
}

fn fetch_from_top(
    store: &Store,
    session: &Session,
    writer: &store::Session,
    image: &RemoteImage,
    path: &[u8],
) -> anyhow::Result<Vec<Arc<dyn Layer>>> {
    let chain = chain_ids(&image.config.rootfs.diff_ids);
    let wanted: Vec<_> = image.layers().into_iter().zip(chain).collect();
    // Topmost first.
    let mut opened: Vec<Arc<dyn Layer>> = Vec::new();
    for (layer, chain_id) in wanted.iter().rev() {
        told(image.fetch_layer(session, writer, layer, &Silent))?;
        let record = LayerRecord {
            diff_id: layer.diff_id,
            chain_id: *chain_id,
            blob: layer.descriptor.clone(),
            tar: store.blob_path(&layer.diff_id),
            toc: store.toc_path(&layer.diff_id),
        };
        opened.push(open_layer(store, &record)?);
        if is_answered(&opened, path)? {
            break;
        }
    }
    log::debug!("{} of {} layers answer for {}", opened.len(), wanted.len(), String::from_utf8_lossy(path));
    while opened.len() < wanted.len() {
        opened.push(Arc::new(MemLayer::parse("not fetched", "")?));
    }
    opened.reverse();
    Ok(opened)
}

/// Whether no layer below `layers` (topmost first) can change what `path` is. When in doubt, no.
fn is_answered(layers: &[Arc<dyn Layer>], path: &[u8]) -> LayerResult<bool> {
    for layer in layers {
        // An implied directory may land elsewhere, where a layer below has a symlink.
        let mut implied = false;
        layer.implied_directories(&mut |_, _| implied = true)?;
        if implied {
            return Ok(false);
        }
    }
    let mut path = normalized(&[], path);
    for _ in 0..SYMLINKS {
        match walk(layers, &path)? {
            Walk::Answered => return Ok(true),
            Walk::Open => return Ok(false),
            Walk::Goes(next) => path = next,
        }
    }
    Ok(true)
}

/// What the layers at hand say of a path.
enum Walk {
    /// Everything.
    Answered,
    /// Layers below may say more.
    Open,
    /// It leads to this path.
    Goes(Vec<Vec<u8>>),
}

fn walk(layers: &[Arc<dyn Layer>], path: &[Vec<u8>]) -> LayerResult<Walk> {
    // How many leading components a layer above has as directories: what is none below does not count there.
    let mut directories = 0;
    for layer in layers {
        let mut cut = layer.root_is_opaque()?;
        let mut at = layer.root();
        let mut depth = 0;
        while let Some(name) = path.get(depth) {
            match layer.lookup(at, name)? {
                None => break,
                Some(EntryKind::LinkBelow { .. }) => return Ok(Walk::Open),
                Some(EntryKind::Node { ino, kind: FileKind::Directory, opaque, .. }) => {
                    cut |= opaque;
                    at = ino;
                    depth += 1;
                }
                Some(EntryKind::Node { .. }) if depth < directories => return Ok(Walk::Answered),
                Some(EntryKind::Node { ino, kind: FileKind::Symlink, .. }) => {
                    let target = layer.read_link(ino)?;
                    let mut next = normalized(path.get(..depth).unwrap_or_default(), &target);
                    next.extend(path.get(depth + 1..).unwrap_or_default().iter().cloned());
                    return Ok(Walk::Goes(next));
                }
                Some(EntryKind::Whiteout | EntryKind::Node { .. }) => return Ok(Walk::Answered),
            }
        }
        directories = directories.max(depth);
        if cut {
            return Ok(Walk::Answered);
        }
    }
    Ok(Walk::Open)
}

/// The components of `path`, seen from the directory `base`; `..` at the root stays there.
fn normalized(base: &[Vec<u8>], path: &[u8]) -> Vec<Vec<u8>> {
    let mut components = if path.first() == Some(&b'/') { Vec::new() } else { base.to_vec() };
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop();
            }
            name => components.push(name.to_vec()),
        }
    }
    components
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the upper of two layers alone answers for `path`.
    fn top_answers(top: &str, path: &str) -> bool {
        let layer = MemLayer::parse("top", top).expect("a layer");
        is_answered(&[Arc::new(layer) as Arc<dyn Layer>], path.as_bytes()).expect("an answer")
    }

    #[test]
    fn the_top_layer_answers_where_nothing_below_counts() {
        let top = "dir etc 755\nfile etc/name 644 0:0 x\nsymlink etc/alias name\nwhiteout etc/gone\ndir new 755\nopaque new\n\
                   symlink lib usr/lib\nsymlink etc/up ../../new/x";
        for (path, answered) in [
            ("/etc/name", true),
            ("etc/alias", true),
            ("/etc/gone", true),
            ("/etc/gone/below", true),
            ("/etc/name/below", true),
            ("/etc/other", false),
            ("/etc", false),
            ("/", false),
            ("/new", true),
            ("/new/nothing", true),
            ("/etc/up", true),
            ("/lib/x", false),
        ] {
            assert_eq!(top_answers(top, path), answered, "{path}");
        }
    }

    #[test]
    fn implied_directories_leave_it_open() {
        assert!(!top_answers("file etc/name 644 0:0 x", "/etc/name"));
    }

    #[test]
    fn a_directory_above_hides_a_symlink_below() {
        let layer = |text| Arc::new(MemLayer::parse("layer", text).expect("a layer")) as Arc<dyn Layer>;
        let layers = [layer("dir bin 755"), layer("symlink bin usr/bin")];
        assert!(is_answered(&layers, b"/bin/sh").expect("an answer"));
        assert!(!is_answered(&layers[..1], b"/bin/sh").expect("an answer"));
    }
}
