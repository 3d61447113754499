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

/// What may be more after a pod has come and gone, in kB: its events stay on the disk for an hour, and of what was in use
/// at once the allocator keeps something.
const KB_PER_POD: f64 = 40.0;
/// What may be more however few they were, in MB.
const WARM: f64 = 25.0;

/// Names and prints what there is.
fn told(what: &str, census: &Census) {
    println!("{what}: {}", census.line());
}

/// Creates pods, as many at once as the node takes, until so many have come and gone.
fn churn(cluster: &Cluster, count: usize, at_once: usize) {
    cluster.host.block_on(async || {
        let client = client(cluster);
        let names = names("churn", count);
        for some in names.chunks(at_once) {
            let created = load::create(&client, some).await.unwrap();
            let deleted = load::delete(&client, some).await.unwrap();
            println!(
                "{} pods: Ready after {:?}, gone after {:?}",
                some.len(),
                created.all,
                deleted.all
            );
        }
    });
}

fn come_and_go(cluster: &Cluster, count: usize, full: usize) {
    cluster.import_busybox(IMAGE);
    cluster.wait("serviceaccount default", |_| Ok(()));
    let extent = Extent::of(cluster);
    // What the first pods open and keep is the daemon's own.
    churn(cluster, 3, 3);
    let before = extent.census();
    told("before", &before);
    churn(cluster, count, full);
    told("after the first", &nothing_left(&extent, &before));
    let all = names("full", full);
    cluster.host.block_on(async || {
        let created = load::create(&client(cluster), &all).await.unwrap();
        assert_eq!(created.each.len(), full);
        println!("{full} pods: Ready after {:?}", created.all);
    });
    let with_pods = extent.census();
    told("full", &with_pods);
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
    nothing_left(&extent, &before);
    let most = before.memory_mb + WARM + KB_PER_POD * (count + full) as f64 / 1e3;
    // What is given back is given back some seconds after the last container has gone.
    let after = wait_until("memory to be given back", BOUND, || {
        let now = extent.census();
        let text = format!("{:.1} MB, at most {most:.1}", now.memory_mb);
        (now.memory_mb < most).then_some(now).ok_or(text)
    });
    told("after", &after);
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

/// How many pods come and go, and how many fit: `KNODE_SCALE=2000,500` instead of what every run has time for.
fn extent_of_test() -> (usize, usize) {
    let Ok(asked) = std::env::var("KNODE_SCALE") else {
        return (100, 110);
    };
    let (count, full) = asked.split_once(',').unwrap();
    (count.parse().unwrap(), full.parse().unwrap())
}

#[test]
fn a_full_node_is_filled_and_emptied_without_a_trace() {
    let (count, full) = extent_of_test();
    let mut cluster = Cluster::machine("scale");
    cluster.start(&[&format!("--max-pods={full}"), "--node-cidr-mask-size-ipv4=21"]);
    come_and_go(&cluster, count, full);
}

#[test]
fn the_same_over_containerd() {
    let mut cluster = Cluster::over_containerd("scale-cd");
    cluster.start(&["--max-pods=12"]);
    come_and_go(&cluster, 12, 12);
}
