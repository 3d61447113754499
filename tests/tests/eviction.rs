//! A node whose memory, disk, files or processes really run out: what is freed first, who has to go, what is told, and
//! how it recovers.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::fs;

use knode_e2e::{BOUND, Cluster, kubectl};
use knode_testkit::image::{self, Layer};
use knode_testkit::{Process, wait_until};
use nix::sys::statvfs::statvfs;
use serde_json::Value;

const MEBI: u64 = 1 << 20;
/// The disk, and what must stay free of it, in MiB and files.
const DISK: u32 = 320;
const SPARE: u64 = 64;
const FILES: u32 = 20_000;
const SPARE_FILES: u64 = 5000;
/// MiB of an image that nobody uses.
const UNUSED: usize = 24;
/// MiB of memory for all pods, and what of it must stay free.
const MEMORY: u64 = 1000;
const SPARE_MEMORY: u64 = 300;
/// Processes that must be free; others work on this machine too.
const SPARE_PROCESSES: u64 = 400;

/// What a limit of its own would do, and what a limit of the node's.
const PODS: &str = r"
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: lesser}
value: -10
---
apiVersion: v1
kind: Pod
metadata: {name: keeper}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'i=0; while true; do echo number $i; i=$((i+1)); usleep 2000; done']
    resources: {requests: {ephemeral-storage: 50Mi, memory: 20Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: restless}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: 'busybox:test', imagePullPolicy: Never, command: ['false']}
---
apiVersion: v1
kind: Pod
metadata: {name: layers}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sleep, '3600']
    resources: {limits: {ephemeral-storage: 1Mi}}
  - name: d
    image: busybox:test
    imagePullPolicy: Never
    command: [sleep, '3600']
    resources: {limits: {ephemeral-storage: 9Mi}}
";

/// Nobody runs its second image, and it uses it all the same.
const MOUNTS: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: mounts}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sleep, '3600']
    volumeMounts: [{name: image, mountPath: /image}]
  volumes:
  - {name: image, image: {reference: 'mounted:1', pullPolicy: Never}}
";

/// A pod that does nothing until it is told to, with more of its specification.
fn idle(name: &str, container: &str, more: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sleep, '3600']
    {container}
  {more}
"
    )
}

fn pods() -> String {
    let own_volume = |limit: &str| format!("volumes: [{{name: v, emptyDir: {{{limit}}}}}]");
    let mounted = "volumeMounts: [{name: v, mountPath: /v}]";
    // Of memory it takes no more than it asks for.
    let modest = "resources: {requests: {memory: 100Mi}}";
    let limited = "resources: {limits: {ephemeral-storage: 1Mi}}";
    let all = [
        idle("filler", "", ""),
        idle("lesser", modest, "priorityClassName: lesser"),
        idle("hog", "", ""),
        idle("files", mounted, &own_volume("")),
        idle("forks", "", ""),
        idle("volume", mounted, &own_volume("sizeLimit: 1Mi")),
        idle("whole", limited, ""),
    ];
    [&[PODS.to_owned()], all.as_slice()].concat().join("---\n")
}

/// Bytes and files that are free.
fn free(cluster: &Cluster) -> (u64, u64) {
    let found = statvfs(cluster.scratch.path()).unwrap();
    (
        found.blocks_available() * found.fragment_size(),
        found.files_available(),
    )
}

/// Threads of the whole machine, and how many there may be.
fn tasks() -> (u64, u64) {
    let text = |path: &str| fs::read_to_string(path).unwrap();
    let load = text("/proc/loadavg");
    let all = load
        .split_whitespace()
        .nth(3)
        .and_then(|pair| pair.split('/').nth(1));
    let most = ["pid_max", "threads-max"].map(|name| text(&format!("/proc/sys/kernel/{name}")));
    let most = most.iter().map(|text| text.trim().parse().unwrap()).min();
    (all.unwrap().parse().unwrap(), most.unwrap())
}

fn exec(cluster: &Cluster, pod: &str, script: &str) {
    let words = ["exec", pod, "-c", "c", "--", "sh", "-c", script];
    cluster.kubectl_by(&kubectl::default(), &words).ok();
}

/// Lets a pod write so many MiB.
fn write(cluster: &Cluster, pod: &str, file: &str, mebibytes: u64) {
    let script = format!("dd if=/dev/zero of={file} bs=1M count={mebibytes}");
    exec(cluster, pod, &script);
}

/// A script that goes on when its shell has ended.
fn background(script: &str) -> String {
    format!("( {script} ) >/dev/null 2>&1 &")
}

/// Lets a pod write until only so many MiB are free.
fn fill(cluster: &Cluster, pod: &str, file: &str, left: u64) {
    let (bytes, _) = free(cluster);
    write(cluster, pod, file, (bytes / MEBI).checked_sub(left).unwrap());
}

/// Waits until the node knows that a pod's container has written so many MiB; runtimes measure from time to time.
fn measured(cluster: &Cluster, pod: &str, mebibytes: u64) {
    wait_until("what has been written to be measured", BOUND, || {
        let summary = cluster
            .kubectl("get --raw /api/v1/nodes/node1/proxy/stats/summary")
            .ok();
        let summary: Value = serde_json::from_str(&summary).unwrap();
        let mut pods = summary["pods"].as_array().into_iter().flatten();
        let found = pods.find(|found| found["podRef"]["name"] == pod);
        let used = found.and_then(|found| found["containers"][0]["rootfs"]["usedBytes"].as_u64());
        (used >= Some(mebibytes * MEBI))
            .then_some(())
            .ok_or(summary.to_string())
    });
}

/// Everything about the node as it was told to a watch, one JSON object after another.
fn states(watch: &Process) -> Vec<Value> {
    let text = watch.output();
    let all = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    // The last may not be complete yet.
    all.map_while(Result::ok).collect()
}

fn has(node: &Value, condition: &str, status: &str) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    let mut all = conditions.into_iter().flatten();
    all.any(|one| one["type"] == condition && one["status"] == status)
}

fn is_tainted(node: &Value, key: &str) -> bool {
    let mut taints = node["spec"]["taints"].as_array().into_iter().flatten();
    taints.any(|one| one["key"] == key && one["effect"] == "NoSchedule")
}

const PRESSURES: [(&str, &str); 3] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
];

/// Whether `text` is `pattern` with a quantity as Go writes it at every `*`.
fn fits(text: &str, pattern: &str) -> bool {
    let mut rest = text;
    let mut parts = pattern.split('*');
    let Some(after) = rest.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    rest = after;
    for part in parts {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let unit = ["Ki", "Mi", "Gi", "k", ""];
        let after = unit
            .iter()
            .find_map(|unit| digits.strip_prefix(unit)?.strip_prefix(part));
        match after {
            Some(after) if digits.len() < rest.len() => rest = after,
            _ => return false,
        }
    }
    rest.is_empty()
}

/// Waits until a pod has been evicted, with this message, and is told so by its status and an Event.
fn evicted(cluster: &Cluster, pod: &str, message: &str, offending: Option<&str>) {
    let found = cluster.wait(&format!("pod {pod}"), |pod| {
        if pod["status"]["phase"] == "Failed" {
            Ok(pod.clone())
        } else {
            let (bytes, files) = free(cluster);
            Err(format!(
                "{}, free: {bytes} bytes, {files} files, tasks: {:?}",
                pod["status"],
                tasks()
            ))
        }
    });
    let status = &found["status"];
    assert_eq!(status["reason"], "Evicted", "{pod}: {status}");
    let told = status["message"].as_str().unwrap();
    assert!(fits(told, message), "{pod}: {told:?} is not {message:?}");
    let conditions = status["conditions"].to_string();
    let for_others = message.starts_with("The node was low");
    assert_eq!(
        conditions.contains("TerminationByKubelet"),
        for_others,
        "{pod}: {conditions}"
    );
    let selector = format!("events --field-selector reason=Evicted,involvedObject.name={pod}");
    cluster.wait(&selector, |events| {
        let event = &events["items"][0];
        let marks = &event["metadata"]["annotations"];
        let marked = match offending {
            _ if !for_others => marks.is_null(),
            Some(name) => marks["offending_containers"] == name && marks["starved_resource"].is_string(),
            None => marks["offending_containers"] == "",
        };
        let good = event["message"] == told && event["type"] == "Warning" && marked;
        if good { Ok(()) } else { Err(events.to_string()) }
    });
}

fn limit(resource: &str, amount: &str) -> String {
    format!("The node was low on resource: {resource}. Threshold quantity: {amount}, available: *. ")
}

const LARGER: &str = "Container c was using *, request is 0, has larger consumption of";

fn settings(cluster: &Cluster) -> String {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let total: u64 = meminfo.split_whitespace().nth(1).unwrap().parse().unwrap();
    let reserved = total / 1024 - MEMORY;
    let text = format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
evictionPressureTransitionPeriod: 1ms
evictionMinimumReclaim: {{nodefs.available: 5Mi}}
systemReserved: {{memory: {reserved}Mi}}
containerLogMaxSize: 16Ki
containerLogMaxFiles: 3
containerLogMonitorInterval: 3s
"
    );
    let file = cluster.scratch.join("kubelet.yaml");
    fs::write(&file, text).unwrap();
    format!("--kubelet-config={}", file.display())
}

fn start(cluster: &mut Cluster) {
    let (now, most) = tasks();
    let processes = most - now - SPARE_PROCESSES;
    let hard = format!(
        "--eviction-hard=nodefs.available<{SPARE}Mi,imagefs.available<0%,imagefs.inodesFree<0%,\
         nodefs.inodesFree<{SPARE_FILES},memory.available<{SPARE_MEMORY}Mi,pid.available<{processes}"
    );
    let settings = settings(cluster);
    cluster.start(&[&hard, &settings]);
    cluster.import_busybox("busybox:test");
    let archive = cluster.scratch.join("unused.tar");
    // Bytes that cannot be compressed.
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    let layer = Layer::new().file("noise", 0o644, noise.take(UNUSED << 20).collect::<Vec<u8>>());
    let unused = image::busybox().name("unused:1").layer(layer).build();
    unused.write_oci(&archive);
    cluster.import(&archive).ok();
    // containerd 1.6 mounts no images.
    let mounts = !cluster.is_over_containerd();
    if mounts {
        let layer = Layer::new().file("file", 0o644, "content");
        let mounted = image::busybox().name("mounted:1").layer(layer).build();
        mounted.write_oci(&archive);
        cluster.import(&archive).ok();
    }
    fs::remove_file(&archive).unwrap();
    // To the next kubelet it is an old one.
    cluster.kill();
    cluster.start(&[&hard, &settings]);
    cluster.apply(&pods()).ok();
    if mounts {
        cluster.apply(MOUNTS).ok();
        cluster.wait_ready("pod mounts");
    }
    for pod in [
        "keeper", "layers", "filler", "lesser", "hog", "files", "forks", "volume", "whole",
    ] {
        cluster.wait_ready(&format!("pod {pod}"));
    }
}

fn mounted_images_stay(cluster: &Cluster) {
    let images = cluster.wait("node node1", |node| {
        let images = node["status"]["images"].to_string();
        if images.contains("unused:1") {
            Err(images)
        } else {
            Ok(images)
        }
    });
    assert!(images.contains("mounted:1"), "{images}");
    exec(cluster, "mounts", "grep content /image/file");
}

/// Those who hold more than they may themselves go without anything being scarce, then who takes most of the pods'
/// memory; of the disk an image that nobody uses goes before any pod does.
fn limits_memory_and_images_come_first(cluster: &Cluster) {
    write(cluster, "volume", "/v/two", 2);
    write(cluster, "layers", "/two", 2);
    write(cluster, "whole", "/two", 2);
    exec(
        cluster,
        "hog",
        &background("(head -c 500m /dev/zero; sleep 3600) | tail"),
    );
    fill(cluster, "filler", "/one", SPARE - 10);
    let volume = "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ";
    evicted(cluster, "volume", volume, None);
    let one = "Container c exceeded its local ephemeral storage limit \"1Mi\". ";
    evicted(cluster, "layers", one, None);
    let whole = "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ";
    evicted(cluster, "whole", whole, None);
    let memory = limit("memory", &format!("{SPARE_MEMORY}Mi"));
    evicted(cluster, "hog", &format!("{memory}{LARGER} memory. "), Some("c"));
    wait_until("the unused image to go", BOUND, || {
        let (bytes, _) = free(cluster);
        let log = fs::read_to_string(cluster.scratch.join("data/knode.log")).unwrap();
        let told = log.contains("unused image removed") && log.contains("freed=");
        let enough = bytes > (SPARE + 5) * MEBI && told;
        enough
            .then_some(())
            .ok_or(format!("{bytes} bytes are free\n{}", cluster.log()))
    });
    if !cluster.is_over_containerd() {
        mounted_images_stay(cluster);
    }
    cluster.wait("events --field-selector reason=EvictionThresholdMet", |events| {
        let text = events.to_string();
        let all = ["memory", "ephemeral-storage"].map(|what| format!("Attempting to reclaim {what}"));
        let told = all.iter().all(|wanted| text.contains(wanted));
        if told { Ok(()) } else { Err(text) }
    });
    for pod in ["filler", "lesser", "keeper"] {
        cluster.wait_ready(&format!("pod {pod}"));
    }
}

/// Disk, files and processes run short at once.
fn the_node_runs_short(cluster: &Cluster) {
    let (_, files) = free(cluster);
    write(cluster, "lesser", "/two", 30);
    measured(cluster, "lesser", 30);
    fill(cluster, "filler", "/two", SPARE - 15);
    let count = files - SPARE_FILES + 500;
    let script = format!("i=0; while [ $i -lt {count} ]; do : > /v/$i; i=$((i+1)); done");
    exec(cluster, "files", &background(&script));
    let script = format!(
        "i=0; while [ $i -lt {} ]; do sleep 3600 & i=$((i+1)); done; wait",
        2 * SPARE_PROCESSES
    );
    exec(cluster, "forks", &background(&script));
    let disk = limit("ephemeral-storage", &format!("{SPARE}Mi"));
    let lesser = format!("{disk}{LARGER} ephemeral-storage. ");
    evicted(cluster, "lesser", &lesser, Some("c"));
    // Filler holds more of the disk, and is worth more: while files are scarce too it goes as well, but later.
    let log = fs::read_to_string(cluster.scratch.join("data/knode.log")).unwrap();
    let (before, after) = log.split_once("pod=\"lesser\"").unwrap();
    assert!(!before.contains("pod=\"filler\""), "{after}");
    evicted(cluster, "files", &limit("inodes", "5k"), None);
    evicted(cluster, "forks", &limit("pids", "*"), None);
}

/// What the node told meanwhile, and that it takes pods again.
fn the_node_recovers(cluster: &Cluster, watch: &Process) {
    for (condition, taint) in PRESSURES {
        wait_until("each pressure to be told, and tainted for", BOUND, || {
            let all = states(watch);
            let told = all.iter().any(|node| has(node, condition, "True"));
            let tainted = all.iter().any(|node| is_tainted(node, taint));
            (told && tainted).then_some(()).ok_or(format!(
                "{condition}: {told}, {taint}: {tainted} in {} states",
                all.len()
            ))
        });
    }
    cluster.wait("node node1", |node| {
        let left = PRESSURES
            .iter()
            .filter(|(condition, taint)| !has(node, condition, "False") || is_tainted(node, taint));
        let left: Vec<_> = left.collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    let pod = cluster.wait_ready("pod keeper");
    let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
    assert_eq!(restarts, 0, "{}", pod["status"]);
    cluster.apply(&idle("after", "", "")).ok();
    cluster.wait_ready("pod after");
}

fn logs_of(cluster: &Cluster, pod: &str) -> Vec<String> {
    let uid = cluster.get(&format!("pod {pod}"))["metadata"]["uid"].clone();
    let uid = uid.as_str().unwrap();
    let directory = format!("data/log/pods/default_{pod}_{uid}/c");
    let entries = fs::read_dir(cluster.scratch.join(directory)).unwrap().flatten();
    entries
        .map(|one| one.file_name().to_string_lossy().into_owned())
        .collect()
}

/// The log of what talks all the time has been rotated several times, and who follows it misses nothing.
fn logs_are_rotated(cluster: &Cluster, followed: &Process) {
    wait_until("packed logs", BOUND, || {
        let names = logs_of(cluster, "keeper");
        let packed = names.iter().any(|name| name.ends_with(".gz")) && names.len() <= 3;
        packed.then_some(()).ok_or(format!("{names:?}"))
    });
    let number = |line: &str| line.strip_prefix("number ")?.parse::<u64>().ok();
    let numbers = || -> Vec<u64> {
        let text = followed.output();
        // The last may not be complete yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().filter_map(number).collect()
    };
    // Nothing right after a rotation; more than one line when some are written meanwhile.
    let last = wait_until("the last line of the log", BOUND, || {
        let text = cluster.kubectl("logs keeper --tail=1").ok();
        text.lines().last().and_then(number).ok_or(text)
    });
    wait_until("what is written after a rotation", BOUND, || {
        let seen = numbers().last().copied();
        (seen >= Some(last))
            .then_some(())
            .ok_or(format!("{seen:?} of {last}"))
    });
    let numbers = numbers();
    let missing = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert_eq!(missing, None, "of {} lines", numbers.len());
}

/// Of a container that ends again and again the last two stay.
fn dead_containers_go(cluster: &Cluster) {
    wait_until("dead containers to go", BOUND, || {
        let pod = cluster.try_get("pod restless")?;
        let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
        let logs = logs_of(cluster, "restless");
        let good = restarts >= Some(2) && logs.len() <= 2;
        if good {
            Ok(())
        } else {
            Err(format!("{restarts:?}, {logs:?}"))
        }
    });
}

#[test]
fn a_node_that_runs_short_frees_what_it_can_and_ends_who_takes_most() {
    runs_short(Cluster::machine_with_small_disk("evict", DISK, FILES));
}

#[test]
fn the_same_over_containerd() {
    runs_short(Cluster::machine_with_small_disk("evictc", DISK, FILES).in_containerd());
}

fn runs_short(mut cluster: Cluster) {
    start(&mut cluster);
    let kubectl = kubectl::default();
    let kubeconfig = format!("--kubeconfig={}", cluster.kubeconfig());
    let node = ["get", "node", "node1", "--watch", "--output=json", &kubeconfig];
    let watch = cluster.host.spawn("watch", &kubectl, &node);
    let logs = ["logs", "keeper", "--follow", "--tail=1", &kubeconfig];
    let followed = cluster.host.spawn("logs", &kubectl, &logs);
    limits_memory_and_images_come_first(&cluster);
    the_node_runs_short(&cluster);
    the_node_recovers(&cluster, &watch);
    logs_are_rotated(&cluster, &followed);
    dead_containers_go(&cluster);
}
