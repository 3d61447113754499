use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use knode_netlink::Netns;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, recv, sendto,
    setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

const ECHO_V4: (u8, u8) = (8, 0);
const ECHO_V6: (u8, u8) = (128, 129);
const HEADER: usize = 8;

/// Sends an ICMP echo request whose IP packet has `size` bytes, and waits for its answer.
pub fn ping(netns: &Netns, to: IpAddr, size: usize, patience: Duration) -> Option<()> {
    netns.run(|| exchange(to, size, patience)).unwrap()
}

fn exchange(to: IpAddr, size: usize, patience: Duration) -> Option<()> {
    let (family, protocol, ip_header) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 20),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 40),
    };
    let raw = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
    let wait = TimeVal::milliseconds(i64::try_from(patience.as_millis()).unwrap());
    setsockopt(&raw, ReceiveTimeout, &wait).unwrap();
    let request = request(to, size - ip_header);
    send(&raw, to, &request).ok()?;
    let end = Instant::now() + patience;
    let mut buffer = vec![0; 2048];
    while Instant::now() < end {
        let length = recv(raw.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok()?;
        // Raw sockets of IPv4 give the packet with its header.
        let from = if to.is_ipv4() { 20 } else { 0 };
        let answer = buffer.get(from..length)?;
        let reply = if to.is_ipv4() { ECHO_V4.1 } else { ECHO_V6.1 };
        if answer[0] == reply && answer[HEADER..] == request[HEADER..] {
            return Some(());
        }
    }
    None
}

/// The kernel fills in the checksum for IPv6 alone.
fn request(to: IpAddr, length: usize) -> Vec<u8> {
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(1);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let kind = if to.is_ipv4() { ECHO_V4.0 } else { ECHO_V6.0 };
    let mut request = vec![kind, 0, 0, 0, 0x6b, 0x6e];
    request.extend(number.to_be_bytes());
    request.extend((HEADER..length).map(|at| (at as u16 ^ number) as u8));
    if to.is_ipv4() {
        let sum = checksum(&request);
        request[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    request
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or_default();
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn send(raw: &OwnedFd, to: IpAddr, request: &[u8]) -> nix::Result<usize> {
    match SocketAddr::new(to, 0) {
        SocketAddr::V4(v4) => {
            let to = SockaddrIn::from(SocketAddrV4::new(*v4.ip(), 0));
            sendto(raw.as_raw_fd(), request, &to, MsgFlags::empty())
        }
        SocketAddr::V6(v6) => {
            let to = SockaddrIn6::from(SocketAddrV6::new(*v6.ip(), 0, 0, 0));
            sendto(raw.as_raw_fd(), request, &to, MsgFlags::empty())
        }
    }
}
