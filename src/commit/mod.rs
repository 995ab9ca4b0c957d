//! Changes become a layer, a manifest, a reference.
