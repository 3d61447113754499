//! Debian's plugins in real namespaces: packets, what is left afterwards. Needs root and the package
//! containernetworking-plugins.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use knode_cni::{Attachment, Bandwidth, Capabilities, PortMapping};
use knode_testkit::{Host, Lan, wait_until};
use serde_json::{Value, json};
use support::{BOUND, Node, attachment, names, told, with};

const PLUGINS: &str = "/usr/lib/cni";

/// A machine with a directory of configurations.
struct Machine {
    node: Node,
    host: Host,
    lan: Lan,
}

impl Machine {
    fn new(name: &str) -> Self {
        assert!(
            Path::new(PLUGINS).join("bridge").is_file(),
            "no plugins in {PLUGINS}: scripts/debian.sh test installs containernetworking-plugins"
        );
        let lan = Lan::new();
        let host = lan.host(name, Ipv4Addr::new(10, 99, 0, 1), 24);
        let node = Node::new(name);
        Self { node, host, lan }
    }

    /// Makes this list the network.
    fn network(&self, plugins: &Value) {
        let list = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins});
        self.node.conf("10-pods.conflist", &list.to_string());
    }

    /// host-local over a range, its books in the scratch directory.
    fn ipam(&self, ranges: &[&str]) -> Value {
        let ranges: Vec<_> = ranges.iter().map(|r| json!([{"subnet": r}])).collect();
        let routes = json!([{"dst": "0.0.0.0/0"}]);
        json!({"type": "host-local", "dataDir": self.node.scratch.join("ipam"), "ranges": ranges, "routes": routes})
    }

    /// Addresses that host-local has given out.
    fn leases(&self) -> Vec<String> {
        let mut leases = names(&self.node.scratch.join("ipam/pods"));
        leases.retain(|name| name.parse::<IpAddr>().is_ok());
        leases
    }

    fn try_add(&self, attachment: Attachment) -> Result<IpAddr, String> {
        let added = self.host.block_on(async || self.node.cni().add(attachment).await);
        added.map(|a| a.ips[0]).map_err(|e| told(&e))
    }

    fn add(&self, attachment: Attachment) -> IpAddr {
        self.try_add(attachment).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Detaches with a client of its own: nothing is remembered but on disk.
    fn remove(&self, id: &str) {
        let removed = self.host.block_on(async || self.node.cni().remove(id).await);
        assert!(
            removed.unwrap_or_else(|e| panic!("{}", told(&e))),
            "{id} was attached"
        );
    }

    /// Host ends of cables.
    fn cables(&self) -> Vec<String> {
        let links = self.host.ip("-o link show type veth");
        let names = links.lines().filter_map(|l| l.split(": ").nth(1));
        names
            .filter(|n| !n.starts_with("eth0"))
            .map(str::to_owned)
            .collect()
    }

    fn rules(&self) -> String {
        self.host.run("nft", &["list", "ruleset"])
    }

    fn nothing_left(&self) {
        assert_eq!(self.leases(), Vec::<String>::new(), "addresses");
        assert_eq!(self.cables(), Vec::<String>::new(), "cables");
        assert_eq!(self.node.records(), Vec::<String>::new(), "records");
    }
}

fn reaches(from: &Host, to: IpAddr) {
    let to = to.to_string();
    wait_until(&format!("{} to reach {to}", from.name()), BOUND, || {
        let mut ping = from.command("busybox");
        let output = ping.args(["ping", "-c", "1", "-W", "1", &to]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            Ok(())
        } else {
            Err(said)
        }
    });
}

/// Serves one connection in a pod: says who asks.
fn serve(pod: &Host, port: u16) -> std::thread::JoinHandle<()> {
    let listener = pod
        .enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
        .unwrap();
    std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        stream.write_all(peer.ip().to_string().as_bytes()).unwrap();
    })
}

fn ask(from: &Host, to: SocketAddr) -> std::io::Result<String> {
    from.enter(|| {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

#[test]
fn bridge_host_local_and_portmap_connect_pods_and_leave_nothing() {
    let machine = Machine::new("cni-bridge");
    machine.network(&json!([
        {"type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
         "ipam": machine.ipam(&["10.7.0.0/24"])},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]));
    let (one, two) = (Host::new("one"), Host::new("two"));
    let ports = Capabilities {
        port_mappings: vec![PortMapping {
            host_port: 8080,
            container_port: 80,
            protocol: "tcp",
            host_ip: None,
        }],
        ..Capabilities::default()
    };
    let first = machine.add(with("one", one.path(), ports));
    let second = machine.add(attachment("two", two.path()));
    assert_eq!([first, second].map(|ip| ip.to_string()), ["10.7.0.2", "10.7.0.3"]);
    assert_eq!(machine.leases(), ["10.7.0.2", "10.7.0.3"]);
    reaches(&one, second);
    reaches(&two, first);
    // The host's port leads into the pod, from the host and from another machine.
    let outside = machine.lan.host("outside", Ipv4Addr::new(10, 99, 0, 2), 24);
    for from in [&machine.host, &outside] {
        let server = serve(&one, 80);
        let said = ask(from, SocketAddr::from(([10, 99, 0, 1], 8080)));
        assert!(
            said.as_ref().is_ok_and(|s| !s.is_empty()),
            "{}: {said:?}",
            from.name()
        );
        server.join().unwrap();
    }
    // Not the pod with the port: this portmap's CHECK wants its IPv6 chain, which a pod without IPv6 does not have.
    let checked = machine
        .host
        .block_on(async || machine.node.cni().check("two").await);
    checked.unwrap_or_else(|e| panic!("{}", told(&e)));
    assert!(machine.rules().contains("CNI-DN-"), "portmap's chain");

    machine.remove("one");
    machine.remove("two");
    machine.nothing_left();
    let rules = machine.rules();
    assert!(
        !rules.contains("CNI-DN-") && !rules.contains("10.7.0."),
        "{rules}"
    );
    let refused = ask(&outside, SocketAddr::from(([10, 99, 0, 1], 8080)));
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn what_is_not_as_it_was_is_found_by_check() {
    let machine = Machine::new("cni-chk");
    machine.network(&json!([{"type": "ptp", "ipam": machine.ipam(&["10.7.0.0/24"])}]));
    let pod = Host::new("pod");
    machine.add(attachment("pod", pod.path()));
    let check = || {
        machine
            .host
            .block_on(async || machine.node.cni().check("pod").await)
    };
    check().unwrap();
    pod.ip("address flush dev eth0");
    let found = told(&check().unwrap_err());
    assert!(
        found.contains(r#"plugin type="ptp" name="pods" failed (check): "#),
        "{found}"
    );
    machine.remove("pod");
    machine.nothing_left();
}

#[test]
fn ptp_connects_a_pod_to_its_host_with_both_families() {
    let machine = Machine::new("cni-ptp");
    machine.network(&json!([
        {"type": "ptp", "ipam": machine.ipam(&["10.7.0.0/24", "fd07::/120"])},
    ]));
    let pod = Host::new("pod");
    let attached = machine
        .host
        .block_on(async || machine.node.cni().add(attachment("pod", pod.path())).await);
    let ips = attached.unwrap_or_else(|e| panic!("{}", told(&e))).ips;
    let shown: Vec<_> = ips.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.7.0.2", "fd07::2"], "IPv4 first");
    for ip in ips {
        reaches(&machine.host, ip);
    }
    machine.remove("pod");
    machine.nothing_left();
}

#[test]
fn macvlan_puts_a_pod_on_the_hosts_wire() {
    let machine = Machine::new("cni-macvlan");
    machine.network(&json!([
        {"type": "macvlan", "master": "eth0", "mode": "bridge", "ipam": machine.ipam(&["10.99.0.0/24"])},
    ]));
    let neighbour = machine.lan.host("neighbour", Ipv4Addr::new(10, 99, 0, 200), 24);
    let pod = Host::new("pod");
    let ip = machine.add(attachment("pod", pod.path()));
    assert_eq!(ip.to_string(), "10.99.0.2");
    reaches(&pod, "10.99.0.200".parse().unwrap());
    reaches(&neighbour, ip);
    machine.remove("pod");
    assert!(!pod.ip("-o link").contains("eth0"), "the pod's interface is gone");
    machine.nothing_left();
}

#[test]
fn bandwidth_limits_what_a_pod_receives() {
    let machine = Machine::new("cni-limit");
    machine.network(&json!([
        {"type": "ptp", "ipam": machine.ipam(&["10.7.0.0/24"])},
        {"type": "bandwidth", "capabilities": {"bandwidth": true}},
    ]));
    let (limited, free) = (Host::new("limited"), Host::new("free"));
    let limit = Capabilities {
        bandwidth: Some(Bandwidth {
            ingress_rate: 8_000_000,
            ingress_burst: 800_000,
            ..Bandwidth::default()
        }),
        ..Capabilities::default()
    };
    machine.add(with("limited", limited.path(), limit));
    machine.add(attachment("free", free.path()));
    let shown = machine.host.run("tc", &["qdisc", "show"]);
    let limits: Vec<_> = shown.lines().filter(|l| l.contains("tbf")).collect();
    assert_eq!(limits.len(), 1, "{shown}");
    assert!(limits[0].contains("rate 8Mbit"), "{shown}");
    machine.remove("limited");
    machine.remove("free");
    machine.nothing_left();
}

#[test]
fn a_plugin_that_fails_leaves_nothing_of_those_before() {
    let machine = Machine::new("cni-fails");
    let bridge = json!({"type": "bridge", "bridge": "pods0", "isGateway": true, "ipam": machine.ipam(&["10.7.0.0/24"])});
    let pod = Host::new("pod");
    machine.network(&json!([bridge, {"type": "tuning", "sysctl": {"net.ipv4.no_such_thing": "1"}}]));
    let failed = machine.try_add(attachment("pod", pod.path())).unwrap_err();
    assert!(
        failed.contains(r#"plugin type="tuning" name="pods" failed (add): "#),
        "{failed}"
    );
    assert!(failed.contains("no_such_thing"), "{failed}");
    machine.nothing_left();
    assert!(!pod.ip("-o link").contains("eth0"), "the pod's interface is gone");

    machine.network(&json!([bridge, {"type": "nobodys"}]));
    let missing = machine.try_add(attachment("pod", pod.path())).unwrap_err();
    let places = format!(
        r#"failed to find plugin "nobodys" in path [{} {PLUGINS}]"#,
        machine.node.bin_dir().display()
    );
    assert!(missing.contains(&places), "{missing}");
    machine.nothing_left();

    // The plugin's own words, with its code.
    let mut one = machine.ipam(&["10.7.0.0/24"]);
    one["ranges"] = json!([[{"subnet": "10.7.0.0/24", "rangeStart": "10.7.0.9", "rangeEnd": "10.7.0.9"}]]);
    machine.network(&json!([{"type": "ptp", "ipam": one}]));
    let other = Host::new("other");
    machine.add(attachment("pod", pod.path()));
    let refused = machine.try_add(attachment("other", other.path())).unwrap_err();
    assert!(
        refused.contains("no IP addresses available in range set: 10.7.0.9-10.7.0.9"),
        "{refused}"
    );
    assert!(refused.ends_with("(code 999)"), "{refused}");
    assert_eq!(machine.node.records(), ["pods-pod-eth0"]);
    machine.remove("pod");
    machine.nothing_left();
}

#[test]
fn pods_that_come_and_go_at_once_get_addresses_of_their_own() {
    let machine = Machine::new("cni-many");
    machine.network(&json!([
        {"type": "bridge", "bridge": "pods0", "isGateway": true, "ipam": machine.ipam(&["10.7.0.0/24"])},
    ]));
    let pods: Vec<_> = (0..8).map(|n| Host::new(&format!("pod{n}"))).collect();
    machine.host.block_on(async || {
        let cni = machine.node.cni();
        let adds = pods.iter().map(|pod| cni.add(attachment(pod.name(), pod.path())));
        let added: Result<Vec<_>, _> = join_all(adds).await.into_iter().collect();
        let added = added.unwrap_or_else(|e| panic!("{}", told(&e)));
        let ips: std::collections::BTreeSet<_> = added.iter().map(|a| a.ips[0]).collect();
        assert_eq!(ips.len(), pods.len(), "{ips:?}");
        for removed in join_all(pods.iter().map(|pod| cni.remove(pod.name()))).await {
            assert!(removed.unwrap_or_else(|e| panic!("{}", told(&e))));
        }
    });
    machine.nothing_left();
}

#[test]
fn a_restart_and_a_lost_configuration_do_not_keep_a_pod_from_going() {
    let machine = Machine::new("cni-restart");
    machine.network(&json!([
        {"type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": true, "ipam": machine.ipam(&["10.7.0.0/24"])},
    ]));
    let pod = Host::new("pod");
    let gone = Host::new("gone");
    machine.add(attachment("pod", pod.path()));
    machine.add(attachment("gone", gone.path()));
    std::fs::remove_file(machine.node.conf_dir().join("10-pods.conflist")).unwrap();
    drop(gone);
    machine.remove("pod");
    assert_eq!(machine.leases(), ["10.7.0.3"]);
    machine.remove("gone");
    assert_eq!(machine.leases(), Vec::<String>::new());
    assert_eq!(machine.node.records(), Vec::<String>::new());
}

#[test]
fn a_broken_configuration_is_told_with_its_place_while_the_next_is_used() {
    let machine = Machine::new("cni-broken");
    machine.node.conf(
        "05-broken.conflist",
        "{\n  \"cniVersion\": \"1.0.0\",\n  \"name\" \"x\"\n}\n",
    );
    machine.network(&json!([{"type": "ptp", "ipam": machine.ipam(&["10.7.0.0/24"])}]));
    let cni = machine.node.cni();
    let loaded = cni.loaded().borrow().clone();
    let broken: Vec<_> = loaded.broken.iter().map(ToString::to_string).collect();
    assert_eq!(broken.len(), 1);
    assert!(
        broken[0].contains("05-broken.conflist") && broken[0].contains("line 3 column 10"),
        "{broken:?}"
    );
    let pod = Host::new("pod");
    assert_eq!(machine.add(attachment("pod", pod.path())).to_string(), "10.7.0.2");
    machine.remove("pod");
    machine.nothing_left();
}
