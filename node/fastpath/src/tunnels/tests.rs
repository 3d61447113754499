use knode_netlink::Vxlan;

use super::*;

const STATION: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

fn link(index: u32, kind: LinkKind, mtu: u32) -> Link {
    Link {
        index,
        name: format!("link{index}"),
        kind,
        mac: Some(MacAddr([2, 0, 0, 0, 1, 0])),
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

fn vxlan() -> Vxlan {
    Vxlan {
        vni: 0x01_02_03,
        port: 8472,
        local: Some("10.99.0.1".parse().unwrap()),
        underlay: Some(2),
        ..Vxlan::default()
    }
}

fn links(vxlan: Vxlan, mtu: u32) -> [Link; 2] {
    [
        link(2, LinkKind::Device, 1500),
        link(3, LinkKind::Vxlan(vxlan), mtu),
    ]
}

fn entry() -> FdbEntry {
    FdbEntry {
        index: 3,
        mac: STATION,
        remote: Some("10.99.0.2".parse().unwrap()),
        permanent: true,
    }
}

#[test]
fn a_peer_of_a_tunnel_has_headers_of_rfc_7348() {
    let mut tunnels = Tunnels::among(&links(vxlan(), 1450), |_| true);
    assert!(tunnels.take(&Event::Fdb(entry())));
    assert!(!tunnels.take(&Event::Fdb(entry())), "known");
    let wrappings = tunnels.wrappings();
    let value = wrappings[&peer(3, STATION)];
    assert_eq!(value[12..14], [8, 0]);
    assert_eq!(
        value[14..34],
        [
            0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 99, 0, 1, 10, 99, 0, 2
        ]
    );
    assert_eq!(value[34..42], [0, 0, 0x21, 0x18, 0, 0, 0, 0]);
    assert_eq!(value[42..50], [8, 0, 0, 0, 1, 2, 3, 0]);
    assert_eq!(value[52..], 2_u32.to_ne_bytes());
    let endpoints = tunnels.endpoints();
    let (at, device) = endpoints.first_key_value().unwrap();
    assert_eq!(*at, [10, 99, 0, 1, 0x21, 0x18, 0, 0, 1, 2, 3, 0]);
    assert_eq!(device[..6], [2, 0, 0, 0, 1, 0]);
}

#[test]
fn who_left_and_who_was_learned_from_traffic_is_the_kernels() {
    let mut tunnels = Tunnels::among(&links(vxlan(), 1450), |_| true);
    let learned = FdbEntry {
        permanent: false,
        ..entry()
    };
    assert!(!tunnels.take(&Event::Fdb(learned)));
    tunnels.take(&Event::Fdb(entry()));
    assert!(tunnels.take(&Event::FdbGone(entry())));
    assert!(tunnels.wrappings().is_empty());
}

#[test]
fn devices_that_do_more_than_programs_are_left_alone() {
    let none = |links: &[Link], sums: bool| Tunnels::among(links, |_| sums).endpoints().is_empty();
    assert!(!none(&links(vxlan(), 1450), true));
    assert!(none(&links(vxlan(), 1450), false), "sums computed before it");
    assert!(none(&links(vxlan(), 1451), true), "too large for the link below");
    let gbp = Vxlan { gbp: true, ..vxlan() };
    assert!(none(&links(gbp, 1450), true), "policy groups in the header");
    let local = Some("fd00::1".parse().unwrap());
    assert!(none(&links(Vxlan { local, ..vxlan() }, 1450), true), "IPv6");
    let underlay = None;
    assert!(
        none(&links(Vxlan { underlay, ..vxlan() }, 1450), true),
        "any link below"
    );
    let mut down = links(vxlan(), 1450);
    down[0].up = false;
    assert!(none(&down, true), "the link below is down");
}

#[test]
fn changes_of_a_device_and_of_the_link_below_concern() {
    let before = links(vxlan(), 1450);
    let tunnels = Tunnels::among(&before, |_| true);
    for link in &before {
        assert!(!tunnels.concerns(&Event::Link(link.clone())));
        assert!(tunnels.concerns(&Event::LinkGone(link.clone())));
        let smaller = Link {
            mtu: 1000,
            ..link.clone()
        };
        assert!(tunnels.concerns(&Event::Link(smaller)));
    }
    assert!(tunnels.concerns(&Event::Link(link(9, LinkKind::Vxlan(vxlan()), 1450))));
    assert!(!tunnels.concerns(&Event::Link(link(9, LinkKind::Veth, 1450))));
}
