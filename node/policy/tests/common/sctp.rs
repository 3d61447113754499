//! SCTP's first two packets by raw sockets: kernels without SCTP sockets still judge its packets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, bind, ipproto, recvfrom, sendto, socket};

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const CHUNK: u16 = 20;
const CLIENT_TAG: u32 = 0x1234;
const SERVER_TAG: u32 = 0x5678;

/// A raw socket on an address.
pub struct Raw {
    fd: OwnedFd,
    is_v4: bool,
}

/// A packet that came.
struct Received {
    from: IpAddr,
    source: u16,
    destination: u16,
    kind: u8,
    tag: u32,
}

impl Raw {
    pub fn bind(address: IpAddr) -> io::Result<Self> {
        let is_v4 = address.is_ipv4();
        let family = if is_v4 {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let fd = socket(family, SocketType::RAW, Some(ipproto::SCTP))?;
        bind(&fd, &SocketAddr::new(address, 0))?;
        Ok(Self { fd, is_v4 })
    }

    fn send(
        &self,
        to: IpAddr,
        source: u16,
        destination: u16,
        kind: u8,
        verification: u32,
        tag: u32,
    ) -> io::Result<()> {
        let mut packet = Vec::new();
        packet.extend(source.to_be_bytes());
        packet.extend(destination.to_be_bytes());
        packet.extend(verification.to_be_bytes());
        packet.extend([0; 4]);
        packet.extend([kind, 0]);
        packet.extend(CHUNK.to_be_bytes());
        packet.extend(tag.to_be_bytes());
        packet.extend(65536u32.to_be_bytes());
        packet.extend([0, 1, 0, 1]);
        packet.extend(1u32.to_be_bytes());
        let sum = crc32c(&packet);
        packet[8..12].copy_from_slice(&sum.to_le_bytes());
        sendto(&self.fd, &packet, SendFlags::empty(), &SocketAddr::new(to, 0))?;
        Ok(())
    }

    fn receive(&self, patience: Duration) -> io::Result<Received> {
        set_socket_timeout(&self.fd, Timeout::Recv, Some(patience))?;
        let mut buffer = [0; 256];
        loop {
            let (read, _, from) = recvfrom(&self.fd, &mut buffer, RecvFlags::empty())?;
            // With IPv4 the header comes too.
            let packet = if self.is_v4 {
                buffer.get(20..read)
            } else {
                buffer.get(..read)
            };
            let from: Option<SocketAddr> = from.and_then(|from| from.try_into().ok());
            if let (Some(packet @ [_, _, _, _, _, _, _, _, _, _, _, _, kind, ..]), Some(from)) =
                (packet, from)
                && packet.len() >= 32
            {
                return Ok(Received {
                    from: from.ip(),
                    source: u16::from_be_bytes([packet[0], packet[1]]),
                    destination: u16::from_be_bytes([packet[2], packet[3]]),
                    kind: *kind,
                    tag: u32::from_be_bytes([packet[16], packet[17], packet[18], packet[19]]),
                });
            }
        }
    }

    /// Answers whoever begins, on every port, until `stop` says so.
    pub fn serve(&self, stop: &std::sync::atomic::AtomicBool) {
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let Ok(packet) = self.receive(Duration::from_millis(100)) else {
                continue;
            };
            if packet.kind == INIT {
                let (own, other) = (packet.destination, packet.source);
                // A client that has gone away is no failure of the server.
                let _ = self.send(packet.from, own, other, INIT_ACK, packet.tag, SERVER_TAG);
            }
        }
    }

    /// Begins, and says whether there was an answer.
    pub fn ask(&self, to: IpAddr, port: u16, patience: Duration) -> bool {
        let source = super::net::fresh_port();
        self.send(to, source, port, INIT, 0, CLIENT_TAG).expect("send");
        let end = std::time::Instant::now() + patience;
        while let Some(left) = end.checked_duration_since(std::time::Instant::now()) {
            match self.receive(left.max(Duration::from_millis(1))) {
                Ok(packet) if (packet.from, packet.source, packet.kind) == (to, port, INIT_ACK) => {
                    return true;
                }
                _ => {}
            }
        }
        false
    }
}

/// CRC-32C, as RFC 9260 has it.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 {
                (sum >> 1) ^ 0x82f6_3b78
            } else {
                sum >> 1
            };
        }
    }
    !sum
}
