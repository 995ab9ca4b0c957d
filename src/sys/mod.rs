//! Raw system calls behind safe functions: the only module with `unsafe`.
//!
//! Owns what neither `std` nor `rustix` offers. Must not know anything else of the project.
