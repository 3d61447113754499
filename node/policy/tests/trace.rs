//! Truth tables over the planned ruleset, by virtual packets.

mod common;

use common::cases::{self, addresses};
use common::tracer::{ESTABLISHED, NEW, Packet, RELATED, Tracer};
use knode_policy::model::{IpFamily, Protocol};
use serde_json::json;

#[test]
fn the_truth_tables_hold_in_both_families() {
    for case in cases::all() {
        let mut cluster = cases::cluster();
        for (name, spec) in &case.policies {
            cluster.policy(name, Some(spec.clone()));
        }
        cluster.planner.take();
        for family in IpFamily::ALL {
            let tracer = Tracer::new(&cluster.planner, family);
            for probe in &case.probes {
                let [from, to] = [probe.from, probe.to].map(|who| addresses(who)[family as usize]);
                let packet = Packet::first(from, to, probe.protocol, probe.port);
                assert_eq!(
                    tracer.passes(&packet),
                    probe.passes,
                    "{}: {probe:?} {family:?}",
                    case.name
                );
                let oracle = common::oracle::passes(&cluster, &packet);
                assert_eq!(oracle, probe.passes, "{}: {probe:?}: the oracle errs", case.name);
            }
        }
    }
}

fn isolated() -> common::cluster::Cluster {
    let mut cluster = cases::cluster();
    let both = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    cluster.policy("a/deny", Some(both));
    cluster.planner.take();
    cluster
}

#[test]
fn what_was_allowed_once_goes_on() {
    let cluster = isolated();
    let tracer = Tracer::new(&cluster.planner, IpFamily::V4);
    for (state, passes) in [
        (NEW, false),
        (ESTABLISHED, true),
        (RELATED, true),
        (1, false),
        (64, false),
    ] {
        let packet = Packet {
            state,
            ..Packet::first("10.244.0.3", "10.244.0.2", Protocol::Tcp, 8080)
        };
        assert_eq!(tracer.passes(&packet), passes, "state {state}");
    }
}

#[test]
fn a_pod_reaches_itself_and_its_neighbours_link() {
    let cluster = isolated();
    let tracer = Tracer::new(&cluster.planner, IpFamily::V4);
    let hairpin = Packet::first("10.244.0.2", "10.244.0.2", Protocol::Tcp, 8080);
    assert!(tracer.passes(&hairpin));
    let six = Tracer::new(&cluster.planner, IpFamily::V6);
    for (kind, passes) in [(128, false), (133, true), (135, true), (136, true), (137, false)] {
        let packet = Packet {
            protocol: 58,
            ..Packet::first("fd10:244::3", "fd10:244::2", Protocol::Tcp, kind)
        };
        assert_eq!(six.passes(&packet), passes, "ICMPv6 type {kind}");
    }
}

#[test]
fn packets_without_ports_pass_only_where_ports_do_not_matter() {
    let mut cluster = cases::cluster();
    let ping = |cluster: &common::cluster::Cluster| {
        let packet = Packet {
            protocol: 1,
            ..Packet::first("10.244.0.3", "10.244.0.2", Protocol::Tcp, 0)
        };
        Tracer::new(&cluster.planner, IpFamily::V4).passes(&packet)
    };
    assert!(ping(&cluster));
    let some = json!({"podSelector": {}, "ingress": [{"ports": [{"port": 8080}]}]});
    cluster.policy("a/some", Some(some));
    cluster.planner.take();
    assert!(!ping(&cluster));
    cluster.policy(
        "a/all",
        Some(json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]})),
    );
    cluster.planner.take();
    assert!(ping(&cluster));
}

#[test]
fn the_host_network_and_the_ended_are_left_alone() {
    let mut cluster = isolated();
    let passes = |cluster: &common::cluster::Cluster, to: &str| {
        let packet = Packet::first("192.0.2.7", to, Protocol::Tcp, 80);
        Tracer::new(&cluster.planner, IpFamily::V4).passes(&packet)
    };
    let mut agent = common::cluster::pod("a/agent", "node1", json!({}), &["192.0.2.1"], json!([]));
    agent["spec"]["hostNetwork"] = true.into();
    cluster.pod("a/agent", Some(agent));
    let mut job = common::cluster::pod("a/job", "node1", json!({}), &["10.244.0.9"], json!([]));
    cluster.pod("a/job", Some(job.clone()));
    cluster.planner.take();
    assert!(passes(&cluster, "192.0.2.1"));
    assert!(!passes(&cluster, "10.244.0.9"));
    job["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    cluster.pod("a/job", Some(job.clone()));
    cluster.planner.take();
    assert!(
        !passes(&cluster, "10.244.0.9"),
        "it is isolated until it has ended"
    );
    job["status"]["phase"] = "Succeeded".into();
    cluster.pod("a/job", Some(job));
    cluster.planner.take();
    assert!(passes(&cluster, "10.244.0.9"), "the address may be another's now");
}
