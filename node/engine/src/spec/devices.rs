//! Devices of a container and the rules of the device control group.

use std::path::PathBuf;

use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};

/// What kind of device a node stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Block device.
    Block,
    /// Character device.
    Character,
}

/// A device node of the host and where the container sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDevice {
    /// Path in the container.
    pub container_path: PathBuf,
    /// Kind.
    pub kind: DeviceKind,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What the control group allows, of `rwm`.
    pub access: String,
}

/// Nodes to make and rules to set. An ordinary container may use the nodes it is given and nothing else.
pub(super) fn devices(host: &[HostDevice], privileged: bool) -> (Vec<LinuxDevice>, Vec<LinuxDeviceCgroup>) {
    let nodes = host.iter().filter_map(node).collect();
    let mut rules: Vec<LinuxDeviceCgroup> = Vec::new();
    rules.extend(rule(privileged, None, None, None, "rwm"));
    if !privileged {
        let asked = host.iter().filter_map(|device| {
            rule(
                true,
                Some(kind(device.kind)),
                Some(device.major),
                Some(device.minor),
                &device.access,
            )
        });
        rules.extend(asked);
    }
    (nodes, rules)
}

fn kind(kind: DeviceKind) -> LinuxDeviceType {
    match kind {
        DeviceKind::Block => LinuxDeviceType::B,
        DeviceKind::Character => LinuxDeviceType::C,
    }
}

fn node(device: &HostDevice) -> Option<LinuxDevice> {
    let builder = LinuxDeviceBuilder::default()
        .path(&device.container_path)
        .typ(kind(device.kind))
        .major(device.major)
        .minor(device.minor)
        .file_mode(device.mode & 0o7777)
        .uid(device.uid)
        .gid(device.gid);
    builder.build().ok()
}

fn rule(
    allow: bool,
    typ: Option<LinuxDeviceType>,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> Option<LinuxDeviceCgroup> {
    let mut rule = LinuxDeviceCgroupBuilder::default()
        .allow(allow)
        .access(access.to_string())
        .build()
        .ok()?;
    rule.set_typ(Some(typ.unwrap_or(LinuxDeviceType::A)));
    rule.set_major(major);
    rule.set_minor(minor);
    Some(rule)
}
