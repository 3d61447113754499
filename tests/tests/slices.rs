//! A node whose control groups systemd makes: pods are slices that hold their limits, whatever systemd is told, and go.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use knode_e2e::{BOUND, Cluster};
use knode_testkit::{machine, wait_until};

/// One pod of each class.
const PODS: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: whole}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sleep, '3600']
    resources: {limits: {cpu: 300m, memory: 64Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: some}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sleep, '3600']
    resources: {requests: {cpu: 100m}, limits: {cpu: 150m, memory: 32Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: none}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: 'busybox:test', imagePullPolicy: Never, command: [sleep, '3600']}
";

/// A controller, a file, and what it holds.
type Held = (&'static str, &'static str, &'static str);

/// A pod, the end of its slice's name before its own part, and what its files hold in version 1 and in version 2 of
/// control groups.
type Expected = (&'static str, &'static str, &'static [Held], &'static [Held]);

const EXPECTED: &[Expected] = &[
    (
        "whole",
        "kubepods-pod",
        &[
            ("cpu", "cpu.shares", "307"),
            ("cpu", "cpu.cfs_quota_us", "30000"),
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("pids", "pids.max", "200"),
        ],
        &[
            ("", "cpu.weight", "12"),
            ("", "cpu.max", "30000 100000"),
            ("", "memory.max", "67108864"),
            ("", "pids.max", "200"),
        ],
    ),
    (
        "some",
        "kubepods-burstable-pod",
        &[
            ("cpu", "cpu.shares", "102"),
            ("cpu", "cpu.cfs_quota_us", "15000"),
            ("memory", "memory.limit_in_bytes", "33554432"),
            ("pids", "pids.max", "200"),
        ],
        &[
            ("", "cpu.weight", "4"),
            ("", "cpu.max", "15000 100000"),
            ("", "memory.max", "33554432"),
            ("", "pids.max", "200"),
        ],
    ),
    (
        "none",
        "kubepods-besteffort-pod",
        &[("cpu", "cpu.shares", "2"), ("pids", "pids.max", "200")],
        &[("", "cpu.weight", "1"), ("", "pids.max", "200")],
    ),
];

/// Whether this machine has version 2 of control groups.
fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn settings(cluster: &Cluster) -> String {
    let text = "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
podPidsLimit: 200
systemReserved: {memory: 100Mi}
kubeReserved: {cpu: 100m, memory: 64Mi}
kubeReservedCgroup: /runtime.slice
enforceNodeAllocatable: [pods, kube-reserved]
";
    let file = cluster.scratch.join("kubelet.yaml");
    fs::write(&file, text).unwrap();
    format!("--kubelet-config={}", file.display())
}

/// The slice of a pod, and its group.
fn slice_of(cluster: &Cluster, pod: &str, front: &str) -> (String, PathBuf) {
    let found = cluster.get(&format!("pod {pod}"));
    let uid = found["metadata"]["uid"].as_str().unwrap().replace('-', "_");
    let ending = format!("{front}{uid}.slice");
    let slices = cluster.systemd().slices();
    let name = slices.iter().find(|name| name.ends_with(&ending));
    let name = name
        .unwrap_or_else(|| panic!("no {ending} in {slices:?}"))
        .clone();
    let group = cluster.systemd().run(
        "systemctl",
        &["show", "--property=ControlGroup", "--value", &name],
    );
    (name, group.trim().into())
}

fn pods_have_their_limits(cluster: &Cluster) {
    for (pod, front, version_1, version_2) in EXPECTED {
        let (slice, group) = slice_of(cluster, pod, front);
        let files = if unified() { version_2 } else { version_1 };
        for (controller, file, expected) in *files {
            let path = cluster.systemd().group(controller, &group).join(file);
            let held = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert_eq!(held.trim(), *expected, "{}", path.display());
        }
        its_container_is_in_it(cluster, pod, &slice);
    }
}

/// In each hierarchy; in version 2 it sees no more than its own group.
fn its_container_is_in_it(cluster: &Cluster, pod: &str, slice: &str) {
    if unified() {
        let told = cluster
            .systemd()
            .run("systemd-cgls", &["--unit", slice, "--no-pager"]);
        assert!(
            told.contains(".scope") && told.contains("sleep 3600"),
            "{pod}: {told}"
        );
        return;
    }
    let inside = cluster
        .kubectl(&format!("exec {pod} -- cat /proc/self/cgroup"))
        .ok();
    for controller in ["memory", "pids", "cpuset", "name=systemd"] {
        let line = inside.lines().find(|line| {
            let mut names = line
                .split(':')
                .nth(1)
                .into_iter()
                .flat_map(|names| names.split(','));
            names.any(|name| name == controller)
        });
        let line = line.unwrap_or_else(|| panic!("{controller}: {inside}"));
        assert!(line.contains(slice) && line.contains(".scope"), "{pod}: {inside}");
    }
}

/// What is set aside is kept from pods, and a slice of others' is limited where it is.
fn the_node_keeps_its_part(cluster: &Cluster) {
    let slices = cluster.systemd().slices();
    let all = slices
        .iter()
        .find(|name| name.ends_with("kubepods.slice"))
        .unwrap();
    let shown = |unit: &str, property: &str| -> u64 {
        let property = format!("--property={property}");
        let told = cluster
            .systemd()
            .run("systemctl", &["show", &property, "--value", unit]);
        told.trim()
            .parse()
            .unwrap_or_else(|e| panic!("{unit}: {told:?}: {e}"))
    };
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let total: u64 = meminfo.split_whitespace().nth(1).unwrap().parse().unwrap();
    let (memory, share, shared) = if unified() {
        ("MemoryMax", "CPUWeight", 4)
    } else {
        ("MemoryLimit", "CPUShares", 102)
    };
    wait_until("all pods' memory to be limited", BOUND, || {
        let limit = shown(all, memory);
        (limit == total * 1024 - (164 << 20))
            .then_some(())
            .ok_or(format!("{limit} of {total} KiB"))
    });
    wait_until("the other slice to be limited", BOUND, || {
        let limit = shown("runtime.slice", memory);
        let shares = shown("runtime.slice", share);
        ((limit, shares) == (64 << 20, shared))
            .then_some(())
            .ok_or(format!("{limit} bytes, {shares} shares\n{}", cluster.log()))
    });
}

fn slices_of_pods(cluster: &Cluster) -> Vec<String> {
    let slices = cluster.systemd().slices();
    slices.into_iter().filter(|name| name.contains("-pod")).collect()
}

fn pods_are_slices(mut cluster: Cluster) {
    let others = "systemd-run --quiet --slice=runtime.slice --property=DefaultDependencies=no sleep 3600";
    let words: Vec<&str> = others.split(' ').collect();
    cluster.systemd().run(words[0], &words[1..]);
    let settings = settings(&cluster);
    cluster.start(&[&settings]);
    cluster.import_busybox("busybox:test");
    cluster.apply(PODS).ok();
    for (pod, ..) in EXPECTED {
        cluster.wait_ready(&format!("pod {pod}"));
    }
    pods_have_their_limits(&cluster);
    the_node_keeps_its_part(&cluster);
    // It sets anew what it knows.
    cluster.systemd().run("systemctl", &["daemon-reload"]);
    pods_have_their_limits(&cluster);

    // The next kubelet finds them as they are.
    cluster.kill();
    cluster.start(&[&settings]);
    for (pod, ..) in EXPECTED {
        let found = cluster.wait_ready(&format!("pod {pod}"));
        let restarts = &found["status"]["containerStatuses"][0]["restartCount"];
        assert_eq!(restarts, 0, "{}", found["status"]);
    }
    pods_have_their_limits(&cluster);

    cluster.kubectl("delete pod whole some none").ok();
    wait_until("the pods' slices to be gone", BOUND, || {
        let left = slices_of_pods(&cluster);
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    });
}

#[test]
fn pods_are_slices_that_hold_their_limits_and_go() {
    pods_are_slices(Cluster::machine_with_systemd("slices"));
}

#[test]
fn the_same_over_containerd() {
    pods_are_slices(Cluster::machine_with_systemd("slicesc").in_containerd());
}

#[test]
fn the_same_with_version_2_control_groups() {
    let binary = fs::canonicalize(knode_e2e::binary()).unwrap();
    let ended = machine::again(
        Path::new(env!("CARGO_MANIFEST_DIR")),
        "--exact pods_are_slices_that_hold_their_limits_and_go",
        &[("KNODE_BIN", &binary)],
        Duration::from_secs(500),
    );
    let console = ended.ok();
    assert!(console.contains("1 passed"), "{console}");
}
