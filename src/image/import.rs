//! An image of one layer from a tar of a root file system.

use super::error::{ImageError, ImageResult};
use super::ingest::{Expected, Limits, ingest_layer};
use super::progress::Progress;
use super::source::{Location, Source};
use crate::archive::compression::plain;
use crate::archive::tar;
use crate::oci::{ContainerConfig, Descriptor, History, ImageConfig, Manifest, MediaType, Platform, Reference};
use crate::store::{ImageRecord, Store};
use std::fs::File;
use std::io::{self, Read};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What to import, and how.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Where the tar is, compressed or not.
    pub location: Location,
    /// The name of the image.
    pub reference: Option<Reference>,
    /// How it is run.
    pub config: ContainerConfig,
    /// What the history says.
    pub message: Option<String>,
    /// The platform of the image.
    pub platform: Platform,
    /// How large the layer may be.
    pub limits: Limits,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            location: Location::Stdin,
            reference: None,
            config: ContainerConfig::default(),
            message: None,
            platform: Platform::host(),
            limits: Limits::default(),
        }
    }
}

/// Makes an image of a tar.
pub fn import(store: &Store, options: &ImportOptions, progress: &dyn Progress) -> ImageResult<ImageRecord> {
    let mut config = ImageConfig { config: options.config.clone(), ..ImageConfig::new(&options.platform) };
    if let Some(reference) = options.reference.as_ref().filter(|reference| reference.digest().is_some()) {
        let source = crate::oci::InvalidReference::NewDigest;
        return Err(ImageError::Reference { text: reference.familiar(), source });
    }
    let what = Source { location: options.location.clone(), format: super::ArchiveFormat::Any, name: None }.label();
    let read_error = |source| ImageError::Read { what: what.clone(), source };
    let (mut input, size): (Box<dyn Read>, Option<u64>) = match &options.location {
        Location::Stdin => (Box::new(io::stdin().lock()), None),
        Location::Path(path) => {
            let file = File::open(path).map_err(read_error)?;
            let metadata = file.metadata().map_err(read_error)?;
            if metadata.is_dir() {
                return Err(ImageError::NotATar { what, detail: "it is a directory" });
            }
            (Box::new(file), Some(metadata.len()).filter(|_| metadata.is_file()))
        }
    };
    let session = store.session()?;
    let expected = Expected { label: Some(what.clone()), refuse_nothing: true, ..Expected::default() };
    let bar = progress.layer("layer", size);
    let mut input = plain(&mut *input, options.limits.expansion)
        .map_err(|source| ImageError::Read { what: what.clone(), source })?;
    let layer = ingest_layer(&session, &mut *input, &expected, &options.limits, &*bar).map_err(no_tar)?;
    let created = creation_time();
    let from = if options.location == Location::Stdin { "-" } else { &what };
    let comment = options.message.clone().unwrap_or_else(|| format!("Imported from {from}"));
    config.created = Some(created.clone());
    config.rootfs.diff_ids = vec![layer.diff_id];
    config.history = vec![History { created: Some(created), comment: Some(comment), ..History::default() }];
    let config = config.to_bytes();
    let layers = vec![Descriptor::new(layer.media_type(), layer.digest, layer.size)];
    let manifest = Manifest::new(Descriptor::of(MediaType::OciConfig, &config), layers).to_bytes();
    session.put_document(&config)?;
    session.put_document(&manifest)?;
    let target = Descriptor::of(MediaType::OciManifest, &manifest);
    session.set_reference(options.reference.clone().map(Reference::or_latest).as_ref(), &target)?;
    Ok(store.image(&target, None)?)
}

/// A failure at the very first header is no damage: somebody gave something else than a tar.
fn no_tar(error: ImageError) -> ImageError {
    match error {
        ImageError::Tar {
            layer,
            source: tar::Error::Header { offset: 0 } | tar::Error::Truncated { offset: ..tar::BLOCK },
        } => ImageError::NotATar { what: layer, detail: "it does not begin with a tar header" },
        other => other,
    }
}

/// The time that documents made now carry, RFC 3339: the present, or what `SOURCE_DATE_EPOCH` says.
pub fn creation_time() -> String {
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse::<i64>().ok());
    let fixed = epoch.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let time = fixed.unwrap_or_else(OffsetDateTime::now_utc);
    // Every time between the years 0 and 9999 has an RFC 3339 form.
    time.format(&Rfc3339).unwrap_or_default()
}
