//! Processors, memory and limits: what containers see of them, and what the machine's control groups say.
//! Over the engine and over containerd.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use knode_e2e::{BOUND, Cluster};
use knode_testkit::wait_until;
use serde_json::Value;

const KUBELET: &str = r#"
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cpuManagerPolicy: POLICY
reservedSystemCPUs: "RESERVED"
topologyManagerPolicy: single-numa-node
memoryManagerPolicy: Static
systemReserved: {memory: 156Mi}
reservedMemory: [{numaNode: 0, limits: {memory: 256Mi}}]
podPidsLimit: 100
seccompDefault: true
allowedUnsafeSysctls: ["kernel.msg*"]
cpuCFSQuotaPeriod: 50ms
"#;

fn pod(name: &str, spec: &str, resources: &str) -> String {
    format!(
        r"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  {spec}
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sleep, '3600']
    resources: {{{resources}}}
"
    )
}

/// A field of a container's own `/proc/self/status`.
fn seen(cluster: &Cluster, pod: &str, field: &str) -> String {
    let output = cluster.kubectl(&format!("exec {pod} -- grep ^{field}: /proc/self/status"));
    let text = output
        .stdout
        .split_once(':')
        .map(|(_, value)| value.trim().to_owned());
    text.unwrap_or_else(|| output.to_string())
}

/// The processors that a container may run on.
fn cpus(cluster: &Cluster, pod: &str) -> BTreeSet<usize> {
    numbers(&seen(cluster, pod, "Cpus_allowed_list"))
}

fn wait_cpus(cluster: &Cluster, pod: &str, wanted: &BTreeSet<usize>) {
    wait_until(&format!("{pod} to run on {wanted:?}"), BOUND, || {
        let now = cpus(cluster, pod);
        if now == *wanted {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    });
}

/// The machine's processors, of which the first is the node's own.
struct Machine {
    cpus: BTreeSet<usize>,
    nodes: BTreeSet<usize>,
}

impl Machine {
    fn read() -> Self {
        let of = |path: &str| numbers(&file(Path::new(path)));
        let cpus = of("/sys/devices/system/cpu/online");
        assert!(
            cpus.len() > 1,
            "a pod cannot have a processor alone on a machine with {cpus:?}"
        );
        Self {
            cpus,
            nodes: of("/sys/devices/system/node/online"),
        }
    }

    fn reserved(&self) -> usize {
        *self.cpus.first().unwrap()
    }

    /// How many processors pods may have.
    fn allocatable(&self) -> usize {
        self.cpus.len() - 1
    }

    fn but(&self, own: &BTreeSet<usize>) -> BTreeSet<usize> {
        self.cpus.difference(own).copied().collect()
    }
}

const CLASSES: [&str; 3] = ["", "burstable", "besteffort"];

/// The control group of the cluster's pods, in the hierarchy of a controller, and that of one pod in it.
fn groups(cluster: &Cluster, controller: &str, uid: &str) -> (PathBuf, PathBuf) {
    let root = Path::new("/sys/fs/cgroup");
    let root = if is_unified() {
        root.to_owned()
    } else {
        root.join(controller)
    };
    let all = std::fs::read_dir(&root).unwrap().flatten();
    let of_pod = |whole: PathBuf| {
        let pods = CLASSES.map(|class| whole.join(class).join(format!("pod{uid}")));
        let pod = pods.into_iter().find(|pod| pod.is_dir())?;
        Some((whole, pod))
    };
    let ours = all.map(|entry| entry.path().join("kubepods")).find_map(of_pod);
    ours.unwrap_or_else(|| panic!("no group of pod {uid} in {}\n{}", root.display(), cluster.log()))
}

/// Whether the machine has version 2 control groups alone.
fn is_unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The file of one of both versions.
fn value(group: &Path, v1: &str, v2: &str) -> String {
    file(&group.join(if is_unified() { v2 } else { v1 }))
}

/// Quota and period of a group, in microseconds; `max` is no quota.
fn quota(group: &Path) -> String {
    if is_unified() {
        return file(&group.join("cpu.max"));
    }
    let of = |name: &str| file(&group.join(format!("cpu.cfs_{name}_us")));
    let quota = of("quota");
    format!("{} {}", if quota == "-1" { "max" } else { &quota }, of("period"))
}

/// The share of `count` processors, as the kernel's version of control groups has it.
fn share(count: usize) -> String {
    let shares = (count * 1024).clamp(2, 262_144);
    let weight = 1 + (shares - 2) * 9999 / 262_142;
    if is_unified() { weight } else { shares }.to_string()
}

/// The numbers of a list such as `0-2,5`.
fn numbers(list: &str) -> BTreeSet<usize> {
    let number = |text: &str| text.parse::<usize>().unwrap_or_else(|e| panic!("{list:?}: {e}"));
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        number(first)..=number(last)
    };
    list.trim()
        .split(',')
        .filter(|part| !part.is_empty())
        .flat_map(range)
        .collect()
}

fn file(path: &Path) -> String {
    let text = std::fs::read_to_string(path);
    text.map(|text| text.trim().to_owned())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn configure(cluster: &Cluster, machine: &Machine, policy: &str) -> String {
    let path = cluster.scratch.join("kubelet.yaml");
    let text = KUBELET.replace("POLICY", policy);
    std::fs::write(&path, text.replace("RESERVED", &machine.reserved().to_string())).unwrap();
    format!("--kubelet-config={}", path.display())
}

fn total_memory() -> u64 {
    let text = file(Path::new("/proc/meminfo"));
    let line = text.lines().find(|line| line.starts_with("MemTotal:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn processors_and_limits_are_what_the_configuration_says() {
    hold(Cluster::machine("resources"));
}

#[test]
fn the_same_over_containerd() {
    hold(Cluster::over_containerd("resources-cd"));
}

fn hold(mut cluster: Cluster) {
    let machine = Machine::read();
    let option = configure(&cluster, &machine, "static");
    cluster.start(&[&option]);
    cluster.import_busybox("busybox:test");

    let few = "limits: {memory: 64Mi, cpu: 200m}, requests: {cpu: '0'}";
    cluster.apply(&pod("shared", "", few)).ok();
    let shared = cluster.wait_ready("pod shared");
    wait_cpus(&cluster, "shared", &machine.cpus);
    the_whole_is_limited(&cluster, &machine, &uid(&shared));

    let one = "limits: {memory: 64Mi, cpu: '1'}";
    cluster.apply(&pod("own", "", one)).ok();
    let own = cluster.wait_ready("pod own");
    assert_eq!(own["status"]["qosClass"], "Guaranteed");
    let alone = cpus(&cluster, "own");
    assert!(
        alone.len() == 1 && !alone.contains(&machine.reserved()),
        "{alone:?}"
    );
    wait_cpus(&cluster, "shared", &machine.but(&alone));
    its_groups_say_the_same(&cluster, &machine, &own, &alone);
    its_processes_are_counted(&cluster);
    what_cannot_be_had_is_refused(&cluster, &machine);

    cluster.kill();
    cluster.start(&[&option]);
    assert_eq!(
        cluster.wait_ready("pod own")["status"]["containerStatuses"][0]["restartCount"],
        0
    );
    wait_cpus(&cluster, "own", &alone);
    wait_cpus(&cluster, "shared", &machine.but(&alone));
    cluster.kubectl("delete pod own --wait=true").ok();
    wait_cpus(&cluster, "shared", &machine.cpus);

    cluster.kill();
    let other = configure(&cluster, &machine, "none");
    let refused = cluster.try_start(&[&other]).to_string() + &cluster.log();
    let told = "configured policy \"none\" differs from state checkpoint policy \"static\"";
    assert!(refused.contains(told), "{refused}");
    cluster.start(&[&configure(&cluster, &machine, "static")]);
}

fn the_whole_is_limited(cluster: &Cluster, machine: &Machine, uid: &str) {
    let node = cluster.get("node node1");
    let of = |field: &str| node["status"][field]["cpu"].as_str().unwrap().to_owned();
    assert_eq!(of("capacity"), machine.cpus.len().to_string());
    assert_eq!(of("allocatable"), machine.allocatable().to_string());
    cluster.wait(
        "events --field-selector reason=NodeAllocatableEnforced",
        |events| match events["items"][0]["message"].as_str() {
            Some("Updated Node Allocatable limit across pods") => Ok(()),
            _ => Err(events.to_string()),
        },
    );
    let whole = groups(cluster, "memory", uid).0;
    let limit = value(&whole, "memory.limit_in_bytes", "memory.max");
    let allocatable = total_memory() - (156 << 20);
    assert_eq!(limit.parse::<u64>().unwrap(), allocatable / 4096 * 4096);
    let (whole, pod) = groups(cluster, "cpu", uid);
    assert_eq!(
        value(&whole, "cpu.shares", "cpu.weight"),
        share(machine.allocatable())
    );
    assert_eq!(quota(&pod), "10000 50000");
    assert_eq!(file(&groups(cluster, "pids", uid).1.join("pids.max")), "100");
    assert_eq!(seen(cluster, "shared", "Seccomp"), "2", "the runtime's profile");
}

fn its_groups_say_the_same(cluster: &Cluster, machine: &Machine, own: &Value, alone: &BTreeSet<usize>) {
    let uid = uid(own);
    let id = own["status"]["containerStatuses"][0]["containerID"]
        .as_str()
        .unwrap();
    let id = id.split_once("://").unwrap().1;
    let group = |controller: &str| groups(cluster, controller, &uid).1.join(id);
    let list = |name: &str| numbers(&file(&group("cpuset").join(name)));
    assert_eq!(list("cpuset.cpus"), *alone);
    let memory = list("cpuset.mems");
    assert!(
        memory.len() == 1 && memory.is_subset(&machine.nodes),
        "{memory:?}"
    );
    let quota = quota(&group("cpu"));
    assert!(
        quota.starts_with("max "),
        "who is alone is not held back: {quota}"
    );
    let state = file(&PathBuf::from(cluster.data_dir()).join("kubelet/cpu_manager_state"));
    let state: Value = serde_json::from_str(&state).unwrap();
    let list = |value: &Value| numbers(value.as_str().unwrap_or_default());
    assert_eq!(list(&state["defaultCpuSet"]), machine.but(alone), "{state}");
    assert_eq!(list(&state["entries"][&uid]["c"]), *alone, "{state}");
}

fn its_processes_are_counted(cluster: &Cluster) {
    let summary = cluster
        .kubectl("get --raw /api/v1/nodes/node1/proxy/stats/summary")
        .ok();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    let pods = summary["pods"].as_array().unwrap();
    let own = pods.iter().find(|pod| pod["podRef"]["name"] == "own");
    let count = own.and_then(|own| own["process_stats"]["process_count"].as_u64());
    assert!(count.is_some_and(|count| count > 0), "{summary}");
}

fn what_cannot_be_had_is_refused(cluster: &Cluster, machine: &Machine) {
    let here = "nodeName: node1";
    // One processor is taken.
    let all = format!("limits: {{memory: 64Mi, cpu: '{}'}}", machine.allocatable());
    cluster.apply(&pod("late", here, &all)).ok();
    let sysctl =
        |name: &str| format!("{here}\n  securityContext: {{sysctls: [{{name: {name}, value: '8192'}}]}}");
    cluster
        .apply(&pod("tuned", &sysctl("kernel.msgmax"), "limits: {memory: 16Mi}"))
        .ok();
    cluster
        .apply(&pod("odd", &sysctl("kernel.shmmax"), "limits: {memory: 16Mi}"))
        .ok();
    for (name, reason) in [("late", "OutOfcpu"), ("odd", "SysctlForbidden")] {
        cluster.wait(&format!("pod {name}"), |pod| {
            match pod["status"]["reason"] == reason {
                true => Ok(()),
                false => Err(pod["status"].to_string()),
            }
        });
    }
    cluster.wait_ready("pod tuned");
    let value = cluster.kubectl("exec tuned -- cat /proc/sys/kernel/msgmax");
    assert_eq!(value.stdout.trim(), "8192", "{value}");
}

/// Groups of pods, their limits and the node's, as another kernel has them.
#[test]
fn the_same_with_version_2_control_groups() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let binary = std::fs::canonicalize(knode_e2e::binary()).unwrap();
    let only = "--exact processors_and_limits_are_what_the_configuration_says";
    let ended = knode_testkit::machine::again(
        directory,
        only,
        &[("KNODE_BIN", &binary)],
        std::time::Duration::from_secs(500),
    );
    let console = ended.ok();
    assert!(console.contains("1 passed"), "{console}");
}
