//! Trust bundles in pods: by name, by signer and label, optional ones, and what changes while a pod runs. Over the
//! engine and over containerd.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use knode_e2e::{BOUND, Cluster};
use knode_testkit::wait_until;
use serde_json::{Value, json};

#[test]
fn pods_are_given_trust_bundles_that_stay_current() {
    let mut cluster = Cluster::machine("trust");
    let late = work(&mut cluster);
    // Bundles are looked at each minute.
    wait_until("the changed bundle in the running pod", 2 * BOUND, || {
        let found = read(&cluster, "ready", "plain");
        (found == late).then_some(()).ok_or(found)
    });
}

#[test]
fn the_same_over_containerd() {
    work(&mut Cluster::over_containerd("trust-cd"));
}

/// All but what comes with time; gives what `plain` holds at the end.
fn work(cluster: &mut Cluster) -> String {
    cluster.start(&[]);
    cluster.import_busybox("busybox:test");
    let [one, other, late] = ["one", "other", "late"].map(authority);
    cluster.apply(&bundle("plain", "", &json!({}), &one)).ok();
    let signed = |name: &str, tier: &str, text: &str| {
        let name = format!("signer.example:test:{name}");
        bundle(&name, "signer.example/test", &json!({"tier": tier}), text)
    };
    cluster.apply(&signed("a", "front", &one)).ok();
    cluster.apply(&signed("b", "front", &other)).ok();
    cluster.apply(&signed("c", "back", &late)).ok();
    let by_signer =
        json!({"signerName": "signer.example/test", "labelSelector": {"matchLabels": {"tier": "front"}}});
    cluster
        .apply(&pod(
            "ready",
            &[
                ("plain", json!({"name": "plain"})),
                ("front", by_signer),
                ("none", json!({"name": "nowhere", "optional": true})),
            ],
        ))
        .ok();
    cluster
        .apply(&pod("waits", &[("late", json!({"name": "late"}))]))
        .ok();
    cluster.wait_ready("pod ready");
    assert_eq!(read(cluster, "ready", "plain"), one);
    assert_eq!(
        certificates(&read(cluster, "ready", "front")),
        certificates(&(one + &other))
    );
    assert_eq!(read(cluster, "ready", "none"), "");
    wait_until("an event that names the missing bundle", BOUND, || {
        let events = cluster
            .get("events --field-selector involvedObject.name=waits")
            .to_string();
        let named = events.contains("FailedMount") && events.contains("late");
        named.then_some(()).ok_or(events)
    });
    // What is there later comes to the pod that waits, and what changes to the one that runs.
    cluster.apply(&bundle("late", "", &json!({}), &late)).ok();
    cluster.apply(&bundle("plain", "", &json!({}), &late)).ok();
    cluster.wait_ready("pod waits");
    assert_eq!(read(cluster, "waits", "late"), late);
    late
}

/// The certificate of a new authority.
fn authority(name: &str) -> String {
    let made = knode_pki::CertificateAuthority::create(name, jiff::Timestamp::now());
    made.unwrap().cert_pem().to_owned()
}

fn bundle(name: &str, signer: &str, labels: &Value, text: &str) -> String {
    let mut spec = json!({"trustBundle": text});
    if !signer.is_empty() {
        spec["signerName"] = signer.into();
    }
    let kind = json!({"apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle",
        "metadata": {"name": name, "labels": labels}, "spec": spec});
    kind.to_string()
}

/// A pod with these bundles below `/trust`, each as the file of its name.
fn pod(name: &str, bundles: &[(&str, Value)]) -> String {
    let source = |(path, source): &(&str, Value)| {
        let mut source = source.clone();
        source["path"] = (*path).into();
        json!({"clusterTrustBundle": source})
    };
    let sources: Vec<Value> = bundles.iter().map(source).collect();
    let container = json!({"name": "c", "image": "busybox:test", "imagePullPolicy": "Never",
        "command": ["sleep", "3600"], "volumeMounts": [{"name": "trust", "mountPath": "/trust"}]});
    let spec = json!({"terminationGracePeriodSeconds": 1, "containers": [container],
        "volumes": [{"name": "trust", "projected": {"sources": sources}}]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}).to_string()
}

fn read(cluster: &Cluster, pod: &str, file: &str) -> String {
    cluster.kubectl(&format!("exec {pod} -- cat /trust/{file}")).ok()
}

/// The certificates of a text, in an order of their own.
fn certificates(text: &str) -> Vec<String> {
    let end = "-----END CERTIFICATE-----\n";
    let mut all: Vec<String> = text.split_inclusive(end).map(str::to_owned).collect();
    all.sort();
    all
}
