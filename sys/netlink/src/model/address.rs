use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    /// Index of the link.
    pub index: u32,
    /// The address and the length of its network's prefix.
    pub net: IpNet,
}

impl Address {
    pub(crate) fn from_message(message: &AddressMessage) -> Option<Self> {
        let find = |local: bool| {
            message.attributes.iter().find_map(|a| match a {
                AddressAttribute::Local(ip) if local => Some(*ip),
                AddressAttribute::Address(ip) if !local => Some(*ip),
                _ => None,
            })
        };
        // On point-to-point links `Address` is the other end's.
        let ip = find(true).or_else(|| find(false))?;
        let net = IpNet::new(ip, message.header.prefix_len).ok()?;
        Some(Self {
            index: message.header.index,
            net,
        })
    }
}
