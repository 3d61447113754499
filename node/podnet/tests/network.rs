//! Pods on a bridge, in namespaces of the test's own. Needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use common::{Pod, TempDir, ask, echo, eventually, link_names, on_host, request};
use knode_netlink::{Handle, LinkKind, delete_link};
use knode_podnet::{AddRequest, Config, Error, PodNet, Status, Subnet, teardown};
use tokio::sync::watch;

const MTU: u32 = 1450;

fn subnet() -> Subnet {
    common::subnet(Some("172.30.65.0/24"), None, MTU)
}

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(172, 30, 65, last).into()
}

fn open(dir: &TempDir) -> (PodNet, watch::Sender<Option<Subnet>>) {
    let (sender, receiver) = watch::channel(Some(subnet()));
    (PodNet::open(Config::new(&dir.0), receiver).unwrap(), sender)
}

#[test]
fn pods_reach_each_other_and_the_host() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, _subnet) = open(&dir);
        let (a, b) = (Pod::new(), Pod::new());
        let first = net.add(request("a", &a)).await.unwrap();
        let second = net.add(request("b", &b)).await.unwrap();
        assert_eq!((first.ips, second.ips), (vec![ip(2)], vec![ip(3)]));
        assert_eq!(first.gateways, [ip(1)]);

        let server = b.serve_tcp(80);
        assert_eq!(
            a.ask((ip(3), 80), 200_000),
            "172.30.65.2 200000",
            "pod to pod, source kept"
        );
        server.join().unwrap();
        let server = b.serve_tcp(80);
        assert_eq!(ask((ip(3), 80), 10), "172.30.65.1 10", "host to pod");
        server.join().unwrap();
        let echoing = common::echo_udp(&b, 53);
        let full = MTU as usize - 28;
        let heard = a.netns.run(|| echo((ip(3), 53), full)).unwrap();
        assert_eq!(heard, full, "a datagram of full size");
        echoing.join().unwrap();
    });
}

#[test]
fn the_pod_sees_what_upstream_gives_it() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, _subnet) = open(&dir);
        let pod = Pod::new();
        let attachment = net.add(request("a", &pod)).await.unwrap();
        let inside = pod.handle();
        let eth0 = inside.link("eth0").unwrap().unwrap();
        assert_eq!((eth0.mtu, eth0.up, eth0.mac), (MTU, true, Some(attachment.mac)));
        let addresses = inside.addresses(Some(eth0.index)).unwrap();
        assert!(
            addresses.iter().any(|a| a.net.to_string() == "172.30.65.2/24"),
            "{addresses:?}"
        );
        let routes = inside.routes(Some(eth0.index)).unwrap();
        assert!(
            routes.iter().any(|r| r.is_default() && r.gateway == Some(ip(1))),
            "{routes:?}"
        );
        assert!(inside.link("lo").unwrap().unwrap().up);

        let host = Handle::open().unwrap();
        let bridge = host.link("cni0").unwrap().unwrap();
        assert_eq!(
            (bridge.kind, bridge.mtu, bridge.up, bridge.promiscuous),
            (LinkKind::Bridge, MTU, true, false)
        );
        let port = host.link(attachment.host_link.as_str()).unwrap().unwrap();
        assert_eq!(
            (port.master, port.hairpin, port.mtu),
            (Some(bridge.index), Some(true), MTU)
        );
        assert_eq!(
            std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(),
            "1\n"
        );
    });
}

#[test]
fn removal_is_idempotent_and_needs_no_namespace() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, _subnet) = open(&dir);
        let (host, pod) = (Handle::open().unwrap(), Pod::new());
        net.add(request("a", &pod)).await.unwrap();
        drop(pod);
        net.remove("a").await.unwrap();
        net.remove("a").await.unwrap();
        net.remove("never-heard-of").await.unwrap();
        assert_eq!(link_names(&host), ["cni0"]);
        assert_eq!(net.leases(), []);
    });
}

#[test]
fn a_restart_takes_up_bridge_and_leases() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, _subnet) = open(&dir);
        let (a, b) = (Pod::new(), Pod::new());
        net.add(request("a", &a)).await.unwrap();
        let bridge = Handle::open().unwrap().link("cni0").unwrap().unwrap();
        drop(net);

        let (net, _subnet) = open(&dir);
        assert_eq!(net.leases(), [(ip(2), "a".to_owned())]);
        assert_eq!(net.add(request("b", &b)).await.unwrap().ips, [ip(3)]);
        // Whether it is running follows its ports, some time later.
        let same = |link: &knode_netlink::Link| (link.index, link.mac, link.mtu, link.up);
        let now = Handle::open().unwrap().link("cni0").unwrap().unwrap();
        assert_eq!(same(&now), same(&bridge), "the same bridge");
        let server = a.serve_tcp(80);
        assert_eq!(b.ask((ip(2), 80), 1), "172.30.65.3 1");
        server.join().unwrap();
        net.remove("a").await.unwrap();
        assert_eq!(net.leases().len(), 1);
    });
}

#[test]
fn a_failed_connection_leaves_nothing() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, _subnet) = open(&dir);
        let gone = AddRequest {
            netns: "/run/netns/is-not-there".into(),
            ..request("a", &Pod::new())
        };
        let error = net.add(gone).await.unwrap_err();
        assert_eq!(error.to_string(), "connect sandbox a as 172.30.65.2");
        assert!(matches!(&error, Error::Attach { .. }));

        // Somebody else's interface has the name already.
        let pod = Pod::new();
        let spec = knode_netlink::BridgeSpec {
            name: "eth0",
            mac: None,
            mtu: 1500,
        };
        pod.handle().execute(knode_netlink::add_bridge(&spec)).unwrap();
        net.add(request("b", &pod)).await.unwrap_err();
        assert_eq!(net.leases(), []);
        assert_eq!(link_names(&Handle::open().unwrap()), ["cni0"]);
    });
}

#[test]
fn adding_twice_keeps_the_address() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, _subnet) = open(&dir);
        let (first, second) = (Pod::new(), Pod::new());
        let before = net.add(request("a", &first)).await.unwrap();
        let after = net.add(request("a", &second)).await.unwrap();
        assert_eq!(before, after);
        assert_eq!(
            first.handle().link("eth0").unwrap(),
            None,
            "the old cable is gone"
        );
        assert!(second.handle().link("eth0").unwrap().is_some());
    });
}

#[test]
fn collection_spares_the_living() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, _subnet) = open(&dir);
        let pods = [Pod::new(), Pod::new(), Pod::new()];
        for (id, pod) in ["a", "b", "c"].iter().zip(&pods) {
            net.add(request(id, pod)).await.unwrap();
        }
        let freed = net.gc(HashSet::from(["b".to_owned()])).await.unwrap();
        assert_eq!(freed, [ip(2), ip(4)]);
        let inside = |pod: &Pod| pod.handle().link("eth0").unwrap().is_some();
        assert_eq!(pods.each_ref().map(inside), [false, true, false]);
    });
}

#[test]
fn nothing_is_ready_before_the_subnet_is_known() {
    let dir = TempDir::new();
    on_host(|| async {
        let (sender, receiver) = watch::channel(None);
        let net = PodNet::open(Config::new(&dir.0), receiver).unwrap();
        let running = tokio::spawn({
            let net = net.clone();
            async move { net.run().await }
        });
        assert!(matches!(net.status(), Status::NotReady(_)));
        assert!(matches!(
            net.add(request("a", &Pod::new())).await,
            Err(Error::NotReady)
        ));
        assert_eq!(link_names(&Handle::open().unwrap()), [""; 0]);

        sender.send(Some(subnet())).unwrap();
        let host = Handle::open().unwrap();
        let ready = || {
            host.link("cni0")
                .unwrap()
                .filter(|l| l.up && net.status() == Status::Ready(subnet()))
        };
        eventually("the bridge", ready, || {
            format!("{:?}, {:?}", net.status(), link_names(&host))
        })
        .await;
        drop(sender);
        running.await.unwrap().unwrap();
    });
}

#[test]
fn a_deleted_bridge_comes_back_with_its_pods() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, _subnet) = open(&dir);
        let running = tokio::spawn({
            let net = net.clone();
            async move { net.run().await }
        });
        let (host, pods) = (Handle::open().unwrap(), [Pod::new(), Pod::new()]);
        let a = net.add(request("a", &pods[0])).await.unwrap();
        net.add(request("b", &pods[1])).await.unwrap();
        let old = host.link("cni0").unwrap().unwrap().index;
        eventually(
            "the watch",
            || (net.status() == Status::Ready(subnet())).then_some(()),
            String::new,
        )
        .await;

        host.execute(delete_link("cni0")).unwrap();
        let port = || host.link(a.host_link.as_str()).unwrap().unwrap();
        let back = || {
            port()
                .master
                .filter(|m| *m != old && port().hairpin == Some(true))
        };
        eventually("the bridge with its port", back, || format!("{:?}", port())).await;
        eventually("the address", || host.route_to(ip(2)).unwrap(), String::new).await;
        let server = pods[1].serve_tcp(80);
        assert_eq!(pods[0].ask((ip(3), 80), 1), "172.30.65.2 1");
        server.join().unwrap();
        running.abort();
    });
}

#[test]
fn a_changed_subnet_is_refused_under_pods_and_taken_without() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, sender) = open(&dir);
        let pod = Pod::new();
        net.add(request("a", &pod)).await.unwrap();
        let other = common::subnet(Some("172.30.66.0/24"), None, MTU);
        sender.send(Some(other)).unwrap();
        let running = tokio::spawn({
            let net = net.clone();
            async move { net.run().await }
        });
        let refused = || match net.status() {
            Status::NotReady(why) => Some(why),
            Status::Ready(_) => None,
        };
        let why = eventually("the refusal", refused, || format!("{:?}", net.status())).await;
        let wanted =
            "bridge cni0 has 172.30.65.1/24 and pods use it, but the node's subnet is 172.30.66.0/24 now";
        assert_eq!(why, wanted);

        net.remove("a").await.unwrap();
        sender.send(Some(other)).unwrap();
        eventually(
            "the new subnet",
            || (net.status() == Status::Ready(other)).then_some(()),
            || format!("{:?}", net.status()),
        )
        .await;
        let attachment = net.add(request("b", &Pod::new())).await.unwrap();
        assert_eq!(attachment.ips, [IpAddr::from([172, 30, 66, 2])]);
        running.abort();
    });
}

#[test]
fn teardown_leaves_nothing() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, _subnet) = open(&dir);
        let pod = Pod::new();
        net.add(request("a", &pod)).await.unwrap();
        drop(net);
        let config = Config::new(&dir.0);
        assert_eq!(teardown(&config).len(), 0);
        assert_eq!(link_names(&Handle::open().unwrap()), [""; 0]);
        assert_eq!(std::fs::read_dir(dir.0.join("leases")).unwrap().count(), 0);
        assert_eq!(teardown(&config).len(), 0, "again");
    });
}

#[test]
fn many_leave_together() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, _subnet) = open(&dir);
        let pods: Vec<_> = (0..31).map(|_| Pod::new()).collect();
        for (n, pod) in pods.iter().enumerate() {
            net.add(request(&format!("s{n}"), pod)).await.unwrap();
        }
        let started = Instant::now();
        let leaving = (0..30).map(|n| {
            let net = net.clone();
            tokio::spawn(async move { net.remove(&format!("s{n}")).await })
        });
        for task in leaving.collect::<Vec<_>>() {
            task.await.unwrap().unwrap();
        }
        println!("30 pods removed at once: {:?}", started.elapsed());
        assert_eq!(net.leases(), [(ip(32), "s30".to_owned())]);
        assert_eq!(
            link_names(&Handle::open().unwrap()).len(),
            2,
            "the bridge and one cable"
        );
        assert!(pods[29].handle().link("eth0").unwrap().is_none());
        let server = pods[30].serve_tcp(80);
        assert_eq!(ask((ip(32), 80), 1), "172.30.65.1 1");
        server.join().unwrap();
    });
}

#[test]
fn many_at_once() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, _subnet) = open(&dir);
        let pods: Vec<_> = (0..30).map(|_| Pod::new()).collect();
        let started = Instant::now();
        let adding: Vec<_> = pods
            .iter()
            .enumerate()
            .map(|(n, pod)| {
                let (net, request) = (net.clone(), request(&format!("s{n}"), pod));
                tokio::spawn(async move { net.add(request).await.unwrap().ips[0] })
            })
            .collect();
        let mut ips = HashSet::new();
        for task in adding {
            ips.insert(task.await.unwrap());
        }
        println!("30 pods at once: {:?}", started.elapsed());
        assert_eq!(ips.len(), 30);
        let one = Pod::new();
        let started = Instant::now();
        net.add(request("one", &one)).await.unwrap();
        println!("one pod: {:?}", started.elapsed());
        let started = Instant::now();
        net.remove("one").await.unwrap();
        println!("its removal: {:?}", started.elapsed());
        let server = pods[0].serve_tcp(80);
        let first = net
            .leases()
            .into_iter()
            .find(|(_, owner)| owner == "s0")
            .unwrap()
            .0;
        assert!(pods[29].ask((first, 80), 1).ends_with(" 1"));
        server.join().unwrap();
    });
}
