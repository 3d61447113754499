//! Two hosts with a pod each, and connections between the pods.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "test code; no file of tests uses all of it"
)]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use knode_fastpath::FastPath;
use knode_testkit::{Host, Lan, wait_until};

pub const BOUND: Duration = Duration::from_secs(20);
pub const PORT: u16 = 7000;
/// Enough for many packets of any size.
pub const MUCH: usize = 4 << 20;

/// Connection tracking is on, as wherever knode's tables are.
const TRACKING: &str = "table inet t {
 chain f { type filter hook forward priority 0; ct state invalid drop; ct state established,related accept; }
 chain p { type nat hook postrouting priority 100; oifname \"none\" masquerade; }
}";

/// A host with a bridge and one pod; its number is in all its addresses.
pub struct Node {
    pub host: Host,
    pub pod: Host,
    number: u8,
}

impl Node {
    fn new(lan: &Lan, number: u8) -> Self {
        let host = lan.host("host", Ipv4Addr::new(10, 99, 0, number), 24);
        for setting in ["ipv4.ip_forward=1", "ipv6.conf.all.forwarding=1"] {
            host.run("sysctl", &["-qw", &format!("net.{setting}")]);
        }
        host.run("nft", &[TRACKING]);
        for prefix in ["fd99", "fe80"] {
            host.ip(&format!("-6 address add {prefix}::{number}/64 dev eth0 nodad"));
        }
        host.ip("link add cni0 type bridge");
        host.ip("link set cni0 up");
        host.ip(&format!("address add 10.244.{number}.1/24 dev cni0"));
        host.ip(&format!("-6 address add fd00:{number}::1/64 dev cni0 nodad"));
        let node = Self {
            pod: Host::new("pod"),
            host,
            number,
        };
        node.plug(&node.pod, "veth0");
        node
    }

    /// Gives a pod the node's one pod address.
    pub fn plug(&self, pod: &Host, link: &str) {
        let (host, number) = (&self.host, self.number);
        let namespace = pod.path();
        let namespace = namespace.display();
        host.ip(&format!(
            "link add {link} master cni0 type veth peer name eth0 netns {namespace}"
        ));
        host.ip(&format!("link set {link} up"));
        pod.ip("link set eth0 up");
        pod.ip(&format!("address add 10.244.{number}.2/24 dev eth0"));
        pod.ip(&format!("-6 address add fd00:{number}::2/64 dev eth0 nodad"));
        pod.ip(&format!("route add default via 10.244.{number}.1"));
        pod.ip(&format!("-6 route add default via fd00:{number}::1"));
    }

    /// Routes to the other node's pods through a tunnel in IPv4, and directly in IPv6.
    fn reach(&self, other: &Self) {
        let (own, peer) = (self.number, other.number);
        self.tunnel(other, &format!("10.99.0.{own}"), &format!("10.99.0.{peer}"));
        self.host
            .ip(&format!("-6 route add fd00:{peer}::/64 via fd99::{peer}"));
    }

    /// A tunnel as flannel's to the other node, between these addresses.
    pub fn tunnel(&self, other: &Self, local: &str, remote: &str) {
        let (host, own, peer) = (&self.host, self.number, other.number);
        host.ip(&format!(
            "link add flannel.1 address 02:00:00:00:00:0{own} mtu 1450 type vxlan id 1 local {local} dev eth0 nolearning dstport 8472"
        ));
        host.ip("link set flannel.1 up");
        host.ip(&format!(
            "neigh add 10.244.{peer}.0 lladdr 02:00:00:00:00:0{peer} dev flannel.1 nud permanent"
        ));
        let fdb = format!("fdb add 02:00:00:00:00:0{peer} dev flannel.1 dst {remote} self permanent");
        host.run("bridge", &fdb.split(' ').collect::<Vec<_>>());
        host.ip(&format!(
            "route add 10.244.{peer}.0/24 via 10.244.{peer}.0 dev flannel.1 onlink"
        ));
    }

    pub fn address(&self, ipv6: bool) -> IpAddr {
        let text = match ipv6 {
            true => format!("fd00:{}::2", self.number),
            false => format!("10.244.{}.2", self.number),
        };
        text.parse().unwrap()
    }

    /// Waits until a pod reaches an address.
    pub fn pings(pod: &Host, address: IpAddr) {
        pod.run("ping", &["-q", "-c", "1", "-w", "10", &address.to_string()]);
    }

    /// Packets that the bridge has handed to the host's stack or got from it.
    pub fn bridged(&self) -> u64 {
        self.packets("cni0")
    }

    /// Packets through the tunnel's device.
    pub fn tunnelled(&self) -> u64 {
        self.packets("flannel.1")
    }

    fn packets(&self, link: &str) -> u64 {
        let told = self.host.ip(&format!("-j -s link show {link}"));
        let numbers = ["rx", "tx"].map(|direction| {
            let section = told.split(&format!("\"{direction}\":")).nth(1).unwrap();
            let number = section.split("\"packets\":").nth(1).unwrap();
            number.split(',').next().unwrap().parse::<u64>().unwrap()
        });
        numbers.iter().sum()
    }

    /// Runs the short cut until the answer is dropped.
    pub fn short_cut(&self) -> Running {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (ready, opened) = mpsc::channel();
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let path = FastPath::open("cni0").unwrap();
                ready.send(()).unwrap();
                tokio::select! {
                    ended = path.run() => panic!("{ended:?}"),
                    // Stopped, or the test is over.
                    _ = stopped => {}
                }
            });
        };
        let thread = self.host.enter(|| std::thread::spawn(body));
        opened.recv_timeout(BOUND).unwrap();
        Running {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

pub struct Running {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

pub struct Site {
    pub nodes: [Node; 2],
    _lan: Lan,
}

pub fn site() -> Site {
    let lan = Lan::new();
    let nodes = [Node::new(&lan, 1), Node::new(&lan, 2)];
    nodes[0].reach(&nodes[1]);
    nodes[1].reach(&nodes[0]);
    for ipv6 in [false, true] {
        Node::pings(&nodes[0].pod, nodes[1].address(ipv6));
    }
    Site { nodes, _lan: lan }
}

/// Two ends of a connection.
pub struct Connection(pub TcpStream, pub TcpStream);

impl Connection {
    pub fn open(from: &Host, to: &Host, listen: IpAddr, dial: SocketAddr) -> Self {
        let listener = to.enter(|| TcpListener::bind((listen, PORT)).unwrap());
        let client = from.enter(|| TcpStream::connect_timeout(&dial, BOUND).unwrap());
        let (server, _) = listener.accept().unwrap();
        for end in [&client, &server] {
            end.set_read_timeout(Some(BOUND)).unwrap();
            end.set_write_timeout(Some(BOUND)).unwrap();
        }
        Self(client, server)
    }

    /// Sends much one way and a byte back.
    pub fn transfer(&mut self) {
        let Self(client, server) = self;
        std::thread::scope(|scope| {
            scope.spawn(|| client.write_all(&vec![7; MUCH]).unwrap());
            let mut received = vec![0; MUCH];
            server.read_exact(&mut received).unwrap();
            assert!(
                received.iter().all(|byte| *byte == 7),
                "bytes arrive as they were sent"
            );
        });
        server.write_all(b".").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
}

/// Packets over both bridges while much is sent.
pub fn bridged_by(site: &Site, connection: &mut Connection) -> u64 {
    let count = || site.nodes.iter().map(Node::bridged).sum::<u64>();
    let before = count();
    connection.transfer();
    count() - before
}

/// At most so many packets of a transfer may pass the bridges: the first, the last, and what renews an entry.
pub const FEW: u64 = 30;
/// A transfer is many packets: at most 64 KiB each, on two bridges.
pub const MANY: u64 = 2 * MUCH as u64 / 65_536;

pub fn wait_for_short_cut(site: &Site, connection: &mut Connection) {
    wait_until("packets to pass beside the bridges", BOUND, || {
        let bridged = bridged_by(site, connection);
        (bridged < FEW)
            .then_some(())
            .ok_or(format!("{bridged} packets over the bridges"))
    });
}

pub fn direct(site: &Site, ipv6: bool) -> Connection {
    let [from, to] = &site.nodes;
    let address = to.address(ipv6);
    Connection::open(&from.pod, &to.pod, address, SocketAddr::new(address, PORT))
}
