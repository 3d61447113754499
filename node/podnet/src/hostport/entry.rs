use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::{PortMapping, Protocol};
use crate::error::{Error, Result};

/// Bytes of protocol and port in a key, each padded to four.
const PROTOCOL_AND_PORT: usize = 8;
/// Bytes of a port in a value, padded.
const PORT: usize = 4;

/// One port of the host and where it leads. Both addresses are of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Address of the host; all of the family where none is given.
    pub host_ip: Option<IpAddr>,
    pub protocol: Protocol,
    pub host_port: u16,
    /// Address and port of the pod.
    pub target: (IpAddr, u16),
}

impl Entry {
    /// What a mapping means for a pod with these addresses: one entry for each family, or the one of its host's address.
    pub fn of(mapping: &PortMapping, pod: &[IpAddr]) -> Result<Vec<Self>> {
        if mapping.host_port == 0 || mapping.container_port == 0 {
            return Err(Error::Unsupported("host port or container port 0".into()));
        }
        let meant = |ip: &&IpAddr| mapping.host_ip.is_none_or(|host| host.is_ipv4() == ip.is_ipv4());
        let entry = |ip: &IpAddr| Self {
            host_ip: mapping.host_ip.filter(|ip| !ip.is_unspecified()),
            protocol: mapping.protocol,
            host_port: mapping.host_port,
            target: (*ip, mapping.container_port),
        };
        let entries: Vec<_> = pod.iter().filter(meant).map(entry).collect();
        match mapping.host_ip {
            Some(host_ip) if entries.is_empty() => Err(Error::HostPortFamily {
                host_ip,
                pod: pod.to_vec(),
            }),
            _ => Ok(entries),
        }
    }

    pub fn is_ipv6(&self) -> bool {
        self.target.0.is_ipv6()
    }

    /// Whether both ask for the same port of a common address.
    pub fn conflicts(&self, other: &Self) -> bool {
        let same_family = self.is_ipv6() == other.is_ipv6();
        let same_port = (self.protocol, self.host_port) == (other.protocol, other.host_port);
        let apart = matches!((self.host_ip, other.host_ip), (Some(a), Some(b)) if a != b);
        same_family && same_port && !apart
    }

    /// Key in the map of its kind: fields padded to four bytes.
    pub fn key(&self) -> Vec<u8> {
        let port = self.host_port.to_be_bytes();
        let mut key = self.host_ip.map(octets).unwrap_or_default();
        key.extend([self.protocol.number(), 0, 0, 0, port[0], port[1], 0, 0]);
        key
    }

    /// Value in the map: address and port, padded.
    pub fn value(&self) -> Vec<u8> {
        let mut value = octets(self.target.0);
        let port = self.target.1.to_be_bytes();
        value.extend([port[0], port[1], 0, 0]);
        value
    }

    /// Reads an element of either map of either family.
    pub fn parse(key: &[u8], value: &[u8]) -> Option<Self> {
        let (host_ip, rest) = key.split_at_checked(key.len().checked_sub(PROTOCOL_AND_PORT)?)?;
        let (pod, port) = value.split_at_checked(value.len().checked_sub(PORT)?)?;
        let host_ip = match host_ip {
            [] => None,
            octets => Some(address(octets)?),
        };
        Some(Self {
            host_ip,
            protocol: Protocol::from_number(rest[0])?,
            host_port: u16::from_be_bytes([rest[4], rest[5]]),
            target: (address(pod)?, u16::from_be_bytes([port[0], port[1]])),
        })
    }
}

pub(super) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let ipv4 = <[u8; 4]>::try_from(octets).map(Ipv4Addr::from);
    let ipv6 = || <[u8; 16]>::try_from(octets).map(Ipv6Addr::from);
    ipv4.map(IpAddr::V4).or_else(|_| ipv6().map(IpAddr::V6)).ok()
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

    fn entries(host_ip: Option<&str>, protocol: Protocol, host_port: u16) -> Result<Vec<Entry>> {
        let mapping = PortMapping {
            protocol,
            host_port,
            container_port: 80,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        };
        Entry::of(
            &mapping,
            &["172.30.1.2".parse().unwrap(), "fd00:1::2".parse().unwrap()],
        )
    }

    fn entry(host_ip: Option<&str>, protocol: Protocol, host_port: u16) -> Entry {
        entries(host_ip, protocol, host_port).unwrap().remove(0)
    }

    #[test]
    fn what_is_written_is_read() {
        for host_ip in [None, Some("192.0.2.1"), Some("2001:db8::1")] {
            for entry in entries(host_ip, Protocol::Sctp, 8080).unwrap() {
                assert_eq!(Entry::parse(&entry.key(), &entry.value()), Some(entry));
            }
        }
        assert_eq!(Entry::parse(&[6], &[1, 2]), None);
    }

    #[test]
    fn the_hosts_address_says_which_family_is_meant() {
        let pods = |host_ip| {
            let entries = entries(host_ip, Protocol::Tcp, 80).unwrap();
            let shown = |e: &Entry| (e.host_ip.is_some(), e.target.0.is_ipv6());
            entries.iter().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(pods(None), [(false, false), (false, true)]);
        assert_eq!(pods(Some("0.0.0.0")), [(false, false)]);
        assert_eq!(pods(Some("::")), [(false, true)]);
        assert_eq!(pods(Some("192.0.2.1")), [(true, false)]);
        assert_eq!(pods(Some("2001:db8::1")), [(true, true)]);
    }

    #[test]
    fn ports_conflict_on_common_addresses() {
        let any = entry(None, Protocol::Tcp, 80);
        assert!(any.conflicts(&entry(Some("192.0.2.1"), Protocol::Tcp, 80)));
        assert!(any.conflicts(&entry(Some("0.0.0.0"), Protocol::Tcp, 80)));
        assert!(!any.conflicts(&entry(None, Protocol::Udp, 80)));
        assert!(!any.conflicts(&entry(None, Protocol::Tcp, 81)));
        assert!(!any.conflicts(&entry(Some("::"), Protocol::Tcp, 80)));
        let one = entry(Some("192.0.2.1"), Protocol::Tcp, 80);
        assert!(!one.conflicts(&entry(Some("192.0.2.2"), Protocol::Tcp, 80)));
    }
}
