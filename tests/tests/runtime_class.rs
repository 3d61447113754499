//! Runtime classes: what they give to pods, and which OCI runtime runs these. Over the engine and over containerd. Needs
//! the packages runc and crun.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::os::unix::fs::PermissionsExt;

use knode_e2e::Cluster;
use serde_json::{Value, json};

/// Debian's crun refuses machines whose second hierarchy of control groups has controllers left: there it is started
/// where that one is not to be seen.
const CRUN: &str = r#"#!/bin/sh
exec unshare --mount sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null; exec crun "$@"' crun "$@"
"#;

const HANDLERS: [&str; 2] = ["runc", "crun"];

fn with_handlers(mut cluster: Cluster) -> Cluster {
    let data = cluster.scratch.join("data");
    std::fs::create_dir_all(&data).unwrap();
    let crun = cluster.scratch.join("crun");
    std::fs::write(&crun, CRUN).unwrap();
    std::fs::set_permissions(&crun, std::fs::Permissions::from_mode(0o755)).unwrap();
    let runtimes = format!(
        "runtimes:\n  runc: {{path: runc}}\n  crun: {{path: {}}}\n",
        crun.display()
    );
    std::fs::write(data.join("engine.yaml"), runtimes).unwrap();
    cluster.start(&[]);
    cluster.kubectl("label node node1 disk=ssd").ok();
    cluster.import_busybox("busybox:test");
    cluster
}

fn class(name: &str, handler: &str, more: &Value) -> Value {
    let mut class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name},
        "handler": handler});
    for (key, value) in more.as_object().into_iter().flatten() {
        class[key.as_str()] = value.clone();
    }
    class
}

fn pod(name: &str, class: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "runtimeClassName": class, "terminationGracePeriodSeconds": 1, "containers": [{
            "name": "c", "image": "busybox:test", "imagePullPolicy": "Never",
            "command": ["sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.2; done"],
            "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "32Mi"}}}]}})
}

#[test]
fn pods_run_as_their_class_says() {
    classes(&with_handlers(Cluster::machine("classes")));
}

#[test]
fn the_same_over_containerd() {
    classes(&with_handlers(Cluster::over_containerd("classes-cd")));
}

fn classes(cluster: &Cluster) {
    for handler in HANDLERS.iter().chain(&["nowhere"]) {
        cluster
            .apply(&class(handler, handler, &json!({})).to_string())
            .ok();
    }
    unknown_classes_are_refused(cluster);
    overhead_and_place_come_from_the_class(cluster);
    an_unknown_handler_is_told(cluster);
    handlers_run_their_pods(cluster);
}

fn unknown_classes_are_refused(cluster: &Cluster) {
    let refused = cluster.apply(&pod("refused", "none").to_string());
    let words = "is forbidden: pod rejected: RuntimeClass \"none\" not found";
    assert!(refused.code != 0 && refused.stderr.contains(words), "{refused}");
    cluster.apply(&class("gone", "runc", &json!({})).to_string()).ok();
    cluster.kubectl("delete runtimeclass gone").ok();
    assert_ne!(cluster.apply(&pod("refused", "gone").to_string()).code, 0);
    let changed = cluster.apply(&class("runc", "other", &json!({})).to_string());
    assert!(changed.stderr.contains("field is immutable"), "{changed}");
}

fn overhead_and_place_come_from_the_class(cluster: &Cluster) {
    let more = json!({"overhead": {"podFixed": {"cpu": "10m", "memory": "1Mi"}}, "scheduling": {
        "nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}});
    cluster.apply(&class("heavy", "runc", &more).to_string()).ok();
    cluster.apply(&pod("heavy", "heavy").to_string()).ok();
    let found = cluster.wait_ready("pod heavy");
    let spec = &found["spec"];
    assert_eq!(spec["overhead"], json!({"cpu": "10m", "memory": "1Mi"}));
    assert_eq!(spec["nodeSelector"], json!({"disk": "ssd"}));
    let tolerations = spec["tolerations"].as_array().unwrap();
    assert!(
        tolerations.iter().any(|one| one["key"] == "vm"),
        "{tolerations:?}"
    );
    // The pod's group has room for both: 32 MiB and one.
    let uid = found["metadata"]["uid"].as_str().unwrap();
    assert_eq!(memory_limit(uid).as_deref(), Some("34603008"));
    assert_eq!(
        found["status"]["allocatedResources"]["cpu"], "20m",
        "{}",
        found["status"]
    );
}

/// The memory limit of a pod's control group.
fn memory_limit(uid: &str) -> Option<String> {
    let found = std::process::Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d", "-name", &format!("pod{uid}")])
        .output()
        .unwrap();
    let groups = String::from_utf8(found.stdout).unwrap();
    let files = groups
        .lines()
        .flat_map(|group| ["memory.limit_in_bytes", "memory.max"].map(|file| format!("{group}/{file}")));
    let mut limits = files.filter_map(|file| std::fs::read_to_string(file).ok());
    limits.next().map(|text| text.trim().to_owned())
}

fn an_unknown_handler_is_told(cluster: &Cluster) {
    cluster.apply(&pod("lost", "nowhere").to_string()).ok();
    let events = "events --field-selector involvedObject.name=lost,reason=FailedCreatePodSandBox";
    cluster.wait(events, |events| {
        let message = events["items"][0]["message"].as_str().unwrap_or_default();
        let told = message.starts_with("Failed to create pod sandbox: rpc error: code = ")
            && message.ends_with("no runtime for \"nowhere\" is configured");
        if told { Ok(()) } else { Err(events.to_string()) }
    });
    cluster.kubectl("delete pod lost").ok();
}

fn handlers_run_their_pods(cluster: &Cluster) {
    let known = cluster.get("node node1")["status"]["runtimeHandlers"].clone();
    for handler in HANDLERS {
        cluster
            .apply(&pod(&format!("by-{handler}"), handler).to_string())
            .ok();
    }
    for handler in HANDLERS {
        let name = format!("by-{handler}");
        let ready = cluster.wait_ready(&format!("pod {name}"));
        assert_eq!(
            cluster.kubectl(&format!("exec {name} -- cat /proc/1/comm")).ok(),
            "sh\n"
        );
        made_by(cluster, handler, &ready);
        // containerd before 2.0 does not tell its handlers.
        if !cluster.is_over_containerd() {
            let mut known = known.as_array().into_iter().flatten();
            assert!(
                known.any(|one| one["name"] == handler),
                "no {handler} among the node's"
            );
        }
        cluster.kubectl(&format!("delete pod {name}")).ok();
    }
}

/// What the program keeps of a container that it runs.
fn made_by(cluster: &Cluster, handler: &str, pod: &Value) {
    let id = pod["status"]["containerStatuses"][0]["containerID"]
        .as_str()
        .unwrap();
    let (_, id) = id.split_once("://").unwrap();
    let root = match (cluster.is_over_containerd(), handler) {
        (false, _) => "data/run/engine/oci",
        (true, "runc") => "containerd/runc/k8s.io",
        (true, _) => "containerd/crun/k8s.io",
    };
    let state = cluster.scratch.join(root).join(id);
    let own = if handler == "runc" { "state.json" } else { "status" };
    let seen: Vec<_> = std::fs::read_dir(&state)
        .unwrap_or_else(|error| panic!("{}: {error}", state.display()))
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(seen.iter().any(|file| file == own), "{handler}: {seen:?}");
}
