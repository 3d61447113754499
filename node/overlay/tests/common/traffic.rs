use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use knode_netlink::Netns;

const PATIENCE: Duration = Duration::from_secs(10);

/// Answers TCP connections with whom they seem to be from and how much they sent, until the listener's namespace ends
/// the last of `count`.
pub fn serve_tcp(netns: &Netns, port: u16, count: usize) -> std::thread::JoinHandle<()> {
    let listener = netns.run(|| TcpListener::bind(("::", port)).unwrap()).unwrap();
    std::thread::spawn(move || {
        for _ in 0..count {
            let (mut stream, peer) = listener.accept().unwrap();
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).unwrap();
            stream
                .write_all(format!("{} {}", peer.ip().to_canonical(), heard.len()).as_bytes())
                .unwrap();
        }
    })
}

/// Sends `bytes` over TCP and returns the answer.
pub fn ask(netns: &Netns, (ip, port): (impl Into<IpAddr>, u16), bytes: usize) -> String {
    let to = SocketAddr::new(ip.into(), port);
    netns.run(|| try_ask(to, bytes).unwrap()).unwrap()
}

fn try_ask(to: SocketAddr, bytes: usize) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&vec![7; bytes])?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Sends datagrams back, `count` of them.
pub fn serve_udp(netns: &Netns, port: u16, count: usize) -> std::thread::JoinHandle<()> {
    let socket = netns.run(|| UdpSocket::bind(("::", port)).unwrap()).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        for _ in 0..count {
            let (length, peer) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&buffer[..length], peer).unwrap();
        }
    })
}

/// Sends one datagram and returns how much came back, if anything in time.
pub fn datagram(
    netns: &Netns,
    (ip, port): (impl Into<IpAddr>, u16),
    bytes: usize,
    patience: Duration,
) -> Option<usize> {
    let to = SocketAddr::new(ip.into(), port);
    let exchange = || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(patience)).unwrap();
        socket.send_to(&vec![1; bytes], to).ok()?;
        socket.recv(&mut [0; 4096]).ok()
    };
    netns.run(exchange).unwrap()
}
