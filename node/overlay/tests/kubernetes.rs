//! Leases in Node objects, against a small stateful API server.

#![allow(clippy::unwrap_used)]

mod server;

use std::net::Ipv4Addr;
use std::time::Duration;

use knode_netlink::MacAddr;
use knode_overlay::{BackendData, KubernetesLeases, LeaseAttributes, LeaseStore, Leases, Previous};
use serde_json::{Value, json};
use server::Server;

fn attributes(n: u8) -> LeaseAttributes {
    let backend = BackendData::Vxlan {
        vni: 1,
        mac: MacAddr([2, 0, 0, 0, 0, n]),
    };
    LeaseAttributes::ipv4(Ipv4Addr::new(192, 0, 2, n), backend)
}

fn node(name: &str, cidr: Option<&str>) -> Value {
    let spec = cidr.map_or_else(
        || json!({}),
        |cidr| json!({ "podCIDR": cidr, "podCIDRs": [cidr] }),
    );
    let metadata = json!({ "name": name, "annotations": { "other": "kept" } });
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec, "status": { "images": [] } })
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(5), future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come"))
}

/// Waits for leases that satisfy the condition.
async fn leases(store: &KubernetesLeases, what: &str, ready: impl Fn(&Leases) -> bool) -> Leases {
    let mut leases = store.leases();
    let found = soon(what, leases.wait_for(|l| l.as_ref().is_some_and(|l| ready(l)))).await;
    found.unwrap().as_deref().unwrap().clone()
}

#[tokio::test]
async fn a_lease_is_upstreams_annotations() {
    let server = Server::new([node("a", Some("172.30.1.0/24"))]);
    let store = KubernetesLeases::start(server.client(), "a");
    let lease = soon("the lease", store.acquire(&attributes(1))).await.unwrap();
    assert_eq!(lease.subnet.to_string(), "172.30.1.0/24");
    let want = json!({
        "other": "kept",
        "flannel.alpha.coreos.com/kube-subnet-manager": "true",
        "flannel.alpha.coreos.com/backend-type": "vxlan",
        "flannel.alpha.coreos.com/backend-data": r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}"#,
        "flannel.alpha.coreos.com/public-ip": "192.0.2.1",
    });
    assert_eq!(server.node("a")["metadata"]["annotations"], want);
    assert_eq!(
        server.patched(),
        ["/api/v1/nodes/a/status"],
        "no more right is needed than to the status"
    );

    let own = leases(&store, "the own lease", |l| l.own.is_some())
        .await
        .own
        .unwrap();
    assert_eq!(own, lease);
    soon("the lease", store.acquire(&attributes(1))).await.unwrap();
    assert_eq!(server.patched().len(), 1, "what is recorded is not written again");
}

#[tokio::test]
async fn the_subnet_and_even_the_node_are_waited_for() {
    let server = Server::new([]);
    let store = KubernetesLeases::start(server.client(), "a");
    let wanted = attributes(1);
    let acquire = store.acquire(&wanted);
    tokio::pin!(acquire);
    leases(&store, "the first list", |l| *l == Leases::default()).await;
    assert!(futures::poll!(&mut acquire).is_pending());
    server.put(node("a", None));
    assert_eq!(
        soon("the node", store.previous(Ipv4Addr::UNSPECIFIED))
            .await
            .unwrap(),
        Previous::default()
    );
    assert!(futures::poll!(&mut acquire).is_pending());
    server.put(node("a", Some("172.30.7.0/24")));
    assert_eq!(
        soon("the lease", acquire).await.unwrap().subnet.to_string(),
        "172.30.7.0/24"
    );
}

#[tokio::test]
async fn a_new_process_finds_its_old_address() {
    let server = Server::new([node("a", Some("172.30.1.0/24"))]);
    let before = KubernetesLeases::start(server.client(), "a");
    soon("the lease", before.acquire(&attributes(1))).await.unwrap();
    drop(before);
    server.annotate("a", "flannel.alpha.coreos.com/public-ip-overwrite", "203.0.113.1");
    let store = KubernetesLeases::start(server.client(), "a");
    let want = Previous {
        mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
        public_ip_overwrite: Some(Ipv4Addr::new(203, 0, 113, 1)),
        ..Previous::default()
    };
    assert_eq!(
        soon("the node", store.previous(Ipv4Addr::UNSPECIFIED))
            .await
            .unwrap(),
        want
    );
}

#[tokio::test]
async fn peers_come_and_go() {
    let server = Server::new([node("a", Some("172.30.1.0/24")), node("b", Some("172.30.2.0/24"))]);
    let (a, b) = (
        KubernetesLeases::start(server.client(), "a"),
        KubernetesLeases::start(server.client(), "b"),
    );
    assert_eq!(
        leases(&a, "the first list", |_| true).await,
        Leases::default(),
        "b has no lease yet"
    );
    let lease = soon("the lease", b.acquire(&attributes(2))).await.unwrap();
    let seen = leases(&a, "the peer", |l| !l.peers.is_empty()).await;
    assert_eq!(seen.peers.into_values().collect::<Vec<_>>(), [lease]);
    server.delete("b");
    leases(&a, "the peer's end", |l| l.peers.is_empty()).await;
}

#[tokio::test]
async fn the_network_condition_is_upstreams() {
    let server = Server::new([node("a", Some("172.30.1.0/24"))]);
    let store = KubernetesLeases::start(server.client(), "a");
    soon("the announcement", store.announce_ready()).await.unwrap();
    let condition = &server.node("a")["status"]["conditions"][0];
    let get = |key: &str| condition[key].as_str().unwrap().to_owned();
    assert_eq!(
        (get("type"), get("status")),
        ("NetworkUnavailable".into(), "False".into())
    );
    assert_eq!(
        (get("reason"), get("message")),
        ("FlannelIsUp".into(), "Flannel is running on this node".into())
    );
    assert!(
        get("lastTransitionTime").ends_with('Z') && get("lastHeartbeatTime").len() == 20,
        "{condition}"
    );
}

#[tokio::test]
async fn a_refusal_names_the_node() {
    let server = Server::new([node("a", Some("172.30.1.0/24"))]);
    let store = KubernetesLeases::start(server.client(), "a");
    server.refuse_patches();
    let error = soon("the answer", store.acquire(&attributes(1)))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "record the lease of node a");
}

#[tokio::test]
async fn both_families_are_upstreams_annotations_and_go_again() {
    let mut both = node("a", Some("172.30.1.0/24"));
    both["spec"]["podCIDRs"] = json!(["172.30.1.0/24", "fd00:0:0:1::/64"]);
    let server = Server::new([both]);
    let store = KubernetesLeases::start(server.client(), "a");
    let four = attributes(1);
    let mac_v6 = MacAddr([2, 0, 0, 0, 0, 0x61]);
    let dual = LeaseAttributes {
        public_ipv6: Some("2001:db8::1".parse().unwrap()),
        backend_v6: Some(BackendData::Vxlan { vni: 1, mac: mac_v6 }),
        ..four.clone()
    };
    let lease = soon("the lease", store.acquire(&dual)).await.unwrap();
    assert_eq!(lease.ipv6_subnet.unwrap().to_string(), "fd00:0:0:1::/64");
    let annotation = |name: &str| server.node("a")["metadata"]["annotations"][name].clone();
    let data = r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:61"}"#;
    assert_eq!(annotation("flannel.alpha.coreos.com/backend-v6-data"), data);
    assert_eq!(annotation("flannel.alpha.coreos.com/public-ipv6"), "2001:db8::1");
    let own = leases(&store, "the own lease", |l| l.own.as_ref() == Some(&lease));
    own.await;
    let previous = soon("the node", store.previous(Ipv4Addr::UNSPECIFIED))
        .await
        .unwrap();
    assert_eq!(previous.mac_v6, Some(mac_v6));

    soon("the lease", store.acquire(&four)).await.unwrap();
    assert_eq!(
        annotation("flannel.alpha.coreos.com/backend-v6-data"),
        Value::Null
    );
    assert_eq!(annotation("flannel.alpha.coreos.com/public-ipv6"), Value::Null);
}

#[tokio::test]
async fn a_node_without_ipv6_in_a_network_that_has_it_is_told() {
    let server = Server::new([node("a", Some("172.30.1.0/24"))]);
    let store = KubernetesLeases::start(server.client(), "a");
    let dual = LeaseAttributes {
        public_ipv6: Some("2001:db8::1".parse().unwrap()),
        backend_v6: Some(BackendData::HostGw),
        ..attributes(1)
    };
    let error = soon("the answer", store.acquire(&dual)).await.unwrap_err();
    assert_eq!(error.to_string(), "node a has no IPv6 subnet in spec.podCIDRs");
}
