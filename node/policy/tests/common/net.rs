//! A network of namespaces: a node whose pods are on a bridge, and a host outside that another node's pod is on too.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use knode_policy::model::Protocol;
use knode_testkit::{Host, wait_until};

use super::cases::{Probe, addresses};
use super::sctp::Raw;

/// What answers in time when it is let.
const PATIENCE: Duration = Duration::from_secs(5);
/// What does not answer by then does not.
const SILENCE: Duration = Duration::from_millis(250);
/// Ports on which everyone answers TCP.
pub const TCP_PORTS: [u16; 3] = [8080, 8081, 9000];
/// Ports on which everyone answers UDP.
pub const UDP_PORTS: [u16; 2] = [5353, 8080];

/// The network, with servers on everyone.
pub struct Net {
    pub node: Host,
    pub web: Host,
    pub client: Host,
    pub other: Host,
    pub outside: Host,
    stop: Arc<AtomicBool>,
    servers: Vec<JoinHandle<()>>,
}

impl Net {
    pub fn new() -> Self {
        let [node, web, client, other, outside] =
            ["node", "web", "client", "other", "outside"].map(Host::new);
        node.ip("link add cni0 type bridge");
        node.ip("link set cni0 addrgenmode none up");
        node.ip("addr add 10.244.0.1/24 dev cni0");
        node.ip("addr add fd10:244::1/64 dev cni0 nodad");
        // Without an address of the link's own a router asks for nobody whom forwarded packets are for.
        node.ip("addr add fe80::1/64 dev cni0 nodad");
        for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            let path = format!("/proc/sys/net/{switch}");
            node.enter(|| std::fs::write(path, "1").expect("forwarding"));
        }
        for (pod, who) in [(&web, "a/web"), (&client, "a/client"), (&other, "b/client")] {
            let [four, six] = addresses(who);
            cable(&node, &format!("veth{}", &four[9..]), pod);
            node.ip(&format!("link set veth{} master cni0", &four[9..]));
            node.ip(&format!(
                "link set veth{} type bridge_slave hairpin on",
                &four[9..]
            ));
            pod.ip(&format!("addr add {four}/24 dev eth0"));
            pod.ip(&format!("addr add {six}/64 dev eth0 nodad"));
            pod.ip("route add default via 10.244.0.1");
            pod.ip("route add default via fd10:244::1");
        }
        cable(&node, "out", &outside);
        node.ip("addr add 192.0.2.1/24 dev out");
        node.ip("addr add 2001:db8::1/64 dev out nodad");
        node.ip("addr add fe80::1/64 dev out nodad");
        node.ip("route add 10.244.1.0/24 via 192.0.2.7");
        node.ip("route add fd10:244:1::/48 via 2001:db8::7");
        for (address, nodad) in [
            ("192.0.2.7/24", ""),
            ("10.244.1.2/32", ""),
            ("2001:db8::7/64", "nodad"),
            ("fd10:244:1::2/128", "nodad"),
        ] {
            outside.ip(&format!("addr add {address} dev eth0 {nodad}"));
        }
        outside.ip("route add default via 192.0.2.1");
        outside.ip("route add default via 2001:db8::1");
        let mut net = Self {
            node,
            web,
            client,
            other,
            outside,
            stop: Arc::new(AtomicBool::new(false)),
            servers: Vec::new(),
        };
        net.start_servers();
        net.settle();
        net
    }

    /// Until everyone reaches each other while nothing is forbidden: links come up and neighbours are found in their
    /// own time.
    fn settle(&self) {
        let pairs = [("outside", "a/web"), ("a/web", "outside"), ("a/remote", "a/web")];
        for (from, to) in [pairs.as_slice(), &[("a/client", "a/web"), ("b/client", "a/web")]].concat() {
            for family in [0, 1] {
                let probe = Probe {
                    from,
                    to,
                    protocol: Protocol::Tcp,
                    port: TCP_PORTS[0],
                    passes: false,
                };
                wait_until(&format!("{from} to reach {to}"), 4 * PATIENCE, || {
                    let seen = || [&self.node, self.host(from)].map(|host| host.ip("neigh"));
                    self.answers(&probe, family)
                        .then_some(())
                        .ok_or_else(|| format!("{:?}", seen()))
                });
            }
        }
    }

    /// Who is called so.
    pub fn host(&self, who: &str) -> &Host {
        match who {
            "a/web" => &self.web,
            "a/client" => &self.client,
            "b/client" => &self.other,
            _ => &self.outside,
        }
    }

    fn start_servers(&mut self) {
        for who in ["a/web", "a/client", "b/client", "a/remote", "outside"] {
            for address in addresses(who) {
                let ip: IpAddr = address.parse().expect("address");
                let host = self.host(who);
                let mut servers = Vec::new();
                for port in TCP_PORTS {
                    let listener = host.enter(|| TcpListener::bind((ip, port)).expect("bind"));
                    servers.push(serve_tcp(listener, self.stop.clone()));
                }
                for port in UDP_PORTS {
                    let socket = host.enter(|| UdpSocket::bind((ip, port)).expect("bind"));
                    servers.push(serve_udp(socket, self.stop.clone()));
                }
                let raw = host.enter(|| Raw::bind(ip).expect("raw socket"));
                let stop = self.stop.clone();
                servers.push(std::thread::spawn(move || raw.serve(&stop)));
                self.servers.extend(servers);
            }
        }
    }

    /// Whether there is an answer, in one family.
    pub fn answers(&self, probe: &Probe, family: usize) -> bool {
        let [from, to]: [IpAddr; 2] =
            [probe.from, probe.to].map(|who| addresses(who)[family].parse().expect("address"));
        let patience = if probe.passes { PATIENCE } else { SILENCE };
        self.host(probe.from).enter(|| match probe.protocol {
            Protocol::Tcp => connect(from, SocketAddr::new(to, probe.port), patience).is_some(),
            Protocol::Udp => {
                let socket = UdpSocket::bind((from, fresh_port())).expect("bind");
                ask_udp(&socket, SocketAddr::new(to, probe.port), patience)
            }
            Protocol::Sctp => Raw::bind(from).expect("raw socket").ask(to, probe.port, patience),
        })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for server in self.servers.drain(..) {
            // A server that failed has failed its test already.
            let _ = server.join();
        }
    }
}

fn cable(node: &Host, link: &str, host: &Host) {
    let peer = host.path();
    node.ip(&format!(
        "link add {link} type veth peer name eth0 netns {}",
        peer.display()
    ));
    for (side, name) in [(node, link), (host, "eth0")] {
        side.ip(&format!("link set {name} addrgenmode none"));
        side.ip(&format!("link set {name} up"));
    }
}

/// A port that nobody has used before: what was allowed once would go on.
pub fn fresh_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(10_240);
    let port = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(port < 32_768, "from there on ports are the kernel's to give");
    port
}

/// How long a server sleeps before it looks whether it is to end.
const NAP: Duration = Duration::from_millis(50);

/// Echoes what it is sent, of several connections at once.
fn serve_tcp(listener: TcpListener, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    listener.set_nonblocking(true).expect("non-blocking");
    std::thread::spawn(move || {
        let mut open: Vec<TcpStream> = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true).expect("non-blocking");
                open.push(stream);
            }
            open.retain_mut(echo);
            wait(&listener, &open);
        }
    })
}

/// Until something can be read, or a nap has passed.
fn wait(listener: &TcpListener, open: &[TcpStream]) {
    use std::os::fd::AsFd;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut all = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    all.extend(
        open.iter()
            .map(|stream| PollFd::new(stream.as_fd(), PollFlags::POLLIN)),
    );
    let nap = PollTimeout::try_from(NAP).expect("a time");
    poll(&mut all, nap).expect("poll");
}

fn echo(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 64];
    match stream.read(&mut buffer) {
        Ok(0) => false,
        Ok(length) => stream.write_all(&buffer[..length]).is_ok(),
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

fn serve_udp(socket: UdpSocket, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    socket.set_read_timeout(Some(NAP)).expect("timeout");
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while !stop.load(Ordering::Relaxed) {
            if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                // A client that has gone away is no failure of the server.
                let _ = socket.send_to(&buffer[..length], peer);
            }
        }
    })
}

/// A connection from an address, over which an echo came; none if there is no answer in time.
pub fn connect(from: IpAddr, to: SocketAddr, patience: Duration) -> Option<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
    let family = if from.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let fd = socket(family, SocketType::STREAM, None).expect("socket");
    bind(&fd, &SocketAddr::new(from, fresh_port())).expect("bind");
    // A blocking connect gives up when the time for sending has passed.
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(patience)).expect("timeout");
    connect(&fd, &to).ok()?;
    let mut stream = TcpStream::from(fd);
    is_alive(&mut stream).then_some(stream)
}

/// Whether an echo comes over a connection.
pub fn is_alive(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut buffer = [0; 5];
    stream.write_all(b"hello").is_ok() && stream.read_exact(&mut buffer).is_ok() && buffer == *b"hello"
}

/// Whether a datagram is echoed.
pub fn ask_udp(socket: &UdpSocket, to: SocketAddr, patience: Duration) -> bool {
    socket.set_read_timeout(Some(patience)).expect("timeout");
    socket.send_to(b"hello", to).expect("send");
    let mut buffer = [0; 64];
    matches!(socket.recv_from(&mut buffer), Ok((5, from)) if from == to)
}
