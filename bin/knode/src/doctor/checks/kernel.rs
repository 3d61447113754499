//! What the kernel must have, and how it must be set.

use crate::doctor::facts::{Facts, Kernel};
use crate::doctor::finding::{Finding, Status};
use crate::install::assets;

/// Without these no pod has limits.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];
/// From this share of the table of connections on new ones are about to be dropped, percent.
const FULL: u64 = 80;

pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut all = vec![
        feature(
            "overlayfs",
            &facts.kernel.overlayfs,
            Status::Fail,
            "modprobe overlay",
        ),
        feature(
            "nf_tables",
            &facts.kernel.nf_tables,
            Status::Fail,
            "modprobe nf_tables",
        ),
        feature(
            "vxlan",
            &facts.kernel.vxlan,
            Status::Fail,
            "modprobe vxlan, or another backend of the overlay",
        ),
        controllers(&facts.kernel),
        swap(&facts.swaps),
    ];
    all.extend(conntrack(&facts.kernel));
    all.extend(
        assets::settings()
            .iter()
            .filter_map(|(key, value)| setting(facts, key, value)),
    );
    all.extend(rp_filter(facts));
    all.extend(security(facts));
    all
}

fn feature(check: &str, there: &Result<(), String>, status: Status, mend: &str) -> Finding {
    match there {
        Ok(()) => Finding::ok(check, "there"),
        Err(error) => Finding {
            status,
            ..Finding::fail(check, format!("missing: {error}"), mend)
        },
    }
}

fn controllers(kernel: &Kernel) -> Finding {
    let check = "control groups";
    let found = match &kernel.controllers {
        Ok(found) => found,
        Err(error) => return Finding::fail(check, error, "mount the control groups at /sys/fs/cgroup"),
    };
    let missing: Vec<&str> = CONTROLLERS
        .into_iter()
        .filter(|name| !found.iter().any(|f| f == name))
        .collect();
    if missing.is_empty() {
        return Finding::ok(check, CONTROLLERS.join(", "));
    }
    let found = format!("without {}", missing.join(", "));
    let mend = "boot with cgroup_enable=memory (Raspberry Pi and the like), or a kernel that has them";
    Finding::fail(check, found, mend)
}

fn swap(swaps: &[String]) -> Finding {
    if swaps.is_empty() {
        return Finding::ok("swap", "off");
    }
    let found = format!(
        "on ({}): limits of memory do not hold as pods are promised",
        swaps.join(", ")
    );
    Finding::warn("swap", found, "swapoff -a, and take it out of /etc/fstab")
}

fn conntrack(kernel: &Kernel) -> Option<Finding> {
    let (count, max) = kernel.conntrack?;
    let found = format!("{count} of {max} connections");
    if max > 0 && count.saturating_mul(100) / max >= FULL {
        let mend = format!(
            "sysctl -w net.netfilter.nf_conntrack_max={}",
            max.saturating_mul(2)
        );
        return Some(Finding::warn(
            "conntrack",
            format!("{found}: new ones will be dropped"),
            mend,
        ));
    }
    Some(Finding::ok("conntrack", found))
}

/// A setting that `knode install` keeps. The daemon sets forwarding itself when it starts; once it runs, another value
/// is somebody's doing.
fn setting(facts: &Facts, key: &str, wanted: &str) -> Option<Finding> {
    let found = facts.settings.get(key)?;
    let keep = format!("sysctl -w {key}={wanted}; knode install keeps it over a reboot");
    let finding = match (key, found) {
        (_, Some(value)) if value == wanted => Finding::ok(key, value.clone()),
        ("net.ipv4.ip_local_reserved_ports", _) => return Some(reserved(facts)),
        ("net.ipv4.ip_forward", Some(value)) if facts.daemon.is_some() => {
            Finding::fail(key, format!("{value}: pods reach nobody outside"), keep).fixed_by(key, wanted)
        }
        (_, Some(value)) if at_least(key) && number(value) >= number(wanted) => {
            Finding::ok(key, value.clone())
        }
        (_, Some(value)) => Finding::warn(key, format!("{value}, not {wanted}"), keep).fixed_by(key, wanted),
        (_, None) if key.starts_with("net.bridge.") => {
            Finding::ok(key, "no such setting: bridged packets pass no filter of iptables")
        }
        (_, None) => return None,
    };
    Some(finding)
}

fn at_least(key: &str) -> bool {
    key.starts_with("fs.inotify.") || key == "kernel.panic"
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or(i64::MIN)
}

/// A NodePort that the kernel gives away as a source port is lost for connections to it.
fn reserved(facts: &Facts) -> Finding {
    let key = "net.ipv4.ip_local_reserved_ports";
    let of = |key: &str| facts.settings.get(key).cloned().flatten().unwrap_or_default();
    let range = of("net.ipv4.ip_local_port_range");
    let ports: Vec<u16> = range.split_whitespace().filter_map(|p| p.parse().ok()).collect();
    let wanted = facts.networks.node_ports;
    let overlaps = match ports[..] {
        [first, last] => first <= wanted.last && wanted.first <= last,
        _ => false,
    };
    if !overlaps {
        return Finding::ok(key, format!("source ports {range} are none of NodePorts"));
    }
    let reserved = of(key);
    let port = |text: &str| text.trim().parse::<u16>().ok();
    let covered = reserved.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        port(first).is_some_and(|first| first <= wanted.first)
            && port(last).is_some_and(|last| wanted.last <= last)
    });
    let ours = format!("{}-{}", wanted.first, wanted.last);
    if covered {
        return Finding::ok(key, reserved);
    }
    let found = format!("NodePorts {ours} are given away as source ports ({range})");
    let all = if reserved.is_empty() {
        ours
    } else {
        format!("{reserved},{ours}")
    };
    Finding::warn(
        key,
        found,
        format!("sysctl -w {key}={all}, or another --node-port-range"),
    )
    .fixed_by(key, &all)
}

/// Strictly filtered, packets that come by another way than answers would go are dropped.
fn rp_filter(facts: &Facts) -> Option<Finding> {
    let key = "net.ipv4.conf.all.rp_filter";
    let value = facts.settings.get(key)?.as_deref()?;
    if value != "1" {
        return Some(Finding::ok(key, value));
    }
    let found = "1 (strict): what comes by another way than the answer would go is dropped";
    Some(Finding::warn(key, found, format!("sysctl -w {key}=2 (loose)")).fixed_by(key, "2"))
}

fn security(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    match facts.security.selinux {
        Some(true) => all.push(Finding::warn(
            "SELinux",
            "enforcing; without --selinux containers have no labels, so that mounts may be refused to them",
            "start knode with --selinux (the policy of container-selinux is needed); look for AVC lines in the audit log",
        )),
        Some(false) => all.push(Finding::ok("SELinux", "permissive")),
        None => {}
    }
    if facts.security.apparmor && !facts.security.apparmor_parser {
        all.push(Finding::warn(
            "AppArmor",
            "on, but nothing can load profiles: pods that name one are refused",
            "apt install apparmor",
        ));
    } else if facts.security.apparmor {
        all.push(Finding::ok("AppArmor", "on"));
    }
    all
}
