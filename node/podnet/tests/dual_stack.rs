//! Pods with addresses of both families, and of IPv6 alone. Needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::outside::neighbour;
use common::{Pod, TempDir, ask, echo, eventually, link_names, on_host, request, sysctl};
use knode_netlink::{Handle, MacAddr, Netns};
use knode_podnet::{AddRequest, Config, PodNet, Status, Subnet};
use tokio::sync::watch;

const MTU: u32 = 1430;
const IPV4: &str = "172.30.65.0/24";
const IPV6: &str = "fd00:0:0:65::/64";

fn dual() -> Subnet {
    common::subnet(Some(IPV4), Some(IPV6), MTU)
}

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(172, 30, 65, last).into()
}

fn ip6(last: u16) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 0x65, 0, 0, 0, last).into()
}

#[test]
fn pods_have_both_families_and_reach_each_other() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, a, b) = (common::open(&dir, dual()), Pod::new(), Pod::new());
        let first = net.add(request("a", &a)).await.unwrap();
        let second = net.add(request("b", &b)).await.unwrap();
        assert_eq!(first.ips, [ip(2), ip6(2)], "IPv4 is the primary one");
        assert_eq!(first.gateways, [ip(1), ip6(1)]);
        assert_eq!(second.ips, [ip(3), ip6(3)]);

        let server = b.serve_tcp6(80);
        let answer = a.ask((ip6(3), 80), 200_000);
        assert_eq!(answer, "fd00:0:0:65::2 200000", "pod to pod, source kept");
        server.join().unwrap();
        let server = b.serve_tcp6(80);
        assert_eq!(ask((ip6(3), 80), 10), "fd00:0:0:65::1 10", "host to pod");
        server.join().unwrap();
        let server = b.serve_tcp(80);
        assert_eq!(a.ask((ip(3), 80), 10), "172.30.65.2 10", "IPv4 as well");
        server.join().unwrap();
        for (to, headers) in [(ip(3), 28), (ip6(3), 48)] {
            let full = MTU as usize - headers;
            let echoing = common::echo_udp(&b, 53);
            let heard = a.netns.run(|| echo((to, 53), full)).unwrap();
            assert_eq!(heard, full, "a datagram of full size");
            echoing.join().unwrap();
        }
    });
}

#[test]
fn addresses_are_usable_at_once_and_routers_are_not_believed() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, pod) = (common::open(&dir, dual()), Pod::new());
        net.add(request("a", &pod)).await.unwrap();
        // Nothing waits here: a tentative address could not be bound.
        let bind = || std::net::UdpSocket::bind((ip6(2), 0)).map(drop);
        pod.netns.run(bind).unwrap().unwrap();

        for (setting, value) in [("accept_dad", "0"), ("accept_ra", "0"), ("disable_ipv6", "0")] {
            let key = format!("ipv6/conf/eth0/{setting}");
            assert_eq!(sysctl(&pod.netns, &key), value, "{setting} in the pod");
        }
        let host = Netns::current().unwrap();
        assert_eq!(sysctl(&host, "ipv6/conf/all/forwarding"), "1");
        assert_eq!(sysctl(&host, "ipv6/conf/cni0/accept_ra"), "0");
        assert_eq!(sysctl(&pod.netns, "ipv6/conf/eth0/forwarding"), "0");

        let inside = pod.handle();
        let eth0 = inside.link("eth0").unwrap().unwrap();
        let routes = inside.routes(Some(eth0.index)).unwrap();
        for gateway in [ip(1), ip6(1)] {
            let found = routes
                .iter()
                .any(|r| r.is_default() && r.gateway == Some(gateway));
            assert!(found, "{gateway} in {routes:?}");
        }
        let addresses = inside.addresses(Some(eth0.index)).unwrap();
        let global = addresses
            .iter()
            .filter(|a| !a.net.to_string().starts_with("fe80"));
        let mut global: Vec<_> = global.map(|a| a.net.to_string()).collect();
        global.sort();
        assert_eq!(
            global,
            ["172.30.65.2/24", "fd00:0:0:65::2/64"],
            "nothing by itself"
        );
    });
}

#[test]
fn what_comes_at_once_arrives() {
    let dir = TempDir::new();
    on_host(|| async {
        let net = common::open(&dir, dual());
        let pods: Vec<_> = (0..40).map(|_| Pod::new()).collect();
        for (n, pod) in pods.iter().enumerate() {
            let got = net.add(request(&format!("p{n}"), pod)).await.unwrap();
            // `RT_TABLE_LOCAL`: the address is taken for the pod's own.
            let table = pod
                .handle()
                .route_to(got.ips[1])
                .unwrap()
                .map(|route| route.table);
            assert_eq!(table, Some(255), "pod {n}");
        }
    });
}

/// How often the host asked for each pod's Ethernet address.
fn probes() -> Vec<u32> {
    let output = std::process::Command::new("ip")
        .args(["-4", "-s", "neigh", "show", "dev", "cni0"])
        .output();
    let text = String::from_utf8(output.expect("these tests need ip").stdout).unwrap();
    let counts = text.lines().filter_map(|line| line.split("probes ").nth(1));
    let counts = counts.filter_map(|rest| rest.split(' ').next()?.parse().ok());
    counts.collect()
}

#[test]
fn the_bridge_passes_on_what_comes_at_once() {
    let dir = TempDir::new();
    on_host(|| async {
        let net = common::open(&dir, common::subnet(Some(IPV4), None, MTU));
        let pods: Vec<_> = (0..60).map(|_| Pod::new()).collect();
        for (n, pod) in pods.iter().enumerate() {
            let ips = net.add(request(&format!("p{n}"), pod)).await.unwrap().ips;
            let refused = std::net::TcpStream::connect((ips[0], 9)).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        let probes = probes();
        assert_eq!(probes.len(), pods.len(), "{probes:?}");
        // Where the bridge does not pass packets on yet it is one in seven; a few may lack a processor for a second.
        let more = probes.iter().filter(|p| Some(*p) != probes.iter().min()).count();
        assert!(more <= 3, "the first question to these was lost: {probes:?}");
    });
}

#[test]
fn a_pod_where_ipv6_is_off_by_default_has_it() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, pod) = (common::open(&dir, dual()), Pod::new());
        let off = || knode_netlink::sysctl::set("ipv6/conf/default/disable_ipv6", "1");
        pod.netns.run(off).unwrap().unwrap();
        net.add(request("a", &pod)).await.unwrap();
        let server = pod.serve_tcp6(80);
        assert_eq!(ask((ip6(2), 80), 1), "fd00:0:0:65::1 1");
        server.join().unwrap();
    });
}

#[test]
fn ipv6_alone_is_enough() {
    let dir = TempDir::new();
    on_host(|| async {
        let net = common::open(&dir, common::subnet(None, Some(IPV6), MTU));
        let (a, b) = (Pod::new(), Pod::new());
        assert_eq!(net.add(request("a", &a)).await.unwrap().ips, [ip6(2)]);
        assert_eq!(net.add(request("b", &b)).await.unwrap().ips, [ip6(3)]);
        let server = b.serve_tcp6(80);
        assert_eq!(a.ask((ip6(3), 80), 1), "fd00:0:0:65::2 1");
        server.join().unwrap();
        net.remove("a").await.unwrap();
        net.remove("b").await.unwrap();
        assert_eq!(net.leases(), []);
        assert_eq!(link_names(&Handle::open().unwrap()), ["cni0"]);
    });
}

#[test]
fn a_restart_takes_up_both_families() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, a, b) = (common::open(&dir, dual()), Pod::new(), Pod::new());
        let before = net.add(request("a", &a)).await.unwrap();
        let bridge = || {
            let host = Handle::open().unwrap();
            let index = host.link("cni0").unwrap().unwrap().index;
            let addresses = host.addresses(Some(index)).unwrap();
            let mut nets: Vec<_> = addresses.iter().map(|a| a.net.to_string()).collect();
            nets.retain(|net| !net.starts_with("fe80"));
            (index, nets)
        };
        let first = bridge();
        drop(net);
        let net = common::open(&dir, dual());
        assert_eq!(net.add(request("b", &b)).await.unwrap().ips, [ip(3), ip6(3)]);
        assert_eq!(bridge(), first, "the same bridge with the same addresses");
        assert_eq!(first.1, ["172.30.65.1/24", "fd00:0:0:65::1/64"]);
        let again = net.add(request("a", &a)).await.unwrap();
        assert_eq!(again, before, "the same addresses for the same sandbox");
        let server = a.serve_tcp6(80);
        assert_eq!(b.ask((ip6(2), 80), 1), "fd00:0:0:65::3 1");
        server.join().unwrap();
        net.remove("a").await.unwrap();
        assert_eq!(net.leases(), [(ip(3), "b".to_owned()), (ip6(3), "b".to_owned())]);
    });
}

#[test]
fn a_family_that_comes_later_disturbs_nobody() {
    let dir = TempDir::new();
    on_host(|| async {
        let (sender, receiver) = watch::channel(Some(common::subnet(Some(IPV4), None, MTU)));
        let net = PodNet::open(Config::new(&dir.0), receiver).unwrap();
        let running = tokio::spawn({
            let net = net.clone();
            async move { net.run().await }
        });
        let (old, new) = (Pod::new(), Pod::new());
        assert_eq!(net.add(request("old", &old)).await.unwrap().ips, [ip(2)]);
        sender.send(Some(dual())).unwrap();
        let ready = || (net.status() == Status::Ready(dual())).then_some(());
        eventually("both families", ready, || format!("{:?}", net.status())).await;
        assert_eq!(net.add(request("new", &new)).await.unwrap().ips, [ip(3), ip6(3)]);
        let server = old.serve_tcp(80);
        assert_eq!(new.ask((ip(2), 80), 1), "172.30.65.3 1");
        server.join().unwrap();
        let server = new.serve_tcp6(80);
        assert_eq!(ask((ip6(3), 80), 1), "fd00:0:0:65::1 1");
        server.join().unwrap();
        running.abort();
    });
}

/// What `watcher` remembers of an address.
fn remembered(watcher: &Pod, ip: IpAddr) -> Option<MacAddr> {
    let handle = watcher.handle();
    let index = handle.link("eth0").unwrap().unwrap().index;
    let neighbours = handle.neighbours(index).unwrap();
    neighbours.into_iter().find(|n| n.ip == ip)?.mac
}

#[test]
fn a_new_holder_of_an_address_is_announced() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, watcher) = (common::open(&dir, dual()), Pod::new());
        net.add(request("watcher", &watcher)).await.unwrap();
        let theirs = [ip(9), ip6(9)];
        for (round, mac) in ["02:00:00:00:00:01", "02:00:00:00:00:02"].iter().enumerate() {
            let (pod, id) = (Pod::new(), format!("holder-{round}"));
            let mac: MacAddr = mac.parse().unwrap();
            let wanted = AddRequest {
                ips: theirs.to_vec(),
                mac: Some(mac),
                ..request(&id, &pod)
            };
            let got = net.add(wanted).await.unwrap();
            assert_eq!((&got.ips[..], got.mac), (&theirs[..], mac));
            if round > 0 {
                // Nobody has said a word but the announcement.
                for ip in theirs {
                    let told = || remembered(&watcher, ip).filter(|seen| *seen == mac);
                    eventually("the new holder", told, || {
                        format!("{:?}", remembered(&watcher, ip))
                    })
                    .await;
                }
            }
            for (ip, server) in [(ip(9), pod.serve_tcp(80)), (ip6(9), pod.serve_tcp6(81))] {
                let port = if ip.is_ipv4() { 80 } else { 81 };
                assert!(watcher.ask((ip, port), 1).ends_with(" 1"));
                server.join().unwrap();
                assert_eq!(remembered(&watcher, ip), Some(mac));
            }
            net.remove(&id).await.unwrap();
        }
    });
}

#[test]
fn a_pod_that_has_not_spoken_is_reached_from_outside_whatever_addresses_the_host_gives_links() {
    let dir = TempDir::new();
    on_host(|| async {
        let (outside, net, pod) = (neighbour(), common::open(&dir, dual()), Pod::new());
        // `IN6_ADDR_GEN_MODE_NONE`
        knode_netlink::sysctl::set("ipv6/conf/default/addr_gen_mode", "1").unwrap();
        net.add(request("a", &pod)).await.unwrap();
        let server = pod.serve_tcp6(80);
        let heard = outside.run(|| ask((ip6(2), 80), 10)).unwrap();
        assert_eq!(heard, "2001:db8::2 10");
        server.join().unwrap();
    });
}
