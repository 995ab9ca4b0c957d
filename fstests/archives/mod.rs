//! Archives of other tools' making, read by ours; and archives of ours, read by other tools.
//!
//! No mount is needed: what a layer of the archive would show is asked of the layer itself ([`seen`]).

mod compression;
mod read;
mod seen;
mod source;
mod speed;
mod write;
