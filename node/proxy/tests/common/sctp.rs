//! SCTP by hand, for kernels without SCTP sockets: an INIT, and the INIT ACK that answers it, over raw sockets.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, recvfrom, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;

/// A raw socket that sees every SCTP packet to this host.
pub struct Raw(OwnedFd);

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    pub from: IpAddr,
    pub source: u16,
    pub destination: u16,
    /// The chunk's type.
    pub kind: u8,
}

impl Raw {
    /// Opens it in this thread's namespace, for packets to this address.
    pub fn new(address: IpAddr) -> Self {
        let family = if address.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        // `IPPROTO_SCTP`: nix names no such protocol for raw sockets.
        let fd =
            socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Sctp).expect("raw socket");
        bind(
            fd.as_raw_fd(),
            &SockaddrStorage::from(SocketAddr::new(address, 0)),
        )
        .expect("bind");
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::milliseconds(500)).expect("timeout");
        Self(fd)
    }

    /// The next packet with an INIT or INIT ACK to this port, within half a second.
    pub fn receive(&self, port: u16) -> Option<Chunk> {
        let mut buffer = [0_u8; 256];
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(500) {
            let (length, from) = recvfrom::<SockaddrStorage>(self.0.as_raw_fd(), &mut buffer).ok()?;
            let from = from?;
            let (from, header) = match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
                (Some(four), _) => (IpAddr::from(four.ip()), usize::from(buffer[0] & 15) * 4),
                (_, Some(six)) => (IpAddr::from(six.ip()), 0),
                _ => continue,
            };
            let Some(packet) = buffer[..length].get(header..).filter(|packet| packet.len() > 12) else {
                continue;
            };
            let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
            if word(2) == port {
                let (source, destination, kind) = (word(0), word(2), packet[12]);
                return Some(Chunk {
                    from,
                    source,
                    destination,
                    kind,
                });
            }
        }
        None
    }

    fn send(&self, from: u16, to: SocketAddr, tag: u32, kind: u8) {
        let mut packet = Vec::new();
        packet.extend_from_slice(&from.to_be_bytes());
        packet.extend_from_slice(&to.port().to_be_bytes());
        packet.extend_from_slice(&tag.to_be_bytes());
        packet.extend_from_slice(&[0; 4]);
        // Chunk of 20 bytes: initiate tag, window, streams out and in, first number.
        packet.extend_from_slice(&[kind, 0, 0, 20, 0, 0, 0, 7, 0, 0, 255, 255, 0, 1, 0, 1, 0, 0, 0, 1]);
        let sum = crc32c(&packet).to_le_bytes();
        packet[8..12].copy_from_slice(&sum);
        // A raw socket takes no port.
        let to = SockaddrStorage::from(SocketAddr::new(to.ip(), 0));
        sendto(self.0.as_raw_fd(), &packet, &to, MsgFlags::empty()).expect("send");
    }

    /// Begins an association.
    pub fn init(&self, from: u16, to: SocketAddr) {
        self.send(from, to, 0, INIT);
    }

    /// Answers a chunk.
    pub fn answer(&self, chunk: &Chunk) {
        assert_eq!(chunk.kind, INIT, "{chunk:?}");
        self.send(
            chunk.destination,
            SocketAddr::new(chunk.from, chunk.source),
            7,
            INIT_ACK,
        );
    }
}

/// Whether this is the answer to [`Raw::init`].
pub fn is_answer(chunk: &Chunk) -> bool {
    chunk.kind == INIT_ACK
}

fn crc32c(bytes: &[u8]) -> u32 {
    let fold = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 {
                (sum >> 1) ^ 0x82f6_3b78
            } else {
                sum >> 1
            }
        })
    };
    !bytes.iter().fold(!0, fold)
}
