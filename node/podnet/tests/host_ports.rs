//! Ports of the host that lead to pods, with real packets. Needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::{IpAddr, Ipv4Addr};

use common::{Pod, TempDir, ask, on_host};
use knode_netlink::{
    Address, Handle, LinkChange, Netns, Route, VethSpec, add_address, add_route, add_veth, change_link,
};
use knode_podnet::{AddRequest, Config, Error, PodNet, PortMapping, Protocol, Subnet, teardown};
use tokio::sync::watch;

const OUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn open(dir: &TempDir) -> PodNet {
    let subnet = Subnet {
        ipv4: "172.30.65.0/24".parse().unwrap(),
        mtu: 1450,
    };
    // The receiver keeps the last value when the sender is gone.
    let (_, receiver) = watch::channel(Some(subnet));
    PodNet::open(Config::new(&dir.0), receiver).unwrap()
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
        sandbox_id: id.into(),
        netns: pod.path.clone(),
        port_mappings: ports.to_vec(),
    };
    match net.add(request).await?.ips[0] {
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(ip) => panic!("{ip}"),
    }
}

/// A machine beside the host, which has the address `OUTER` towards it.
fn neighbour() -> Netns {
    let netns = Netns::anonymous().unwrap();
    let host = Handle::open().unwrap();
    let spec = VethSpec {
        name: "outer",
        mtu: 1500,
        master: None,
        peer_name: "eth0",
        peer_mac: None,
        peer_netns: Some(&netns),
    };
    host.execute(add_veth(&spec)).unwrap();
    let index = host.link("outer").unwrap().unwrap().index;
    host.execute(add_address(&Address {
        index,
        net: "192.0.2.1/24".parse().unwrap(),
    }))
    .unwrap();
    let inside = Handle::open_in(&netns).unwrap();
    let index = inside.link("eth0").unwrap().unwrap().index;
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    let route = Route::via("0.0.0.0/0".parse().unwrap(), OUTER.into(), index);
    let address = Address {
        index,
        net: "192.0.2.2/24".parse().unwrap(),
    };
    inside
        .execute_each(vec![
            change_link("eth0", &up),
            add_address(&address),
            add_route(&route),
        ])
        .unwrap();
    netns
}

/// Whether a connection is refused or not answered.
fn closed(netns: &Netns, to: (Ipv4Addr, u16)) -> bool {
    let connect =
        || std::net::TcpStream::connect_timeout(&to.into(), std::time::Duration::from_millis(300)).is_err();
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
        assert_eq!(text, "host port 8080/TCP is taken by the pod 172.30.65.2");
        assert_eq!(net.leases().len(), 1, "nothing of the refused pod is left");

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
        let client = outside.run(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            socket
                .set_read_timeout(Some(std::time::Duration::from_secs(5)))
                .unwrap();
            socket.connect((OUTER, 53)).unwrap();
            socket
        });
        let client = client.unwrap();
        for id in ["a", "b"] {
            let pod = Pod::new();
            let mapping = PortMapping {
                container_port: 5353,
                ..port(Protocol::Udp, 53, None)
            };
            add(&net, id, &pod, &[mapping]).await.unwrap();
            let echo = common::echo_udp(&pod, 5353);
            client.send(id.as_bytes()).unwrap();
            let mut answer = [0; 8];
            let length = client
                .recv(&mut answer)
                .unwrap_or_else(|e| panic!("pod {id}: {e}"));
            assert_eq!(&answer[..length], id.as_bytes());
            echo.join().unwrap();
            net.remove(id).await.unwrap();
        }
    });
}

#[test]
fn what_is_not_built_is_refused_and_teardown_leaves_nothing() {
    let dir = TempDir::new();
    on_host(|| async {
        let net = open(&dir);
        let v6 = port(Protocol::Tcp, 80, Some("2001:db8::1".parse().unwrap()));
        let error = add(&net, "a", &Pod::new(), &[v6]).await.unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "host port on 2001:db8::1 (IPv6) is not supported");
        let pod = Pod::new();
        add(&net, "b", &pod, &[tcp(8080), port(Protocol::Sctp, 8080, None)])
            .await
            .unwrap();
        drop(net);
        assert_eq!(teardown(&Config::new(&dir.0)).len(), 0);
        let tables = knode_nft::Socket::open()
            .unwrap()
            .tables(knode_nft::Family::Ip)
            .unwrap();
        assert_eq!(tables, []);
    });
}
