//! A policy as a program in classic BPF.
//!
//! The problems, and what solves them:
//! 1. A linear search over 350 calls costs hundreds of instructions for each call: numbers are merged to ranges and searched by bisection.
//! 2. Conditional jumps reach 255 instructions only: every branch of the search is a `jge` over an unconditional jump, whose reach is not limited.
//! 3. Numbers mean something else on another architecture: the architecture is looked at first, each has its own table, an unknown one
//!    gets ENOSYS for everything (as do calls of the x32 ABI).
//! 4. A C library must be able to tell "not there" from "forbidden": calls newer than the newest the profile knows get ENOSYS, others EPERM.

use super::numbers::{NONE, NUMBERS};
use super::{Policy, profile};
use crate::sandbox::capability::Capability;
use crate::sys::seccomp::Instruction;
use std::collections::BTreeMap;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

const OFFSET_CALL: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
/// The low half of the first argument (both architectures are little-endian).
const OFFSET_ARGUMENT: u32 = 16;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// Calls of the x32 ABI carry this bit.
const X32: u32 = 0x4000_0000;

/// What happens with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Return(u32),
    SocketFamily,
    Personality,
    CloneWithoutNamespaces,
    /// Notified when the argument holds `O_CREAT`, else allowed.
    Creation {
        argument: u8,
    },
}

/// A machine's column of the table of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Machine {
    X86_64,
    I386,
    Aarch64,
}

impl Machine {
    /// The machines whose programs the kernel we are built for can run.
    const NATIVE: &'static [Self] =
        if cfg!(target_arch = "aarch64") { &[Self::Aarch64] } else { &[Self::X86_64, Self::I386] };

    /// `AUDIT_ARCH_*` of linux/audit.h.
    fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    fn number(self, row: &(&str, i16, i16, i16)) -> Option<u32> {
        let number = match self {
            Self::X86_64 => row.1,
            Self::I386 => row.2,
            Self::Aarch64 => row.3,
        };
        (number != NONE).then_some(number as u32)
    }
}

/// The program for `policy`, for the machine this was compiled for.
pub(in crate::sandbox) fn compile(policy: &Policy<'_>) -> Vec<Instruction> {
    compile_for(policy, Machine::NATIVE)
}

fn compile_for(policy: &Policy<'_>, machines: &[Machine]) -> Vec<Instruction> {
    let rules = rules_by_name(policy);
    let mut program = vec![load(OFFSET_ARCHITECTURE)];
    for &machine in machines {
        let section = machine_section(policy, &rules, machine);
        program.push(test(JUMP_EQUAL, machine.audit(), 1, 0));
        program.push(jump(section.len()));
        program.extend(section);
    }
    program.push(give(if policy.restrict { UNKNOWN } else { ALLOW }));
    program
}

/// The rule of every call the policy names; what is missing gets the default.
fn rules_by_name(policy: &Policy<'_>) -> BTreeMap<&'static str, Rule> {
    let mut rules = BTreeMap::new();
    if policy.restrict {
        rules.extend(profile::ALWAYS.split_whitespace().map(|name| (name, Rule::Return(ALLOW))));
        rules.insert("socket", Rule::SocketFamily);
        rules.insert("personality", Rule::Personality);
        rules.insert("clone", Rule::CloneWithoutNamespaces);
        // Its flags lie in memory, out of the filter's sight; C libraries fall back on clone(2) when it is not there.
        rules.insert("clone3", Rule::Return(UNKNOWN));
        for (capability, names) in profile::BY_CAPABILITY {
            if policy.capabilities.contains(*capability) {
                rules.extend(names.split_whitespace().map(|name| (name, Rule::Return(ALLOW))));
            }
        }
        debug_assert!(policy.capabilities.contains(Capability::SysAdmin) || !rules.contains_key("mount"));
    }
    for name in policy.notify {
        if let Ok(at) = NUMBERS.binary_search_by_key(name, |row| row.0)
            && let Some(row) = NUMBERS.get(at)
        {
            rules.insert(row.0, Rule::Return(NOTIFY));
        }
    }
    for (name, argument) in policy.notify_creation {
        if let Some((known, ..)) = NUMBERS.iter().find(|row| row.0 == *name) {
            rules.insert(known, Rule::Creation { argument: *argument });
        }
    }
    rules
}

/// The name of a call of an architecture (`AUDIT_ARCH_*`), for those that the profile knows.
pub(in crate::sandbox) fn name_of_call(architecture: u32, number: i32) -> Option<&'static str> {
    let machine = *Machine::NATIVE.iter().find(|machine| machine.audit() == architecture)?;
    NUMBERS.iter().find(|row| machine.number(row) == Some(number as u32)).map(|row| row.0)
}

/// The search over one machine's numbers; every path of it ends in a return.
fn machine_section(policy: &Policy<'_>, rules: &BTreeMap<&'static str, Rule>, machine: Machine) -> Vec<Instruction> {
    let mut by_number = BTreeMap::new();
    for row in NUMBERS {
        if let (Some(number), Some(rule)) = (machine.number(row), rules.get(row.0)) {
            by_number.insert(number, *rule);
        }
    }
    let newest = NUMBERS.iter().filter_map(|row| machine.number(row)).max().unwrap_or(0);
    let (default, beyond) = if policy.restrict { (REFUSE, UNKNOWN) } else { (ALLOW, ALLOW) };
    let ranges = ranges(&by_number, Rule::Return(default), newest, Rule::Return(beyond));
    let mut section = vec![load(OFFSET_CALL)];
    if machine == Machine::X86_64 {
        section.push(test(JUMP_AT_LEAST, X32, 0, 1));
        section.push(give(UNKNOWN));
    }
    section.extend(search(&ranges));
    section
}

/// Every number's rule as ranges: (first number, rule), ascending, from 0, neighbours different.
fn ranges(by_number: &BTreeMap<u32, Rule>, default: Rule, newest: u32, beyond: Rule) -> Vec<(u32, Rule)> {
    let mut ranges: Vec<(u32, Rule)> = Vec::new();
    for number in 0..=newest {
        let rule = by_number.get(&number).copied().unwrap_or(default);
        if ranges.last().is_none_or(|(_, last)| *last != rule) {
            ranges.push((number, rule));
        }
    }
    if ranges.last().is_none_or(|(_, last)| *last != beyond) {
        ranges.push((newest + 1, beyond));
    }
    ranges
}

fn search(ranges: &[(u32, Rule)]) -> Vec<Instruction> {
    match ranges {
        [] => vec![give(REFUSE)],
        [(_, rule)] => check(*rule),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let first_high = high.first().map_or(0, |(first, _)| *first);
            let low = search(low);
            let mut program = vec![test(JUMP_AT_LEAST, first_high, 0, 1), jump(low.len())];
            program.extend(low);
            program.extend(search(high));
            program
        }
    }
}

fn check(rule: Rule) -> Vec<Instruction> {
    match rule {
        Rule::Return(action) => vec![give(action)],
        Rule::SocketFamily => {
            let mut program =
                vec![load(OFFSET_ARGUMENT), test(JUMP_AT_LEAST, profile::SOCKET_FAMILIES_BELOW, 1, 0), give(ALLOW)];
            program.extend(one_of(profile::SOCKET_FAMILIES));
            program
        }
        Rule::Personality => {
            let mut program = vec![load(OFFSET_ARGUMENT)];
            program.extend(one_of(profile::PERSONALITIES));
            program
        }
        Rule::Creation { argument } => vec![
            load(OFFSET_ARGUMENT + u32::from(argument) * 8),
            Instruction { code: AND, if_true: 0, if_false: 0, value: libc::O_CREAT as u32 },
            test(JUMP_EQUAL, 0, 0, 1),
            give(ALLOW),
            give(NOTIFY),
        ],
        Rule::CloneWithoutNamespaces => vec![
            load(OFFSET_ARGUMENT),
            Instruction { code: AND, if_true: 0, if_false: 0, value: profile::CLONE_NAMESPACES },
            test(JUMP_EQUAL, 0, 0, 1),
            give(ALLOW),
            give(REFUSE),
        ],
    }
}

/// Allows the values of the accumulator that are listed, refuses the others.
fn one_of(values: &[u32]) -> Vec<Instruction> {
    let tests = values.iter().flat_map(|value| [test(JUMP_EQUAL, *value, 0, 1), give(ALLOW)]);
    tests.chain(std::iter::once(give(REFUSE))).collect()
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, if_true: 0, if_false: 0, value: offset }
}

fn test(code: u16, value: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction { code, if_true, if_false, value }
}

fn jump(over: usize) -> Instruction {
    Instruction { code: JUMP, if_true: 0, if_false: 0, value: over as u32 }
}

fn give(action: u32) -> Instruction {
    Instruction { code: RETURN, if_true: 0, if_false: 0, value: action }
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
