use super::*;
use crate::sandbox::capability::Capabilities;

/// Runs `program` as the kernel would; panics where the kernel would have rejected it.
fn run(program: &[Instruction], machine: Machine, call: u32, argument: u32) -> u32 {
    let (mut at, mut accumulator) = (0_usize, 0_u32);
    loop {
        let instruction = program[at];
        at += 1;
        let truth = match instruction.code {
            LOAD => {
                accumulator = match instruction.value {
                    OFFSET_CALL => call,
                    OFFSET_ARCHITECTURE => machine.audit(),
                    _ if instruction.value >= OFFSET_ARGUMENT => argument,
                    other => panic!("load of offset {other}"),
                };
                continue;
            }
            AND => {
                accumulator &= instruction.value;
                continue;
            }
            JUMP => {
                at += instruction.value as usize;
                continue;
            }
            RETURN => return instruction.value,
            JUMP_EQUAL => accumulator == instruction.value,
            JUMP_AT_LEAST => accumulator >= instruction.value,
            other => panic!("unknown code {other:#x}"),
        };
        at += usize::from(if truth { instruction.if_true } else { instruction.if_false });
    }
}

fn docker() -> Policy<'static> {
    Policy { capabilities: Capabilities::docker(), notify: &[], notify_creation: &[], restrict: true }
}

const ALL: &[Machine] = &[Machine::X86_64, Machine::I386, Machine::Aarch64];

#[test]
fn numbers_are_sorted_by_name_without_doubles() {
    assert!(NUMBERS.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn every_number_gets_what_the_profile_says() {
    let policy = docker();
    let program = compile_for(&policy, ALL);
    let rules = rules_by_name(&policy);
    for &machine in ALL {
        for row in NUMBERS {
            let Some(number) = machine.number(row) else { continue };
            let expected = match rules.get(row.0) {
                Some(Rule::Return(action)) => *action,
                None => REFUSE,
                Some(_) => continue,
            };
            assert_eq!(run(&program, machine, number, 0), expected, "{} on {machine:?}", row.0);
        }
    }
}

#[test]
fn known_calls_by_their_number() {
    let program = compile_for(&docker(), ALL);
    let cases = [
        (Machine::X86_64, 0, 0, ALLOW, "read"),
        (Machine::X86_64, 165, 0, REFUSE, "mount"),
        (Machine::X86_64, 272, 0, REFUSE, "unshare"),
        (Machine::X86_64, 161, 0, ALLOW, "chroot"),
        (Machine::X86_64, 435, 0, UNKNOWN, "clone3"),
        (Machine::X86_64, 9999, 0, UNKNOWN, "a call of the future"),
        (Machine::X86_64, X32 | 1, 0, UNKNOWN, "x32"),
        (Machine::X86_64, 41, 2, ALLOW, "socket(AF_INET)"),
        (Machine::X86_64, 41, 16, ALLOW, "socket(AF_NETLINK)"),
        (Machine::X86_64, 41, 38, REFUSE, "socket(AF_ALG)"),
        (Machine::X86_64, 41, 40, REFUSE, "socket(AF_VSOCK)"),
        (Machine::X86_64, 56, 0x11, ALLOW, "clone as fork"),
        (Machine::X86_64, 56, 0x1000_0011, REFUSE, "clone(CLONE_NEWUSER)"),
        (Machine::X86_64, 135, 0xffff_ffff, ALLOW, "personality query"),
        (Machine::X86_64, 135, 0x0004_0000, REFUSE, "personality(ADDR_NO_RANDOMIZE)"),
        (Machine::I386, 21, 0, REFUSE, "mount on i386"),
        (Machine::I386, 4, 0, ALLOW, "write on i386"),
        (Machine::Aarch64, 40, 0, REFUSE, "mount on aarch64"),
        (Machine::Aarch64, 64, 0, ALLOW, "write on aarch64"),
    ];
    for (machine, call, argument, expected, name) in cases {
        assert_eq!(run(&program, machine, call, argument), expected, "{name}");
    }
}

#[test]
fn an_unknown_architecture_gets_nothing() {
    let program = compile_for(&docker(), &[Machine::X86_64]);
    assert_eq!(run(&program, Machine::Aarch64, 64, 0), UNKNOWN);
}

#[test]
fn capabilities_open_their_calls() {
    let policy = Policy { capabilities: Capabilities::all(), ..docker() };
    let program = compile_for(&policy, ALL);
    assert_eq!(run(&program, Machine::X86_64, 165, 0), ALLOW);
    assert_eq!(run(&program, Machine::X86_64, 435, 0), ALLOW);
    assert_eq!(run(&program, Machine::X86_64, 56, 0x1000_0011), ALLOW);
}

#[test]
fn notified_calls_stand_above_the_profile() {
    let policy = Policy { notify: &["chown", "no_such_call"], ..docker() };
    let program = compile_for(&policy, ALL);
    assert_eq!(run(&program, Machine::X86_64, 92, 0), NOTIFY);
    let unconfined = Policy { restrict: false, ..policy };
    let program = compile_for(&unconfined, ALL);
    assert_eq!(run(&program, Machine::X86_64, 92, 0), NOTIFY);
    assert_eq!(run(&program, Machine::X86_64, 165, 0), ALLOW);
}

#[test]
fn opening_is_notified_when_it_can_make_a_file() {
    let program = compile_for(&Policy { notify_creation: &[("openat", 2)], ..docker() }, ALL);
    assert_eq!(run(&program, Machine::X86_64, 257, libc::O_RDWR as u32), ALLOW);
    assert_eq!(run(&program, Machine::X86_64, 257, (libc::O_RDWR | libc::O_CREAT) as u32), NOTIFY);
    assert_eq!(run(&program, Machine::X86_64, 2, libc::O_CREAT as u32), ALLOW);
}

#[test]
fn calls_are_known_by_their_numbers() {
    let machine = Machine::NATIVE[0];
    let row = NUMBERS.iter().find(|row| row.0 == "fchownat").expect("a call");
    let number = machine.number(row).expect("on every machine");
    assert_eq!(name_of_call(machine.audit(), number as i32), Some("fchownat"));
    assert_eq!(name_of_call(0, 0), None);
}

#[test]
fn the_program_fits_the_kernel_and_its_jumps_stay_inside() {
    let program = compile_for(&docker(), ALL);
    assert!(program.len() < 4096, "{} instructions", program.len());
    for (at, instruction) in program.iter().enumerate() {
        let reach = match instruction.code {
            JUMP => instruction.value as usize,
            JUMP_EQUAL | JUMP_AT_LEAST => usize::from(instruction.if_true.max(instruction.if_false)),
            _ => 0,
        };
        assert!(at + 1 + reach < program.len() || instruction.code == RETURN);
    }
}
