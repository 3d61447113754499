//! Host ports of SCTP with real packets. The kernel need not have SCTP itself: both ends are raw sockets that speak the
//! first two messages of RFC 9260. Needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use common::outside::{OUTER, neighbour};
use common::{Pod, TempDir, on_host, request};
use knode_netlink::Netns;
use knode_podnet::{AddRequest, PortMapping, Protocol};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, sockopt};

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;

/// What a received packet says.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    from: Ipv4Addr,
    ports: (u16, u16),
    chunk: u8,
}

/// CRC-32C, as SCTP's header has it.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// A packet with one chunk of twenty bytes: initiate tag 7, window, streams, sequence number.
fn packet((from, to): (u16, u16), verification: u32, chunk: u8) -> Vec<u8> {
    let mut packet = [from.to_be_bytes(), to.to_be_bytes()].concat();
    packet.extend(verification.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend([chunk, 0, 0, 20]);
    packet.extend([0, 0, 0, 7, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    let sum = crc32c(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

fn raw(netns: &Netns) -> OwnedFd {
    let open = || rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::SCTP)).unwrap();
    let socket = netns.run(open).unwrap();
    let timeout = Some(Duration::from_millis(200));
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, timeout).unwrap();
    socket
}

fn send(socket: &OwnedFd, to: Ipv4Addr, packet: &[u8]) {
    let to = SocketAddr::V4(SocketAddrV4::new(to, 0));
    rustix::net::sendto(socket, packet, SendFlags::empty(), &to).unwrap();
}

/// The next packet; sends again what may have come before the way was there.
fn hear(socket: &OwnedFd, what: &str, mut again: impl FnMut()) -> Heard {
    let end = Instant::now() + Duration::from_secs(10);
    let mut buffer = [0_u8; 2048];
    loop {
        again();
        match rustix::net::recv(socket, &mut buffer, RecvFlags::empty()) {
            Ok((_, length)) => return parse(&buffer[..length]),
            Err(rustix::io::Errno::AGAIN) => assert!(Instant::now() < end, "no {what}"),
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

fn parse(packet: &[u8]) -> Heard {
    let header = usize::from(packet[0] & 0xf) * 4;
    let sctp = &packet[header..];
    let mut zeroed = sctp.to_vec();
    zeroed[8..12].fill(0);
    assert_eq!(
        sctp[8..12],
        crc32c(&zeroed).to_le_bytes(),
        "the checksum is right"
    );
    let port = |at: usize| u16::from_be_bytes([sctp[at], sctp[at + 1]]);
    Heard {
        from: Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]),
        ports: (port(0), port(2)),
        chunk: sctp[12],
    }
}

#[test]
fn an_association_begins_through_the_hosts_port() {
    let dir = TempDir::new();
    on_host(|| async {
        let net = common::open(&dir, common::subnet(Some("172.30.65.0/24"), None, 1450));
        let (outside, pod) = (neighbour(), Pod::new());
        let mapping = PortMapping {
            protocol: Protocol::Sctp,
            host_port: 9999,
            container_port: 80,
            host_ip: None,
        };
        let wanted = AddRequest {
            port_mappings: vec![mapping],
            ..request("a", &pod)
        };
        net.add(wanted).await.unwrap();
        let (client, server) = (raw(&outside), raw(&pod.netns));
        let init = packet((5555, 9999), 0, INIT);
        let asked = hear(&server, "INIT in the pod", || send(&client, OUTER, &init));
        let wanted = Heard {
            from: Ipv4Addr::new(192, 0, 2, 2),
            ports: (5555, 80),
            chunk: INIT,
        };
        assert_eq!(asked, wanted);
        let ack = packet((80, 5555), 7, INIT_ACK);
        let answered = hear(&client, "INIT ACK outside", || send(&server, asked.from, &ack));
        let wanted = Heard {
            from: OUTER,
            ports: (9999, 5555),
            chunk: INIT_ACK,
        };
        assert_eq!(answered, wanted);
    });
}
