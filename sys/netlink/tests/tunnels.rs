//! Tunnel devices against the running kernel, each test in a namespace of its own. Needs root.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use knode_netlink::generic::wireguard::Wireguard;
use knode_netlink::*;

fn host() -> (Netns, Handle) {
    let netns = Netns::anonymous().expect("these tests need root (CAP_SYS_ADMIN)");
    let handle = Handle::open_in(&netns).unwrap();
    (netns, handle)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn vxlan(handle: &Handle, name: &str, vxlan: &Vxlan) -> Link {
    let mac = MacAddr([2, 0, 0, 0, 0, 9]);
    handle.execute(add_vxlan(name, mac, 1430, vxlan)).unwrap();
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    handle.execute(change_link(name, &up)).unwrap();
    handle.link(name).unwrap().unwrap()
}

#[test]
fn vxlan_over_ipv6_with_group_policy_round_trips() {
    let (_netns, handle) = host();
    let wanted = Vxlan {
        vni: 1,
        port: 8472,
        local: Some(ip("2001:db8::1")),
        underlay: None,
        learning: false,
        gbp: true,
    };
    let link = vxlan(&handle, "flannel-v6.1", &wanted);
    assert_eq!(link.kind, LinkKind::Vxlan(wanted));
    let index = link.index;
    let address = Address {
        index,
        net: "fd00:0:0:1::/128".parse().unwrap(),
    };
    let neighbour = Neighbour {
        index,
        ip: ip("fd00:0:0:2::"),
        mac: Some(MacAddr([2, 0, 0, 0, 0, 2])),
        permanent: true,
    };
    let entry = FdbEntry {
        index,
        mac: MacAddr([2, 0, 0, 0, 0, 2]),
        remote: Some(ip("2001:db8::2")),
        permanent: true,
    };
    let route = Route {
        onlink: true,
        ..Route::via("fd00:0:0:2::/64".parse().unwrap(), ip("fd00:0:0:2::"), index)
    };
    let requests = vec![
        replace_address(&address),
        replace_neighbour(&neighbour),
        replace_fdb(&entry),
        replace_route(&route),
    ];
    handle.execute_each(requests.clone()).unwrap();
    handle.execute_each(requests).unwrap();
    assert_eq!(handle.fdb(index).unwrap(), [entry]);
    let permanent = handle
        .neighbours(index)
        .unwrap()
        .into_iter()
        .filter(|n| n.permanent);
    assert_eq!(permanent.collect::<Vec<_>>(), [neighbour]);
    let routes = handle.routes(Some(index)).unwrap();
    let found = routes
        .iter()
        .find(|r| r.destination == route.destination)
        .unwrap();
    assert_eq!((found.gateway, found.link), (route.gateway, Some(index)));
    handle.execute(delete_route(found)).unwrap();
    let routes = handle.routes(Some(index)).unwrap();
    assert!(routes.iter().all(|r| r.destination != route.destination));
}

#[test]
fn checksums_are_left_to_the_device_or_not() {
    let (netns, handle) = host();
    let wanted = Vxlan {
        vni: 1,
        port: 8472,
        local: Some(ip("192.0.2.1")),
        ..Vxlan::default()
    };
    vxlan(&handle, "flannel.1", &wanted);
    let toggled = || {
        let mut seen = vec![ethtool::tx_checksum("flannel.1").unwrap()];
        for on in [false, true] {
            ethtool::set_tx_checksum("flannel.1", on).unwrap();
            seen.push(ethtool::tx_checksum("flannel.1").unwrap());
        }
        (
            seen,
            ethtool::tx_checksum("missing0"),
            ethtool::tx_checksum("much too long a name"),
        )
    };
    let (seen, missing, nonsense) = netns.run(toggled).unwrap();
    assert_eq!(seen, [true, false, true]);
    assert!(missing.unwrap_err().is_not_found());
    assert!(nonsense.unwrap_err().is_not_found());
}

/// What the kernel lacks is told apart from what went wrong.
fn made_or_unsupported(handle: &Handle, name: &str, request: Request) -> bool {
    match handle.execute(request) {
        Ok(()) => {
            assert!(handle.link(name).unwrap().is_some());
            true
        }
        Err(Error::Unsupported { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn ipip_is_made_or_unsupported() {
    let (_netns, handle) = host();
    let tunnel = IpTunnel {
        local: Some(ip("192.0.2.1")),
        remote: None,
    };
    if made_or_unsupported(&handle, "flannel.ipip", add_ipip("flannel.ipip", &tunnel)) {
        let link = handle.link("flannel.ipip").unwrap().unwrap();
        assert_eq!(link.kind, LinkKind::Ipip(tunnel));
    }
}

#[test]
fn wireguard_is_made_or_unsupported() {
    let (netns, handle) = host();
    let made = made_or_unsupported(&handle, "flannel-wg", add_wireguard("flannel-wg", 1420));
    let opened = netns.run(Wireguard::open).unwrap();
    match opened {
        Ok(_) => assert!(made),
        Err(Error::Unsupported { object, .. }) => assert_eq!((object.as_str(), made), ("wireguard", false)),
        Err(error) => panic!("{error}"),
    }
}
