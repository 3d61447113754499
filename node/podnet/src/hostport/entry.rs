use std::net::{IpAddr, Ipv4Addr};

use crate::config::{PortMapping, Protocol};
use crate::error::{Error, Result};

/// One port of the host and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Address of the host; all where none is given.
    pub host_ip: Option<Ipv4Addr>,
    pub protocol: Protocol,
    pub host_port: u16,
    /// Address and port of the pod.
    pub target: (Ipv4Addr, u16),
}

impl Entry {
    pub fn new(mapping: &PortMapping, pod: Ipv4Addr) -> Result<Self> {
        let host_ip = match mapping.host_ip {
            None => None,
            Some(IpAddr::V4(ip)) => Some(ip).filter(|ip| !ip.is_unspecified()),
            Some(IpAddr::V6(ip)) if ip.is_unspecified() => None,
            Some(ip @ IpAddr::V6(_)) => return Err(Error::Unsupported(format!("host port on {ip} (IPv6)"))),
        };
        if mapping.host_port == 0 || mapping.container_port == 0 {
            return Err(Error::Unsupported("host port or container port 0".into()));
        }
        let target = (pod, mapping.container_port);
        Ok(Self {
            host_ip,
            protocol: mapping.protocol,
            host_port: mapping.host_port,
            target,
        })
    }

    /// Whether both ask for the same port of a common address.
    pub fn conflicts(&self, other: &Self) -> bool {
        let same_port = (self.protocol, self.host_port) == (other.protocol, other.host_port);
        let apart = matches!((self.host_ip, other.host_ip), (Some(a), Some(b)) if a != b);
        same_port && !apart
    }

    /// Key in the map of its kind: fields padded to four bytes.
    pub fn key(&self) -> Vec<u8> {
        let port = self.host_port.to_be_bytes();
        let mut key = self.host_ip.map(|ip| ip.octets().to_vec()).unwrap_or_default();
        key.extend([self.protocol.number(), 0, 0, 0, port[0], port[1], 0, 0]);
        key
    }

    /// Value in the map: address and port, padded.
    pub fn value(&self) -> Vec<u8> {
        let port = self.target.1.to_be_bytes();
        [&self.target.0.octets()[..], &[port[0], port[1], 0, 0]].concat()
    }

    /// Reads an element of either map.
    pub fn parse(key: &[u8], value: &[u8]) -> Option<Self> {
        let (host_ip, rest) = match key.len() {
            8 => (None, key),
            12 => (Some(Ipv4Addr::from(*key.first_chunk::<4>()?)), &key[4..]),
            _ => return None,
        };
        let &[proto, _, _, _, high, low, ..] = rest else {
            return None;
        };
        let &[a, b, c, d, target_high, target_low, ..] = value else {
            return None;
        };
        Some(Self {
            host_ip,
            protocol: Protocol::from_number(proto)?,
            host_port: u16::from_be_bytes([high, low]),
            target: (
                Ipv4Addr::new(a, b, c, d),
                u16::from_be_bytes([target_high, target_low]),
            ),
        })
    }
}

impl Protocol {
    const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// `IPPROTO_*`.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.number() == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(host_ip: Option<&str>, protocol: Protocol, host_port: u16) -> Entry {
        let host_ip = host_ip.map(|ip| ip.parse().unwrap());
        let mapping = PortMapping {
            protocol,
            host_port,
            container_port: 80,
            host_ip,
        };
        Entry::new(&mapping, Ipv4Addr::new(172, 30, 1, 2)).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        for host_ip in [None, Some("192.0.2.1")] {
            let entry = entry(host_ip, Protocol::Sctp, 8080);
            assert_eq!(Entry::parse(&entry.key(), &entry.value()), Some(entry));
        }
    }

    #[test]
    fn ports_conflict_on_common_addresses() {
        let any = entry(None, Protocol::Tcp, 80);
        assert!(any.conflicts(&entry(Some("192.0.2.1"), Protocol::Tcp, 80)));
        assert!(any.conflicts(&entry(Some("0.0.0.0"), Protocol::Tcp, 80)));
        assert!(
            !any.conflicts(&entry(None, Protocol::Udp, 80))
                && !any.conflicts(&entry(None, Protocol::Tcp, 81))
        );
        let one = entry(Some("192.0.2.1"), Protocol::Tcp, 80);
        assert!(!one.conflicts(&entry(Some("192.0.2.2"), Protocol::Tcp, 80)));
    }
}
