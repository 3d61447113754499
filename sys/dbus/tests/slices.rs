//! Slices under a systemd of their own. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use knode_dbus::systemd::slice::{Limits, Quota, Slice, Version};
use knode_dbus::systemd::{PRIVATE, Systemd};
use knode_linux::cgroup::{self, Cgroups};
use knode_testkit::wait::wait_until;

const POD: &str = "/kubepods/burstable/pod1-2";
const MEBIBYTE: u64 = 1024 * 1024;
const BOUND: std::time::Duration = std::time::Duration::from_secs(30);

fn version() -> Version {
    match Cgroups::detect(cgroup::DEFAULT_ROOT.as_ref()).unwrap().version() {
        cgroup::Version::V1 => Version::V1,
        cgroup::Version::V2 => Version::V2,
    }
}

fn limits(mebibytes: u64) -> Limits {
    Limits {
        share: Some(512),
        quota: Some(Quota {
            time: Some(26_000),
            period: 100_000,
        }),
        memory: Some(mebibytes * MEBIBYTE),
        tasks: Some(77),
    }
}

/// What the test has done among systemd's processes: this file's program once more, for its socket is only for them.
#[test]
#[ignore = "a part of slices_are_made_limited_and_stopped"]
fn inside_make() {
    let mut systemd = Systemd::connect(Path::new(PRIVATE)).unwrap();
    // The pod's first: those above are then there before they are asked for.
    for group in [POD, "/kubepods/burstable", "/kubepods"] {
        let slice = Slice::of_group(Path::new(group)).unwrap();
        systemd.apply(&slice, &limits(64), version()).unwrap();
    }
}

#[test]
#[ignore = "a part of slices_are_made_limited_and_stopped"]
fn inside_change() {
    let slice = Slice::of_group(Path::new(POD)).unwrap();
    let mut systemd = Systemd::connect(Path::new(PRIVATE)).unwrap();
    systemd.apply(&slice, &limits(32), version()).unwrap();
}

#[test]
#[ignore = "a part of slices_are_made_limited_and_stopped"]
fn inside_stop() {
    let slice = Slice::of_group(Path::new("/kubepods")).unwrap();
    let mut systemd = Systemd::connect(Path::new(PRIVATE)).unwrap();
    for _ in 0..2 {
        systemd.stop(slice.unit()).unwrap();
    }
}

fn inside(systemd: &knode_testkit::Systemd, part: &str) {
    let program = std::env::current_exe().unwrap();
    systemd.run(program.to_str().unwrap(), &["--exact", part, "--ignored"]);
}

/// What the kernel says of the limits of a group; nothing if it has none.
fn held(systemd: &knode_testkit::Systemd, group: &str) -> Vec<String> {
    let files: [(&str, &str); 4] = match version() {
        Version::V1 => [
            ("cpu", "cpu.shares"),
            ("cpu", "cpu.cfs_quota_us"),
            ("memory", "memory.limit_in_bytes"),
            ("pids", "pids.max"),
        ],
        Version::V2 => [
            ("", "cpu.weight"),
            ("", "cpu.max"),
            ("", "memory.max"),
            ("", "pids.max"),
        ],
    };
    let slice = Slice::of_group(Path::new(group)).unwrap();
    let read = |(controller, file): (&str, &str)| {
        let text = std::fs::read_to_string(systemd.group(controller, slice.path()).join(file)).ok()?;
        Some(text.trim().to_owned())
    };
    files.into_iter().filter_map(read).collect()
}

fn expected(mebibytes: u64) -> Vec<String> {
    let quota = match version() {
        Version::V1 => "26000",
        Version::V2 => "26000 100000",
    };
    let memory = (mebibytes * MEBIBYTE).to_string();
    ["512", quota, &memory, "77"].map(str::to_owned).to_vec()
}

#[test]
fn slices_are_made_limited_and_stopped() {
    let systemd = knode_testkit::Systemd::start();
    inside(&systemd, "inside_make");
    for group in ["/kubepods", "/kubepods/burstable", POD] {
        assert_eq!(held(&systemd, group), expected(64), "{group}");
    }
    // systemd sets them anew from what it knows.
    systemd.run("systemctl", &["daemon-reload"]);
    inside(&systemd, "inside_change");
    assert_eq!(held(&systemd, POD), expected(32));
    assert_eq!(held(&systemd, "/kubepods"), expected(64));
    inside(&systemd, "inside_stop");
    wait_until("the slices to be gone", BOUND, || {
        let left: Vec<String> = ["/kubepods", POD]
            .iter()
            .flat_map(|group| held(&systemd, group))
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
}
