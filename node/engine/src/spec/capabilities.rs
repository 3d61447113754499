//! Capabilities of a container.

use std::collections::BTreeSet;
use std::str::FromStr;

use knode_cri::LinuxContainerSecurityContext;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

use super::SpecError;

/// In the order of their numbers in the kernel.
const NAMES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

const DEFAULT: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

type Set = BTreeSet<usize>;

/// The sets of a container; what this process itself lacks cannot be given and is left out.
pub(super) fn capabilities(
    context: &LinuxContainerSecurityContext,
    available: u64,
) -> Result<LinuxCapabilities, SpecError> {
    let asked = context.capabilities.clone().unwrap_or_default();
    let mut set: Set = if context.privileged {
        (0..NAMES.len()).collect()
    } else {
        let mut set: Set = DEFAULT.iter().filter_map(|name| index(name)).collect();
        change(&mut set, &asked.add_capabilities, &asked.drop_capabilities)?;
        set
    };
    let mut ambient = Set::new();
    for name in &asked.add_ambient_capabilities {
        ambient.insert(parse(name)?);
    }
    let can = |number: &usize| available & (1 << number) != 0;
    set.extend(ambient.iter());
    set.retain(can);
    ambient.retain(can);
    let all = named(&set);
    Ok(LinuxCapabilitiesBuilder::default()
        .bounding(all.clone())
        .effective(all.clone())
        .permitted(all)
        .inheritable(named(&ambient))
        .ambient(named(&ambient))
        .build()?)
}

/// "ALL" is taken first in both lists, so that single names refine it.
fn change(set: &mut Set, add: &[String], drop: &[String]) -> Result<(), SpecError> {
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    if add.iter().any(is_all) {
        set.extend(0..NAMES.len());
    }
    if drop.iter().any(is_all) {
        set.clear();
    }
    for name in add.iter().filter(|name| !is_all(name)) {
        set.insert(parse(name)?);
    }
    for name in drop.iter().filter(|name| !is_all(name)) {
        set.remove(&parse(name)?);
    }
    Ok(())
}

fn parse(name: &str) -> Result<usize, SpecError> {
    let upper = name.to_uppercase();
    index(upper.strip_prefix("CAP_").unwrap_or(&upper)).ok_or_else(|| SpecError::Capability(name.to_string()))
}

fn index(name: &str) -> Option<usize> {
    NAMES.iter().position(|other| *other == name)
}

fn named(set: &Set) -> Capabilities {
    set.iter()
        .filter_map(|number| Capability::from_str(NAMES[*number]).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounding(add: &[&str], drop: &[&str], available: u64) -> Result<BTreeSet<String>, SpecError> {
        let list = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        let context = LinuxContainerSecurityContext {
            capabilities: Some(knode_cri::Capability {
                add_capabilities: list(add),
                drop_capabilities: list(drop),
                ..Default::default()
            }),
            ..Default::default()
        };
        let sets = capabilities(&context, available)?;
        Ok(sets
            .bounding()
            .iter()
            .flatten()
            .map(|capability| capability.to_string())
            .collect())
    }

    #[test]
    fn every_name_has_an_oci_name() {
        for name in NAMES {
            assert!(Capability::from_str(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn lists_refine_all() {
        assert_eq!(bounding(&[], &[], u64::MAX).unwrap().len(), DEFAULT.len());
        assert_eq!(bounding(&["NET_ADMIN"], &["ALL"], u64::MAX).unwrap().len(), 1);
        assert_eq!(
            bounding(&["ALL"], &["CAP_SYS_TIME"], u64::MAX).unwrap().len(),
            NAMES.len() - 1
        );
        assert_eq!(
            bounding(&[], &["chown"], u64::MAX).unwrap().len(),
            DEFAULT.len() - 1
        );
    }

    #[test]
    fn what_the_machine_lacks_is_left_out() {
        let without_resource = !(1 << 24);
        assert_eq!(
            bounding(&["ALL"], &[], without_resource).unwrap().len(),
            NAMES.len() - 1
        );
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        assert!(
            matches!(bounding(&["FLY"], &[], u64::MAX), Err(SpecError::Capability(name)) if name == "FLY")
        );
    }
}
