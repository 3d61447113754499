//! The small vocabularies of expressions, numbered as in `linux/netfilter/nf_tables.h`.

/// Defines an enum whose variants are the kernel's numbers, with nft's word for each.
macro_rules! vocabulary {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $number:literal $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            pub(crate) fn number(self) -> u32 {
                match self { $(Self::$variant => $number,)* }
            }

            pub(crate) fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }

            pub(crate) fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

vocabulary! {
    /// The header that a payload offset counts from.
    PayloadBase {
        /// The link layer's.
        Link = 0 "link",
        /// IP's.
        Network = 1 "network",
        /// TCP's, UDP's or SCTP's.
        Transport = 2 "transport",
    }
}

vocabulary! {
    /// A fact about the packet.
    MetaKey {
        /// Ethertype, network order.
        Protocol = 1 "protocol",
        /// Packet mark, host order.
        Mark = 3 "mark",
        /// Index of the interface it came in by.
        Iif = 4 "iif",
        /// Index of the interface it leaves by.
        Oif = 5 "oif",
        /// Name of the interface it came in by.
        IifName = 6 "iifname",
        /// Name of the interface it leaves by.
        OifName = 7 "oifname",
        /// `NFPROTO_*`, one byte.
        NfProto = 15 "nfproto",
        /// `IPPROTO_*`, one byte.
        L4Proto = 16 "l4proto",
    }
}

vocabulary! {
    /// A fact about the connection.
    CtKey {
        /// A bit: 2 established, 4 related, 8 new (host order).
        State = 0 "state",
        /// Bits of `IPS_*` (host order).
        Status = 2 "status",
        /// Connection mark, host order.
        Mark = 3 "mark",
        /// Source port; wants a direction.
        ProtoSrc = 11 "proto-src",
        /// Destination port; wants a direction.
        ProtoDst = 12 "proto-dst",
        /// IPv4 source address; wants a direction.
        SrcIp = 19 "saddr-ip",
        /// IPv4 destination address; wants a direction.
        DstIp = 20 "daddr-ip",
        /// IPv6 source address; wants a direction.
        SrcIp6 = 21 "saddr-ip6",
        /// IPv6 destination address; wants a direction.
        DstIp6 = 22 "daddr-ip6",
    }
}

vocabulary! {
    /// The direction of a connection.
    CtDir {
        /// As its first packet.
        Original = 0 "original",
        /// As the answers.
        Reply = 1 "reply",
    }
}

vocabulary! {
    /// A comparison.
    CmpOp {
        /// Equal.
        Eq = 0 "eq",
        /// Not equal.
        Neq = 1 "neq",
        /// Less, read as big-endian.
        Lt = 2 "lt",
        /// Less or equal.
        Lte = 3 "lte",
        /// Greater.
        Gt = 4 "gt",
        /// Greater or equal.
        Gte = 5 "gte",
    }
}

vocabulary! {
    /// Which address is translated.
    NatKind {
        /// The source.
        Snat = 0 "snat",
        /// The destination.
        Dnat = 1 "dnat",
    }
}

vocabulary! {
    /// What to ask the routing table for.
    FibResult {
        /// Index of the interface of the route.
        Oif = 1 "oif",
        /// Name of it.
        OifName = 2 "oifname",
        /// Type of the address: `RTN_LOCAL` is 2 (host order).
        AddrType = 3 "type",
    }
}

vocabulary! {
    /// What to do to a dynamic set.
    DynsetOp {
        /// Add unless it is there.
        Add = 0 "add",
        /// Add, or restart its time-out.
        Update = 1 "update",
        /// Delete.
        Delete = 2 "delete",
    }
}

/// About which address of the packet the routing table is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FibFlags(pub u32);

impl FibFlags {
    /// The source address.
    pub const SADDR: Self = Self(1);
    /// The destination address.
    pub const DADDR: Self = Self(2);
}

/// Options of an address translation (`NF_NAT_RANGE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NatFlags(pub u32);

impl NatFlags {
    /// None.
    pub const NONE: Self = Self(0);
    /// Choose the new port at random.
    pub const RANDOM: Self = Self(4);
    /// Give a client the same address for every connection.
    pub const PERSISTENT: Self = Self(8);
    /// Choose the new port at random without looking at the old one.
    pub const FULLY_RANDOM: Self = Self(16);

    /// The bits that are options; the others the kernel sets by itself.
    pub(crate) const MASK: u32 = 4 | 8 | 16;
}

/// How a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectKind {
    /// An ICMP (or ICMPv6) unreachable message of this code; 3 (4 in ICMPv6) is port unreachable.
    Icmp(u8),
    /// A TCP reset.
    TcpReset,
    /// An unreachable message of the packet's family; 1 is port unreachable.
    Icmpx(u8),
}
