//! `inspect`: everything about an image or a named mount.

use super::Global;
use super::output::{Format, print_json};
use super::progress::Bars;
use super::registry_options::RegistryOptions;
use super::remote;
use crate::image::resolve_or_load;
use crate::oci::{Platform, Reference};
use crate::store::{Container, ImageRecord, LayerRecord, Store, StoreError};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Describe images and named mounts, as JSON
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Images, or names of writable mounts
    #[arg(value_name = "NAME|IMAGE", required = true, add = clap_complete::ArgValueCompleter::new(super::complete::mounts_and_images))]
    names: Vec<String>,
    /// Of an image for several platforms, this one
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Ask the image's registry instead of the store; docker://IMAGE means the same
    #[arg(long)]
    remote: bool,
    #[command(flatten)]
    registry: RegistryOptions,
    /// How to print it; text is JSON here as well
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let store = global.store()?;
    let mut described = Vec::new();
    let mut failed = false;
    for name in &args.names {
        let remote = name.strip_prefix(remote::PREFIX).or_else(|| args.remote.then_some(name.as_str()));
        let platform = args.platform.as_ref();
        let value = match remote {
            Some(name) => remote::describe(name, platform, &args.registry),
            None => describe(&store, name, platform),
        };
        match value {
            Ok(value) => described.push(value),
            Err(error) => {
                super::error::report(&error);
                failed = true;
            }
        }
    }
    print_json(&described)?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn describe(store: &Store, name: &str, platform: Option<&Platform>) -> anyhow::Result<Value> {
    let image = resolve_or_load(store, name, platform, &Bars::new(false)).map_err(anyhow::Error::from);
    match image {
        Ok(image) => describe_image(store, &image),
        Err(error) => match store.container(name) {
            Ok(container) => describe_container(store, &container),
            Err(StoreError::NoSuchContainer(_)) => Err(error),
            Err(other) => Err(other.into()),
        },
    }
}

/// The keys of `docker image inspect` in its order, those that podman has beside them, and then what is this store's own. Parents and
/// times of tags are nowhere kept: they are what Docker says of an image that was pulled.
fn describe_image(store: &Store, image: &ImageRecord) -> anyhow::Result<Value> {
    let config: Value = serde_json::from_slice(&store.read_document("configuration", &image.id)?)?;
    let familiar = |names: &[Reference]| names.iter().map(Reference::familiar).collect::<Vec<_>>();
    let last = image.config.history.last();
    Ok(json!({
        "Id": image.id,
        "RepoTags": familiar(&image.references),
        "RepoDigests": familiar(&image.repo_digests),
        "Parent": "",
        "Comment": last.and_then(|step| step.comment.clone()).unwrap_or_default(),
        "Created": image.config.created,
        "DockerVersion": config.get("docker_version").and_then(Value::as_str).unwrap_or_default(),
        "Author": image.config.author.clone().unwrap_or_default(),
        "Config": config.get("config"),
        "Architecture": image.config.architecture,
        "Variant": image.config.variant,
        "Os": image.config.os,
        "OsVersion": config.get("os.version").and_then(Value::as_str).unwrap_or_default(),
        "Size": image.size(),
        "VirtualSize": image.size(),
        "GraphDriver": { "Data": null, "Name": "layerfs" },
        "RootFS": { "Type": "layers", "Layers": image.diff_ids() },
        "Metadata": { "LastTagTime": "0001-01-01T00:00:00Z" },
        "Digest": image.target.digest,
        "Labels": image.config.config.labels,
        "Annotations": annotations(store, image)?,
        "ManifestType": image.manifest.media_type,
        "User": image.config.config.user,
        "History": config.get("history").cloned().unwrap_or_else(|| json!([])),
        "Manifest": { "Digest": image.manifest.digest, "MediaType": image.manifest.media_type,
            "Path": store.blob_path(&image.manifest.digest) },
        "Target": { "Digest": image.target.digest, "MediaType": image.target.media_type },
        "Layers": image.layers.iter().map(describe_layer).collect::<Vec<_>>(),
    }))
}

/// The annotations of the manifest.
fn annotations(store: &Store, image: &ImageRecord) -> anyhow::Result<Value> {
    let manifest: Value = serde_json::from_slice(&store.read_document("manifest", &image.manifest.digest)?)?;
    Ok(manifest.get("annotations").cloned().unwrap_or_else(|| json!({})))
}

fn describe_layer(layer: &LayerRecord) -> Value {
    json!({
        "DiffID": layer.diff_id,
        "ChainID": layer.chain_id,
        "Digest": layer.blob.digest,
        "MediaType": layer.blob.media_type,
        "CompressedSize": layer.compressed_digest().map(|_| layer.blob.size),
        "Size": layer.tar_size(),
        "Tar": layer.tar,
        "Toc": layer.toc,
        "TocSize": layer.toc_size(),
    })
}

/// The layers' tars, topmost first, as docker lists directories.
fn lower_dir(store: &Store, container: &Container) -> String {
    let tars = container.record.layers.iter().rev().map(|layer| store.blob_path(layer).display().to_string());
    tars.collect::<Vec<_>>().join(":")
}

/// Where it is mounted.
fn merged_dir(container: &Container) -> anyhow::Result<Option<std::path::PathBuf>> {
    Ok(crate::mount::Registry::open()?.mount_of(&container.dir)?.map(|mount| mount.mount_point))
}

fn describe_container(store: &Store, container: &Container) -> anyhow::Result<Value> {
    let record = &container.record;
    Ok(json!({
        "Name": record.name,
        "Image": record.image,
        "ImageID": record.image_id,
        "Created": record.created,
        "Mounted": container.is_mounted()?,
        "Layers": record.layers,
        "LowerDir": lower_dir(store, container),
        "MergedDir": merged_dir(container)?,
        "UpperDir": container.upper(),
        "WorkDir": container.work(),
        "Options": record.options,
    }))
}
