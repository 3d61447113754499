//! Where the fields of keys stand, in bytes and in registers; both families have the same fields.

use std::net::IpAddr;

use knode_nft::{Element, FieldType, KeyType, Reg, Set, TableRef, Verdict};

use crate::model::{Direction, IpFamily};
use crate::plan::{Member, SetKey, Shape};

/// The table of a family as netlink names it.
pub fn table(name: &str, family: IpFamily) -> TableRef {
    TableRef::new(family.into(), name)
}

/// The fields of one family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout(pub IpFamily);

impl Layout {
    pub fn is_v6(self) -> bool {
        self.0 == IpFamily::V6
    }

    /// Registers of an address.
    pub fn words(self) -> u8 {
        if self.is_v6() { 4 } else { 1 }
    }

    /// The register after those of an address at the first one.
    pub fn after_address(self) -> Reg {
        Reg(self.words())
    }

    /// The register after those of an address and a protocol.
    pub fn after_protocol(self) -> Reg {
        Reg(self.words() + 1)
    }

    fn address(self) -> FieldType {
        if self.is_v6() {
            FieldType::Ipv6Addr
        } else {
            FieldType::Ipv4Addr
        }
    }

    /// One address.
    pub fn one(self) -> KeyType {
        KeyType::new([self.address()])
    }

    /// Two addresses.
    pub fn pair(self) -> KeyType {
        KeyType::new([self.address(), self.address()])
    }

    /// The set of the plan as the kernel is told of it.
    pub fn set(self, key: &SetKey) -> Set {
        match key {
            SetKey::Pods(_) => Set::plain(key.name(), self.one()),
            SetKey::Blocks(_) => Set {
                interval: true,
                ..Set::plain(key.name(), self.one())
            },
            SetKey::Ports(_) => Set::plain(
                key.name(),
                KeyType::new([self.address(), FieldType::InetProto, FieldType::InetService]),
            ),
        }
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A member of a set as the kernel is told of it.
pub(super) fn member_element(key: &SetKey, member: &Member) -> Element {
    match (member, key) {
        (Member::Port(address, port), SetKey::Ports(ports)) => {
            let mut bytes = octets(*address);
            bytes.extend_from_slice(&[ports.protocol.number(), 0, 0, 0]);
            bytes.extend_from_slice(&port.to_be_bytes());
            bytes.extend_from_slice(&[0, 0]);
            Element::key(bytes)
        }
        (Member::Address(address) | Member::Port(address, _), _) => Element::key(octets(*address)),
        (Member::Range(range), _) => Element::range(octets(range.first), octets(range.last)),
    }
}

/// Where packets of an isolated address are led.
pub(super) fn verdict_element(ip: IpAddr, shape: &Shape) -> Element {
    Element::verdict(octets(ip), Verdict::Goto(shape.name().to_owned()))
}

/// A pod that talks to itself.
pub(super) fn self_element(ip: IpAddr) -> Element {
    Element::key([octets(ip), octets(ip)].concat())
}

/// The hook's chain of a direction.
pub(super) fn base_chain(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "judge-ingress",
        Direction::Egress => "judge-egress",
    }
}
