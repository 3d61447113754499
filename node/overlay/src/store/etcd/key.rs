use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Name of a lease's key below `<prefix>/subnets/`: `172.30.65.0-24`, with IPv6 `172.30.65.0-24&fd00:1::-64`
/// (`pkg/subnet`, `MakeSubnetKey`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubnetKey {
    /// The IPv4 subnet.
    pub ipv4: Ipv4Net,
    /// The IPv6 subnet of a dual-stack lease.
    pub ipv6: Option<Ipv6Net>,
}

impl SubnetKey {
    /// Reads a key's last part; `None` for what is no lease.
    pub fn parse(text: &str) -> Option<Self> {
        let (v4, v6) = match text.split_once('&') {
            Some((v4, v6)) => (v4, Some(v6)),
            None => (text, None),
        };
        let (address, length) = v4.rsplit_once('-')?;
        let ipv4 = Ipv4Net::new(address.parse::<Ipv4Addr>().ok()?, length.parse().ok()?).ok()?;
        let ipv6 = match v6 {
            None => None,
            Some(text) => {
                let (address, length) = text.rsplit_once('-')?;
                Some(Ipv6Net::new(address.parse::<Ipv6Addr>().ok()?, length.parse().ok()?).ok()?)
            }
        };
        Some(Self { ipv4, ipv6 })
    }

    /// Whether any address is in both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let v4 = self.ipv4.contains(&other.ipv4) || other.ipv4.contains(&self.ipv4);
        let v6 = self.ipv6.zip(other.ipv6);
        v4 || v6.is_some_and(|(a, b)| a.contains(&b) || b.contains(&a))
    }
}

impl From<Ipv4Net> for SubnetKey {
    fn from(ipv4: Ipv4Net) -> Self {
        Self { ipv4, ipv6: None }
    }
}

impl fmt::Display for SubnetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ipv4.addr(), self.ipv4.prefix_len())?;
        match self.ipv6 {
            Some(v6) => write!(f, "&{}-{}", v6.addr(), v6.prefix_len()),
            None => Ok(()),
        }
    }
}

/// Where in etcd the network lies (`-etcd-prefix`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// Upstream's default.
    pub const DEFAULT: &'static str = "/coreos.com/network";

    /// A prefix; slashes at its end do not count.
    pub fn new(text: &str) -> Self {
        Self(text.trim_end_matches('/').to_owned())
    }

    /// The key of the network's configuration.
    pub fn config(&self) -> String {
        format!("{}/config", self.0)
    }

    /// What the keys of leases begin with.
    pub fn subnets(&self) -> String {
        format!("{}/subnets/", self.0)
    }

    /// The key of a lease.
    pub fn subnet(&self, key: SubnetKey) -> String {
        format!("{}{key}", self.subnets())
    }

    /// The lease that a key is of.
    pub(super) fn lease(&self, key: &[u8]) -> Option<SubnetKey> {
        let text = std::str::from_utf8(key).ok()?;
        SubnetKey::parse(text.strip_prefix(&self.0)?.strip_prefix("/subnets/")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_keys_are_read_and_written_alike() {
        for text in ["172.30.65.0-24", "10.5.34.0-24&fd00:1:2::-64"] {
            assert_eq!(SubnetKey::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "172.30.65.0",
            "172.30.65.0-33",
            "x-24",
            "10.5.34.0-24&",
            "10.5.34.0-24&fd00::",
            "",
        ] {
            assert_eq!(SubnetKey::parse(text), None, "{text}");
        }
    }

    #[test]
    fn keys_lie_below_the_prefix() {
        let prefix = Prefix::new("/kubernetes/network/");
        assert_eq!(prefix.config(), "/kubernetes/network/config");
        let key = SubnetKey::parse("172.30.65.0-24").unwrap();
        assert_eq!(prefix.subnet(key), "/kubernetes/network/subnets/172.30.65.0-24");
        assert_eq!(
            prefix.lease(b"/kubernetes/network/subnets/172.30.65.0-24"),
            Some(key)
        );
        assert_eq!(prefix.lease(b"/other/network/subnets/172.30.65.0-24"), None);
        assert_eq!(prefix.lease(b"/kubernetes/network/config"), None);
    }
}
