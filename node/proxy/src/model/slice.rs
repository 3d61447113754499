use std::net::IpAddr;
use std::sync::Arc;

use super::Protocol;

/// An EndpointSlice: every endpoint at every port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slice {
    /// Its ports.
    pub ports: Box<[SlicePort]>,
    /// Its endpoints, without those that are neither ready nor serving.
    pub endpoints: Box<[SliceEndpoint]>,
}

/// A port of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// The service port's name.
    pub name: Box<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port at the endpoints.
    pub port: u16,
}

/// Whether an endpoint may get connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It may.
    Ready,
    /// It is ending but still serves: it may if there is no ready one.
    Ending,
}

/// What the slice's `forNodes` hints say about an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NodeHint {
    /// Nothing.
    #[default]
    None,
    /// Meant for clients on this node.
    Here,
    /// Meant for clients on other nodes.
    Elsewhere,
}

/// An endpoint of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Address.
    pub ip: IpAddr,
    /// Whether it may get connections.
    pub state: State,
    /// Whether it is on this node.
    pub local: bool,
    /// Whether its slice names no node: it may be on this one, and reach itself.
    pub unplaced: bool,
    /// Whether it is meant for this node.
    pub for_node: NodeHint,
    /// The zones whose clients it is meant for; `None` if the slice does not say.
    pub for_zones: Option<Arc<[Box<str>]>>,
}

impl SliceEndpoint {
    /// An endpoint for clients everywhere.
    pub fn new(ip: IpAddr, state: State, local: bool) -> Self {
        Self {
            ip,
            state,
            local,
            unplaced: false,
            for_node: NodeHint::None,
            for_zones: None,
        }
    }
}
