use super::*;

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

#[test]
fn a_blackhole_follows_the_lease_and_those_of_others_stay() {
    let of = |own: &Lease| derive(&conf(), own, None).with_blackhole(own);
    let first = of(&lease(1));
    let mut observed = settled(&first);
    let route = observed.blackholes[0];
    assert!(first.concerned(None, &Event::RouteGone(route)));
    assert!(!first.concerned(None, &Event::Route(route)));
    let instead = Route {
        blackhole: false,
        ..route
    };
    assert!(first.concerned(None, &Event::Route(instead)));
    let theirs = Route::blackhole("172.30.9.0/24".parse().unwrap());
    observed.blackholes.push(theirs);

    let moved = Lease {
        subnet: net("172.30.7.0/24"),
        ..lease(1)
    };
    let steps = plan(&of(&moved), &observed);
    execute(&mut observed, &of(&moved), &steps);
    assert_eq!(
        observed.blackholes,
        [theirs, blackhole("172.30.7.0/24".parse().unwrap())]
    );
    let nobody_asks = derive(&conf(), &moved, None);
    let steps = plan(&nobody_asks, &observed);
    execute(&mut observed, &nobody_asks, &steps);
    assert_eq!(observed.blackholes, [theirs]);
}
