//! A small network of namespaces: a client outside, a node with the tables, two pods behind routed veths.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use knode_proxy::Applier;

use super::fixture::config;
use super::hosts::Host;

/// The node's address towards the client.
pub const NODE: &str = "192.0.2.1";
/// Its IPv6 address.
pub const NODE6: &str = "2001:db8::1";
const TIMEOUT: Duration = Duration::from_secs(5);

/// A client outside, a node, and two pods behind routed veths.
pub struct Net {
    pub client: Host,
    pub node: Host,
    pub pods: [Host; 2],
    /// Where the node's default route leads.
    world: Host,
    servers: Vec<(usize, Arc<AtomicBool>, SocketAddr)>,
}

/// The pods' addresses.
pub const PODS: [&str; 2] = ["10.244.0.2", "10.244.0.3"];
/// Their IPv6 addresses.
pub const PODS6: [&str; 2] = ["fd10:244::2", "fd10:244::3"];

impl Net {
    pub fn new() -> Self {
        let (client, node, world, pods) = (Host::new(), Host::new(), Host::new(), [Host::new(), Host::new()]);
        node.veth("out", "192.0.2.1/24", &client, "eth0", "192.0.2.7/24");
        client.ip("route add default via 192.0.2.1");
        // The node must have some route to the service network, and not back to the client: redirects would use up
        // the ICMP messages that it may send.
        node.veth("world", "198.18.0.1/30", &world, "eth0", "198.18.0.2/30");
        node.ip("route add default via 198.18.0.2");
        node.ip("addr add 2001:db8::1/64 dev out nodad");
        client.ip("addr add 2001:db8::7/64 dev eth0 nodad");
        client.ip("route add default via 2001:db8::1");
        node.ip("addr add 2001:db8:18::1/64 dev world nodad");
        node.ip("route add default via 2001:db8:18::2");
        for ((pod, address), six) in pods.iter().zip(PODS).zip(PODS6) {
            let link = format!("pod{}", &address[9..]);
            node.veth(&link, "10.244.0.1/32", pod, "eth0", &format!("{address}/32"));
            node.ip(&format!("route add {address} dev {link}"));
            pod.ip("route add 10.244.0.1 dev eth0");
            pod.ip("route add default via 10.244.0.1");
            node.ip(&format!("addr add fd10:244::1/128 dev {link} nodad"));
            node.ip(&format!("route add {six} dev {link}"));
            pod.ip(&format!("addr add {six}/128 dev eth0 nodad"));
            pod.ip("route add fd10:244::1 dev eth0");
            pod.ip("route add default via fd10:244::1");
        }
        for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            let path = format!("/proc/sys/net/{switch}");
            node.run(|| std::fs::write(path, "1").expect("forwarding"));
        }
        let mut net = Self {
            client,
            node,
            world,
            pods,
            servers: Vec::new(),
        };
        for addresses in [PODS, PODS6] {
            for (index, address) in addresses.into_iter().enumerate() {
                net.serve_tcp(index, address);
                net.serve_udp(index, address);
            }
        }
        net
    }

    /// Answers each connection with the pod's address and the client's as the pod sees it.
    fn serve_tcp(&mut self, index: usize, own: &'static str) {
        let listener = self.pods[index].run(|| TcpListener::bind((own, 8080)).expect("bind"));
        let stop = Arc::new(AtomicBool::new(false));
        self.servers
            .push((index, stop.clone(), listener.local_addr().expect("address")));
        self.pods[index].spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let peer = stream
                    .peer_addr()
                    .map(|peer| peer.ip().to_string())
                    .unwrap_or_default();
                // A client that has gone away is no failure of the server.
                let _ = stream.write_all(format!("{own} {peer}").as_bytes());
            }
        });
    }

    fn serve_udp(&self, index: usize, own: &'static str) {
        let socket = self.pods[index].run(|| UdpSocket::bind((own, 5353)).expect("bind"));
        self.pods[index].spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                if &buffer[..length] == b"stop" {
                    return;
                }
                // As above.
                let _ = socket.send_to(own.as_bytes(), peer);
            }
        });
    }

    pub fn applier(&self) -> Applier {
        self.node.run(|| Applier::open(config()).expect("open"))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for (pod, stop, address) in &self.servers {
            stop.store(true, Ordering::Relaxed);
            let address = *address;
            self.pods[*pod].run(|| {
                // Wakes the servers so that they end; one that has ended already is fine.
                let _ = TcpStream::connect_timeout(&address, TIMEOUT);
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                if let Ok(socket) = UdpSocket::bind(any) {
                    let _ = socket.send_to(b"stop", (address.ip(), 5353));
                }
            });
        }
    }
}

/// Connects and returns what the pod says: its address, and the client's as it sees it.
pub fn ask(address: &str, port: u16) -> std::io::Result<(String, String)> {
    ask_within(address, port, TIMEOUT)
}

/// The same where no answer is expected.
pub fn ask_briefly(address: &str, port: u16) -> std::io::Result<(String, String)> {
    ask_within(address, port, Duration::from_millis(300))
}

fn ask_within(address: &str, port: u16, time: Duration) -> std::io::Result<(String, String)> {
    let address = SocketAddr::new(address.parse().expect("address"), port);
    let mut stream = TcpStream::connect_timeout(&address, time)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (pod, peer) = text
        .split_once(' ')
        .ok_or_else(|| std::io::Error::other(format!("odd answer {text:?}")))?;
    Ok((pod.to_owned(), peer.to_owned()))
}

pub fn ask_udp(socket: &UdpSocket, address: &str, port: u16) -> Option<String> {
    socket
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("timeout");
    socket.send_to(b"hello", (address, port)).ok()?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).ok()?;
    String::from_utf8(buffer[..length].to_vec()).ok()
}
