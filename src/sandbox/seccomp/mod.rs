//! The filter of system calls: Docker's default profile, and the calls a supervisor answers.
//!
//! Owns the policy and its translation to BPF. Must not know how the filter is loaded or who answers.

mod compile;
mod numbers;
mod oci;
mod profile;

pub(super) use compile::{compile, name_of_call};
pub(super) use oci::as_oci;

use super::capability::Capabilities;

/// What the filter has to do.
#[derive(Debug, Clone)]
pub(super) struct Policy<'a> {
    /// The capabilities of the command: some calls are allowed to who holds them.
    pub(super) capabilities: Capabilities,
    /// Names of calls that wait for the supervisor's answer.
    pub(super) notify: &'a [&'a str],
    /// Names of calls that do so only when the argument of this number holds `O_CREAT`.
    pub(super) notify_creation: &'a [(&'a str, u8)],
    /// Whether anything is refused; without it only the notifications are made.
    pub(super) restrict: bool,
}
