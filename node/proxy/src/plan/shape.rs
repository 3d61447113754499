use std::fmt;

use super::Place;

/// How packets come to a frontend, which decides about their source address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// To a cluster address: masqueraded only from outside the pod network, if that is known.
    Cluster,
    /// To an external address: masqueraded.
    External,
    /// To an external address of a Service that keeps traffic on the node: never masqueraded.
    ExternalLocal,
    /// To a node port: masqueraded.
    Node,
    /// From inside the cluster to a node port of a Service that keeps traffic on the node.
    NodeInside,
    /// From outside to a node port of a Service that keeps traffic on the node: never masqueraded.
    NodeFromOutside,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Cluster => "pick",
            Self::External => "pick-external",
            Self::ExternalLocal => "pick-external-local",
            Self::Node => "pick-node",
            Self::NodeInside => "pick-node-inside",
            Self::NodeFromOutside => "pick-node-outside",
        }
    }

    /// The place whose address stands in the maps, if it is not the packet's destination address.
    pub fn place(self) -> Option<Place> {
        match self {
            Self::Cluster | Self::External | Self::ExternalLocal => None,
            Self::Node | Self::NodeInside => Some(Place::Node),
            Self::NodeFromOutside => Some(Place::NodeFromOutside),
        }
    }
}

/// What the frontends that share one chain have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape {
    /// How packets come.
    pub kind: Kind,
    /// The number of endpoints; 0 only for [`Kind::NodeFromOutside`], which then drops.
    pub endpoints: u32,
    /// Whether a client keeps its endpoint.
    pub sticky: bool,
}

/// The name of the chain.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.kind.word(), self.endpoints)?;
        if self.sticky {
            f.write_str("-sticky")
        } else {
            Ok(())
        }
    }
}
