use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use knode_netlink::{Event, FdbEntry, Link, LinkKind, MacAddr, Neighbour, Route, Vxlan};

use super::*;
use crate::config::{Backend, NetConf, VxlanConf};
use crate::lease::{BackendData, Lease, LeaseAttributes, Leases};
use crate::underlay::Underlay;

mod backends;
mod drift;
mod dual;

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
            Step::DropRoute(route) => {
                observed.routes.retain(|r| r != route);
                observed.blackholes.retain(|r| r != route);
            }
            Step::SetBlackhole(network) => observed.blackholes.push(blackhole(*network)),
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
