use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use knode_netlink::Netns;

/// `tcpdump` on a link, while it lives.
pub struct Capture {
    child: Child,
    file: PathBuf,
}

/// An Ethernet frame without its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub ethertype: u16,
    pub packet: Vec<u8>,
}

impl Capture {
    /// Listens; returns once it does.
    pub fn start(netns: &Netns, link: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = std::env::temp_dir().join(format!("knode-capture-{}-{number}.pcap", std::process::id()));
        let mut command = Command::new("tcpdump");
        command
            .args([
                "-i",
                link,
                "-U",
                "--immediate-mode",
                "-s",
                "0",
                "-Z",
                "root",
                "-w",
            ])
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        let child = netns.run(|| command.spawn()).unwrap();
        let mut child = child.expect("these tests need tcpdump");
        let mut said = String::new();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        while !said.contains("listening on") {
            let read = stderr.read_line(&mut said).unwrap();
            assert!(read > 0, "tcpdump ended: {said}");
        }
        Self { child, file }
    }

    /// What has been seen so far.
    pub fn frames(&self) -> Vec<Frame> {
        let bytes = std::fs::read(&self.file).unwrap();
        let (mut frames, mut rest) = (Vec::new(), bytes.get(24..).unwrap_or_default());
        while let Some(header) = rest.get(..16) {
            let length = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
            let Some(frame) = rest.get(16..16 + length) else {
                break;
            };
            frames.extend(Frame::of(frame));
            rest = &rest[16 + length..];
        }
        frames
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What is left lies in the temporary directory.
        let _ = std::fs::remove_file(&self.file);
    }
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const UDP: u8 = 17;

impl Frame {
    fn of(frame: &[u8]) -> Option<Self> {
        let ethertype = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
        Some(Self {
            ethertype,
            packet: frame[14..].to_vec(),
        })
    }

    /// Bytes of the IP packet, as its header tells.
    pub fn length(&self) -> usize {
        let at = |n: usize| usize::from(u16::from_be_bytes([self.packet[n], self.packet[n + 1]]));
        if self.ethertype == IPV4 { at(2) } else { at(4) + 40 }
    }

    /// Whether it is a piece of a larger packet.
    pub fn is_fragment(&self) -> bool {
        match self.ethertype {
            IPV4 => u16::from_be_bytes([self.packet[6], self.packet[7]]) & 0x3fff != 0,
            IPV6 => self.packet[6] == 44,
            _ => false,
        }
    }

    fn is_ip(&self) -> bool {
        [IPV4, IPV6].contains(&self.ethertype)
    }

    /// Whether it comes from this address.
    pub fn is_from(&self, ip: std::net::IpAddr) -> bool {
        match (self.ethertype, ip) {
            (IPV4, std::net::IpAddr::V4(ip)) => self.packet[12..16] == ip.octets(),
            (IPV6, std::net::IpAddr::V6(ip)) => self.packet[8..24] == ip.octets(),
            _ => false,
        }
    }

    /// The frame inside of VXLAN (RFC 7348) on flannel's port, and its network identifier.
    pub fn vxlan(&self) -> Option<(u32, Self)> {
        let (protocol, udp) = match self.ethertype {
            IPV4 => (self.packet[9], 20),
            IPV6 => (self.packet[6], 40),
            _ => return None,
        };
        let port = u16::from_be_bytes(self.packet.get(udp + 2..udp + 4)?.try_into().ok()?);
        let header = self.packet.get(udp + 8..udp + 16)?;
        if (protocol, port, header[0] & 0x08) != (UDP, 8472, 0x08) || self.is_fragment() {
            return None;
        }
        let vni = u32::from_be_bytes([0, header[4], header[5], header[6]]);
        let inner = Self::of(self.packet.get(udp + 16..)?)?;
        inner.is_ip().then_some((vni, inner))
    }
}
