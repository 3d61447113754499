//! Ports of the host that lead to pods, with real packets. Needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use common::outside::{OUTER, OUTER6, neighbour};
use common::{Pod, TempDir, ask, link_names, on_host, request};
use knode_netlink::{Address, Handle, Netns, Route, add_route};
use knode_podnet::{AddRequest, Config, Error, PodNet, PortMapping, Protocol, teardown};

fn open(dir: &TempDir) -> PodNet {
    let subnet = common::subnet(Some("172.30.65.0/24"), Some("fd00:0:0:65::/64"), 1450);
    common::open(dir, subnet)
}

fn port(protocol: Protocol, host_port: u16, host_ip: Option<IpAddr>) -> PortMapping {
    PortMapping {
        protocol,
        host_port,
        container_port: 80,
        host_ip,
    }
}

fn tcp(host_port: u16) -> PortMapping {
    port(Protocol::Tcp, host_port, None)
}

async fn add(net: &PodNet, id: &str, pod: &Pod, ports: &[PortMapping]) -> Result<Ipv4Addr, Error> {
    let request = AddRequest {
        port_mappings: ports.to_vec(),
        ..request(id, pod)
    };
    match net.add(request).await?.ips[..] {
        [IpAddr::V4(ip), IpAddr::V6(_)] => Ok(ip),
        ref other => panic!("{other:?}"),
    }
}

/// Whether a connection is refused or not answered.
fn closed(netns: &Netns, (ip, port): (impl Into<IpAddr>, u16)) -> bool {
    let to = SocketAddr::new(ip.into(), port);
    let connect =
        || std::net::TcpStream::connect_timeout(&to, std::time::Duration::from_millis(300)).is_err();
    netns.run(connect).unwrap()
}

#[test]
fn a_port_answers_from_every_side() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, outside, pod, other) = (open(&dir), neighbour(), Pod::new(), Pod::new());
        let ip = add(&net, "a", &pod, &[tcp(8080)]).await.unwrap();
        add(&net, "b", &other, &[]).await.unwrap();
        let from = |netns: &Netns, to: Ipv4Addr| {
            let server = pod.serve_tcp(80);
            let answer = netns.run(|| ask((to.into(), 8080), 1)).unwrap();
            server.join().unwrap();
            answer
        };
        let host = Netns::current().unwrap();
        assert_eq!(from(&outside, OUTER), "192.0.2.2 1", "from outside, source kept");
        assert_eq!(from(&host, OUTER), "192.0.2.1 1", "from the host by its address");
        assert_eq!(
            from(&host, Ipv4Addr::LOCALHOST),
            "172.30.65.1 1",
            "from the host by loopback"
        );
        assert_eq!(from(&other.netns, OUTER), "172.30.65.3 1", "from another pod");
        assert_eq!(from(&pod.netns, OUTER), "172.30.65.1 1", "from itself");
        assert_eq!(ip, Ipv4Addr::new(172, 30, 65, 2));
    });
}

#[test]
fn loopback_of_the_host_stays_the_hosts() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, pod) = (open(&dir), Pod::new());
        add(&net, "a", &pod, &[tcp(8080)]).await.unwrap();
        let _secret = std::net::TcpListener::bind("127.0.0.1:9999").unwrap();
        let inside = pod.handle();
        let eth0 = inside.link("eth0").unwrap().unwrap().index;
        let lo = inside.link("lo").unwrap().unwrap().index;
        let own = Address {
            index: lo,
            net: "127.0.0.1/8".parse().unwrap(),
        };
        inside.execute(knode_netlink::delete_address(&own)).unwrap();
        let route = Route::via(
            "127.0.0.1/32".parse().unwrap(),
            Ipv4Addr::new(172, 30, 65, 1).into(),
            eth0,
        );
        pod.netns
            .run(|| knode_netlink::sysctl::set("ipv4/conf/eth0/route_localnet", "1").unwrap())
            .unwrap();
        inside.execute(add_route(&route)).unwrap();
        assert!(closed(&pod.netns, (Ipv4Addr::LOCALHOST, 9999)));

        let table = knode_nft::TableRef::new(knode_nft::Family::Ip, knode_podnet::HOST_PORT_TABLE);
        let mut unguarded = knode_nft::Batch::new(table);
        unguarded.flush_chain("guard");
        knode_nft::Socket::open().unwrap().commit(&unguarded).unwrap();
        assert!(
            !closed(&pod.netns, (Ipv4Addr::LOCALHOST, 9999)),
            "it is the guard that keeps it closed"
        );
    });
}

#[test]
fn a_port_goes_with_its_pod_and_outlives_the_process() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, outside, pod) = (open(&dir), neighbour(), Pod::new());
        add(&net, "a", &pod, &[tcp(8080), port(Protocol::Udp, 53, None)])
            .await
            .unwrap();
        drop(net);
        let net = open(&dir);
        let server = pod.serve_tcp(80);
        assert_eq!(
            outside.run(|| ask((OUTER.into(), 8080), 1)).unwrap(),
            "192.0.2.2 1"
        );
        server.join().unwrap();
        let holder = add(&net, "b", &Pod::new(), &[tcp(8080)]).await.unwrap_err();
        let text = std::error::Error::source(&holder).unwrap().to_string();
        assert_eq!(
            text,
            "host port 8080/TCP is taken by the pod 172.30.65.2 (sandbox a)"
        );
        assert_eq!(net.leases().len(), 2, "nothing of the refused pod is left");

        let _listening = pod
            .netns
            .run(|| std::net::TcpListener::bind("0.0.0.0:80").unwrap())
            .unwrap();
        net.remove("a").await.unwrap();
        assert!(closed(&outside, (OUTER, 8080)));
        add(&net, "b", &Pod::new(), &[tcp(8080)]).await.unwrap();
    });
}

#[test]
fn a_port_of_one_address_leaves_the_others() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, outside, one, other) = (open(&dir), neighbour(), Pod::new(), Pod::new());
        add(&net, "a", &one, &[port(Protocol::Tcp, 80, Some(OUTER.into()))])
            .await
            .unwrap();
        let second = [port(
            Protocol::Tcp,
            80,
            Some(Ipv4Addr::new(172, 30, 65, 1).into()),
        )];
        add(&net, "b", &other, &second).await.unwrap();
        let server = one.serve_tcp(80);
        assert_eq!(outside.run(|| ask((OUTER.into(), 80), 1)).unwrap(), "192.0.2.2 1");
        server.join().unwrap();
        let server = other.serve_tcp(80);
        assert_eq!(
            outside
                .run(|| ask((Ipv4Addr::new(172, 30, 65, 1).into(), 80), 1))
                .unwrap(),
            "192.0.2.2 1"
        );
        server.join().unwrap();
    });
}

#[test]
fn datagrams_follow_the_port_to_the_next_pod() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, outside) = (open(&dir), neighbour());
        let client = |to: IpAddr| {
            let any: IpAddr = if to.is_ipv4() {
                Ipv4Addr::UNSPECIFIED.into()
            } else {
                Ipv6Addr::UNSPECIFIED.into()
            };
            let socket = std::net::UdpSocket::bind((any, 0)).unwrap();
            let bound = Some(std::time::Duration::from_secs(5));
            socket.set_read_timeout(bound).unwrap();
            socket.connect((to, 53)).unwrap();
            socket
        };
        let clients = [OUTER.into(), OUTER6.into()].map(|to| outside.run(|| client(to)).unwrap());
        for id in ["a", "b"] {
            let pod = Pod::new();
            let mapping = PortMapping {
                container_port: 5353,
                ..port(Protocol::Udp, 53, None)
            };
            add(&net, id, &pod, &[mapping]).await.unwrap();
            for client in &clients {
                let echo = common::echo_udp(&pod, 5353);
                client.send(id.as_bytes()).unwrap();
                let mut answer = [0; 8];
                let length = client.recv(&mut answer);
                let length = length.unwrap_or_else(|e| panic!("pod {id}, {client:?}: {e}"));
                assert_eq!(&answer[..length], id.as_bytes());
                echo.join().unwrap();
            }
            net.remove(id).await.unwrap();
        }
    });
}

#[test]
fn a_port_answers_from_every_side_over_ipv6() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, outside, pod, other) = (open(&dir), neighbour(), Pod::new(), Pod::new());
        add(&net, "a", &pod, &[tcp(8080)]).await.unwrap();
        add(&net, "b", &other, &[]).await.unwrap();
        let from = |netns: &Netns, to: Ipv6Addr| {
            let server = pod.serve_tcp6(80);
            let answer = netns.run(|| ask((to.into(), 8080), 1)).unwrap();
            server.join().unwrap();
            answer
        };
        let host = Netns::current().unwrap();
        assert_eq!(
            from(&outside, OUTER6),
            "2001:db8::2 1",
            "from outside, source kept"
        );
        assert_eq!(
            from(&host, OUTER6),
            "2001:db8::1 1",
            "from the host by its address"
        );
        assert_eq!(from(&other.netns, OUTER6), "fd00:0:0:65::3 1", "from another pod");
        assert_eq!(from(&pod.netns, OUTER6), "fd00:0:0:65::1 1", "from itself");
        // The kernel lets no packet of ::1 out, so that it stays the host's own.
        let _own = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 8080)).unwrap();
        assert!(!closed(&host, (Ipv6Addr::LOCALHOST, 8080)));
    });
}

#[test]
fn the_family_of_the_hosts_address_decides() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, outside, pod) = (open(&dir), neighbour(), Pod::new());
        let any4 = port(Protocol::Tcp, 8080, Some(Ipv4Addr::UNSPECIFIED.into()));
        let one6 = port(Protocol::Tcp, 8081, Some(OUTER6.into()));
        add(&net, "a", &pod, &[any4, one6]).await.unwrap();
        let server = pod.serve_tcp6(80);
        let answer = outside.run(|| ask((OUTER6.into(), 8081), 1)).unwrap();
        assert_eq!(answer, "2001:db8::2 1");
        server.join().unwrap();
        let server = pod.serve_tcp(80);
        let answer = outside.run(|| ask((OUTER.into(), 8080), 1)).unwrap();
        assert_eq!(answer, "192.0.2.2 1");
        server.join().unwrap();
        let _listening = pod
            .netns
            .run(|| std::net::TcpListener::bind("[::]:80").unwrap())
            .unwrap();
        assert!(closed(&outside, (OUTER6, 8080)) && closed(&outside, (OUTER, 8081)));
    });
}

#[test]
fn a_pod_without_the_family_is_refused() {
    let dir = TempDir::new();
    on_host(|| async {
        let net = common::open(&dir, common::subnet(Some("172.30.65.0/24"), None, 1450));
        let (pod, v6) = (Pod::new(), port(Protocol::Tcp, 80, Some(OUTER6.into())));
        let wanted = AddRequest {
            port_mappings: vec![v6],
            ..request("a", &pod)
        };
        let error = net.add(wanted).await.unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        let text = "host port of 2001:db8::1: the pod has no address of that family, only 172.30.65.2";
        assert_eq!(source, text);
        assert_eq!(net.leases(), []);
        assert_eq!(link_names(&Handle::open().unwrap()), ["cni0"]);
    });
}

/// Everything in both tables, as `nft` shows it, without the counters of handles.
fn ruleset() -> String {
    let output = std::process::Command::new("nft")
        .args(["list", "ruleset"])
        .output();
    let output = output.expect("these tests need nft");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn restarts_double_nothing_and_the_last_pod_leaves_no_port() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, pod, other) = (open(&dir), Pod::new(), Pod::new());
        let ports = [tcp(8080), port(Protocol::Udp, 53, Some(OUTER6.into()))];
        add(&net, "a", &pod, &ports).await.unwrap();
        let before = ruleset();
        for elements in [
            "tcp . 8080 : 172.30.65.2 . 80",
            "tcp . 8080 : fd00:0:0:65::2 . 80",
        ] {
            assert_eq!(before.matches(elements).count(), 1, "{elements} in {before}");
        }
        drop(net);
        for _ in 0..3 {
            let net = open(&dir);
            add(&net, "b", &other, &[tcp(9090)]).await.unwrap();
            net.remove("b").await.unwrap();
        }
        assert_eq!(ruleset(), before);
        let net = open(&dir);
        let live = std::collections::HashSet::from(["a".to_owned()]);
        net.gc(live).await.unwrap();
        assert_eq!(ruleset(), before, "a living pod's ports stay");
        net.remove("a").await.unwrap();
        assert!(!ruleset().contains("172.30.65.2") && !ruleset().contains("fd00:0:0:65::2"));
    });
}

#[test]
fn a_sandbox_that_is_added_again_keeps_its_ports() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, outside, first, second) = (open(&dir), neighbour(), Pod::new(), Pod::new());
        add(&net, "a", &first, &[tcp(8080), tcp(8081)]).await.unwrap();
        add(&net, "a", &second, &[tcp(8080)]).await.unwrap();
        let server = second.serve_tcp(80);
        let answer = outside.run(|| ask((OUTER.into(), 8080), 1)).unwrap();
        assert_eq!(answer, "192.0.2.2 1");
        server.join().unwrap();
        assert!(!ruleset().contains("8081"), "what it no longer wants is closed");
        let twice = [tcp(9090), tcp(9090)];
        let error = add(&net, "b", &Pod::new(), &twice).await.unwrap_err();
        let text = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(
            text,
            "host port 9090/TCP is taken by the pod 172.30.65.3 (sandbox b)"
        );
    });
}

#[test]
fn teardown_leaves_nothing() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, pod) = (open(&dir), Pod::new());
        add(&net, "b", &pod, &[tcp(8080), port(Protocol::Sctp, 8080, None)])
            .await
            .unwrap();
        drop(net);
        assert_eq!(teardown(&Config::new(&dir.0)).len(), 0);
        assert_eq!(ruleset(), "");
    });
}
