use super::*;

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
