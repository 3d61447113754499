//! A pod as a network namespace behind the node, with small servers in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use knode_testkit::Host;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

/// Answers each request with the pod's name and the client's address as the pod sees it.
pub const HTTP_PORT: u16 = 8080;
/// Says back what it is told.
pub const ECHO_PORT: u16 = 7;
/// Answers each datagram as [`HTTP_PORT`] does.
pub const UDP_PORT: u16 = 5353;
/// The server closes a connection after so many requests, so that clients connect anew.
const REQUESTS: usize = 20;

/// A pod with its servers; they end when it is dropped.
pub struct Pod {
    /// Its network namespace.
    pub host: Arc<Host>,
    /// Its name.
    pub name: String,
    /// Its IPv4 address.
    pub ip: Ipv4Addr,
    /// Its IPv6 address.
    pub six: Ipv6Addr,
    stop: watch::Sender<bool>,
    servers: Option<JoinHandle<()>>,
}

impl Pod {
    /// The node's address on every pod's link.
    pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 30, 1, 1);
    /// The node's IPv6 address on every pod's link.
    pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd30, 0, 0, 1, 0, 0, 0, 1);

    /// Makes the pod with this last number of its addresses.
    ///
    /// # Panics
    /// When that doesn't work.
    #[track_caller]
    pub fn new(node: &Host, number: u8) -> Self {
        let name = format!("pod{number}");
        let host = Arc::new(Host::new(&name));
        let ip = Ipv4Addr::new(172, 30, 1, number);
        let six = Ipv6Addr::new(0xfd30, 0, 0, 1, 0, 0, 0, number.into());
        connect(node, &host, &name, ip, six);
        let (stop, stopped) = watch::channel(false);
        let (ready, is_ready) = channel();
        let inside = host.clone();
        let own = name.clone();
        let servers =
            std::thread::spawn(move || inside.block_on(async move || serve(own, ready, stopped).await));
        is_ready
            .recv()
            .unwrap_or_else(|e| panic!("the servers of {name}: {e}"));
        Self {
            host,
            name,
            ip,
            six,
            stop,
            servers: Some(servers),
        }
    }

    /// Its address of the other's family.
    pub fn ip_like(&self, other: IpAddr) -> IpAddr {
        if other.is_ipv4() {
            self.ip.into()
        } else {
            self.six.into()
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let ended = self.servers.take().map(JoinHandle::join);
        if matches!(ended, Some(Err(_))) {
            eprintln!("the servers of {} have panicked", self.name);
        }
    }
}

#[track_caller]
fn connect(node: &Host, pod: &Host, link: &str, ip: Ipv4Addr, six: Ipv6Addr) {
    let peer = pod.path();
    node.ip(&format!(
        "link add {link} type veth peer name eth0 netns {}",
        peer.display()
    ));
    let (gateway, gateway6) = (Pod::GATEWAY, Pod::GATEWAY6);
    for command in [
        format!("address add {gateway}/32 dev {link}"),
        format!("address add {gateway6}/128 dev {link} nodad"),
        format!("link set {link} up"),
        format!("route add {ip} dev {link}"),
        format!("route add {six} dev {link}"),
    ] {
        node.ip(&command);
    }
    for command in [
        format!("address add {ip}/32 dev eth0"),
        format!("address add {six}/128 dev eth0 nodad"),
        "link set eth0 up".to_owned(),
        format!("route add {gateway} dev eth0"),
        format!("route add default via {gateway}"),
        format!("route add {gateway6} dev eth0"),
        format!("route add default via {gateway6}"),
    ] {
        pod.ip(&command);
    }
}

async fn serve(name: String, ready: Sender<()>, mut stopped: watch::Receiver<bool>) {
    let listen = async |port: u16| {
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
            .await
            .expect("listen")
    };
    let (http, echo) = (listen(HTTP_PORT).await, listen(ECHO_PORT).await);
    let udp = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, UDP_PORT))
        .await
        .expect("bind");
    ready.send(()).expect("somebody waits for the servers");
    let name: Arc<str> = name.into();
    // What clients break is no failure of the servers.
    tokio::select! {
        () = accept(http, |stream| answer(stream, name.clone())) => {}
        () = accept(echo, say_back) => {}
        () = datagrams(udp, name.clone()) => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}

async fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await.expect("accept");
        tokio::spawn(serve(stream));
    }
}

/// HTTP/1.1 without bodies of requests.
async fn answer(mut stream: TcpStream, name: Arc<str>) {
    let Ok(peer) = stream.peer_addr() else { return };
    let body = format!("{name} {}\n", peer.ip().to_canonical());
    let mut buffer = Vec::new();
    for request in 1..=REQUESTS {
        let Some(length) = head(&mut stream, &mut buffer).await else {
            return;
        };
        buffer.drain(..length);
        let last = if request == REQUESTS {
            "Connection: close\r\n"
        } else {
            ""
        };
        let text = format!(
            "HTTP/1.1 200 OK\r\n{last}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads until the head of a request is there; its length.
async fn head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<usize> {
    const END: &[u8] = b"\r\n\r\n";
    loop {
        if let Some(at) = buffer.windows(END.len()).position(|part| part == END) {
            return Some(at + END.len());
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

async fn say_back(mut stream: TcpStream) {
    let (mut from, mut to) = stream.split();
    // The client has gone away.
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

async fn datagrams(socket: UdpSocket, name: Arc<str>) {
    let mut buffer = [0; 64];
    loop {
        // An answer that nobody took comes back as an error.
        let Ok((_, peer)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let text = format!("{name} {}\n", peer.ip().to_canonical());
        let _ = socket.send_to(text.as_bytes(), peer).await;
    }
}
