//! A policy as the document an OCI runtime takes (runtime-spec, config-linux.md).

use super::{Policy, profile};
use serde_json::{Value, json};

/// The `linux.seccomp` of a bundle. Notifications are not told: there is nobody to answer them.
pub(in crate::sandbox) fn as_oci(policy: &Policy<'_>) -> Value {
    let allow = |names: Vec<&str>| json!({"names": names, "action": "SCMP_ACT_ALLOW"});
    let on_argument = |name: &str, operation: &str, value: u64, masked: u64| json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": value, "valueTwo": masked, "op": operation}]});
    let mut calls = vec![allow(profile::ALWAYS.split_whitespace().collect())];
    let held = profile::BY_CAPABILITY.iter().filter(|(capability, _)| policy.capabilities.contains(*capability));
    let by_capability: Vec<&str> = held.flat_map(|(_, names)| names.split_whitespace()).collect();
    if !by_capability.contains(&"clone3") {
        calls.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS}));
        calls.push(on_argument("clone", "SCMP_CMP_MASKED_EQ", u64::from(profile::CLONE_NAMESPACES), 0));
    }
    if !by_capability.is_empty() {
        calls.push(allow(by_capability));
    }
    calls.push(on_argument("socket", "SCMP_CMP_LT", u64::from(profile::SOCKET_FAMILIES_BELOW), 0));
    calls.extend(
        profile::SOCKET_FAMILIES.iter().map(|family| on_argument("socket", "SCMP_CMP_EQ", u64::from(*family), 0)),
    );
    calls.extend(
        profile::PERSONALITIES.iter().map(|value| on_argument("personality", "SCMP_CMP_EQ", u64::from(*value), 0)),
    );
    let architectures: &[&str] =
        if cfg!(target_arch = "aarch64") { &["SCMP_ARCH_AARCH64"] } else { &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"] };
    json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": architectures, "syscalls": calls})
}
