//! Packets through a tunnel past its device, and which must not. Needs root.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;

use knode_testkit::{Host, Process, wait_until};
use support::{BOUND, Connection, FEW, MANY, Node, PORT, Site, direct, site};

/// Packets over the tunnel's devices while much is sent.
fn tunnelled_by(site: &Site, connection: &mut Connection) -> u64 {
    let count = || site.nodes.iter().map(Node::tunnelled).sum::<u64>();
    let before = count();
    connection.transfer();
    count() - before
}

fn wait_for_short_cut(site: &Site, connection: &mut Connection) {
    wait_until("packets to pass beside the tunnel's devices", BOUND, || {
        let tunnelled = tunnelled_by(site, connection);
        (tunnelled < FEW)
            .then_some(())
            .ok_or(format!("{tunnelled} packets over the devices"))
    });
}

/// What passes the cable between the hosts while much is sent.
fn captured(site: &Site, connection: &mut Connection) -> String {
    let capture = ["-n", "-vv", "-l", "-c", "40", "-i", "eth0", "udp port 8472"];
    let capture: Process = site.nodes[1].host.spawn("tcpdump", "tcpdump", &capture);
    wait_until("tcpdump to listen", BOUND, || {
        let said = capture.output();
        said.contains("listening on").then_some(()).ok_or(said)
    });
    wait_until("packets on the cable", BOUND, || {
        connection.transfer();
        let said = capture.output();
        said.contains("packets captured").then_some(()).ok_or(said)
    });
    capture.output()
}

#[test]
fn packets_are_wrapped_as_the_device_does() {
    let site = site();
    for node in &site.nodes {
        // A first packet that is sent again asks for it too.
        for setting in ["net.ipv4.tcp_ecn=1", "net.ipv4.tcp_ecn_fallback=0"] {
            node.pod.run("sysctl", &["-qw", setting]);
        }
    }
    let _running = site.nodes.each_ref().map(Node::short_cut);
    let mut connection = direct(&site, false);
    wait_for_short_cut(&site, &mut connection);
    let seen = captured(&site, &mut connection);
    let wrapped: Vec<&str> = seen.lines().filter(|l| l.contains("8472")).collect();
    assert!(wrapped.len() >= 40, "{seen}");
    // By this port tcpdump takes them for those of OTV, which look the same.
    let vxlan = |line: &&&str| line.contains("[no cksum] OTV, flags [I] (0x08), overlay 0, instance 1");
    let short = wrapped.iter().filter(vxlan).count();
    assert!(short >= 30, "{short} packets without a checksum in UDP: {seen}");
    let outer: Vec<&str> = seen.lines().filter(|l| l.contains("proto UDP (17)")).collect();
    assert!(outer.iter().all(|l| !l.contains("bad cksum")), "{seen}");
    let may_say = outer.iter().filter(|l| l.contains("tos 0x2,ECT(0)"));
    assert!(may_say.count() > 0, "congestion may be said outside too: {seen}");
}

#[test]
fn an_interface_that_cuts_nothing_gets_small_packets() {
    let site = site();
    for node in &site.nodes {
        let off =
            "-K eth0 tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off tso off gso off tx off";
        node.host.run("ethtool", &off.split(' ').collect::<Vec<_>>());
    }
    let _running = site.nodes.each_ref().map(Node::short_cut);
    let mut connection = direct(&site, false);
    wait_for_short_cut(&site, &mut connection);
    let seen = captured(&site, &mut connection);
    let lengths = seen.lines().filter(|l| l.contains("proto UDP (17)"));
    let lengths: Vec<u32> = lengths
        .filter_map(|l| l.rsplit("length ").next()?.trim_end_matches(')').parse().ok())
        .collect();
    assert!(lengths.len() >= 40, "{seen}");
    assert!(lengths.iter().all(|l| *l <= 1500), "{lengths:?}");
    assert!(!seen.contains("incorrect"), "checksums inside are right: {seen}");
}

#[test]
fn what_a_pod_passes_on_is_unwrapped_by_the_device() {
    let site = site();
    let [from, to] = &site.nodes;
    let behind = Host::new("behind");
    to.pod.ip(&format!(
        "link add inner type veth peer name eth0 netns {}",
        behind.path().display()
    ));
    to.pod.ip("address add 192.168.7.1/24 dev inner");
    to.pod.ip("link set inner up");
    behind.ip("address add 192.168.7.2/24 dev eth0");
    behind.ip("link set eth0 up");
    behind.ip("route add default via 192.168.7.1");
    to.pod.run("sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
    let rule = format!(
        "table ip s {{ chain c {{ type nat hook prerouting priority -100; tcp dport {PORT} dnat to 192.168.7.2; }}\n}}"
    );
    to.pod.run("nft", &[&rule]);
    let _running = site.nodes.each_ref().map(Node::short_cut);
    let back = from.address(false);
    let mut other = Connection::open(&to.pod, &from.pod, back, SocketAddr::new(back, PORT));
    wait_for_short_cut(&site, &mut other);
    let inside = "192.168.7.2".parse().unwrap();
    let dial = SocketAddr::new(to.address(false), PORT);
    let mut connection = Connection::open(&from.pod, &behind, inside, dial);
    wait_until("the sender's packets to pass beside its device", BOUND, || {
        let before = (from.tunnelled(), to.tunnelled());
        connection.transfer();
        let (sent, received) = (from.tunnelled() - before.0, to.tunnelled() - before.1);
        assert!(received >= MANY / 2, "{received} packets unwrapped by the device");
        (sent < received / 2)
            .then_some(())
            .ok_or(format!("{sent} packets wrapped by the device"))
    });
}

#[test]
fn a_tunnel_that_changes_is_followed() {
    let site = site();
    let [from, to] = &site.nodes;
    let _running = site.nodes.each_ref().map(Node::short_cut);
    let mut connection = direct(&site, false);
    wait_for_short_cut(&site, &mut connection);
    // The peer has another address now: only who follows the device's entries reaches it.
    to.host.ip("address add 10.99.0.12/32 dev eth0");
    to.host.ip("link delete flannel.1");
    to.tunnel(from, "10.99.0.12", "10.99.0.1");
    to.host.ip("address delete 10.99.0.2/24 dev eth0");
    let fdb = "fdb replace 02:00:00:00:00:02 dev flannel.1 dst 10.99.0.12 self permanent";
    from.host.run("bridge", &fdb.split(' ').collect::<Vec<_>>());
    wait_for_short_cut(&site, &mut connection);
}
