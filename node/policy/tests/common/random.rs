//! Random clusters, repeatable.

pub use knode_testkit::Random;
use serde_json::{Value, json};

use super::cluster::{Cluster, NODE, pod};

const SPACES: [&str; 3] = ["a", "b", "c"];
/// Addresses that pods have; few, so that they come into each other's way.
pub const V4: [&str; 6] = [
    "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.1.1", "10.0.1.2",
];
pub const V6: [&str; 6] = [
    "fd00::1",
    "fd00::2",
    "fd00::3",
    "fd00::4",
    "fd00:1::1",
    "fd00:1::2",
];
/// An address of no pod.
pub const ELSEWHERE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
/// Ports that matter.
pub const PORTS: [u16; 4] = [80, 81, 90, 91];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// Something happens.
pub fn event(random: &mut Random, cluster: &mut Cluster) {
    match random.below(10) {
        0 => {
            let name = random.pick(&SPACES);
            let labels = random.chance(80).then(|| labels(random));
            cluster.namespace(name, labels);
        }
        1..=5 => {
            let name = format!("{}/p{}", random.pick(&SPACES), random.below(4));
            let object = random.chance(80).then(|| random_pod(random, &name));
            cluster.pod(&name, object);
        }
        _ => {
            let name = format!("{}/n{}", random.pick(&SPACES), random.below(3));
            let spec = random.chance(75).then(|| random_policy(random));
            cluster.policy(&name, spec);
        }
    }
}

fn labels(random: &mut Random) -> Value {
    let mut labels = serde_json::Map::new();
    for key in ["x", "y"] {
        if random.chance(60) {
            labels.insert(key.to_owned(), random.pick(&["1", "2"]).into());
        }
    }
    labels.into()
}

fn random_pod(random: &mut Random, name: &str) -> Value {
    let node = if random.chance(65) { NODE } else { "node2" };
    let at = random.below(V4.len() as u64) as usize;
    let ips = match random.below(4) {
        0 => vec![V4[at]],
        1 => vec![V6[at]],
        2 => vec![V4[at], V6[at]],
        _ => vec![V6[at], V4[(at + 1) % V4.len()]],
    };
    let mut ports = Vec::new();
    for number in PORTS {
        if random.chance(40) {
            let name = random.pick(&["http", "other"]);
            ports.push(json!({"name": name, "containerPort": number, "protocol": random.pick(&PROTOCOLS)}));
        }
    }
    let labels = labels(random);
    let mut object = pod(name, node, labels, &ips, ports.into());
    object["metadata"]["creationTimestamp"] = format!("2026-01-0{}T00:00:00Z", 1 + random.below(3)).into();
    if random.chance(10) {
        object["status"]["phase"] = "Succeeded".into();
    }
    if random.chance(5) {
        object["spec"]["hostNetwork"] = true.into();
    }
    object
}

fn selector(random: &mut Random) -> Value {
    let key = random.pick(&["x", "y"]);
    match random.below(5) {
        0 => json!({}),
        1 | 2 => json!({"matchLabels": {key: random.pick(&["1", "2"])}}),
        3 => {
            json!({"matchExpressions": [{"key": key, "operator": random.pick(&["Exists", "DoesNotExist"])}]})
        }
        _ => {
            json!({"matchExpressions": [{"key": key, "operator": random.pick(&["In", "NotIn"]), "values": ["1"]}]})
        }
    }
}

fn random_policy(random: &mut Random) -> Value {
    let types = random.pick(&[
        json!(["Ingress"]),
        json!(["Egress"]),
        json!(["Ingress", "Egress"]),
        json!([]),
    ]);
    let mut spec = json!({"podSelector": selector(random), "policyTypes": types});
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        let count = random.below(3);
        spec[rules] = (0..count).map(|_| random_rule(random, peers)).collect();
    }
    spec
}

fn random_rule(random: &mut Random, peers: &str) -> Value {
    let count = random.below(3);
    let list: Vec<Value> = (0..count).map(|_| random_peer(random)).collect();
    let count = random.below(3);
    let ports: Vec<Value> = (0..count).map(|_| random_port(random)).collect();
    json!({peers: list, "ports": ports})
}

fn random_peer(random: &mut Random) -> Value {
    match random.below(4) {
        0 => {
            let (cidr, except) = random.pick(&[
                ("10.0.0.0/30", "10.0.0.2/31"),
                ("0.0.0.0/0", "10.0.0.0/23"),
                ("fd00::/64", "fd00::2/127"),
                ("::/0", "fd00::/16"),
            ]);
            match random.chance(50) {
                true => json!({"ipBlock": {"cidr": cidr, "except": [except]}}),
                false => json!({"ipBlock": {"cidr": cidr}}),
            }
        }
        1 => json!({"podSelector": selector(random)}),
        2 => json!({"namespaceSelector": selector(random)}),
        _ => json!({"namespaceSelector": selector(random), "podSelector": selector(random)}),
    }
}

fn random_port(random: &mut Random) -> Value {
    let protocol = random.pick(&PROTOCOLS);
    match random.below(4) {
        0 => json!({"protocol": protocol}),
        1 => json!({"protocol": protocol, "port": random.pick(&PORTS)}),
        2 => json!({"protocol": protocol, "port": 81, "endPort": 90}),
        _ => json!({"protocol": protocol, "port": random.pick(&["http", "other", "none"])}),
    }
}
