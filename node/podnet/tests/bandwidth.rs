//! Limits of pods' bandwidth, by the traffic that gets through. Needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::{Pod, TempDir, link_names, on_host, request};
use knode_netlink::{Handle, Netns, delete_link};
use knode_podnet::{AddRequest, Bandwidth, Config, PodNet, RateLimit, teardown};

/// Enough that the burst at the beginning does not count.
const BYTES: usize = 2 << 20;
const SLOW: u64 = 16_000_000;
const FAST: u64 = 64_000_000;

fn open(dir: &TempDir) -> PodNet {
    let subnet = common::subnet(Some("172.30.65.0/24"), Some("fd00:0:0:65::/64"), 1450);
    common::open(dir, subnet)
}

fn limited(id: &str, pod: &Pod, ingress: Option<u64>, egress: Option<u64>) -> AddRequest {
    let bandwidth = Bandwidth {
        ingress: ingress.map(RateLimit::of),
        egress: egress.map(RateLimit::of),
    };
    AddRequest {
        bandwidth,
        ..request(id, pod)
    }
}

/// How long it takes until all has arrived.
fn transfer(from: &Netns, to: &Netns, ip: IpAddr) -> Duration {
    let listener = to.run(|| TcpListener::bind((ip, 80)).unwrap()).unwrap();
    let reader = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
        stream.write_all(b".").unwrap();
    });
    let started = Instant::now();
    let send = || {
        let at = SocketAddr::new(ip, 80);
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(&vec![7; BYTES]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.read_exact(&mut [0]).unwrap();
    };
    from.run(send).unwrap();
    reader.join().unwrap();
    started.elapsed()
}

/// The limits are a factor of four apart, and so must be the times, with room for what else the machine does.
fn four_times(slow: Duration, fast: Duration, what: &str) {
    let ratio = slow.as_secs_f64() / fast.as_secs_f64();
    assert!(
        (2.5..6.0).contains(&ratio),
        "{what}: {slow:?} and {fast:?}, ratio {ratio:.1}"
    );
}

#[test]
fn what_a_pod_receives_is_limited() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, slow, fast) = (open(&dir), Pod::new(), Pod::new());
        net.add(limited("slow", &slow, Some(SLOW), None)).await.unwrap();
        net.add(limited("fast", &fast, Some(FAST), None)).await.unwrap();
        let host = Netns::current().unwrap();
        let ip = |last| Ipv4Addr::new(172, 30, 65, last).into();
        let (slowly, faster) = (
            transfer(&host, &slow.netns, ip(2)),
            transfer(&host, &fast.netns, ip(3)),
        );
        four_times(slowly, faster, "from the host");
        let sending = transfer(&slow.netns, &host, ip(1));
        assert!(
            sending * 4 < slowly,
            "sending is free: {sending:?} and {slowly:?}"
        );
    });
}

#[test]
fn what_a_pod_sends_is_limited_in_both_families() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, slow, fast, other) = (open(&dir), Pod::new(), Pod::new(), Pod::new());
        net.add(limited("slow", &slow, None, Some(SLOW))).await.unwrap();
        net.add(limited("fast", &fast, None, Some(FAST))).await.unwrap();
        net.add(request("other", &other)).await.unwrap();
        for ip in ["172.30.65.4", "fd00:0:0:65::4"] {
            let ip: IpAddr = ip.parse().unwrap();
            let slowly = transfer(&slow.netns, &other.netns, ip);
            four_times(slowly, transfer(&fast.netns, &other.netns, ip), "to another pod");
        }
        let slowly = transfer(&slow.netns, &other.netns, "172.30.65.4".parse().unwrap());
        let receiving = transfer(&other.netns, &slow.netns, "172.30.65.2".parse().unwrap());
        assert!(
            receiving * 4 < slowly,
            "receiving is free: {receiving:?} and {slowly:?}"
        );
    });
}

#[test]
fn limits_go_with_their_pod() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, host) = (open(&dir), Handle::open().unwrap());
        let both = |id: &str, pod: &Pod| limited(id, pod, Some(SLOW), Some(SLOW));
        let pods = [Pod::new(), Pod::new(), Pod::new()];
        for (id, pod) in ["a", "b", "c"].iter().zip(&pods) {
            net.add(both(id, pod)).await.unwrap();
        }
        let waiting = |n: &String| n.starts_with("kifb");
        assert_eq!(link_names(&host).iter().filter(|n| waiting(n)).count(), 3);
        net.add(both("a", &pods[0])).await.unwrap();
        assert_eq!(link_names(&host).len(), 7, "added again: no more than before");
        drop(net);
        let net = open(&dir);
        net.remove("a").await.unwrap();
        assert_eq!(link_names(&host).len(), 5, "also after a restart");

        // The namespace goes and takes the cable along; what held its traffic back stays.
        let cables = link_names(&host);
        let cable = cables.iter().find(|n| n.starts_with("veth")).unwrap();
        host.execute(delete_link(cable.as_str())).unwrap();
        assert_eq!(link_names(&host).len(), 4);
        net.gc(HashSet::new()).await.unwrap();
        assert_eq!(link_names(&host), ["cni0"]);

        net.add(both("d", &pods[0])).await.unwrap();
        drop(net);
        assert_eq!(teardown(&Config::new(&dir.0)).len(), 0);
        assert_eq!(link_names(&host), [""; 0]);
    });
}

#[test]
fn a_limit_that_makes_no_sense_leaves_nothing() {
    let dir = TempDir::new();
    on_host(|| async {
        let (net, pod) = (open(&dir), Pod::new());
        let error = net.add(limited("a", &pod, Some(7), None)).await.unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "a bandwidth of 7 bit/s is not supported");
        assert_eq!(net.leases(), []);
        assert_eq!(link_names(&Handle::open().unwrap()), ["cni0"]);
    });
}
