use std::net::IpAddr;

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

/// An endpoint of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Address.
    pub ip: IpAddr,
    /// Whether it may get connections.
    pub state: State,
    /// Whether it is on this node, or may be.
    pub local: bool,
}
