//! Stock kubectl, every version on the machine, against one cluster.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use knode_e2e::{BOUND, Cluster, kubectl};
use knode_testkit::{Process, image, wait_until};
use std::path::Path;

const POD: &str = r"
apiVersion: v1
kind: Pod
metadata:
  name: NAME
  labels: {app: NAME}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'echo hello from NAME; exec sleep 3600']
---
apiVersion: v1
kind: ConfigMap
metadata: {name: NAME}
data: {key: one}
";

fn busybox(cluster: &Cluster) {
    let archive = cluster.scratch.join("busybox.tar");
    image::busybox().name("busybox:test").build().write_oci(&archive);
    cluster.import(&archive).ok();
}

#[test]
fn every_kubectl_gets_describes_applies_deletes_reads_logs_and_executes() {
    let cluster = Cluster::up("kubectl");
    busybox(&cluster);
    for (n, binary) in kubectl::all().iter().enumerate() {
        one_version(&cluster, binary, &format!("p{n}"));
    }
}

fn one_version(cluster: &Cluster, binary: &Path, name: &str) {
    let run = |arguments: &[&str]| cluster.kubectl_by(binary, arguments);
    let version = binary.display();
    let manifest = cluster.scratch.join(format!("{name}.yaml"));
    std::fs::write(&manifest, POD.replace("NAME", name)).unwrap();
    let manifest = manifest.display().to_string();

    let nodes = run(&["get", "nodes"]).ok();
    assert!(
        nodes.contains("node1") && nodes.contains(" Ready "),
        "{version}: {nodes}"
    );

    let mut watch = cluster.host.command(binary);
    watch
        .env("KUBECONFIG", cluster.kubeconfig())
        .args(["get", "pods", "-w", "-l", &format!("app={name}")]);
    let watching = Process::spawn("watch", watch);

    let applied = run(&["apply", "-f", &manifest]).ok();
    assert!(
        applied.contains(&format!("pod/{name} created")),
        "{version}: {applied}"
    );
    cluster.wait_ready(&format!("pod {name}"));
    wait_until("the watch shows the pod Running", BOUND, || {
        let seen = watching.output();
        if seen.contains("Running") {
            Ok(())
        } else {
            Err(seen)
        }
    });
    drop(watching);

    let again = run(&["apply", "-f", &manifest]).ok();
    assert!(
        again.contains(&format!("pod/{name} unchanged")),
        "{version}: {again}"
    );
    let changed = POD.replace("NAME", name).replace("key: one", "key: two");
    std::fs::write(&manifest, changed).unwrap();
    let configured = run(&["apply", "-f", &manifest]).ok();
    assert!(
        configured.contains(&format!("configmap/{name} configured")),
        "{version}: {configured}"
    );

    let described = run(&["describe", "pod", name]).ok();
    for part in ["Node:", "busybox:test", "Started", "Scheduled"] {
        assert!(described.contains(part), "{version}: no {part:?} in\n{described}");
    }
    let logs = run(&["logs", name]).ok();
    assert_eq!(logs, format!("hello from {name}\n"), "{version}");
    let said = run(&["exec", name, "--", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!(
        (said.stdout.as_str(), said.code),
        ("out\n", 3),
        "{version}: {said}"
    );
    assert!(said.stderr.contains("err"), "{version}: {said}");

    let deleted = run(&["delete", "-f", &manifest]).ok();
    assert!(
        deleted.contains(&format!("pod \"{name}\"")),
        "{version}: {deleted}"
    );
    run(&["get", "pod", name]).fails();
}

#[test]
fn exec_carries_standard_input() {
    let cluster = Cluster::up("exec");
    busybox(&cluster);
    cluster.apply(&POD.replace("NAME", "p")).ok();
    cluster.wait_ready("pod p");
    for binary in kubectl::all() {
        let script = format!(
            "head -c 300000 /dev/zero | tr '\\0' x | {} --kubeconfig {} exec -i p -- wc -c",
            binary.display(),
            cluster.kubeconfig()
        );
        let counted = cluster.host.run("sh", &["-c", &script]);
        assert_eq!(counted.trim(), "300000", "{}", binary.display());
    }
}
