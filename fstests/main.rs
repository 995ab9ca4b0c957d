//! Tests that need a mount, a server or another tool. One module a topic; `support` holds what they share.
#![expect(clippy::print_stderr, reason = "a test tells on standard error what it did; the runner shows it on failure")]

mod archives;
mod bad_input;
mod build;
mod changes;
mod clients;
mod completions;
mod costs;
mod crash;
mod explore;
mod foreign_tars;
mod hostile_images;
mod image_diff;
mod image_tree;
mod inspection;
mod load_crash;
mod mount_life;
mod mount_ro;
mod oracle;
mod overlay;
mod page;
mod registry;
mod run;
mod sandbox;
mod store;
mod suites;
mod support;
