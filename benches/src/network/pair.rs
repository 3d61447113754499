//! Two hosts on one cable, without a way out.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use knode_testkit::Host;

/// Two hosts; `first` has the first address, `second` the second.
pub struct Pair {
    pub name: &'static str,
    pub first: Host,
    pub second: Host,
}

/// From where to where is measured: two namespaces, and the second's address.
pub struct Way {
    pub from: PathBuf,
    pub to: PathBuf,
    pub address: String,
}

impl Pair {
    /// Addresses on the cable.
    pub const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 98, 0, 1), Ipv4Addr::new(10, 98, 0, 2)];

    /// Makes both and lays the cable.
    pub fn new(name: &'static str) -> Self {
        let pair = Self {
            name,
            first: Host::new("first"),
            second: Host::new("second"),
        };
        let other = pair.second.path();
        pair.first.ip(&format!(
            "link add eth0 type veth peer name eth0 netns {}",
            other.display()
        ));
        for (host, address) in [&pair.first, &pair.second].into_iter().zip(Self::ADDRESSES) {
            host.ip(&format!("address add {address}/24 dev eth0"));
            host.ip("link set eth0 up");
        }
        pair
    }

    /// Along the cable itself.
    pub fn way(&self) -> Way {
        self.to(&Self::ADDRESSES[1].to_string())
    }

    /// Through a vxlan that a person would make by `ip`.
    pub fn vxlan_by_hand(&self) -> Way {
        let ends = [(&self.first, 0), (&self.second, 1)];
        for (host, n) in ends {
            let (own, peer) = (Self::ADDRESSES[n], Self::ADDRESSES[1 - n]);
            host.ip(&format!(
                "link add vx1 mtu 1450 type vxlan id 1 local {own} remote {peer} dev eth0 dstport 8472"
            ));
            host.ip(&format!("address add 10.97.0.{}/24 dev vx1", n + 1));
            host.ip("link set vx1 up");
        }
        self.to("10.97.0.2")
    }

    /// From the first host to an address of the second.
    pub fn to(&self, address: &str) -> Way {
        Way {
            from: self.first.path(),
            to: self.second.path(),
            address: address.to_owned(),
        }
    }
}
