//! The kubelet over another container runtime: Debian's containerd by its CRI socket, which calls our CNI plugin.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::io::Write;
use std::process::Stdio;

use knode_e2e::{BOUND, Cluster, kubectl};
use knode_testkit::{Process, image, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn over_containerd(name: &str) -> Cluster {
    let mut cluster = Cluster::over_containerd(name);
    cluster.start(&["--max-pods=30"]);
    for (file, image) in [
        ("busybox.tar", image::busybox().name("busybox:test")),
        ("nginx.tar", image::nginx().name("nginx:test")),
    ] {
        let archive = cluster.scratch.join(file);
        image.build().write_oci(&archive);
        cluster.import(&archive).ok();
    }
    cluster
}

const PODS: &str = r"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue, 'file.txt': content}
---
apiVersion: v1
kind: Pod
metadata: {name: everything, labels: {app: everything}}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - name: first
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'echo made > /scratch/by-init']
    volumeMounts: [{name: scratch, mountPath: /scratch}]
  - name: side
    image: busybox:test
    imagePullPolicy: Never
    restartPolicy: Always
    command: [sh, -c, 'trap exit TERM; sleep 3600 & wait']
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'env; cat /scratch/by-init /settings/file.txt; ls /var/run/secrets/kubernetes.io/serviceaccount; touch /tmp/ready; exec sleep 3600']
    env:
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    lifecycle:
      postStart: {exec: {command: [touch, /scratch/hooked]}}
    readinessProbe: {exec: {command: [cat, /tmp/ready]}, periodSeconds: 1}
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    volumeMounts:
    - {name: scratch, mountPath: /scratch}
    - {name: settings, mountPath: /settings}
  volumes:
  - {name: scratch, emptyDir: {}}
  - {name: settings, configMap: {name: settings}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: nginx:test
    imagePullPolicy: Never
    ports: [{containerPort: 80, hostPort: 8081}]
    readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, nodePort: 30080}]
---
apiVersion: v1
kind: Pod
metadata: {name: hungry}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'x=a; while true; do x=$x$x; done']
    resources: {limits: {memory: 32Mi}, requests: {memory: 16Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: unstartable}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: 'busybox:test', imagePullPolicy: Never, command: [/no/such/program]}
---
apiVersion: v1
kind: Pod
metadata: {name: job}
spec:
  restartPolicy: Never
  containers:
  - {name: c, image: 'busybox:test', imagePullPolicy: Never, command: [sh, -c, 'echo last words > /dev/termination-log; exit 3']}
";

#[test]
fn pods_run_in_containerd_as_in_the_engine() {
    let mut cluster = over_containerd("cd-pods");
    is_containerds(&cluster);
    cluster.apply(PODS).ok();
    gets_what_it_asks_for(&cluster);
    serves(&cluster);
    misbehaviour_is_told(&cluster);
    streams(&cluster);
    is_measured(&cluster);
    survives_the_daemon(&mut cluster);
    survives_containerd(&mut cluster);
    ends(&mut cluster);
}

fn is_containerds(cluster: &Cluster) {
    let node = cluster.get("node node1");
    let version = &node["status"]["nodeInfo"]["containerRuntimeVersion"];
    let version = version.as_str().unwrap();
    assert!(version.starts_with("containerd://1."), "{version}");
    assert_eq!(node["status"]["capacity"]["pods"], "30");
}

fn gets_what_it_asks_for(cluster: &Cluster) {
    let pod = cluster.wait_ready("pod everything");
    let logs = cluster.kubectl("logs everything -c c").ok();
    let address = pod["status"]["podIP"].as_str().unwrap();
    assert!(address.starts_with("172.30."), "the pod network's: {address}");
    let own = format!("POD_IP={address}");
    for line in ["COLOUR=blue", &own, "made", "content", "token", "ca.crt"] {
        assert!(logs.contains(line), "no {line:?} in\n{logs}");
    }
    let id = pod["status"]["containerStatuses"][0]["containerID"].to_string();
    assert!(id.contains("containerd://"), "{id}");
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
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
        let told = end["exitCode"] == 137 && (end["reason"] == "OOMKilled" || end["reason"] == "Error");
        let restarted = status["restartCount"].as_u64().unwrap_or_default() >= 1;
        let waits = status["state"]["waiting"]["reason"] == "CrashLoopBackOff";
        if told && restarted && waits {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
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

/// exec with input, attach, copying, port-forward: all over containerd's own streaming server.
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

fn is_measured(cluster: &Cluster) {
    let raw = |path: &str| {
        let path = format!("/api/v1/nodes/node1/proxy/{path}");
        cluster
            .kubectl_by(&kubectl::default(), &["get", "--raw", &path])
            .ok()
    };
    let summary: Value = serde_json::from_str(&raw("stats/summary")).unwrap();
    let pods = summary["pods"].as_array().unwrap();
    let web = pods
        .iter()
        .find(|pod| pod["podRef"]["name"] == "everything")
        .unwrap();
    let used = web["memory"]["workingSetBytes"].as_u64().unwrap_or_default();
    assert!(used > 0, "{web}");
    let volumes = web["volume"].to_string();
    assert!(volumes.contains("\"scratch\""), "{volumes}");
    let metrics = raw("metrics/cadvisor");
    assert!(
        metrics.contains("container_cpu_usage_seconds_total{container=\"c\""),
        "{metrics}"
    );
    let probes = raw("metrics/probes");
    assert!(
        probes.contains("probe_type=\"Readiness\",result=\"successful\""),
        "{probes}"
    );
    assert!(raw("logs/").contains("pods/"), "the directory of logs");
}

fn restarts(pod: &Value) -> (String, u64) {
    let status = &pod["status"]["containerStatuses"][0];
    let count = status["restartCount"].as_u64().unwrap();
    (status["containerID"].to_string(), count)
}

/// A daemon that is killed and started again finds its pods in containerd.
fn survives_the_daemon(cluster: &mut Cluster) {
    let before = restarts(&cluster.get("pod everything"));
    let pid = Pid::from_raw(cluster.pid());
    kill(pid, Signal::SIGKILL).unwrap();
    wait_until("the daemon to be gone", BOUND, || kill(pid, None).is_err());
    cluster.start(&["--max-pods=30"]);
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

/// A deleted pod leaves nothing in containerd; what is left goes with the node.
fn ends(cluster: &mut Cluster) {
    cluster
        .kubectl("delete pod web hungry unstartable job --wait")
        .ok();
    assert_eq!(cluster.purge(), Vec::<String>::new());
}
