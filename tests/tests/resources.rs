//! Processors, memory and limits: what containers see of them, and what the machine's control groups say.
//! Over containerd with `KNODE_RUNTIME=containerd`.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::path::{Path, PathBuf};

use knode_e2e::{BOUND, Cluster};
use knode_testkit::{image, wait_until};
use serde_json::Value;

const KUBELET: &str = r#"
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cpuManagerPolicy: POLICY
reservedSystemCPUs: "0"
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

fn wait_cpus(cluster: &Cluster, pod: &str, cpus: &str) {
    wait_until(&format!("{pod} to run on {cpus}"), BOUND, || {
        let now = seen(cluster, pod, "Cpus_allowed_list");
        if now == cpus { Ok(()) } else { Err(now) }
    });
}

const CLASSES: [&str; 3] = ["", "burstable", "besteffort"];

/// The control group of the cluster's pods, in the hierarchy of a controller, and that of one pod in it.
fn groups(cluster: &Cluster, controller: &str, uid: &str) -> (PathBuf, PathBuf) {
    let root = Path::new("/sys/fs/cgroup").join(controller);
    let all = std::fs::read_dir(&root).unwrap().flatten();
    let of_pod = |whole: PathBuf| {
        let pods = CLASSES.map(|class| whole.join(class).join(format!("pod{uid}")));
        let pod = pods.into_iter().find(|pod| pod.is_dir())?;
        Some((whole, pod))
    };
    let ours = all.map(|entry| entry.path().join("kubepods")).find_map(of_pod);
    ours.unwrap_or_else(|| panic!("no group of pod {uid} in {}\n{}", root.display(), cluster.log()))
}

fn file(path: &Path) -> String {
    let text = std::fs::read_to_string(path);
    text.map(|text| text.trim().to_owned())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn configure(cluster: &Cluster, policy: &str) -> String {
    let path = cluster.scratch.join("kubelet.yaml");
    std::fs::write(&path, KUBELET.replace("POLICY", policy)).unwrap();
    format!("--kubelet-config={}", path.display())
}

fn total_memory() -> u64 {
    let text = file(Path::new("/proc/meminfo"));
    let line = text.lines().find(|line| line.starts_with("MemTotal:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn processors_and_limits_are_what_the_configuration_says() {
    if std::thread::available_parallelism().unwrap().get() != 2
        || !Path::new("/sys/fs/cgroup/cpuset").is_dir()
    {
        eprintln!("this test is for machines with two processors and version 1 control groups");
        return;
    }
    let mut cluster = Cluster::machine("resources");
    let option = configure(&cluster, "static");
    cluster.start(&[&option]);
    let archive = cluster.scratch.join("busybox.tar");
    image::busybox().name("busybox:test").build().write_oci(&archive);
    cluster.import(&archive).ok();

    cluster
        .apply(&pod(
            "shared",
            "",
            "limits: {memory: 64Mi, cpu: 200m}, requests: {cpu: '0'}",
        ))
        .ok();
    let shared = cluster.wait_ready("pod shared");
    wait_cpus(&cluster, "shared", "0-1");
    the_whole_is_limited(&cluster, &uid(&shared));

    cluster
        .apply(&pod("own", "", "limits: {memory: 64Mi, cpu: '1'}"))
        .ok();
    let own = cluster.wait_ready("pod own");
    assert_eq!(own["status"]["qosClass"], "Guaranteed");
    wait_cpus(&cluster, "own", "1");
    wait_cpus(&cluster, "shared", "0");
    its_groups_say_the_same(&cluster, &own);
    its_processes_are_counted(&cluster);
    what_cannot_be_had_is_refused(&cluster);

    cluster.kill();
    cluster.start(&[&option]);
    assert_eq!(
        cluster.wait_ready("pod own")["status"]["containerStatuses"][0]["restartCount"],
        0
    );
    wait_cpus(&cluster, "own", "1");
    wait_cpus(&cluster, "shared", "0");
    cluster.kubectl("delete pod own --wait=true").ok();
    wait_cpus(&cluster, "shared", "0-1");

    cluster.kill();
    let refused = cluster.try_start(&[&configure(&cluster, "none")]).to_string() + &cluster.log();
    let told = "configured policy \"none\" differs from state checkpoint policy \"static\"";
    assert!(refused.contains(told), "{refused}");
    cluster.start(&[&configure(&cluster, "static")]);
}

fn the_whole_is_limited(cluster: &Cluster, uid: &str) {
    let node = cluster.get("node node1");
    assert_eq!(
        (
            &node["status"]["capacity"]["cpu"],
            &node["status"]["allocatable"]["cpu"]
        ),
        (&"2".into(), &"1".into())
    );
    cluster.wait(
        "events --field-selector reason=NodeAllocatableEnforced",
        |events| match events["items"][0]["message"].as_str() {
            Some("Updated Node Allocatable limit across pods") => Ok(()),
            _ => Err(events.to_string()),
        },
    );
    let limit = file(&groups(cluster, "memory", uid).0.join("memory.limit_in_bytes"));
    let allocatable = total_memory() - (156 << 20);
    assert_eq!(limit.parse::<u64>().unwrap(), allocatable / 4096 * 4096);
    let (whole, pod) = groups(cluster, "cpu", uid);
    assert_eq!(file(&whole.join("cpu.shares")), "1024");
    let quota = |name: &str| file(&pod.join(format!("cpu.cfs_{name}_us")));
    assert_eq!(
        (quota("period"), quota("quota")),
        ("50000".to_owned(), "10000".to_owned())
    );
    assert_eq!(file(&groups(cluster, "pids", uid).1.join("pids.max")), "100");
    assert_eq!(seen(cluster, "shared", "Seccomp"), "2", "the runtime's profile");
}

fn its_groups_say_the_same(cluster: &Cluster, own: &Value) {
    let uid = uid(own);
    let id = own["status"]["containerStatuses"][0]["containerID"]
        .as_str()
        .unwrap();
    let id = id.split_once("://").unwrap().1;
    let group = |controller: &str| groups(cluster, controller, &uid).1.join(id);
    assert_eq!(file(&group("cpuset").join("cpuset.cpus")), "1");
    assert_eq!(file(&group("cpuset").join("cpuset.mems")), "0");
    assert_eq!(
        file(&group("cpu").join("cpu.cfs_quota_us")),
        "-1",
        "who is alone is not held back"
    );
    let state = file(&PathBuf::from(cluster.data_dir()).join("kubelet/cpu_manager_state"));
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(
        (&state["defaultCpuSet"], &state["entries"][&uid]["c"]),
        (&"0".into(), &"1".into()),
        "{state}"
    );
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

fn what_cannot_be_had_is_refused(cluster: &Cluster) {
    let here = "nodeName: node1";
    cluster
        .apply(&pod("late", here, "limits: {memory: 64Mi, cpu: '1'}"))
        .ok();
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
