use super::*;

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.into(),
        kind: LinkKind::Device,
        mac: None,
        mtu: 1500,
        up: true,
        running: true,
        loopback: name == "lo",
        promiscuous: false,
        master: None,
        lower: None,
        lower_namespace: None,
        hairpin: None,
    }
}

fn address(index: u32, net: &str) -> Address {
    Address {
        index,
        net: net.parse().unwrap(),
    }
}

fn pick(routes: &[Route], interface: Option<&str>, node_ip: Option<&str>) -> Result<String, UnderlayError> {
    let lo = Link {
        mtu: 65536,
        ..link(1, "lo")
    };
    let links = [lo, link(2, "eth0"), link(3, "eth1")];
    let addresses = [
        address(1, "127.0.0.1/8"),
        address(2, "169.254.7.7/16"),
        address(2, "192.0.2.1/24"),
        address(3, "198.51.100.1/24"),
        address(3, "198.51.100.2/24"),
    ];
    let wish = Wish {
        interface: interface.map(Into::into),
        node_ip: node_ip.map(|ip| ip.parse().unwrap()),
        ..Wish::default()
    };
    choose(&links, &addresses, routes, &wish).map(|u| format!("{} {} {}", u.name, u.ip, u.mtu))
}

fn default(link: u32, metric: u32) -> Route {
    let route = Route::via("0.0.0.0/0".parse().unwrap(), "192.0.2.254".parse().unwrap(), link);
    Route { metric, ..route }
}

#[test]
fn the_interface_is_followed() {
    let links = [link(1, "lo"), link(2, "eth0")];
    let before = [address(2, "192.0.2.1/24")];
    let wish = Wish::default();
    let current = choose(&links, &before, &[], &wish).unwrap();
    let both = [address(2, "192.0.2.9/24"), address(2, "192.0.2.1/24")];
    assert_eq!(
        follow(&links, &both, &current).as_ref(),
        Some(&current),
        "kept while it is there"
    );
    let moved = follow(&links, &both[..1], &current).unwrap();
    assert_eq!((moved.ip.to_string().as_str(), moved.index), ("192.0.2.9", 2));
    assert_eq!(follow(&links, &[], &current), None);
    assert_eq!(follow(&links[..1], &before, &current), None);
    let mut down = links.clone();
    down[1].up = false;
    assert_eq!(follow(&down, &before, &current), None);
    let mut jumbo = links.clone();
    jumbo[1].mtu = 9000;
    assert_eq!(follow(&jumbo, &before, &current).unwrap().mtu, 9000);
}

#[test]
fn the_first_interface_that_is_there_is_taken() {
    let links = [link(1, "lo"), link(2, "eth0"), link(3, "wlan0")];
    let addresses = [address(2, "192.0.2.1/24"), address(3, "198.51.100.1/24")];
    let find = |named: &[&str], patterns: &[&str], reach: Option<&str>| {
        let asked = Interfaces {
            named: named.iter().map(|n| (*n).to_owned()).collect(),
            patterns: patterns.iter().map(|n| (*n).to_owned()).collect(),
            can_reach: reach.map(|_| "203.0.113.1".parse().unwrap()),
        };
        let source = reach.filter(|r| !r.is_empty()).map(|r| r.parse().unwrap());
        search(&links, &addresses, &[default(3, 0)], &asked, source).map(|u| u.name)
    };
    assert_eq!(find(&[], &[], None).unwrap(), "wlan0");
    assert_eq!(find(&["eth9", "eth0"], &["wlan"], None).unwrap(), "eth0");
    assert_eq!(find(&["eth9"], &["^wl"], None).unwrap(), "wlan0");
    assert_eq!(find(&[], &[r"192\.0\.2\.\d+", "wlan"], None).unwrap(), "eth0");
    assert_eq!(find(&[], &["^x"], Some("192.0.2.1")).unwrap(), "eth0");
    assert_eq!(
        find(&["eth9"], &[], None),
        Err(UnderlayError::NoSuchInterface("eth9".into()))
    );
    assert_eq!(find(&[], &["^x"], None), Err(UnderlayError::NoMatch("^x".into())));
    assert!(matches!(
        find(&[], &["("], Some("192.0.2.1")),
        Err(UnderlayError::Pattern { .. })
    ));
    assert!(matches!(
        find(&[], &[], Some("")),
        Err(UnderlayError::Unreachable(_))
    ));
}

#[test]
fn the_default_route_with_the_smallest_metric_decides() {
    assert_eq!(
        pick(&[default(2, 100), default(3, 50)], None, None).unwrap(),
        "eth1 198.51.100.1 1500"
    );
    let source = Route {
        source: Some("198.51.100.2".parse().unwrap()),
        ..default(3, 0)
    };
    assert_eq!(pick(&[source], None, None).unwrap(), "eth1 198.51.100.2 1500");
}

#[test]
fn wishes_come_first() {
    let routes = [default(2, 0)];
    assert_eq!(
        pick(&routes, Some("eth1"), None).unwrap(),
        "eth1 198.51.100.1 1500"
    );
    assert_eq!(
        pick(&routes, Some("eth1"), Some("198.51.100.2")).unwrap(),
        "eth1 198.51.100.2 1500"
    );
    assert_eq!(
        pick(&routes, Some("198.51.100.2"), None).unwrap(),
        "eth1 198.51.100.2 1500"
    );
    assert_eq!(
        pick(&routes, None, Some("198.51.100.2")).unwrap(),
        "eth1 198.51.100.2 1500"
    );
    assert_eq!(
        pick(&routes, None, Some("127.0.0.1")).unwrap(),
        "lo 127.0.0.1 1500"
    );
}

#[test]
fn without_a_default_route_the_first_address_serves() {
    assert_eq!(pick(&[], None, None).unwrap(), "eth0 192.0.2.1 1500");
    assert_eq!(
        choose(
            &[link(1, "lo")],
            &[address(1, "127.0.0.1/8")],
            &[],
            &Wish::default()
        ),
        Err(UnderlayError::None)
    );
}

#[test]
fn loopback_serves_only_with_an_address_for_others() {
    let lo = [Link {
        mtu: 65536,
        ..link(1, "lo")
    }];
    let addresses = [address(1, "127.0.0.1/8"), address(1, "203.0.113.1/32")];
    let chosen = choose(&lo, &addresses, &[], &Wish::default()).unwrap();
    assert_eq!(
        (chosen.ip.to_string(), chosen.network.to_string()),
        ("203.0.113.1".into(), "203.0.113.1/32".into())
    );
}

#[test]
fn what_is_not_there_is_named() {
    assert_eq!(
        pick(&[], Some("eth9"), None).unwrap_err().to_string(),
        "there is no interface eth9"
    );
    assert_eq!(
        pick(&[], Some("lo"), None).unwrap_err().to_string(),
        "interface lo has no IPv4 address"
    );
    let missing = pick(&[], None, Some("203.0.113.1")).unwrap_err().to_string();
    assert_eq!(missing, "no interface has the node's address 203.0.113.1");
}

#[test]
fn an_ipv6_address_for_others_is_found_and_followed() {
    let links = [link(2, "eth0")];
    let four = address(2, "192.0.2.1/24");
    let of = |six: &[&str]| {
        let six = six.iter().map(|net| address(2, net));
        std::iter::once(four).chain(six).collect::<Vec<_>>()
    };
    let chosen = |six: &[&str]| choose(&links, &of(six), &[], &Wish::default()).unwrap();
    assert_eq!(chosen(&["fe80::1/64"]).ipv6, None);
    let current = chosen(&["fe80::1/64", "2001:db8::1/64", "2001:db8::2/64"]);
    assert_eq!(current.ipv6, Some("2001:db8::1/64".parse().unwrap()));
    let now = |six: &[&str]| follow(&links, &of(six), &current).unwrap().ipv6;
    assert_eq!(
        now(&["2001:db8::2/64", "2001:db8::1/64"]),
        current.ipv6,
        "kept while it is there"
    );
    assert_eq!(now(&["2001:db8::2/64"]), Some("2001:db8::2/64".parse().unwrap()));
    assert_eq!(now(&[]), None);
}

#[test]
fn an_interface_can_be_named_by_its_ipv6_address() {
    let links = [link(2, "eth0"), link(3, "eth1")];
    let addresses = [
        address(2, "192.0.2.1/24"),
        address(3, "198.51.100.1/24"),
        address(3, "2001:db8::1/64"),
        address(3, "2001:db8::2/64"),
    ];
    let named = |ip: &str| {
        let wish = Wish {
            interface: Some(ip.into()),
            ..Wish::default()
        };
        choose(&links, &addresses, &[], &wish)
    };
    let chosen = named("2001:db8::2").unwrap();
    assert_eq!(
        (chosen.name.as_str(), chosen.ip.to_string().as_str()),
        ("eth1", "198.51.100.1")
    );
    assert_eq!(chosen.ipv6, Some("2001:db8::2/64".parse().unwrap()));
    let missing = named("2001:db8::9").unwrap_err();
    assert_eq!(
        missing.to_string(),
        "no interface has the node's address 2001:db8::9"
    );
}
