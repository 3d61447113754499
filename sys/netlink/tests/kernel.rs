//! Against the running kernel, each test in namespaces of its own. Needs root.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;
use knode_netlink::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn host() -> (Netns, Handle) {
    let netns = Netns::anonymous().expect("these tests need root (CAP_SYS_ADMIN)");
    let handle = Handle::open_in(&netns).unwrap();
    (netns, handle)
}

fn bridge(handle: &Handle, name: &str) -> Link {
    handle
        .execute(add_bridge(&BridgeSpec {
            name,
            mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
            mtu: 1450,
        }))
        .unwrap();
    handle.link(name).unwrap().unwrap()
}

fn vxlan(handle: &Handle) -> Link {
    let attributes = Vxlan {
        vni: 1,
        port: 8472,
        local: Some(ip("192.0.2.1")),
        underlay: None,
        learning: false,
        gbp: false,
    };
    handle
        .execute(add_vxlan(
            "flannel.1",
            MacAddr([2, 0, 0, 0, 0, 9]),
            1450,
            &attributes,
        ))
        .unwrap();
    handle
        .execute(change_link(
            "flannel.1",
            &LinkChange {
                up: Some(true),
                ..Default::default()
            },
        ))
        .unwrap();
    handle.link("flannel.1").unwrap().unwrap()
}

#[test]
fn bridge_is_created_as_asked() {
    let (_netns, handle) = host();
    let link = bridge(&handle, "cni0");
    assert_eq!(link.kind, LinkKind::Bridge);
    assert_eq!((link.mtu, link.up, link.promiscuous), (1450, true, false));
    assert_eq!(link.mac, Some(MacAddr([2, 0, 0, 0, 0, 1])));
    assert_eq!(handle.link(link.index).unwrap(), Some(link));
}

#[test]
fn errors_are_typed_and_name_the_object() {
    let (_netns, handle) = host();
    bridge(&handle, "cni0");
    let again = handle
        .execute(add_bridge(&BridgeSpec {
            name: "cni0",
            mac: None,
            mtu: 1500,
        }))
        .unwrap_err();
    assert!(again.is_already_exists());
    assert_eq!(again.to_string(), "add bridge cni0: already exists");
    let gone = handle.execute(delete_link("nothing0")).unwrap_err();
    assert!(gone.is_not_found(), "{gone:?}");
    assert_eq!(gone.to_string(), "delete link nothing0: not found");
    assert_eq!(handle.link("nothing0").unwrap(), None);
    let huge = handle.execute(change_link(
        "cni0",
        &LinkChange {
            mtu: Some(1),
            ..Default::default()
        },
    ));
    let text = huge.unwrap_err().to_string();
    assert!(
        text.starts_with("change link cni0: refused (") && text.contains("mtu"),
        "{text}"
    );
}

#[test]
fn veth_spans_namespaces_in_one_request() {
    let (_a, host_side) = host();
    let (pod, pod_side) = host();
    let master = bridge(&host_side, "cni0").index;
    let spec = VethSpec {
        name: "veth0",
        mtu: 1400,
        master: Some(master),
        peer_name: "eth0",
        peer_mac: Some(MacAddr::of_ipv4(Ipv4Addr::new(172, 30, 1, 2))),
        peer_netns: Some(&pod),
    };
    let requests = vec![
        add_veth(&spec),
        change_link(
            "veth0",
            &LinkChange {
                hairpin: Some(true),
                ..Default::default()
            },
        ),
    ];
    host_side.execute_each(requests).unwrap();

    let port = host_side.link("veth0").unwrap().unwrap();
    assert_eq!(
        (port.kind.clone(), port.mtu, port.up),
        (LinkKind::Veth, 1400, true)
    );
    assert_eq!((port.master, port.hairpin), (Some(master), Some(true)));
    let eth0 = pod_side.link("eth0").unwrap().unwrap();
    assert_eq!((eth0.mtu, eth0.up, port.lower), (1400, false, Some(eth0.index)));
    assert_eq!(eth0.mac.unwrap().to_string(), "0a:58:ac:1e:01:02");

    host_side.execute(delete_link("veth0")).unwrap();
    assert_eq!(pod_side.link("eth0").unwrap(), None);
}

#[test]
fn batch_goes_on_after_a_refusal() {
    let (_netns, handle) = host();
    let index = bridge(&handle, "br0").index;
    let address = |n: u8| Address {
        index,
        net: net(&format!("10.0.{n}.1/24")),
    };
    let mut requests: Vec<_> = (0..200).map(|n| add_address(&address(n))).collect();
    requests.insert(100, add_address(&address(7)));
    let results = handle.execute_all(requests).unwrap();
    let failed: Vec<_> = results
        .iter()
        .enumerate()
        .filter(|(_, r)| r.is_err())
        .map(|(i, _)| i)
        .collect();
    assert_eq!(failed, [100]);
    assert_eq!(
        handle
            .addresses(Some(index))
            .unwrap()
            .iter()
            .filter(|a| a.net.addr().is_ipv4())
            .count(),
        200
    );
}

#[test]
fn vxlan_with_routes_neighbours_and_fdb_round_trips() {
    let (_netns, handle) = host();
    let link = vxlan(&handle);
    let LinkKind::Vxlan(attributes) = link.kind else {
        panic!("{link:?}")
    };
    assert_eq!(
        (attributes.vni, attributes.port, attributes.learning),
        (1, 8472, false)
    );
    assert_eq!(attributes.local, Some(ip("192.0.2.1")));

    let index = link.index;
    let mac = MacAddr([2, 0, 0, 0, 0, 7]);
    let address = Address {
        index,
        net: net("172.30.1.0/32"),
    };
    let neighbour = Neighbour {
        index,
        ip: ip("172.30.2.0"),
        mac: Some(mac),
        permanent: true,
    };
    let entry = FdbEntry {
        index,
        mac,
        remote: Some(ip("192.0.2.2")),
        permanent: true,
    };
    let route = Route {
        onlink: true,
        ..Route::via(net("172.30.2.0/24"), ip("172.30.2.0"), index)
    };
    let all = || {
        vec![
            replace_address(&address),
            replace_neighbour(&neighbour),
            replace_fdb(&entry),
            replace_route(&route),
        ]
    };
    handle.execute_each(all()).unwrap();
    handle.execute_each(all()).expect("replacing is idempotent");

    assert!(handle.addresses(Some(index)).unwrap().contains(&address));
    assert_eq!(
        handle
            .routes(Some(index))
            .unwrap()
            .iter()
            .filter(|r| r.destination.addr().is_ipv4())
            .count(),
        1
    );
    assert!(handle.routes(Some(index)).unwrap().contains(&route));
    assert!(handle.neighbours(index).unwrap().contains(&neighbour));
    assert_eq!(handle.fdb(index).unwrap(), [entry]);

    handle
        .execute_each(vec![
            delete_route(&route),
            delete_fdb(&entry),
            delete_neighbour(&neighbour),
            delete_address(&address),
        ])
        .unwrap();
    assert!(!handle.routes(Some(index)).unwrap().contains(&route));
    assert_eq!(handle.fdb(index).unwrap(), []);
    assert!(handle.execute(delete_route(&route)).unwrap_err().is_not_found());
    assert!(handle.execute(delete_fdb(&entry)).unwrap_err().is_not_found());
    assert!(handle.execute(delete_address(&address)).or_gone().is_ok());
}

#[test]
fn a_group_of_links_goes_at_once() {
    let (_netns, handle) = host();
    for name in ["br0", "br1", "br2"] {
        bridge(&handle, name);
    }
    let grouped = LinkChange {
        group: Some(77),
        ..LinkChange::default()
    };
    handle
        .execute_each(vec![
            change_link("br0", &grouped),
            change_link("br2", &grouped),
            delete_group(77),
        ])
        .unwrap();
    let names: Vec<_> = handle.links().unwrap().into_iter().map(|l| l.name).collect();
    assert_eq!(names, ["lo", "br1"]);
    assert!(handle.execute(delete_group(77)).unwrap_err().is_not_found());
}

#[test]
fn rules_and_route_lookup() {
    let (_netns, handle) = host();
    let rule = Rule {
        priority: 99,
        ipv6: false,
        from: Some(net("10.9.0.0/16")),
        to: None,
        mark: Some(0x4000),
        table: 300,
    };
    handle.execute(add_rule(&rule)).unwrap();
    assert!(handle.rules().unwrap().contains(&rule));
    handle.execute(delete_rule(&rule)).unwrap();
    assert!(!handle.rules().unwrap().contains(&rule));

    assert_eq!(handle.route_to(ip("198.51.100.1")).unwrap(), None);
    let index = bridge(&handle, "br0").index;
    handle
        .execute(add_address(&Address {
            index,
            net: net("198.51.100.9/24"),
        }))
        .unwrap();
    let route = handle.route_to(ip("198.51.100.1")).unwrap().unwrap();
    assert_eq!(
        (route.link, route.source),
        (Some(index), Some(ip("198.51.100.9")))
    );
}

#[test]
fn large_tables_are_read_whole() {
    let (_netns, handle) = host();
    let index = vxlan(&handle).index;
    let entry = |n: u16| {
        let [a, b] = n.to_be_bytes();
        FdbEntry {
            index,
            mac: MacAddr([2, 0, 0, 1, a, b]),
            remote: Some(IpAddr::from([192, 0, a, b])),
            permanent: true,
        }
    };
    handle
        .execute_each((0..2000).map(|n| replace_fdb(&entry(n))).collect())
        .unwrap();
    let mut seen = handle.fdb(index).unwrap();
    seen.sort_by_key(|e| e.mac);
    assert_eq!(seen, (0..2000).map(entry).collect::<Vec<_>>());
}

#[test]
fn handle_is_shared_between_threads() {
    let (_netns, handle) = host();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let handle = handle.clone();
            scope.spawn(move || {
                let name = format!("br{n}");
                let link = bridge(&handle, &name);
                assert_eq!(link.name, name);
            });
        }
    });
    assert_eq!(
        handle
            .links()
            .unwrap()
            .iter()
            .filter(|l| l.kind == LinkKind::Bridge)
            .count(),
        8
    );
}

#[tokio::test]
async fn events_tell_of_changes_in_their_namespace_only() {
    let (netns, handle) = host();
    let (_other, elsewhere) = host();
    let mut events = Events::open_in(&netns, &[Topic::Links, Topic::Routes, Topic::Neighbours]).unwrap();
    bridge(&elsewhere, "other0");
    let link = vxlan(&handle);
    let entry = FdbEntry {
        index: link.index,
        mac: MacAddr([2, 0, 0, 0, 0, 7]),
        remote: Some(ip("192.0.2.2")),
        permanent: true,
    };
    handle.execute(add_fdb(&entry)).unwrap();
    handle.execute(delete_fdb(&entry)).unwrap();
    handle.execute(delete_link("flannel.1")).unwrap();
    let mut seen = Vec::new();
    while !seen
        .iter()
        .any(|e| matches!(e, Event::LinkGone(l) if l.name == "flannel.1"))
    {
        let next = tokio::time::timeout(Duration::from_secs(5), events.next()).await;
        seen.push(
            next.unwrap_or_else(|_| panic!("no word of the deletion; seen {seen:?}"))
                .unwrap(),
        );
    }
    let named = |e: &Event| matches!(e, Event::Link(l) | Event::LinkGone(l) if l.name == "other0");
    assert!(!seen.iter().any(named), "{seen:?}");
    assert!(
        seen.contains(&Event::Fdb(entry)) && seen.contains(&Event::FdbGone(entry)),
        "{seen:?}"
    );
}

#[test]
fn work_inside_a_namespace_leaves_the_caller_where_it_was() {
    let here = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let before = here();
    let (netns, _handle) = host();
    assert_ne!(netns.run(here).unwrap(), before);
    assert_eq!(here(), before);
}

#[test]
fn a_missing_namespace_is_named() {
    let error = Netns::open("/run/netns/is-not-there").unwrap_err();
    assert_eq!(error.to_string(), "network namespace /run/netns/is-not-there");
}
