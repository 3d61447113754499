//! A full node, and pods that come and go: all become Ready, and nothing of them is left.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::path::PathBuf;

use knode_e2e::load::{self, Census, Extent, IMAGE};
use knode_e2e::{BOUND, Cluster};
use knode_testkit::wait_until;
use kube::Client;

/// Open files that may be more than before: the daemon's connections to shims are counted as files while they are made.
const FILES: usize = 8;

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}

fn client(cluster: &Cluster) -> Client {
    let kubeconfig = PathBuf::from(cluster.kubeconfig());
    knode_client::from_kubeconfig(&kubeconfig).unwrap().client
}

/// What there is, once it is no more than `before`.
fn nothing_left(extent: &Extent<'_>, before: &Census) -> Census {
    wait_until("the node to let go of its pods", BOUND, || {
        let now = extent.census();
        let more = now.more_than(before, FILES);
        if more.is_empty() {
            Ok(now)
        } else {
            Err(format!("{more:#?}"))
        }
    })
}

fn come_and_go(cluster: &Cluster, count: usize, full: usize) {
    cluster.import_busybox(IMAGE);
    cluster.wait("serviceaccount default", |_| Ok(()));
    let extent = Extent::of(cluster);
    cluster.host.block_on(async || {
        let client = client(cluster);
        let first = names("first", 3);
        load::create(&client, &first).await.unwrap();
        load::delete(&client, &first).await.unwrap();
    });
    // What the first pods open and keep is the daemon's own.
    let before = extent.census();
    cluster.host.block_on(async || {
        let client = client(cluster);
        let names = names("churn", count);
        load::create(&client, &names).await.unwrap();
        load::delete(&client, &names).await.unwrap();
    });
    nothing_left(&extent, &before);
    let all = names("full", full);
    cluster.host.block_on(async || {
        let created = load::create(&client(cluster), &all).await.unwrap();
        assert_eq!(created.each.len(), full);
    });
    let with_pods = extent.census();
    for what in ["processes", "mounts", "groups", "links", "directories"] {
        let more = with_pods.of_pods[what] - before.of_pods[what];
        assert!(
            more >= full,
            "only {more} {what} for {full} pods: the count sees too little"
        );
    }
    no_more_than(cluster, full);
    cluster.host.block_on(async || {
        load::delete(&client(cluster), &all).await.unwrap();
    });
    cluster.kubectl("delete pod waits pushed --ignore-not-found").ok();
    let after = nothing_left(&extent, &before);
    // Events stay for an hour, and the allocator keeps something of what was in use at once.
    assert!(
        after.memory_mb < before.memory_mb * 2.0 + 60.0,
        "{:.1} MB after {:.1}",
        after.memory_mb,
        before.memory_mb
    );
    assert!(
        after.disk < before.disk + 4_000_000,
        "{} bytes on the disk after {}",
        after.disk,
        before.disk
    );
}

const ONE_MORE: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: waits}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: 'busybox:load', imagePullPolicy: Never, command: [sleep, '3600']}]
---
apiVersion: v1
kind: Pod
metadata: {name: pushed}
spec:
  nodeName: node1
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: 'busybox:load', imagePullPolicy: Never, command: [sleep, '3600']}]
";

/// A node that has as many pods as it takes gets no more from the scheduler, and refuses what it is given.
fn no_more_than(cluster: &Cluster, full: usize) {
    assert_eq!(
        cluster.get("node node1")["status"]["capacity"]["pods"],
        full.to_string()
    );
    cluster.apply(ONE_MORE).ok();
    cluster.wait("pod waits", |pod| {
        let conditions = pod["status"]["conditions"].to_string();
        let told = conditions.contains("Unschedulable") && conditions.contains("Too many pods");
        if told { Ok(()) } else { Err(conditions) }
    });
    cluster.wait("pod pushed", |pod| {
        let status = &pod["status"];
        let told = status["phase"] == "Failed" && status["reason"] == "OutOfpods";
        if told { Ok(()) } else { Err(status.to_string()) }
    });
}

#[test]
fn a_full_node_is_filled_and_emptied_without_a_trace() {
    let mut cluster = Cluster::machine("scale");
    cluster.start(&["--max-pods=110"]);
    come_and_go(&cluster, 100, 110);
}

#[test]
fn the_same_over_containerd() {
    let mut cluster = Cluster::over_containerd("scale-cd");
    cluster.start(&["--max-pods=12"]);
    come_and_go(&cluster, 12, 12);
}
