use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::align4;

/// Bits of one type in the identifier of a concatenation (`TYPE_BITS` in nft).
const TYPE_BITS: u32 = 6;
const TYPE_MASK: u32 = (1 << TYPE_BITS) - 1;

/// The type of one field of a set's key or data, under nft's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// `ipv4_addr`, 4 bytes.
    Ipv4Addr,
    /// `ipv6_addr`, 16 bytes.
    Ipv6Addr,
    /// `ether_addr`, 6 bytes.
    EtherAddr,
    /// `inet_proto`, 1 byte.
    InetProto,
    /// `inet_service`, a port, 2 bytes in network order.
    InetService,
    /// `mark`, 4 bytes in host order.
    Mark,
    /// `ifname`, 16 bytes padded with zeros.
    IfName,
}

impl FieldType {
    const ALL: [Self; 7] = [
        Self::Ipv4Addr,
        Self::Ipv6Addr,
        Self::EtherAddr,
        Self::InetProto,
        Self::InetService,
        Self::Mark,
        Self::IfName,
    ];

    fn id(self) -> u32 {
        match self {
            Self::Ipv4Addr => 7,
            Self::Ipv6Addr => 8,
            Self::EtherAddr => 9,
            Self::InetProto => 12,
            Self::InetService => 13,
            Self::Mark => 19,
            Self::IfName => 41,
        }
    }

    /// Bytes that a value takes, without padding.
    pub fn width(self) -> usize {
        match self {
            Self::Ipv4Addr | Self::Mark => 4,
            Self::Ipv6Addr | Self::IfName => 16,
            Self::EtherAddr => 6,
            Self::InetProto => 1,
            Self::InetService => 2,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ipv4Addr => "ipv4_addr",
            Self::Ipv6Addr => "ipv6_addr",
            Self::EtherAddr => "ether_addr",
            Self::InetProto => "inet_proto",
            Self::InetService => "inet_service",
            Self::Mark => "mark",
            Self::IfName => "ifname",
        }
    }

    fn show(self, bytes: &[u8]) -> String {
        match self {
            Self::Ipv4Addr => bytes
                .first_chunk()
                .map(|b: &[u8; 4]| Ipv4Addr::from(*b).to_string()),
            Self::Ipv6Addr => bytes
                .first_chunk()
                .map(|b: &[u8; 16]| Ipv6Addr::from(*b).to_string()),
            Self::InetService => bytes.first_chunk().map(|b| u16::from_be_bytes(*b).to_string()),
            Self::Mark => bytes
                .first_chunk()
                .map(|b| format!("{:#x}", u32::from_ne_bytes(*b))),
            Self::InetProto => bytes.first().map(|proto| match proto {
                6 => "tcp".to_owned(),
                17 => "udp".to_owned(),
                132 => "sctp".to_owned(),
                other => other.to_string(),
            }),
            Self::IfName => crate::wire::text(bytes).map(|name| format!("{name:?}")),
            Self::EtherAddr => None,
        }
        .unwrap_or_else(|| crate::print::hex(bytes))
    }
}

/// The type of a key or of data: one field, or a concatenation of several.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyType(Vec<FieldType>);

impl KeyType {
    /// A type of these fields.
    pub fn new(fields: impl Into<Vec<FieldType>>) -> Self {
        Self(fields.into())
    }

    /// The fields in order.
    pub fn fields(&self) -> &[FieldType] {
        &self.0
    }

    /// The number that tells nft how to print a value of this type.
    pub fn id(&self) -> u32 {
        self.0.iter().fold(0, |id, field| (id << TYPE_BITS) | field.id())
    }

    /// Bytes of a value: each field of a concatenation is padded to four.
    pub fn len(&self) -> usize {
        match self.0.as_slice() {
            [single] => single.width(),
            fields => fields.iter().map(|field| align4(field.width())).sum(),
        }
    }

    /// Whether it has no field at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn from_id(mut id: u32) -> Option<Self> {
        let mut fields = Vec::new();
        while id != 0 {
            let field = FieldType::ALL
                .into_iter()
                .find(|field| field.id() == id & TYPE_MASK)?;
            fields.insert(0, field);
            id >>= TYPE_BITS;
        }
        Some(Self(fields))
    }

    /// A value of this type as nft prints it.
    pub fn show(&self, value: &[u8]) -> String {
        let mut rest = value;
        let mut parts = Vec::with_capacity(self.0.len());
        for field in &self.0 {
            parts.push(field.show(rest));
            rest = rest.get(align4(field.width())..).unwrap_or_default();
        }
        parts.join(" . ")
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|field| field.name()).collect();
        f.write_str(&names.join(" . "))
    }
}
