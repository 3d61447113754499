//! What the kernel is, and how it is set.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use knode_linux::cgroup::{self, Cgroups, Version};
use knode_netlink::{Handle, MacAddr, Netns, Vxlan, add_vxlan};
use knode_nft::{Family, Socket};

use crate::doctor::facts::{Kernel, Security};
use crate::install::assets;

/// Beside those that `knode install` sets.
const MORE: [&str; 2] = ["net.ipv4.ip_local_port_range", "net.ipv4.conf.all.rp_filter"];

/// The file of a setting: `net.ipv4.ip_forward` is `/proc/sys/net/ipv4/ip_forward`.
pub fn setting_file(key: &str) -> std::path::PathBuf {
    Path::new("/proc/sys").join(key.replace('.', "/"))
}

pub fn settings() -> BTreeMap<String, Option<String>> {
    let keys = assets::settings().into_iter().map(|(key, _)| key).chain(MORE);
    let read = |key: &str| fs::read_to_string(setting_file(key)).ok();
    keys.map(|key| (key.to_owned(), read(key).map(|text| text.trim().to_owned())))
        .collect()
}

pub fn features() -> Kernel {
    Kernel {
        overlayfs: overlayfs(),
        vxlan: vxlan(),
        nf_tables: Socket::open()
            .and_then(|mut socket| socket.tables(Family::Inet))
            .map(drop)
            .map_err(|e| knode_client::brief(&e)),
        controllers: controllers(),
        conntrack: conntrack(),
    }
}

fn overlayfs() -> Result<(), String> {
    let known = fs::read_to_string("/proc/filesystems").map_err(|e| e.to_string())?;
    let mut names = known.lines().filter_map(|line| line.split_whitespace().last());
    if names.any(|name| name == "overlay") || is_module("overlay") {
        return Ok(());
    }
    Err("no file system overlay in /proc/filesystems, and no module".to_owned())
}

/// Whether the running kernel has a module that it loads when it is asked for.
fn is_module(name: &str) -> bool {
    let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease") else {
        return false;
    };
    let directory = Path::new("/lib/modules").join(release.trim());
    ["modules.dep", "modules.builtin"].iter().any(|list| {
        let text = fs::read_to_string(directory.join(list)).unwrap_or_default();
        text.contains(&format!("/{name}.ko"))
    })
}

/// A tunnel is made where nobody sees it, in a network namespace that ends with the attempt.
fn vxlan() -> Result<(), String> {
    let tunnel = Vxlan {
        vni: 1,
        port: 8472,
        local: None,
        underlay: None,
        learning: false,
        gbp: false,
    };
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    let attempt = || {
        let handle = Handle::open_in(&Netns::anonymous()?)?;
        handle.execute(add_vxlan("try", mac, 1450, &tunnel))
    };
    attempt().map_err(|e: knode_netlink::Error| knode_client::brief(&e))
}

fn controllers() -> Result<Vec<String>, String> {
    let root = Path::new(cgroup::DEFAULT_ROOT);
    let cgroups = Cgroups::detect(root).map_err(|e| e.to_string())?;
    if matches!(cgroups.version(), Version::V2) {
        let text = fs::read_to_string(root.join("cgroup.controllers")).map_err(|e| e.to_string())?;
        return Ok(text.split_whitespace().map(str::to_owned).collect());
    }
    let text = fs::read_to_string("/proc/cgroups").map_err(|e| e.to_string())?;
    let enabled = text
        .lines()
        .filter(|line| !line.starts_with('#') && line.ends_with("\t1"));
    Ok(enabled
        .filter_map(|line| line.split('\t').next())
        .map(str::to_owned)
        .collect())
}

fn conntrack() -> Option<(u64, u64)> {
    let read = |name: &str| {
        let text = fs::read_to_string(setting_file(&format!("net.netfilter.nf_conntrack_{name}"))).ok()?;
        text.trim().parse().ok()
    };
    Some((read("count")?, read("max")?))
}

pub fn security() -> Security {
    let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    Security {
        selinux: read("/sys/fs/selinux/enforce").map(|text| text == "1"),
        apparmor: read("/sys/module/apparmor/parameters/enabled").is_some_and(|text| text == "Y"),
        apparmor_parser: ["/sbin/apparmor_parser", "/usr/sbin/apparmor_parser"]
            .iter()
            .any(|path| Path::new(path).exists()),
    }
}
