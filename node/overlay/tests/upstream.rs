//! A node beside one that flannel's own daemon runs: its lease is put into etcd as that writes it, and its links and
//! entries are made by hand, step by step as that makes them. Needs root, Debian's etcd and iproute2.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "etcd/server.rs"]
mod server;

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use common::{Fabric, Host, Pod, ask, eventually, ping, serve_tcp};
use knode_overlay::{EtcdConfig, EtcdLeases, LeaseStore, NetConf, Prefix, Subnet};
use serde_json::Value;
use server::Cluster;

const PREFIX: &str = "/coreos.com/network";
const SOON: Duration = Duration::from_secs(10);
const BRIEF: Duration = Duration::from_millis(200);
const CONFIG: &str =
    r#"{"Network":"172.30.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48","Backend":{"Type":"vxlan"}}"#;
const KEY: &str = "/coreos.com/network/subnets/172.30.200.0-24&fd00:0:0:c8::-64";
const VALUE: &str = r#"{"PublicIP":"192.0.2.2","PublicIPv6":"2001:db8::2","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:02"},"BackendV6Data":{"VNI":1,"VtepMAC":"0a:00:00:00:00:62"}}"#;

fn run(host: &Host, line: &str) {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    let output = host.netns.run(|| command.output()).unwrap().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
}

/// `newVXLANDevice` and `Configure` of upstream's, in both families.
fn devices(host: &Host) {
    for line in [
        "ip link add flannel.1 address 0a:00:00:00:00:02 mtu 1450 type vxlan id 1 dev eth0 local 192.0.2.2 dstport 8472 nolearning",
        "ip address add 172.30.200.0/32 dev flannel.1",
        "ip link set flannel.1 up",
        "ip link add flannel-v6.1 address 0a:00:00:00:00:62 mtu 1430 type vxlan id 1 dev eth0 local 2001:db8::2 dstport 8472 nolearning",
        "ip address add fd00:0:0:c8::/128 dev flannel-v6.1 nodad",
        "ip link set flannel-v6.1 up",
    ] {
        run(host, line);
    }
}

/// `handleSubnetEvents` of upstream's for one peer, from its lease.
fn peer(host: &Host, key: &str, value: &str) {
    let value: Value = serde_json::from_str(value).unwrap();
    let (v4, v6) = key.rsplit('/').next().unwrap().split_once('&').unwrap();
    let sides = [
        ("flannel.1", v4, "BackendData", "PublicIP"),
        ("flannel-v6.1", v6, "BackendV6Data", "PublicIPv6"),
    ];
    for (device, subnet, data, public) in sides {
        let (ip, length) = subnet.rsplit_once('-').unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (mac, remote) = (text(&value[data]["VtepMAC"]), text(&value[public]));
        run(
            host,
            &format!("ip neighbour replace {ip} lladdr {mac} dev {device} nud permanent"),
        );
        run(
            host,
            &format!("bridge fdb replace {mac} dev {device} dst {remote} self permanent"),
        );
        run(
            host,
            &format!("ip route replace {ip}/{length} via {ip} dev {device} onlink"),
        );
    }
}

fn reaches(from: &Pod, to: &Pod, size: usize) {
    for ip in to.ips() {
        let answer = || ping(&from.netns, ip, size, BRIEF);
        eventually("an answer", SOON, answer, || format!("{} to {ip}", from.ip));
        let server = serve_tcp(&to.netns, 80, 1);
        let own: IpAddr = if ip.is_ipv4() {
            from.ip.into()
        } else {
            from.ip6.unwrap().into()
        };
        assert_eq!(ask(&from.netns, (ip, 80), 200_000), format!("{own} 200000"));
        server.join().unwrap();
    }
}

#[test]
fn a_node_of_upstreams_is_reached_in_both_families() {
    let fabric = Fabric::new();
    let (mut ours, theirs) = (Host::new(&fabric, 1), Host::new(&fabric, 2));
    let cluster = Cluster::start_at(ours.netns.clone(), "192.0.2.1");
    cluster.ctl(&["put", &format!("{PREFIX}/config"), CONFIG]);
    devices(&theirs);
    cluster.ctl(&["put", KEY, VALUE]);

    let conf = NetConf::parse(CONFIG).unwrap();
    let config = EtcdConfig::new(Prefix::new(PREFIX), conf.clone(), ours.subnet_file());
    let client = cluster.client();
    let store: Arc<dyn LeaseStore> = ours.enter(|| Arc::new(EtcdLeases::start(client, config)));
    let subnet = ours.start_ready(conf, store);
    let name = |net: String| net.replace('/', "-");
    let v6 = subnet.ipv6.unwrap().to_string();
    let key = format!("{PREFIX}/subnets/{}&{}", name(subnet.ipv4.to_string()), name(v6));
    let value = cluster.ctl(&["get", "--print-value-only", &key]);
    peer(&theirs, &key, value.trim());

    let there = Subnet {
        ipv4: "172.30.200.0/24".parse().unwrap(),
        ipv6: Some("fd00:0:0:c8::/64".parse().unwrap()),
        mtu: 1430,
    };
    let (here, there) = (ours.pod(subnet, 2), theirs.pod(there, 2));
    reaches(&here, &there, 1430);
    reaches(&there, &here, 1430);

    // Its daemon starts again with another station, as it does without Node annotations.
    run(&theirs, "ip link set flannel.1 down");
    run(&theirs, "ip link set flannel.1 address 0a:00:00:00:00:22");
    run(&theirs, "ip link set flannel.1 up");
    peer(&theirs, &key, value.trim());
    cluster.ctl(&["put", KEY, &VALUE.replace("00:00:02\"", "00:00:22\"")]);
    reaches(&here, &there, 1430);

    cluster.ctl(&["del", KEY]);
    let lists = || (ours.routed("flannel.1", false), ours.routed("flannel-v6.1", true));
    let gone = || (lists() == (vec![], vec![])).then_some(());
    eventually("the removal", SOON, gone, || format!("{:?}", lists()));
}
