use super::*;

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
