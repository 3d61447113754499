//! What becomes of pods that misbehave.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use knode_e2e::Cluster;
use knode_testkit::image;

fn with_busybox(name: &str) -> Cluster {
    let cluster = Cluster::up(name);
    let archive = cluster.scratch.join("busybox.tar");
    image::busybox().name("busybox:test").build().write_oci(&archive);
    cluster.import(&archive).ok();
    cluster
}

const HUNGRY: &str = r"
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
";

#[test]
fn a_pod_past_its_memory_limit_is_killed_and_restarted_with_back_off() {
    let cluster = with_busybox("oom");
    cluster.apply(HUNGRY).ok();
    cluster.wait("pod hungry", |p| {
        let status = &p["status"]["containerStatuses"][0];
        let last = &status["lastState"]["terminated"];
        let told = last["reason"] == "OOMKilled" && last["exitCode"] == 137;
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
            let message = &events["items"][0]["message"];
            let told = message
                .as_str()
                .is_some_and(|m| m.starts_with("Back-off restarting failed container c in pod hungry"));
            if told { Ok(()) } else { Err(events.to_string()) }
        },
    );
}

const UNSTARTABLE: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: unstartable}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: 'busybox:test', imagePullPolicy: Never, command: [/no/such/program]}
";

#[test]
fn a_container_that_cannot_start_says_why() {
    let cluster = with_busybox("unstartable");
    cluster.apply(UNSTARTABLE).ok();
    cluster.wait("pod unstartable", |p| {
        let status = &p["status"]["containerStatuses"][0];
        let text = status.to_string();
        let told = text.contains("/no/such/program") && text.contains("no such file or directory");
        if told { Ok(()) } else { Err(text) }
    });
}

const EVERYTHING: &str = r"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue, 'file.txt': content}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {word: sesame}
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
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'env; cat /scratch/by-init /settings/file.txt /hidden/word; ls /var/run/secrets/kubernetes.io/serviceaccount; cat /etc/info/labels; echo; touch /tmp/ready; exec sleep 3600']
    env:
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: WORD, valueFrom: {secretKeyRef: {name: hidden, key: word}}}
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: BOTH, value: '$(COLOUR)-$(WORD)'}
    readinessProbe: {exec: {command: [cat, /tmp/ready]}, periodSeconds: 1}
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    volumeMounts:
    - {name: scratch, mountPath: /scratch}
    - {name: settings, mountPath: /settings}
    - {name: hidden, mountPath: /hidden, readOnly: true}
    - {name: info, mountPath: /etc/info}
  volumes:
  - {name: scratch, emptyDir: {}}
  - {name: settings, configMap: {name: settings}}
  - {name: hidden, secret: {secretName: hidden}}
  - name: info
    downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
";

#[test]
fn a_pod_gets_what_it_asks_for() {
    let cluster = with_busybox("everything");
    cluster.apply(EVERYTHING).ok();
    let pod = cluster.wait_ready("pod everything");
    let logs = cluster.kubectl("logs everything").ok();
    let address = pod["status"]["podIP"].as_str().unwrap();
    for line in [
        "COLOUR=blue",
        "WORD=sesame",
        "BOTH=blue-sesame",
        &format!("POD_IP={address}"),
        "made",
        "content",
        "token",
        "ca.crt",
        "app=\"everything\"",
    ] {
        assert!(logs.contains(line), "no {line:?} in\n{logs}");
    }
    assert!(logs.contains("KUBERNETES_SERVICE_HOST=10.254.0.1"), "{logs}");
}
