//! What somebody undoes is back within a second, in both families. Needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{Cluster, Fabric, Host, Pod, eventually, ping};
use knode_netlink::{Route, delete_fdb, delete_link, delete_neighbour, delete_route, replace_route};
use knode_nft::Family;
use knode_overlay::{Backend, NetConf};

const SOON: Duration = Duration::from_secs(1);
const BRIEF: Duration = Duration::from_millis(100);
const DEVICE: &str = "flannel-v6.1";

fn vxlan() -> NetConf {
    NetConf::vxlan("172.30.0.0/16".parse().unwrap()).with_ipv6("fd00::/48".parse().unwrap())
}

fn host_gw() -> NetConf {
    NetConf {
        backend: Backend::HostGw,
        ..vxlan()
    }
}

struct Two {
    a: Host,
    _b: Host,
    here: Pod,
    there: Pod,
    cluster: Cluster,
    fabric: Fabric,
}

fn two(conf: &NetConf) -> Two {
    let (fabric, cluster) = (Fabric::new(), Cluster::with_nodes([1, 2]));
    let (mut a, mut b) = (Host::new(&fabric, 1), Host::new(&fabric, 2));
    let one = a.start_ready(conf.clone(), cluster.store(1));
    let two = b.start_ready(conf.clone(), cluster.store(2));
    let (here, there) = (a.pod(one, 2), b.pod(two, 2));
    let two = Two {
        a,
        _b: b,
        here,
        there,
        cluster,
        fabric,
    };
    two.flows();
    two
}

impl Two {
    fn flows(&self) {
        for to in self.there.ips() {
            let answer = || ping(&self.here.netns, to, 100, BRIEF);
            eventually("an answer", 5 * SOON, answer, || {
                format!("{to}: {:?}", self.state())
            });
        }
    }

    /// All that the overlay keeps on host a.
    fn state(&self) -> Vec<String> {
        let mut state = [self.a.state(), self.a.state_v6()].concat();
        for v6 in [false, true] {
            let routes = self.a.links.routes(None).unwrap().into_iter();
            let direct = routes.filter(|r| r.protocol == 107 && r.destination.addr().is_ipv6() == v6);
            state.extend(direct.map(|r| format!("{} via {:?}", r.destination, r.gateway)));
        }
        state.extend([Family::Ip, Family::Ip6].map(|family| format!("{} rules", self.a.rules_of(family))));
        state
    }
}

fn drifts(conf: &NetConf, undo: impl FnOnce(&Host)) {
    let two = two(conf);
    let before = two.state();
    assert_eq!(before[before.len() - 2..], ["6 rules", "6 rules"]);
    let broken = Instant::now();
    undo(&two.a);
    let mended = || (two.state() == before).then_some(());
    eventually("the repair", SOON, mended, || {
        format!("{:#?}, before {before:#?}", two.state())
    });
    println!("repaired after {:?}", broken.elapsed());
    two.flows();
}

fn index(host: &Host) -> u32 {
    host.links.link(DEVICE).unwrap().unwrap().index
}

#[test]
fn a_deleted_route_of_ipv6() {
    drifts(&vxlan(), |host| {
        let routes = host.links.routes(Some(index(host))).unwrap();
        let peer = |r: &&knode_netlink::Route| r.destination.to_string() == "fd00:0:0:2::/64";
        let route = routes.iter().find(peer).unwrap();
        host.links.execute(delete_route(route)).unwrap();
    });
}

#[test]
fn a_deleted_forwarding_entry_of_ipv6() {
    drifts(&vxlan(), |host| {
        let entry = host.links.fdb(index(host)).unwrap()[0];
        host.links.execute(delete_fdb(&entry)).unwrap();
    });
}

#[test]
fn a_deleted_neighbour_of_ipv6() {
    drifts(&vxlan(), |host| {
        let entries = host.links.neighbours(index(host)).unwrap();
        let entry = entries.iter().find(|n| n.permanent && n.ip.is_ipv6()).unwrap();
        host.links.execute(delete_neighbour(entry)).unwrap();
    });
}

#[test]
fn a_deleted_device_of_ipv6() {
    drifts(&vxlan(), |host| host.links.execute(delete_link(DEVICE)).unwrap());
}

#[test]
fn deleted_rules_of_ipv6() {
    drifts(&vxlan(), |host| {
        let delete = || {
            let table = knode_nft::TableRef::new(Family::Ip6, knode_overlay::NFT_TABLE);
            let mut batch = knode_nft::Batch::new(table);
            batch.delete_table();
            knode_nft::Socket::open().unwrap().commit(&batch).unwrap();
        };
        host.netns.run(delete).unwrap();
    });
}

#[test]
fn deleted_plain_routes_of_both_families() {
    drifts(&host_gw(), |host| {
        let routes = host.links.routes(None).unwrap();
        let ours: Vec<_> = routes.iter().filter(|r| r.protocol == 107).collect();
        assert_eq!(ours.len(), 2);
        for route in ours {
            host.links.execute(delete_route(route)).unwrap();
        }
    });
}

#[test]
fn what_left_while_nobody_looked_is_removed_at_the_start() {
    for conf in [vxlan(), host_gw()] {
        let mut two = two(&conf);
        two.cluster.set_subnet(3, Some("172.30.3.0/24"));
        let mut third = Host::new(&two.fabric, 3);
        let without = two.state();
        third.start_ready(conf.clone(), two.cluster.store(3));
        let came = || (two.state().len() > without.len()).then_some(());
        eventually("the third", SOON, came, || format!("{:?}", two.state()));
        let mac = two.a.links.link(DEVICE).unwrap().map(|l| l.mac);
        two.a.kill();
        two.cluster.remove(3);
        two.flows();
        two.a.start_ready(conf, two.cluster.store(1));
        let left = || (two.state() == without).then_some(());
        eventually("the removal", SOON, left, || format!("{:?}", two.state()));
        assert_eq!(two.a.links.link(DEVICE).unwrap().map(|l| l.mac), mac);
        two.flows();
    }
}

#[test]
fn a_new_ipv6_address_of_the_underlay_is_followed_and_told() {
    let two = two(&vxlan());
    two.a.readdress("2001:db8::1/64", "2001:db8::51/64");
    let told = || {
        let told = two.cluster.attributes(1).unwrap().public_ipv6;
        (told == Some("2001:db8::51".parse().unwrap())).then_some(())
    };
    eventually("the news", 5 * SOON, told, || {
        format!("{:?}", two.cluster.attributes(1))
    });
    two.flows();
    let moved = two._b.state_v6();
    assert!(
        moved.iter().any(|line| line.contains("2001:db8::51")),
        "{moved:?}"
    );
}

/// Destinations of routes that drop packets, of both families.
fn blackholes(host: &Host) -> Vec<Route> {
    let of = |ipv6| host.links.blackholes(ipv6).unwrap();
    [of(false), of(true)].concat()
}

#[test]
fn a_blackhole_for_the_own_subnet_is_kept_stands_behind_the_bridge_and_goes_when_nobody_wants_it() {
    let (fabric, cluster) = (Fabric::new(), Cluster::with_nodes([1, 2]));
    let (mut a, mut b) = (Host::new(&fabric, 1), Host::new(&fabric, 2));
    let one = a.start_blackholed(vxlan(), cluster.store(1));
    let two = b.start_blackholed(vxlan(), cluster.store(2));

    let shown = |host: &Host| -> Vec<_> {
        blackholes(host)
            .iter()
            .map(|r| r.destination.to_string())
            .collect()
    };
    let both = ["172.30.1.0/24", "fd00:0:0:1::/64"];
    assert_eq!(shown(&a), both);
    let unused = ["172.30.1.77", "fd00:0:0:1::77"].map(|ip| ip.parse().unwrap());
    for ip in unused {
        a.links.route_to(ip).unwrap_err();
    }

    for route in blackholes(&a) {
        let elsewhere = Route {
            metric: route.metric,
            ..Route::new(route.destination, index(&a))
        };
        a.links.execute(delete_route(&route)).unwrap();
        let back = || (shown(&a) == both).then_some(());
        eventually("the deleted one", 10 * SOON, back, || format!("{:?}", shown(&a)));
        a.links.execute(replace_route(&elsewhere)).unwrap();
        eventually("the replaced one", 10 * SOON, back, || format!("{:?}", shown(&a)));
    }

    let two = Two {
        here: a.pod(one, 2),
        there: b.pod(two, 2),
        a,
        _b: b,
        cluster,
        fabric,
    };
    two.flows();
    let bridge = two.a.links.link("cni0").unwrap().unwrap().index;
    for ip in unused {
        assert_eq!(
            two.a.links.route_to(ip).unwrap().and_then(|r| r.link),
            Some(bridge)
        );
    }

    let Two { mut a, cluster, .. } = two;
    a.kill();
    a.start_ready(vxlan(), cluster.store(1));
    assert_eq!(shown(&a), [""; 0]);
}
