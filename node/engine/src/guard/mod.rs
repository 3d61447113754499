//! Devices of a container where control groups are of version 2: a program that the kernel asks, since there is no
//! controller for them (`Documentation/admin-guide/cgroup-v2.rst`, "Device controller").

mod rules;

use std::path::Path;

use knode_bpf::{Assembler, Condition, Program, Reg, Size, guard_devices};
use oci_spec::runtime::LinuxDeviceCgroup;

use self::rules::{Rule, in_force};

/// Why a container's devices cannot be guarded.
pub(crate) type GuardError = knode_bpf::Error;

/// Guards the devices of the group in this directory by the rules of a specification, and lets it the usual ones. There
/// is nothing to guard where everything is allowed.
///
/// # Errors
/// Those of the kernel, which wants the capabilities `SYS_ADMIN` and `BPF`.
pub(crate) fn guard<'a>(
    group: &Path,
    rules: impl IntoIterator<Item = &'a LinuxDeviceCgroup>,
) -> Result<(), GuardError> {
    match in_force(rules) {
        None => Ok(()),
        Some(rules) => guard_devices(
            &Program::load_for_devices("knode_devices", program(&rules))?,
            group,
        ),
    }
}

/// A program that lets what one of these rules allows whole.
fn program(rules: &[Rule]) -> Assembler<'static> {
    const KIND: i32 = 0xffff;
    const ACCESS: i32 = 16;
    let (context, kind, access, major, minor) = (Reg::R1, Reg::R3, Reg::R2, Reg::R4, Reg::R5);
    let mut code = Assembler::new();
    code.load(Size::B4, access, context, 0);
    code.copy(kind, access);
    code.and(kind, KIND);
    code.shift_right(access, ACCESS);
    code.load(Size::B4, major, context, 4);
    code.load(Size::B4, minor, context, 8);
    for rule in rules {
        let next = code.label();
        code.jump_if(kind, Condition::NotEqual, rule.kind.number(), next);
        for (wanted, seen) in [(rule.major, major), (rule.minor, minor)] {
            if let Some(wanted) = wanted {
                code.jump_if32(seen, Condition::NotEqual, wanted.cast_signed(), next);
            }
        }
        code.copy(Reg::R0, access);
        code.and(Reg::R0, !rule.access.bits());
        code.jump_if(Reg::R0, Condition::NotEqual, 0, next);
        code.set(Reg::R0, 1);
        code.exit();
        code.place(next);
    }
    code.set(Reg::R0, 0);
    code.exit();
    code
}

#[cfg(test)]
mod tests;
