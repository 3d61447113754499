use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use knode_netlink::{Event, FdbEntry, Link, LinkKind, MacAddr, Neighbour, Route, Vxlan};

use super::*;
use crate::config::{Backend, NetConf, VxlanConf};
use crate::lease::{BackendData, Lease, LeaseAttributes, Leases};
use crate::underlay::Underlay;

const INDEX: u32 = 7;

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn lease(n: u8) -> Lease {
    let backend = BackendData::Vxlan { vni: 1, mac: mac(n) };
    let attributes = LeaseAttributes::ipv4(Ipv4Addr::new(192, 0, 2, n), backend);
    Lease::ipv4(net(&format!("172.30.{n}.0/24")), attributes)
}

fn leases(peers: impl IntoIterator<Item = Lease>) -> Leases {
    Leases {
        own: None,
        peers: peers
            .into_iter()
            .map(|l| (l.subnet, l))
            .collect::<BTreeMap<_, _>>(),
    }
}

fn conf() -> NetConf {
    NetConf::vxlan(net("172.30.0.0/16"))
}

fn underlay() -> Underlay {
    Underlay {
        index: 2,
        name: "eth0".into(),
        ip: Ipv4Addr::new(192, 0, 2, 1),
        network: net("192.0.2.0/24"),
        ipv6: Some("2001:db8::1/64".parse().unwrap()),
        mtu: 1500,
    }
}

fn desired(peers: impl IntoIterator<Item = Lease>) -> Desired {
    derive(&conf(), &lease(1), Some(&leases(peers)))
}

/// The IPv4 side.
fn derive(conf: &NetConf, own: &Lease, leases: Option<&Leases>) -> Desired {
    Desired::of(conf, &underlay(), own, leases).remove(0)
}

fn shown(desired: &Desired, observed: &Observed) -> Vec<String> {
    plan(desired, observed).iter().map(ToString::to_string).collect()
}

/// A kernel that does what it is told; the planner's fixed point is checked against it.
fn execute(observed: &mut Observed, desired: &Desired, steps: &[Step]) {
    for step in steps {
        match step {
            Step::DeleteDevice(_) => *observed = Observed::default(),
            Step::CreateDevice(d) | Step::ChangeDevice(d) => {
                observed.device = Some(match d.tunnel {
                    Tunnel::Vxlan(mac, vxlan) => link(&d.name, LinkKind::Vxlan(vxlan), d.mtu, mac),
                    Tunnel::Ipip(tunnel) => link(&d.name, LinkKind::Ipip(tunnel), d.mtu, mac(0)),
                });
            }
            Step::DropAddress(net) => observed.addresses.retain(|a| a != net),
            Step::SetAddress(net) => observed.addresses.push(*net),
            Step::DropRoute(route) => observed.routes.retain(|r| r != route),
            Step::DropNeighbour(entry) => observed.neighbours.retain(|n| n != entry),
            Step::DropFdb(entry) => observed.fdb.retain(|e| e != entry),
            Step::SetNeighbour(ip, mac) => {
                observed.neighbours.retain(|n| n.ip != *ip);
                observed.neighbours.push(Neighbour {
                    index: INDEX,
                    ip: *ip,
                    mac: Some(*mac),
                    permanent: true,
                });
            }
            Step::SetFdb(mac, remote) => {
                observed.fdb.retain(|e| e.mac != *mac);
                observed.fdb.push(FdbEntry {
                    index: INDEX,
                    mac: *mac,
                    remote: Some(*remote),
                    permanent: true,
                });
            }
            Step::SetRoute(peer) => {
                let route = Step::route(peer, INDEX, desired.underlay);
                observed.routes.retain(|r| r.destination != route.destination);
                observed.routes.push(route);
            }
        }
    }
}

fn link(name: &str, kind: LinkKind, mtu: u32, mac: MacAddr) -> Link {
    Link {
        index: INDEX,
        name: name.into(),
        kind,
        mac: Some(mac),
        mtu,
        up: true,
        running: true,
        loopback: false,
        promiscuous: false,
        master: None,
        lower: None,
        lower_namespace: None,
        hairpin: None,
    }
}

fn settled(desired: &Desired) -> Observed {
    let mut observed = Observed::default();
    execute(&mut observed, desired, &plan(desired, &Observed::default()));
    assert_eq!(
        shown(desired, &observed),
        [""; 0],
        "the plan leads to where nothing is left to do"
    );
    observed
}

#[test]
fn first_start_makes_everything() {
    let steps = shown(&desired([lease(2)]), &Observed::default());
    let want = [
        "create flannel.1 02:00:00:00:00:01 mtu 1450",
        "set address 172.30.1.0/32",
        "set neighbour 172.30.2.0 02:00:00:00:00:02",
        "set fdb 02:00:00:00:00:02 at 192.0.2.2",
        "set route 172.30.2.0/24 via 172.30.2.0",
    ];
    assert_eq!(steps, want);
}

#[test]
fn the_device_is_upstreams() {
    let device = desired([]).device.unwrap();
    let vxlan = Vxlan {
        vni: 1,
        port: 8472,
        local: Some("192.0.2.1".parse().unwrap()),
        underlay: Some(2),
        learning: false,
        gbp: false,
    };
    assert_eq!(
        (device.name.as_str(), device.mtu, device.tunnel),
        ("flannel.1", 1450, Tunnel::Vxlan(mac(1), vxlan))
    );
}

#[test]
fn before_the_first_list_nobody_is_forgotten() {
    let observed = settled(&desired([lease(2), lease(3)]));
    let unknown = derive(&conf(), &lease(1), None);
    assert_eq!(shown(&unknown, &observed), [""; 0]);
}

#[test]
fn a_peer_that_left_is_removed_route_first() {
    let observed = settled(&desired([lease(2), lease(3)]));
    let want = [
        "drop route 172.30.3.0/24",
        "drop neighbour 172.30.3.0",
        "drop fdb 02:00:00:00:00:03",
    ];
    assert_eq!(shown(&desired([lease(2)]), &observed), want);
}

#[test]
fn a_peer_with_a_new_address_or_station_is_moved() {
    let observed = settled(&desired([lease(2)]));
    let mut moved = lease(2);
    moved.attributes.public_ip = Ipv4Addr::new(192, 0, 2, 99);
    assert_eq!(
        shown(&desired([moved]), &observed),
        ["set fdb 02:00:00:00:00:02 at 192.0.2.99"]
    );

    let mut reborn = lease(2);
    reborn.attributes.backend = BackendData::Vxlan {
        vni: 1,
        mac: mac(0x22),
    };
    let want = [
        "drop fdb 02:00:00:00:00:02",
        "set neighbour 172.30.2.0 02:00:00:00:00:22",
        "set fdb 02:00:00:00:00:22 at 192.0.2.2",
    ];
    assert_eq!(shown(&desired([reborn]), &observed), want);
}

#[test]
fn whatever_drifts_is_put_back() {
    let desired = desired([lease(2), lease(3)]);
    let whole = settled(&desired);
    let mended = |change: &dyn Fn(&mut Observed)| {
        let mut observed = whole.clone();
        change(&mut observed);
        let steps = plan(&desired, &observed);
        execute(&mut observed, &desired, &steps);
        assert_eq!(shown(&desired, &observed), [""; 0]);
        steps.len()
    };
    assert_eq!(mended(&|o| o.routes.clear()), 2);
    assert_eq!(mended(&|o| o.neighbours.clear()), 2);
    assert_eq!(mended(&|o| o.fdb.clear()), 2);
    assert_eq!(mended(&|o| o.addresses.clear()), 1);
    assert_eq!(mended(&|o| o.addresses.push("10.9.9.9/24".parse().unwrap())), 1);
    assert_eq!(
        mended(&|o| o.routes[0].gateway = Some("192.0.2.254".parse().unwrap())),
        1
    );
    assert_eq!(mended(&|o| o.neighbours[0].permanent = false), 1);
    assert_eq!(mended(&|o| o.device.as_mut().unwrap().mtu = 1500), 1);
    assert_eq!(mended(&|o| o.device.as_mut().unwrap().up = false), 1);
    assert_eq!(mended(&|o| *o = Observed::default()), 8);
}

#[test]
fn a_link_that_is_another_tunnel_is_replaced_with_all_it_held() {
    let desired = desired([lease(2)]);
    let mut observed = settled(&desired);
    observed.device.as_mut().unwrap().kind = LinkKind::Vxlan(Vxlan {
        port: 4789,
        ..Vxlan::default()
    });
    let steps = shown(&desired, &observed);
    assert_eq!(
        steps[..2],
        ["delete link #7", "create flannel.1 02:00:00:00:00:01 mtu 1450"]
    );
    assert_eq!(steps.len(), 6);
}

#[test]
fn entries_of_the_kernel_and_of_ipv6_are_let_be() {
    let desired = desired([]);
    let mut observed = settled(&desired);
    let kernel = Route::new("172.30.9.0/24".parse().unwrap(), INDEX);
    observed.routes.push(Route {
        protocol: Route::PROTOCOL_KERNEL,
        ..kernel
    });
    observed
        .routes
        .push(Route::new("fe80::/64".parse().unwrap(), INDEX));
    observed.routes.push(Route::via(
        "172.30.9.0/24".parse().unwrap(),
        "192.0.2.9".parse().unwrap(),
        2,
    ));
    observed.neighbours.push(Neighbour {
        index: INDEX,
        ip: "ff02::1".parse().unwrap(),
        mac: None,
        permanent: true,
    });
    observed.addresses.push("fe80::1/64".parse().unwrap());
    assert_eq!(shown(&desired, &observed), [""; 0]);
}

#[test]
fn leases_that_are_not_for_us_are_passed_over() {
    let mut foreign = lease(4);
    foreign.attributes.backend = BackendData::HostGw;
    let outside = Lease {
        subnet: net("10.0.0.0/24"),
        ..lease(5)
    };
    let other_vni = BackendData::Vxlan { vni: 9, mac: mac(6) };
    let other = Lease {
        attributes: LeaseAttributes {
            backend: other_vni,
            ..lease(6).attributes
        },
        ..lease(6)
    };
    assert_eq!(
        desired([lease(1), foreign, outside, other]).peers,
        Some(Vec::new())
    );
}

#[test]
fn host_gw_is_routes_alone() {
    let host_gw = |n: u8| Lease {
        attributes: LeaseAttributes {
            backend: BackendData::HostGw,
            ..lease(n).attributes
        },
        ..lease(n)
    };
    let conf = NetConf {
        backend: Backend::HostGw,
        ..conf()
    };
    let of = |peers: Vec<Lease>| derive(&conf, &host_gw(1), Some(&leases(peers)));
    let both = of(vec![host_gw(2), host_gw(3)]);
    assert_eq!((both.mtu, &both.device), (1500, &None));
    let mut observed = settled(&both);
    assert_eq!(
        shown(&of(vec![host_gw(2)]), &observed),
        ["drop route 172.30.3.0/24"]
    );
    observed.routes.push(Route::via(
        "172.30.77.0/24".parse().unwrap(),
        "192.0.2.9".parse().unwrap(),
        2,
    ));
    assert_eq!(shown(&both, &observed), [""; 0], "routes of others stay");
}

#[test]
fn direct_routing_tunnels_only_to_distant_nodes() {
    let vxlan = VxlanConf {
        direct_routing: true,
        ..VxlanConf::default()
    };
    let conf = NetConf {
        backend: Backend::Vxlan(vxlan),
        ..conf()
    };
    let mut distant = lease(3);
    distant.attributes.public_ip = Ipv4Addr::new(198, 51, 100, 3);
    let of = |peers: Vec<Lease>| derive(&conf, &lease(1), Some(&leases(peers)));
    let both = of(vec![lease(2), distant]);
    let steps = shown(&both, &Observed::default());
    let want = [
        "set route 172.30.2.0/24 via 192.0.2.2",
        "set neighbour 172.30.3.0 02:00:00:00:00:03",
        "set fdb 02:00:00:00:00:03 at 198.51.100.3",
        "set route 172.30.3.0/24 via 172.30.3.0",
    ];
    assert_eq!(steps[2..], want);
    // A node that came nearer leaves the tunnel.
    let moved = shown(&of(vec![lease(2), lease(3)]), &settled(&both));
    let want = [
        "drop neighbour 172.30.3.0",
        "drop fdb 02:00:00:00:00:03",
        "set route 172.30.3.0/24 via 192.0.2.3",
    ];
    assert_eq!(moved, want);
}

#[test]
fn only_changes_that_undo_something_concern_us() {
    let desired = desired([lease(2)]);
    let observed = settled(&desired);
    let concerned = |event: Event| desired.concerned(Some(INDEX), &event);
    let (route, fdb) = (observed.routes[0], observed.fdb[0]);
    assert!(!concerned(Event::Route(route)) && concerned(Event::RouteGone(route)));
    assert!(concerned(Event::Route(Route {
        gateway: None,
        link: Some(2),
        ..route
    })));
    assert!(!concerned(Event::RouteGone(Route::new(
        "10.0.0.0/8".parse().unwrap(),
        2
    ))));
    assert!(!concerned(Event::Fdb(fdb)) && concerned(Event::FdbGone(fdb)));
    assert!(concerned(Event::Fdb(FdbEntry {
        mac: mac(0x77),
        ..fdb
    })));
    assert!(!concerned(Event::FdbGone(FdbEntry { index: 99, ..fdb })));
    let device = observed.device.clone().unwrap();
    assert!(!concerned(Event::Link(device.clone())));
    assert!(
        concerned(Event::Link(Link {
            up: false,
            ..device.clone()
        })) && concerned(Event::LinkGone(device))
    );
    assert!(concerned(Event::Lost));
}

/// A lease of both families; over IPv6 the node is 2001:db8::n.
fn dual_lease(n: u8) -> Lease {
    let four = lease(n);
    let vxlan = BackendData::Vxlan {
        vni: 1,
        mac: mac(0x60 + n),
    };
    Lease {
        ipv6_subnet: Some(format!("fd00:0:0:{n}::/64").parse().unwrap()),
        attributes: LeaseAttributes {
            public_ipv6: Some(format!("2001:db8::{n}").parse().unwrap()),
            backend_v6: Some(vxlan),
            ..four.attributes
        },
        ..four
    }
}

fn dual_conf() -> NetConf {
    conf().with_ipv6("fd00::/48".parse().unwrap())
}

fn dual(conf: &NetConf, own: &Lease, peers: Vec<Lease>) -> Desired {
    let sides = Desired::of(conf, &underlay(), own, Some(&leases(peers)));
    assert_eq!(sides.len(), 2, "{sides:?}");
    sides.into_iter().next_back().unwrap()
}

#[test]
fn ipv6_has_a_device_and_entries_of_its_own() {
    let six = dual(&dual_conf(), &dual_lease(1), vec![dual_lease(2), lease(3)]);
    let want = [
        "create flannel-v6.1 02:00:00:00:00:61 mtu 1430",
        "set address fd00:0:0:1::/128",
        "set neighbour fd00:0:0:2:: 02:00:00:00:00:62",
        "set fdb 02:00:00:00:00:62 at 2001:db8::2",
        "set route fd00:0:0:2::/64 via fd00:0:0:2::",
    ];
    assert_eq!(
        shown(&six, &Observed::default()),
        want,
        "a peer of IPv4 alone has none"
    );
    let Tunnel::Vxlan(_, vxlan) = six.device.as_ref().unwrap().tunnel else {
        panic!("{six:?}")
    };
    assert_eq!((vxlan.vni, vxlan.port), (1, 8472));
    assert_eq!(vxlan.local, Some("2001:db8::1".parse().unwrap()));
    let observed = settled(&six);
    let gone = dual(&dual_conf(), &dual_lease(1), vec![]);
    assert_eq!(plan(&gone, &observed).len(), 3);
}

#[test]
fn without_ipv6_everywhere_there_is_no_side_for_it() {
    let sides =
        |conf: &NetConf, underlay: &Underlay, own: &Lease| Desired::of(conf, underlay, own, None).len();
    assert_eq!(sides(&dual_conf(), &underlay(), &dual_lease(1)), 2);
    assert_eq!(sides(&conf(), &underlay(), &dual_lease(1)), 1);
    assert_eq!(sides(&dual_conf(), &underlay(), &lease(1)), 1);
    let plain = Underlay {
        ipv6: None,
        ..underlay()
    };
    assert_eq!(sides(&dual_conf(), &plain, &dual_lease(1)), 1);
}

#[test]
fn ipv6_of_the_kernel_itself_is_let_be() {
    let six = dual(&dual_conf(), &dual_lease(1), vec![dual_lease(2)]);
    let mut observed = settled(&six);
    observed.addresses.push("fe80::1/64".parse().unwrap());
    let own = Route::new("fe80::/64".parse().unwrap(), INDEX);
    observed.routes.push(Route {
        protocol: Route::PROTOCOL_KERNEL,
        ..own
    });
    let multicast = Neighbour {
        index: INDEX,
        ip: "ff02::1".parse().unwrap(),
        mac: None,
        permanent: false,
    };
    observed.neighbours.push(multicast);
    assert_eq!(shown(&six, &observed), [""; 0]);
    let concerned = |entry| six.concerned(Some(INDEX), &Event::Neighbour(entry));
    assert!(!concerned(multicast));
    let real = observed.neighbours[0];
    assert!(!concerned(real));
    assert!(concerned(Neighbour {
        mac: Some(mac(0x77)),
        ..real
    }));
    assert!(concerned(Neighbour {
        permanent: false,
        ..real
    }));
}

#[test]
fn near_nodes_are_routed_directly_in_both_families() {
    let vxlan = VxlanConf {
        direct_routing: true,
        ..VxlanConf::default()
    };
    let conf = NetConf {
        backend: Backend::Vxlan(vxlan),
        ..dual_conf()
    };
    let mut distant = dual_lease(3);
    distant.attributes.public_ipv6 = Some("2001:db8:9::3".parse().unwrap());
    let six = dual(&conf, &dual_lease(1), vec![dual_lease(2), distant]);
    let steps = shown(&six, &Observed::default());
    assert_eq!(
        steps[2..],
        [
            "set route fd00:0:0:2::/64 via 2001:db8::2",
            "set neighbour fd00:0:0:3:: 02:00:00:00:00:63",
            "set fdb 02:00:00:00:00:63 at 2001:db8:9::3",
            "set route fd00:0:0:3::/64 via fd00:0:0:3::",
        ]
    );
}

#[test]
fn host_gw_has_both_families_too() {
    let host_gw = |n: u8| {
        let mut lease = dual_lease(n);
        lease.attributes.backend = BackendData::HostGw;
        lease.attributes.backend_v6 = Some(BackendData::HostGw);
        lease
    };
    let conf = NetConf {
        backend: Backend::HostGw,
        ..dual_conf()
    };
    let six = dual(&conf, &host_gw(1), vec![host_gw(2)]);
    assert_eq!((six.mtu, &six.device), (1500, &None));
    assert_eq!(
        shown(&six, &Observed::default()),
        ["set route fd00:0:0:2::/64 via 2001:db8::2"]
    );
}

#[test]
fn ipip_wraps_and_finds_peers_by_their_address() {
    let ipip = |n: u8| {
        let mut lease = lease(n);
        lease.attributes.backend = BackendData::Ipip;
        lease
    };
    let conf = NetConf {
        backend: Backend::Ipip {
            direct_routing: false,
        },
        ..conf()
    };
    let desired = derive(&conf, &ipip(1), Some(&leases([ipip(2)])));
    assert_eq!(
        shown(&desired, &Observed::default()),
        [
            "create flannel.ipip ipip mtu 1480",
            "set address 172.30.1.0/32",
            "set route 172.30.2.0/24 via 192.0.2.2",
        ]
    );
    let Some(Step::SetRoute(peer)) = plan(&desired, &Observed::default()).pop() else {
        panic!("a route is set last")
    };
    let route = Step::route(&peer, INDEX, 2);
    assert_eq!((route.link, route.onlink), (Some(INDEX), true));
    settled(&desired);
    let direct = NetConf {
        backend: Backend::Ipip { direct_routing: true },
        ..conf
    };
    let desired = derive(&direct, &ipip(1), Some(&leases([ipip(2)])));
    assert_eq!(desired.peers.unwrap()[0].path, Path::Direct);
}

#[test]
fn a_wished_mtu_is_that_of_the_wrapped_packet() {
    let vxlan = VxlanConf {
        mtu: Some(1400),
        gbp: true,
        ..VxlanConf::default()
    };
    let conf = NetConf {
        backend: Backend::Vxlan(vxlan),
        ..conf()
    };
    let desired = derive(&conf, &lease(1), None);
    assert_eq!(desired.mtu, 1350);
    let device = desired.device.unwrap();
    assert!(matches!(device.tunnel, Tunnel::Vxlan(_, vxlan) if vxlan.gbp));
    assert!(!device.own_checksums);
}

#[test]
fn behind_nat_checksums_are_the_kernels() {
    let mut own = lease(1);
    own.attributes.public_ip = Ipv4Addr::new(203, 0, 113, 1);
    assert!(derive(&conf(), &own, None).device.unwrap().own_checksums);
}

#[test]
fn nobodys_entries_are_touched_where_others_carry_packets() {
    let mut own = lease(1);
    own.attributes.backend = BackendData::Alloc;
    let conf = NetConf {
        backend: Backend::Alloc,
        ..conf()
    };
    let desired = derive(&conf, &own, Some(&leases([lease(2)])));
    assert_eq!((desired.mtu, desired.device, desired.peers), (1500, None, None));
}
