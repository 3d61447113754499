//! A host in a network namespace of its own, with a runtime whose every thread is in there.

#![allow(dead_code)]

pub mod outside;

use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use knode_netlink::{Handle, LinkChange, Netns, change_link};
use knode_podnet::{AddRequest, Config, PodNet, Subnet};
use tokio::sync::watch;

/// A directory that is removed with its value.
pub struct TempDir(pub PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "knode-podnet-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // Nothing to remove where the test never got that far.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs `test` in a fresh namespace.
pub fn on_host<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    let netns = Netns::anonymous().expect("these tests need root (CAP_SYS_ADMIN)");
    let run = || {
        let handle = Handle::open().unwrap();
        handle
            .execute(change_link(
                "lo",
                &LinkChange {
                    up: Some(true),
                    ..Default::default()
                },
            ))
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
    };
    netns.run(run).unwrap();
}

/// A pod's namespace, and where it can be opened.
pub struct Pod {
    pub netns: Netns,
    pub path: PathBuf,
}

impl Pod {
    pub fn new() -> Self {
        use std::os::fd::AsRawFd;
        let netns = Netns::anonymous().unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", netns.as_raw_fd()));
        Self { netns, path }
    }

    pub fn handle(&self) -> Handle {
        Handle::open_in(&self.netns).unwrap()
    }

    /// Answers one TCP connection over IPv4 with who it is seen as and how much it says.
    pub fn serve_tcp(&self, port: u16) -> std::thread::JoinHandle<()> {
        self.serve(SocketAddr::from(([0; 4], port)))
    }

    /// The same over IPv6.
    pub fn serve_tcp6(&self, port: u16) -> std::thread::JoinHandle<()> {
        self.serve(SocketAddr::from(([0; 16], port)))
    }

    fn serve(&self, at: SocketAddr) -> std::thread::JoinHandle<()> {
        let listener = self.netns.run(|| TcpListener::bind(at).unwrap()).unwrap();
        std::thread::spawn(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).unwrap();
            stream
                .write_all(format!("{} {}", peer.ip(), heard.len()).as_bytes())
                .unwrap();
        })
    }

    /// Sends `bytes` over TCP and returns the answer.
    pub fn ask(&self, to: (IpAddr, u16), bytes: usize) -> String {
        self.netns.run(|| ask(to, bytes)).unwrap()
    }
}

/// Sends `bytes` over TCP from the calling thread's namespace and returns the answer.
pub fn ask((ip, port): (IpAddr, u16), bytes: usize) -> String {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(ip, port), Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(&vec![7; bytes]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Answers one datagram, of either family.
pub fn echo_udp(pod: &Pod, port: u16) -> std::thread::JoinHandle<()> {
    let socket = pod.netns.run(|| UdpSocket::bind(("::", port)).unwrap()).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        let (length, peer) = socket.recv_from(&mut buffer).unwrap();
        socket.send_to(&buffer[..length], peer).unwrap();
    })
}

/// Sends a datagram of so many bytes and returns how many came back.
pub fn echo(to: (IpAddr, u16), bytes: usize) -> usize {
    let from: IpAddr = if to.0.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((from, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(&vec![1; bytes], to).unwrap();
    socket.recv(&mut [0; 65_536]).unwrap()
}

/// The node's subnet, of the families given.
pub fn subnet(ipv4: Option<&str>, ipv6: Option<&str>, mtu: u32) -> Subnet {
    Subnet {
        ipv4: ipv4.map(|net| net.parse().unwrap()),
        ipv6: ipv6.map(|net| net.parse().unwrap()),
        mtu,
    }
}

/// A pod network whose subnet stays as it is.
pub fn open(dir: &TempDir, subnet: Subnet) -> PodNet {
    // The receiver keeps the last value when the sender is gone.
    let (_, receiver) = watch::channel(Some(subnet));
    PodNet::open(Config::new(&dir.0), receiver).unwrap()
}

/// A sandbox without any wishes.
pub fn request(id: &str, pod: &Pod) -> AddRequest {
    AddRequest::new(id, &pod.path)
}

/// Names of all links but the loopback.
pub fn link_names(handle: &Handle) -> Vec<String> {
    let links = handle.links().unwrap().into_iter().map(|l| l.name);
    let mut names: Vec<_> = links.filter(|n| n != "lo").collect();
    names.sort();
    names
}

/// A setting below `/proc/sys/net` of a namespace.
pub fn sysctl(netns: &Netns, key: &str) -> String {
    let path = format!("/proc/sys/net/{key}");
    let read = || std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    netns.run(read).unwrap().trim().to_owned()
}

/// Waits until `probe` gives a value; fails with what `seen` shows.
pub async fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>, seen: impl Fn() -> String) -> T {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < end, "{what} did not come; seen: {}", seen());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
