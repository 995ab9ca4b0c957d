//! Finding or making the form in which a layer is sent.

use crate::image::{self, LayerForm};
use crate::oci::{Descriptor, Digest, LayerCompression, MediaType};
use crate::registry::Error;
use crate::registry::http::{Cancel, TransportError};
use crate::store::{LayerRecord, Session};
use std::fs::File;
use std::io::{self, Read};

/// The form of `layer` that the manifest lists and the registry may have, or else one whose bytes are in the store already.
pub(super) fn known_form(
    session: &Session,
    layer: &LayerRecord,
    wanted: Option<LayerForm>,
) -> Result<Option<Descriptor>, Error> {
    let listed = layer.blob.kind().ok().and_then(MediaType::layer_compression).unwrap_or(LayerCompression::None);
    let fits = wanted.is_none_or(|wanted| wanted.compression == listed && wanted.level.is_none());
    if listed != LayerCompression::None && fits && layer.blob.digest != layer.diff_id {
        return Ok(Some(layer.blob.clone()));
    }
    Ok(image::known_form(session, layer, wanted)?)
}

/// Whether the bytes of a form are here.
pub(super) fn is_here(session: &Session, blob: &Descriptor) -> Result<bool, Error> {
    Ok(session.has_blob(&blob.digest)?)
}

/// Compresses `layer` and remembers the form.
pub(super) fn compress(
    session: &Session,
    layer: &LayerRecord,
    form: LayerForm,
    cancel: &Cancel,
) -> Result<Descriptor, Error> {
    match image::compress_layer(session, layer, form, &|_| !cancel.is_cancelled()) {
        Err(_) if cancel.is_cancelled() => Err(TransportError::Cancelled.into()),
        result => Ok(result?),
    }
}

/// The file of a blob, from an offset on.
pub(super) fn open_at(session: &Session, digest: &Digest, offset: u64) -> io::Result<Box<dyn Read + Send>> {
    let mut file = File::open(session.store().blob_path(digest))?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
    Ok(Box::new(file))
}
