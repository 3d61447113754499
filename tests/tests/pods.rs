//! Pods at work, over the engine and over Debian's containerd by its CRI socket, which calls our CNI plugin: they get what
//! they ask for, what becomes of those that misbehave, streams, figures, and daemons that go away.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

#[path = "pods/manifests.rs"]
mod manifests;

use std::io::Write;
use std::process::Stdio;

use knode_e2e::{BOUND, Cluster, kubectl};
use knode_testkit::{Process, image, wait_until};
use serde_json::Value;

const OPTIONS: [&str; 1] = ["--max-pods=30"];

fn with_pods(mut cluster: Cluster) -> Cluster {
    cluster.start(&OPTIONS);
    cluster.import_busybox("busybox:test");
    let archive = cluster.scratch.join("nginx.tar");
    image::nginx().name("nginx:test").build().write_oci(&archive);
    cluster.import(&archive).ok();
    assert_eq!(cluster.get("node node1")["status"]["capacity"]["pods"], "30");
    cluster.apply(&manifests::all()).ok();
    cluster
}

#[test]
fn pods_run_in_the_engine() {
    let mut cluster = with_pods(Cluster::machine("pods"));
    work(&mut cluster);
    ends(&mut cluster);
}

#[test]
fn pods_run_in_containerd_as_in_the_engine() {
    let mut cluster = with_pods(Cluster::over_containerd("pods-cd"));
    is_containerds(&cluster);
    work(&mut cluster);
    survives_containerd(&mut cluster);
    ends(&mut cluster);
}

fn work(cluster: &mut Cluster) {
    gets_what_it_asks_for(cluster);
    serves(cluster);
    misbehaviour_is_told(cluster);
    streams(cluster);
    is_measured(cluster);
    survives_the_daemon(cluster);
}

fn is_containerds(cluster: &Cluster) {
    let node = cluster.get("node node1");
    let version = &node["status"]["nodeInfo"]["containerRuntimeVersion"];
    let version = version.as_str().unwrap();
    assert!(version.starts_with("containerd://1."), "{version}");
}

fn gets_what_it_asks_for(cluster: &Cluster) {
    let pod = cluster.wait_ready("pod everything");
    let logs = cluster.kubectl("logs everything -c c").ok();
    let address = pod["status"]["podIP"].as_str().unwrap();
    assert!(address.starts_with("172.30."), "the pod network's: {address}");
    for line in [
        "COLOUR=blue",
        "WORD=sesame",
        "BOTH=blue-sesame",
        &format!("POD_IP={address}"),
        "KUBERNETES_SERVICE_HOST=10.254.0.1",
        "made",
        "content",
        "token",
        "ca.crt",
        "app=\"everything\"",
    ] {
        assert!(logs.contains(line), "no {line:?} in\n{logs}");
    }
    let id = pod["status"]["containerStatuses"][0]["containerID"]
        .as_str()
        .unwrap();
    let runtime = if cluster.is_over_containerd() {
        "containerd://"
    } else {
        "knode://"
    };
    assert!(id.starts_with(runtime), "{id}");
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    cluster
        .kubectl("exec everything -c c -- cat /scratch/hooked")
        .ok();
}

/// By host port, by node port, from pod to pod by service.
fn serves(cluster: &Cluster) {
    let web = cluster.wait_ready("pod web");
    let address = web["status"]["podIP"].as_str().unwrap();
    for url in [
        format!("http://{address}/"),
        format!("http://{}:8081/", Cluster::ADDRESS),
        format!("http://{}:30080/", Cluster::ADDRESS),
    ] {
        wait_until(&url, BOUND, || cluster.page(&url).result());
    }
    cluster
        .kubectl(&format!("exec everything -c c -- ping -c 1 -W 5 {address}"))
        .ok();
}

fn terminated(status: &Value) -> &Value {
    let state = &status["state"]["terminated"];
    if state.is_null() {
        &status["lastState"]["terminated"]
    } else {
        state
    }
}

fn misbehaviour_is_told(cluster: &Cluster) {
    cluster.wait("pod hungry", |pod| {
        let status = &pod["status"]["containerStatuses"][0];
        let end = terminated(status);
        // containerd may miss the kill: then it says Error.
        let missed = cluster.is_over_containerd() && end["reason"] == "Error";
        let told = end["exitCode"] == 137 && (end["reason"] == "OOMKilled" || missed);
        let restarted = status["restartCount"].as_u64().unwrap_or_default() >= 1;
        let waits = status["state"]["waiting"]["reason"] == "CrashLoopBackOff";
        if told && restarted && waits {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    cluster.wait(
        "events --field-selector involvedObject.name=hungry,reason=BackOff",
        |events| {
            let message = events["items"][0]["message"].as_str().unwrap_or_default();
            let told = message.starts_with("Back-off restarting failed container c in pod hungry");
            if told { Ok(()) } else { Err(events.to_string()) }
        },
    );
    cluster.wait("pod unstartable", |pod| {
        let text = pod["status"]["containerStatuses"][0].to_string();
        let told = text.contains("/no/such/program") && text.contains("no such file or directory");
        if told { Ok(()) } else { Err(text) }
    });
    cluster.wait("pod job", |pod| {
        let end = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
        let told = end["exitCode"] == 3 && end["message"] == "last words\n" && end["reason"] == "Error";
        if told && pod["status"]["phase"] == "Failed" {
            Ok(())
        } else {
            Err(pod["status"].to_string())
        }
    });
}

/// exec with input and port-forward, over the runtime's own streaming server.
fn streams(cluster: &Cluster) {
    let mut command = cluster.host.command(kubectl::default());
    let mut child = command
        .env("KUBECONFIG", cluster.kubeconfig())
        .args([
            "exec",
            "-i",
            "everything",
            "-c",
            "c",
            "--",
            "sh",
            "-c",
            "cat; exit 7",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"through\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"through\n");
    assert_eq!(output.status.code(), Some(7), "{output:?}");

    let mut command = cluster.host.command(kubectl::default());
    command
        .env("KUBECONFIG", cluster.kubeconfig())
        .args(["port-forward", "web", "18080:80"]);
    let forward = Process::spawn("port-forward", command);
    wait_until("the forwarded port", BOUND, || {
        let page = cluster.page("http://127.0.0.1:18080/").result();
        page.map_err(|e| format!("{e}\n{}", forward.output()))
    });
}

fn raw(cluster: &Cluster, path: &str) -> String {
    let path = format!("/api/v1/nodes/node1/proxy/{path}");
    cluster
        .kubectl_by(&kubectl::default(), &["get", "--raw", &path])
        .ok()
}

/// What has no figures yet. containerd looks at its snapshots once in ten seconds and says nought
/// until then.
fn unmeasured(summary: &Value) -> Result<(), String> {
    let pods = summary["pods"].as_array().unwrap();
    let mut pods = pods.iter();
    let pod = pods
        .find(|pod| pod["podRef"]["name"] == "everything")
        .ok_or("no pod")?;
    let used = pod["memory"]["workingSetBytes"].as_u64();
    if used <= Some(0) {
        return Err(format!("memory: {pod}"));
    }
    let container = &pod["containers"][0];
    let runtime = &summary["node"]["runtime"];
    for (part, what) in [
        (container, "logs"),
        (container, "rootfs"),
        (pod, "ephemeral-storage"),
        (runtime, "imageFs"),
        (runtime, "containerFs"),
    ] {
        let found = &part[what];
        let (used, capacity) = (found["usedBytes"].as_u64(), found["capacityBytes"].as_u64());
        if used <= Some(0) || capacity <= used {
            return Err(format!("{what}: {found}"));
        }
    }
    let all = &summary["node"]["systemContainers"][0];
    if all["name"] != "pods" || all["memory"]["workingSetBytes"].as_u64() < used {
        return Err(format!("less than a pod: {all}"));
    }
    if !pod["startTime"].is_string() || !container["startTime"].is_string() {
        return Err(format!("no start: {pod}"));
    }
    let volumes = pod["volume"].to_string();
    if !volumes.contains("\"scratch\"") {
        return Err(volumes);
    }
    Ok(())
}

fn is_measured(cluster: &Cluster) {
    wait_until("stats/summary", BOUND, || {
        unmeasured(&serde_json::from_str(&raw(cluster, "stats/summary")).unwrap())
    });
    let metrics = raw(cluster, "metrics/cadvisor");
    assert!(
        metrics.contains("container_cpu_usage_seconds_total{container=\"c\""),
        "{metrics}"
    );
    let probes = raw(cluster, "metrics/probes");
    assert!(
        probes.contains("probe_type=\"Readiness\",result=\"successful\""),
        "{probes}"
    );
    assert!(raw(cluster, "logs/").contains("pods/"), "the directory of logs");
}

fn restarts(pod: &Value) -> (String, u64) {
    let status = &pod["status"]["containerStatuses"][0];
    let count = status["restartCount"].as_u64().unwrap();
    (status["containerID"].to_string(), count)
}

/// A daemon that is killed and started again finds its pods in the runtime.
fn survives_the_daemon(cluster: &mut Cluster) {
    let before = restarts(&cluster.get("pod everything"));
    cluster.kill();
    cluster.start(&OPTIONS);
    let after = cluster.wait_ready("pod everything");
    assert_eq!(restarts(&after), before);
}

/// containerd away: the node says so after a while; back again, everything is as it was.
fn survives_containerd(cluster: &mut Cluster) {
    let before = restarts(&cluster.get("pod everything"));
    let (containerd, _) = cluster.containerd();
    containerd.stop();
    readiness(cluster, "False", "container runtime is down");
    let (containerd, host) = cluster.containerd();
    containerd.run(host);
    readiness(cluster, "True", "");
    let after = cluster.wait_ready("pod everything");
    assert_eq!(restarts(&after), before, "containers run on without containerd");
    cluster.kubectl("exec everything -c c -- true").ok();
}

fn readiness(cluster: &Cluster, wanted: &str, text: &str) {
    cluster.wait("node node1", |node| {
        let conditions = node["status"]["conditions"].as_array().cloned();
        let conditions = conditions.unwrap_or_default();
        let ready = conditions.iter().find(|c| c["type"] == "Ready").cloned();
        let ready = ready.unwrap_or_default();
        let told = ready["message"].as_str().unwrap_or_default();
        if ready["status"] == wanted && told.contains(text) {
            Ok(())
        } else {
            Err(ready.to_string())
        }
    });
}

/// A deleted pod leaves nothing in the runtime; what is left goes with the node.
fn ends(cluster: &mut Cluster) {
    cluster
        .kubectl("delete pod web hungry unstartable job --wait")
        .ok();
    assert_eq!(cluster.purge(), Vec::<String>::new());
}
