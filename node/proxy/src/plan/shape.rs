use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Frontend, Place};

/// How packets come to a frontend, which decides about their source address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// To a cluster address: masqueraded only from outside the pod network, if that is known.
    Cluster,
    /// To an external address: masqueraded.
    External,
    /// To an external address of a Service that keeps traffic on the node: from outside only to endpoints here,
    /// and never masqueraded; from inside the cluster as to a cluster address.
    ExternalLocal,
    /// To a node port: masqueraded.
    Node,
    /// To a node port of a Service that keeps traffic on the node, as [`Kind::ExternalLocal`].
    NodeLocal,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Cluster,
        Self::External,
        Self::ExternalLocal,
        Self::Node,
        Self::NodeLocal,
    ];

    /// Those whose frontends all do the same but for the number of endpoints.
    pub const PLAIN: [Self; 3] = [Self::Cluster, Self::External, Self::Node];

    /// The chain of the frontends of this kind, and how the names of theirs begin.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Cluster => "pick",
            Self::External => "pick-external",
            Self::ExternalLocal => "pick-external-local",
            Self::Node => "pick-node",
            Self::NodeLocal => "pick-node-local",
        }
    }

    /// The place whose address stands in the maps, if it is not the packet's destination address.
    pub fn place(self) -> Option<Place> {
        match self {
            Self::Cluster | Self::External | Self::ExternalLocal => None,
            Self::Node | Self::NodeLocal => Some(Place::Node),
        }
    }

    /// Whether clients outside get other endpoints than those inside.
    pub fn keeps(self) -> bool {
        matches!(self, Self::ExternalLocal | Self::NodeLocal)
    }
}

/// Whether, and among which endpoints, a client keeps its endpoint. The frontend is a part of the chain's rules:
/// `nft` cannot list keys that come out of another map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sticky {
    /// It does not.
    No,
    /// Among all; remembered under this frontend.
    Any(Frontend),
    /// Only among those on this node.
    Here(Frontend),
}

/// From so many endpoints on a shape is no longer plain: the chains that lead to it would be nested too deep.
pub const PLAIN_LIMIT: u32 = 4096;

/// Plain shapes of up to so many endpoints have their chain from the start: a new chain costs the more the more
/// endpoints there are, for the kernel looks at all that it may lead to.
pub const RESERVED: u32 = 8;

/// What the frontends that share one chain have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape {
    /// How packets come.
    pub kind: Kind,
    /// The number of endpoints.
    pub endpoints: u32,
    /// The number of endpoints for clients outside, where [`Kind::keeps`]; with 0 these are dropped.
    pub kept: u32,
    /// Whether a client keeps its endpoint.
    pub sticky: Sticky,
    /// Who may come; `None` for everyone.
    pub sources: Option<Arc<[IpNet]>>,
}

impl Shape {
    /// The shape of frontends that have nothing particular about them.
    pub fn plain(kind: Kind, endpoints: u32) -> Self {
        Self {
            kind,
            endpoints,
            kept: 0,
            sticky: Sticky::No,
            sources: None,
        }
    }

    /// The plain shape whose chain has this name.
    pub fn from_plain_name(name: &str) -> Option<Self> {
        let shape = |kind: Kind| {
            let count = name.strip_prefix(kind.word())?.strip_prefix('-')?.parse().ok()?;
            Some(Self::plain(kind, count)).filter(|shape| shape.is_plain() && shape.to_string() == name)
        };
        Kind::PLAIN.into_iter().find_map(shape)
    }

    /// Whether kind and number of endpoints say everything.
    pub fn is_plain(&self) -> bool {
        let few = (1..PLAIN_LIMIT).contains(&self.endpoints);
        few && !self.kind.keeps() && self.sticky == Sticky::No && self.sources.is_none()
    }
}

/// The name of the chain.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.word())?;
        if self.kind.keeps() {
            write!(f, "-{}-of", self.kept)?;
        }
        write!(f, "-{}", self.endpoints)?;
        match self.sticky {
            Sticky::No => {}
            Sticky::Any(home) => write!(f, "-sticky-{}", home.identifier())?,
            Sticky::Here(home) => write!(f, "-sticky-here-{}", home.identifier())?,
        }
        match &self.sources {
            None => Ok(()),
            Some(sources) => write!(f, "-from-{:016x}", digest(sources)),
        }
    }
}

/// FNV-1a over the text of the networks: the same in every run, as the chain's name must be.
fn digest(sources: &[IpNet]) -> u64 {
    let text: String = sources.iter().map(|net| format!("{net} ")).collect();
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
