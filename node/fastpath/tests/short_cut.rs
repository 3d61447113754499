//! What takes the short cut and what must not, with real packets between two hosts. Needs root.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};

use knode_testkit::{Host, wait_until};
use support::{BOUND, Connection, FEW, MANY, Node, PORT, bridged_by, direct, site, wait_for_short_cut};

#[test]
fn established_connections_of_both_families_pass_beside_the_bridges() {
    let site = site();
    let running = site.nodes.each_ref().map(Node::short_cut);
    for ipv6 in [false, true] {
        let mut connection = direct(&site, ipv6);
        wait_for_short_cut(&site, &mut connection);
        let Connection(client, server) = connection;
        drop(client);
        assert_eq!(
            (&server).read(&mut [0]).unwrap(),
            0,
            "the end of the connection arrives"
        );
    }
    drop(running);
}

#[test]
fn connection_tracking_sees_the_end() {
    let site = site();
    let _running = site.nodes.each_ref().map(Node::short_cut);
    let mut connection = direct(&site, false);
    wait_for_short_cut(&site, &mut connection);
    drop(connection);
    for node in &site.nodes {
        wait_until("connection tracking to see the end", BOUND, || {
            let told = node.host.run("conntrack", &["-L", "-p", "tcp"]);
            let ended = !told.contains("ESTABLISHED") && told.contains(&format!("dport={PORT}"));
            ended.then_some(()).ok_or(told)
        });
    }
}

#[test]
fn a_connection_goes_on_when_the_short_cut_ends_and_begins() {
    let site = site();
    let running = site.nodes.each_ref().map(Node::short_cut);
    let mut connection = direct(&site, false);
    wait_for_short_cut(&site, &mut connection);
    drop(running);
    let bridged = bridged_by(&site, &mut connection);
    assert!(
        bridged >= MANY,
        "{bridged} packets over the bridges without a short cut"
    );
    let _running = site.nodes.each_ref().map(Node::short_cut);
    wait_for_short_cut(&site, &mut connection);
}

#[test]
fn translated_connections_go_the_long_way() {
    let site = site();
    let [from, to] = &site.nodes;
    let rule = format!(
        "table ip s {{ chain c {{ type nat hook prerouting priority -100; ip daddr 10.96.0.1 dnat to {}; }}\n}}",
        to.address(false)
    );
    from.host.run("nft", &[&rule]);
    let _running = site.nodes.each_ref().map(Node::short_cut);
    wait_for_short_cut(&site, &mut direct(&site, false));
    let service = SocketAddr::new(Ipv4Addr::new(10, 96, 0, 1).into(), PORT);
    let mut connection = Connection::open(&from.pod, &to.pod, to.address(false), service);
    for _ in 0..3 {
        let before = from.bridged();
        connection.transfer();
        let bridged = from.bridged() - before;
        assert!(bridged >= MANY / 2, "{bridged} packets over the client's bridge");
    }
}

#[test]
fn a_limited_pod_is_left_alone() {
    let site = site();
    let [from, to] = &site.nodes;
    let limit = "qdisc add dev veth0 root tbf rate 1gbit burst 1mb latency 50ms";
    to.host.run("tc", &limit.split(' ').collect::<Vec<_>>());
    let _running = site.nodes.each_ref().map(Node::short_cut);
    let mut connection = direct(&site, false);
    wait_until("the other pod to take the short cut", BOUND, || {
        let before = from.bridged();
        connection.transfer();
        let bridged = from.bridged() - before;
        // Its answers come by the tunnel, and into the pod by the short cut.
        (bridged < FEW)
            .then_some(())
            .ok_or(format!("{bridged} packets over its bridge"))
    });
    let before = to.bridged();
    connection.transfer();
    let bridged = to.bridged() - before;
    assert!(
        bridged >= MANY / 2,
        "{bridged} packets over the limited pod's bridge"
    );
}

#[test]
fn a_pod_with_an_address_of_one_that_went_is_reached() {
    let site = site();
    let [from, to] = &site.nodes;
    let _running = site.nodes.each_ref().map(Node::short_cut);
    wait_for_short_cut(&site, &mut direct(&site, false));
    to.host.ip("link delete veth0");
    let next = Host::new("pod");
    to.plug(&next, "veth1");
    Node::pings(&next, from.address(false));
    let address = to.address(false);
    let mut connection = Connection::open(&from.pod, &next, address, SocketAddr::new(address, PORT));
    wait_for_short_cut(&site, &mut connection);
}

/// Packets that a host has cut into fragments.
fn fragments(node: &Node) -> u64 {
    let told = node.host.run("cat", &["/proc/net/snmp"]);
    let mut lines = told.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, numbers) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "FragCreates").unwrap();
    numbers.split(' ').nth(at).unwrap().parse().unwrap()
}

#[test]
fn a_sender_is_told_when_packets_became_too_large() {
    let site = site();
    let _running = site.nodes.each_ref().map(Node::short_cut);
    let mut connection = direct(&site, false);
    wait_for_short_cut(&site, &mut connection);
    for node in &site.nodes {
        node.host.ip("link set eth0 mtu 1400");
        node.host.ip("link set flannel.1 mtu 1350");
    }
    wait_for_short_cut(&site, &mut connection);
    let cut: u64 = site.nodes.iter().map(fragments).sum();
    assert_eq!(cut, 0, "packets are cut instead of being sent smaller");
}
