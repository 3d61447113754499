//! A control plane on one host, nodes on two, joined by a bootstrap kubeconfig, connected by vxlan.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use knode_e2e::{BOUND, Site};
use knode_testkit::wait_until;

const PODS: &str = r"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: each}
spec:
  selector: {matchLabels: {app: each}}
  template:
    metadata: {labels: {app: each}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: busybox:test
        imagePullPolicy: Never
        command: [sleep, '3600']
";

#[test]
fn pods_of_two_hosts_reach_each_other_through_vxlan() {
    let mut site = Site::new("two-hosts", 2);
    site.server(&[]);
    site.node("one", 0, &[]);
    site.node("two", 1, &[]);
    let nodes = site.all_ready(&["nodes"], 2);
    assert_ne!(nodes[0]["spec"]["podCIDR"], nodes[1]["spec"]["podCIDR"]);

    site.apply(PODS);
    let pods = site.all_ready(&["pods", "-l", "app=each"], 2);
    for (from, to) in [(0, 1), (1, 0)] {
        let (name, address) = (
            pods[from]["metadata"]["name"].as_str().unwrap(),
            pods[to]["status"]["podIP"].as_str().unwrap(),
        );
        wait_until("a full-size packet through the overlay", BOUND, || {
            site.kubectl(&[
                "exec", name, "--", "ping", "-c", "1", "-W", "2", "-s", "1372", address,
            ])
            .result()
        });
    }
    // The packets really go through the tunnel device.
    let link = site.hosts[0].ip("-s -d link show flannel.1");
    assert!(
        link.contains("vxlan id 1") && link.contains("dstport 8472"),
        "{link}"
    );
    site.kubectl(&["delete", "daemonset", "each"]).ok();
}
