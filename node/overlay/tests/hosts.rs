//! Hosts and pods in namespaces, real packets between them. Needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{Cluster, Fabric, Host, ask, datagram, eventually, serve_tcp, serve_udp};
use knode_netlink::{
    LinkChange, LinkKind, change_link, delete_fdb, delete_link, delete_neighbour, delete_route,
};
use knode_overlay::{Backend, BackendData, NetConf, Subnet, VxlanConf, teardown};

const SOON: Duration = Duration::from_secs(1);
const MTU: u32 = 1450;

fn vxlan() -> NetConf {
    NetConf::vxlan("172.30.0.0/16".parse().unwrap())
}

fn host_gw() -> NetConf {
    NetConf {
        backend: Backend::HostGw,
        ..vxlan()
    }
}

struct Two {
    a: Host,
    b: Host,
    subnets: [Subnet; 2],
    cluster: Cluster,
    fabric: Fabric,
}

fn two(conf: &NetConf) -> Two {
    let (fabric, cluster) = (Fabric::new(), Cluster::with_nodes([1, 2]));
    let (mut a, mut b) = (Host::new(&fabric, 1), Host::new(&fabric, 2));
    let subnets = [
        a.start_ready(conf.clone(), cluster.store(1)),
        b.start_ready(conf.clone(), cluster.store(2)),
    ];
    if matches!(conf.backend, Backend::Vxlan(_)) {
        settled(&a, "172.30.2.0/24");
        settled(&b, "172.30.1.0/24");
    }
    Two {
        a,
        b,
        subnets,
        cluster,
        fabric,
    }
}

/// Waits for the route to another node's subnet.
fn settled(host: &Host, subnet: &str) {
    let there = || {
        host.destinations("flannel.1")
            .contains(&subnet.to_owned())
            .then_some(())
    };
    eventually("the route", SOON, there, || {
        format!("{:?}", host.destinations("flannel.1"))
    });
}

#[test]
fn pods_of_two_hosts_reach_each_other() {
    let two = two(&vxlan());
    let (here, there) = (two.a.pod(two.subnets[0], 2), two.b.pod(two.subnets[1], 2));
    let server = serve_tcp(&there.netns, 80, 2);
    assert_eq!(
        ask(&here.netns, (there.ip, 80), 3_000_000),
        "172.30.1.2 3000000",
        "pod to pod, source kept"
    );
    assert_eq!(
        ask(&two.a.netns, (there.ip, 80), 1),
        "172.30.1.0 1",
        "host to pod, by the overlay's address"
    );
    server.join().unwrap();
    let echo = serve_udp(&there.netns, 53, 1);
    let size = MTU as usize - 28;
    assert_eq!(
        datagram(&here.netns, (there.ip, 53), size, Duration::from_secs(5)),
        Some(size),
        "full size"
    );
    echo.join().unwrap();
}

#[test]
fn what_leaves_the_pod_network_has_the_hosts_address() {
    let two = two(&vxlan());
    let outside = Host::new(&two.fabric, 100);
    let pod = two.a.pod(two.subnets[0], 2);
    let server = serve_tcp(&outside.netns, 80, 1);
    assert_eq!(ask(&pod.netns, (outside.ip(), 80), 1), "192.0.2.1 1");
    server.join().unwrap();
    let server = serve_tcp(&two.b.netns, 80, 1);
    assert_eq!(
        ask(&pod.netns, (two.b.ip(), 80), 1),
        "192.0.2.1 1",
        "also to another node"
    );
    server.join().unwrap();
}

#[test]
fn device_file_and_channel_are_upstreams() {
    let two = two(&vxlan());
    assert_eq!(
        two.subnets[0],
        Subnet {
            ipv4: "172.30.1.0/24".parse().unwrap(),
            ipv6: None,
            mtu: MTU
        }
    );
    let device = two.a.links.link("flannel.1").unwrap().unwrap();
    let LinkKind::Vxlan(vxlan) = device.kind else {
        panic!("{device:?}")
    };
    assert_eq!(
        (vxlan.vni, vxlan.port, vxlan.learning, device.mtu),
        (1, 8472, false, MTU)
    );
    assert_eq!(vxlan.local, Some(two.a.ip().into()));
    let addresses = two.a.links.addresses(Some(device.index)).unwrap();
    assert!(
        addresses.iter().any(|a| a.net.to_string() == "172.30.1.0/32"),
        "{addresses:?}"
    );
    let text = std::fs::read_to_string(two.a.subnet_file()).unwrap();
    let want = "FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET=172.30.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
    assert_eq!(text, want);
    let told = two.cluster.attributes(1).unwrap();
    assert_eq!(told.public_ip, two.a.ip());
    assert_eq!(
        told.backend,
        BackendData::Vxlan {
            vni: 1,
            mac: device.mac.unwrap()
        }
    );
    eventually(
        "the announcement",
        SOON,
        || (two.cluster.announced(1) == 1).then_some(()),
        String::new,
    );
}

/// Undoes something on host a and waits until everything is as before and packets flow.
fn drifts(undo: impl FnOnce(&Host)) {
    let two = two(&vxlan());
    let (here, there) = (two.a.pod(two.subnets[0], 2), two.b.pod(two.subnets[1], 2));
    let _echo = serve_udp(&there.netns, 53, usize::MAX);
    let flows = || datagram(&here.netns, (there.ip, 53), 100, Duration::from_millis(100));
    eventually("the first packet", SOON, flows, String::new);
    let now = || (two.a.state(), two.a.rules());
    let before = now();
    assert_eq!((before.0.len(), before.1), (5, 6));
    let broken = Instant::now();
    undo(&two.a);
    eventually(
        "the repair",
        SOON,
        || (now() == before).then_some(()),
        || format!("{:?}", now()),
    );
    println!("repaired after {:?}", broken.elapsed());
    eventually("a packet", SOON, flows, || format!("{:?}", now()));
}

fn index(host: &Host) -> u32 {
    host.links.link("flannel.1").unwrap().unwrap().index
}

#[test]
fn a_deleted_route_comes_back() {
    drifts(|host| {
        let routes = host.links.routes(Some(index(host))).unwrap();
        let route = routes
            .iter()
            .find(|r| r.destination.to_string() == "172.30.2.0/24")
            .unwrap();
        host.links.execute(delete_route(route)).unwrap();
    });
}

#[test]
fn a_deleted_forwarding_entry_comes_back() {
    drifts(|host| {
        let entry = host.links.fdb(index(host)).unwrap()[0];
        host.links.execute(delete_fdb(&entry)).unwrap();
    });
}

#[test]
fn a_deleted_neighbour_comes_back() {
    drifts(|host| {
        let entries = host.links.neighbours(index(host)).unwrap();
        let entry = entries.iter().find(|n| n.permanent && n.ip.is_ipv4()).unwrap();
        host.links.execute(delete_neighbour(entry)).unwrap();
    });
}

#[test]
fn a_deleted_device_comes_back_with_all_it_had() {
    drifts(|host| host.links.execute(delete_link("flannel.1")).unwrap());
}

#[test]
fn a_device_set_down_comes_up_with_its_routes() {
    drifts(|host| {
        let down = LinkChange {
            up: Some(false),
            ..LinkChange::default()
        };
        host.links.execute(change_link("flannel.1", &down)).unwrap();
    });
}

#[test]
fn deleted_rules_come_back() {
    drifts(|host| {
        let delete = || {
            let mut batch = knode_nft::Batch::new(knode_nft::TableRef::new(
                knode_nft::Family::Ip,
                knode_overlay::NFT_TABLE,
            ));
            batch.delete_table();
            knode_nft::Socket::open().unwrap().commit(&batch).unwrap();
        };
        host.netns.run(delete).unwrap();
    });
}

#[test]
fn a_restart_changes_nothing() {
    let mut two = two(&vxlan());
    let (here, there) = (two.a.pod(two.subnets[0], 2), two.b.pod(two.subnets[1], 2));
    let before = (
        two.a.links.link("flannel.1").unwrap(),
        two.cluster.attributes(1),
        two.a.rules(),
    );
    two.a.kill();
    let server = serve_tcp(&there.netns, 80, 2);
    assert_eq!(
        ask(&here.netns, (there.ip, 80), 1),
        "172.30.1.2 1",
        "packets flow without us"
    );
    assert_eq!(two.a.start_ready(vxlan(), two.cluster.store(1)), two.subnets[0]);
    assert_eq!(ask(&here.netns, (there.ip, 80), 1), "172.30.1.2 1");
    server.join().unwrap();
    let after = (
        two.a.links.link("flannel.1").unwrap(),
        two.cluster.attributes(1),
        two.a.rules(),
    );
    assert_eq!(before, after, "same device, same address, rules once");
}

#[test]
fn the_device_is_lost_with_the_machine_but_not_its_address() {
    let mut two = two(&vxlan());
    let before = two.cluster.attributes(1);
    two.a.kill();
    two.a.links.execute(delete_link("flannel.1")).unwrap();
    two.a.start_ready(vxlan(), two.cluster.store(1));
    assert_eq!(two.cluster.attributes(1), before);
}

#[test]
fn nodes_come_and_go() {
    let two = two(&vxlan());
    let mut third = Host::new(&two.fabric, 3);
    two.cluster.set_subnet(3, Some("172.30.3.0/24"));
    let subnet = third.start_ready(vxlan(), two.cluster.store(3));
    settled(&two.a, "172.30.3.0/24");
    settled(&third, "172.30.1.0/24");
    let (here, there) = (two.a.pod(two.subnets[0], 2), third.pod(subnet, 2));
    let server = serve_tcp(&there.netns, 80, 1);
    assert_eq!(ask(&here.netns, (there.ip, 80), 1), "172.30.1.2 1");
    server.join().unwrap();

    two.cluster.remove(3);
    let only = || (two.a.destinations("flannel.1") == ["172.30.2.0/24"]).then_some(());
    eventually("the removal", SOON, only, || {
        format!("{:?}", two.a.destinations("flannel.1"))
    });
    let index = index(&two.a);
    assert_eq!(two.a.links.fdb(index).unwrap().len(), 1);
    let permanent = two
        .a
        .links
        .neighbours(index)
        .unwrap()
        .iter()
        .filter(|n| n.permanent && n.ip.is_ipv4())
        .count();
    assert_eq!(permanent, 1);
}

#[test]
fn nothing_is_claimed_before_there_is_a_subnet() {
    let (fabric, cluster) = (Fabric::new(), Cluster::default());
    cluster.set_subnet(1, None);
    let mut host = Host::new(&fabric, 1);
    let subnet = host.start(vxlan(), cluster.store(1));
    assert_eq!(*subnet.borrow(), None);
    assert_eq!(
        (host.links.link("flannel.1").unwrap(), host.subnet_env()),
        (None, None)
    );
    cluster.set_subnet(1, Some("172.30.1.0/24"));
    eventually("the subnet", SOON, || *subnet.borrow(), String::new);
    assert_eq!(host.subnet_env().unwrap().subnet.to_string(), "172.30.1.0/24");
}

#[test]
fn a_wiped_record_is_written_again() {
    let two = two(&vxlan());
    let before = two.cluster.attributes(1);
    two.cluster.wipe(1);
    let back = || (two.cluster.attributes(1) == before).then_some(());
    eventually("the record", Duration::from_secs(3), back, || {
        format!("{:?}", two.cluster.attributes(1))
    });
    settled(&two.b, "172.30.1.0/24");
}

#[test]
fn host_gw_routes_through_the_nodes() {
    let two = two(&host_gw());
    assert_eq!(two.subnets[0].mtu, 1500);
    let routed = || {
        two.a
            .destinations("eth0")
            .contains(&"172.30.2.0/24".to_owned())
            .then_some(())
    };
    eventually("the route", SOON, routed, || {
        format!("{:?}", two.a.destinations("eth0"))
    });
    let (here, there) = (two.a.pod(two.subnets[0], 2), two.b.pod(two.subnets[1], 2));
    let server = serve_tcp(&there.netns, 80, 1);
    assert_eq!(ask(&here.netns, (there.ip, 80), 100_000), "172.30.1.2 100000");
    server.join().unwrap();
    assert_eq!(two.a.links.link("flannel.1").unwrap(), None);
}

#[test]
fn near_nodes_can_be_routed_directly() {
    let vxlan_conf = VxlanConf {
        direct_routing: true,
        ..VxlanConf::default()
    };
    let conf = NetConf {
        backend: Backend::Vxlan(vxlan_conf),
        ..vxlan()
    };
    let (fabric, cluster) = (Fabric::new(), Cluster::with_nodes([1, 2]));
    let (mut a, mut b) = (Host::new(&fabric, 1), Host::new(&fabric, 2));
    let subnets = [
        a.start_ready(conf.clone(), cluster.store(1)),
        b.start_ready(conf, cluster.store(2)),
    ];
    let routed = || {
        a.destinations("eth0")
            .contains(&"172.30.2.0/24".to_owned())
            .then_some(())
    };
    eventually("the route", SOON, routed, || {
        format!("{:?}", a.destinations("eth0"))
    });
    let (here, there) = (a.pod(subnets[0], 2), b.pod(subnets[1], 2));
    let server = serve_tcp(&there.netns, 80, 1);
    assert_eq!(ask(&here.netns, (there.ip, 80), 100_000), "172.30.1.2 100000");
    server.join().unwrap();
    assert_eq!(a.destinations("flannel.1"), [""; 0]);
}

#[test]
fn teardown_leaves_nothing() {
    for conf in [vxlan(), host_gw()] {
        let mut two = two(&conf);
        two.a.kill();
        let file = two.a.subnet_file();
        for _ in 0..2 {
            let errors = two.a.netns.run(|| teardown(&conf, &file)).unwrap();
            assert!(errors.is_empty(), "{errors:?}");
        }
        assert_eq!(two.a.links.link("flannel.1").unwrap(), None);
        assert_eq!((two.a.rules(), two.a.subnet_env()), (0, None));
        let mut routes = two.a.destinations("eth0");
        routes.sort();
        assert_eq!(routes, ["0.0.0.0/0", "192.0.2.0/24"]);
    }
}

#[test]
fn a_new_mtu_of_the_underlay_is_followed() {
    let two = two(&vxlan());
    let change = LinkChange {
        mtu: Some(1400),
        ..LinkChange::default()
    };
    two.a.links.execute(change_link("eth0", &change)).unwrap();
    let device = || two.a.links.link("flannel.1").unwrap().unwrap().mtu;
    let told = || two.a.subnet_env().map(|file| file.mtu);
    eventually(
        "the new size",
        SOON,
        || (device() == 1350 && told() == Some(1350)).then_some(()),
        || format!("{} {:?}", device(), told()),
    );
    assert_eq!(two.cluster.attributes(1).unwrap().public_ip, two.a.ip());
}

#[test]
fn a_new_address_of_the_underlay_is_followed_and_told() {
    let two = two(&vxlan());
    let (here, there) = (two.a.pod(two.subnets[0], 2), two.b.pod(two.subnets[1], 2));
    let mac = two.a.links.link("flannel.1").unwrap().unwrap().mac;
    two.a.readdress("192.0.2.1/24", "192.0.2.51/24");
    let new: std::net::Ipv4Addr = "192.0.2.51".parse().unwrap();
    let remote = || {
        let index = index(&two.b);
        let fdb = two.b.links.fdb(index).unwrap();
        fdb.iter().filter_map(|e| e.remote).collect::<Vec<_>>()
    };
    let moved = || (remote() == [std::net::IpAddr::V4(new)]).then_some(());
    eventually("the peer's move", 5 * SOON, moved, || format!("{:?}", remote()));
    settled(&two.a, "172.30.2.0/24");
    let device = two.a.links.link("flannel.1").unwrap().unwrap();
    let LinkKind::Vxlan(vxlan) = device.kind else {
        panic!("{device:?}")
    };
    assert_eq!(
        (vxlan.local, device.mac),
        (Some(new.into()), mac),
        "the station stays"
    );
    let server = serve_tcp(&there.netns, 80, 1);
    assert_eq!(ask(&here.netns, (there.ip, 80), 100_000), "172.30.1.2 100000");
    server.join().unwrap();
}
