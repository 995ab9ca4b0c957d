//! `--limit`: how large a layer may be in one respect or another.

use crate::image::Limits;
use crate::oci::DOCUMENT_MAX;
use anyhow::{Context, bail};

/// The option of every verb that takes layers in from outside.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct LimitOptions {
    /// Allow a layer more, or less, than the default: `entries` of an archive, bytes of a `name`, a `path`, one `xattr`, the `xattrs` of
    /// an entry, a `pax-header`; `extents` of a sparse file; `expansion` to one after `expansion-free` bytes; and bytes of a `manifest`,
    /// an index or a configuration
    #[arg(long = "limit", value_name = "WHAT=NUMBER")]
    limits: Vec<String>,
}

impl LimitOptions {
    /// The limits that hold.
    pub(super) fn limits(&self) -> anyhow::Result<Limits> {
        let mut limits = Limits::default();
        for text in &self.limits {
            let (what, number) =
                text.split_once('=').with_context(|| format!("--limit {text}: expected WHAT=NUMBER"))?;
            let number: u64 = number.parse().with_context(|| format!("--limit {text}: {number:?} is no number"))?;
            let size = usize::try_from(number).with_context(|| format!("--limit {text}: too large"))?;
            match what {
                "manifest" => limits.manifest = number.min(DOCUMENT_MAX),
                "entries" => limits.tar.entries = number,
                "name" => limits.tar.name = size.min(crate::model::NAME_MAX),
                "path" => limits.tar.path = size,
                "xattr" => limits.tar.xattr = size,
                "xattrs" => limits.tar.xattrs = size,
                "pax-header" => limits.tar.pax_header = size,
                "extents" => limits.tar.extents = size,
                "expansion" => limits.expansion.ratio = number,
                "expansion-free" => limits.expansion.free = number,
                _ => bail!(
                    "--limit {text}: unknown; manifest, entries, name, path, xattr, xattrs, pax-header, extents, expansion \
                     and expansion-free can be limited"
                ),
            }
        }
        Ok(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_set_by_their_names() {
        let parse = |texts: &[&str]| LimitOptions { limits: texts.iter().map(ToString::to_string).collect() }.limits();
        let limits = parse(&["entries=5", "expansion=7", "name=9999", "manifest=9000000000"]).unwrap();
        assert_eq!(limits.manifest, DOCUMENT_MAX);
        assert_eq!((limits.tar.entries, limits.expansion.ratio, limits.tar.name), (5, 7, 255));
        for wrong in ["entries", "entries=x", "nothing=1"] {
            assert!(parse(&[wrong]).is_err(), "{wrong}");
        }
    }
}
