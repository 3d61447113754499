//! The truth tables by real packets, between namespaces on a bridge and beyond it.

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use common::cases::{self, Case, Probe, addresses};
use common::net::{Net, ask_udp, connect, fresh_port, is_alive};
use knode_policy::Applier;
use knode_policy::model::Protocol;
use serde_json::json;

fn applier(net: &Net) -> Applier {
    net.node.enter(|| {
        for switch in ["iptables", "ip6tables"] {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{switch}");
            std::fs::write(path, "1").expect("the kernel has br_netfilter");
        }
        Applier::open("knode-policy").expect("open")
    })
}

/// All probes at once, in both families.
fn check(net: &Net, case: &Case) {
    let failures: Vec<String> = std::thread::scope(|scope| {
        let mut running = Vec::new();
        for probe in &case.probes {
            for family in [0, 1] {
                running.push((probe, family, scope.spawn(move || net.answers(probe, family))));
            }
        }
        let wrong = running.into_iter().filter_map(|(probe, family, thread)| {
            let answered = thread.join().expect("the probe ran");
            let family = ["IPv4", "IPv6"][family];
            (answered != probe.passes).then(|| format!("{probe:?} by {family}: answered {answered}"))
        });
        wrong.collect()
    });
    assert!(failures.is_empty(), "{}: {failures:#?}", case.name);
}

#[test]
fn the_truth_tables_hold() {
    let net = Net::new();
    let mut cluster = cases::cluster();
    let mut applier = applier(&net);
    for case in cases::all() {
        for (name, spec) in &case.policies {
            cluster.policy(name, Some(spec.clone()));
        }
        let changes = cluster.planner.take();
        applier
            .update(&cluster.planner, &changes)
            .unwrap_or_else(|error| panic!("{}: {error:?}", case.name));
        check(&net, &case);
        for (name, _) in &case.policies {
            cluster.policy(name, None);
        }
    }
    let changes = cluster.planner.take();
    applier.update(&cluster.planner, &changes).expect("no policies");
    assert!(!applier.has_table(), "without policies there is no table");
}

#[test]
fn what_was_allowed_once_goes_on_and_what_is_new_does_not() {
    let net = Net::new();
    let mut cluster = cases::cluster();
    let mut applier = applier(&net);
    // Connections are tracked from the beginning, as the service proxy has it.
    let tracking = "add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; \
                    add rule ip nat post ip saddr 198.51.100.1 masquerade";
    net.node.run("nft", &[tracking]);
    let [from, to] = ["a/client", "a/web"].map(|who| addresses(who)[0].parse().expect("address"));
    let web = SocketAddr::new(to, 8080);
    let dns = SocketAddr::new(to, 5353);
    let patience = Duration::from_secs(5);
    let mut tcp = net
        .client
        .enter(|| connect(from, web, patience))
        .expect("no policy yet");
    let udp = net
        .client
        .enter(|| UdpSocket::bind((from, fresh_port())).expect("bind"));
    assert!(ask_udp(&udp, dns, patience));
    let deny = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    cluster.policy("a/deny", Some(deny));
    let changes = cluster.planner.take();
    applier.update(&cluster.planner, &changes).expect("deny");
    assert!(is_alive(&mut tcp), "the connection goes on");
    assert!(ask_udp(&udp, dns, patience), "the flow goes on");
    let silence = Duration::from_millis(250);
    assert!(
        net.client.enter(|| connect(from, web, silence)).is_none(),
        "a new one does not"
    );
    let fresh = net
        .client
        .enter(|| UdpSocket::bind((from, fresh_port())).expect("bind"));
    assert!(!ask_udp(&fresh, dns, silence), "a new flow does not");
}

#[test]
fn the_node_reaches_its_pods_and_they_reach_it() {
    let net = Net::new();
    let mut cluster = cases::cluster();
    let mut applier = applier(&net);
    let deny = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    cluster.policy("a/deny", Some(deny));
    let changes = cluster.planner.take();
    applier.update(&cluster.planner, &changes).expect("deny");
    let patience = Duration::from_secs(5);
    for (family, gateway) in [(0, "10.244.0.1"), (1, "fd10:244::1")] {
        let node = gateway.parse().expect("address");
        let pod = addresses("a/web")[family].parse().expect("address");
        let to_pod = SocketAddr::new(pod, 8080);
        assert!(
            net.node.enter(|| connect(node, to_pod, patience)).is_some(),
            "a probe of {pod}"
        );
        let socket = net.node.enter(|| UdpSocket::bind((node, 7000)).expect("bind"));
        let sender = net.web.enter(|| UdpSocket::bind((pod, 0)).expect("bind"));
        sender.send_to(b"hello", (node, 7000)).expect("send");
        socket.set_read_timeout(Some(patience)).expect("timeout");
        let mut buffer = [0; 8];
        let (length, _) = socket.recv_from(&mut buffer).expect("the node hears its pod");
        assert_eq!(&buffer[..length], b"hello");
    }
}

#[test]
fn a_service_is_judged_by_the_pod_behind_it() {
    let net = Net::new();
    let mut cluster = cases::cluster();
    let mut applier = applier(&net);
    let rules = "add table ip vip\n\
        add chain ip vip pre { type nat hook prerouting priority -100; }\n\
        add rule ip vip pre ip daddr 10.96.0.1 tcp dport 80 dnat to 10.244.0.2:8080\n\
        add chain ip vip post { type nat hook postrouting priority 100; }\n\
        add rule ip vip post ip saddr 10.244.0.2 ip daddr 10.244.0.2 masquerade\n";
    let file = tempfile(rules);
    net.node.run("nft", &["-f", &file]);
    std::fs::remove_file(&file).expect("remove");
    net.node.ip("route add 10.96.0.0/16 dev cni0");
    let allow = json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress", "Egress"],
                       "ingress": [{"from": [{"podSelector": {"matchLabels": {"role": "client"}}}], "ports": [{"port": 8080}]}]});
    cluster.policy("a/web", Some(allow));
    let to_web = json!({"to": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 8080}]});
    let out = json!({"podSelector": {"matchLabels": {"role": "client"}}, "policyTypes": ["Egress"], "egress": [to_web]});
    cluster.policy("a/client", Some(out));
    let changes = cluster.planner.take();
    applier.update(&cluster.planner, &changes).expect("apply");
    let vip = "10.96.0.1:80".parse().expect("address");
    for (who, passes) in [
        ("a/client", true),
        ("b/client", false),
        ("outside", false),
        ("a/web", true),
    ] {
        let from = addresses(who)[0].parse().expect("address");
        let patience = Duration::from_millis(if passes { 5000 } else { 250 });
        let answered = net.host(who).enter(|| connect(from, vip, patience)).is_some();
        assert_eq!(answered, passes, "{who} by the service");
    }
}

fn tempfile(text: &str) -> String {
    let path = std::env::temp_dir().join(format!("knode-policy-{}.nft", std::process::id()));
    std::fs::write(&path, text).expect("write");
    path.display().to_string()
}

#[test]
fn a_pod_that_comes_and_goes_is_an_element() {
    let net = Net::new();
    let mut cluster = cases::cluster();
    let mut applier = applier(&net);
    let policy = json!({"podSelector": {"matchLabels": {"app": "web"}},
                        "ingress": [{"from": [{"podSelector": {"matchLabels": {"role": "client"}}}]}]});
    cluster.policy("a/web", Some(policy));
    let changes = cluster.planner.take();
    applier.update(&cluster.planner, &changes).expect("apply");
    let client = cluster.pods[&("a".to_owned(), "client".to_owned())].clone();
    let mut step = |cluster: &mut common::cluster::Cluster, object, passes| {
        cluster.pod("a/client", object);
        let changes = cluster.planner.take();
        let applied = applier.update(&cluster.planner, &changes).expect("apply");
        assert!(
            applied.commands <= 2,
            "one element in each of two tables, not {applied:?}"
        );
        let probe = Probe {
            from: "a/client",
            to: "a/web",
            protocol: Protocol::Tcp,
            port: 8080,
            passes,
        };
        assert!(
            [0, 1]
                .into_iter()
                .all(|family| net.answers(&probe, family) == passes),
            "{passes}"
        );
    };
    step(&mut cluster, None, false);
    step(&mut cluster, Some(client.clone()), true);
    let mut other = client;
    other["metadata"]["labels"] = json!({"role": "guest"});
    step(&mut cluster, Some(other), false);
}
