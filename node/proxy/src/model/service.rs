use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Protocol;

/// A Service that has addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// `spec.clusterIPs`.
    pub cluster_ips: Box<[IpAddr]>,
    /// `spec.externalIPs`.
    pub external_ips: Box<[IpAddr]>,
    /// The load balancer's addresses that are to be handled here (`ipMode` VIP).
    pub balancer_ips: Box<[IpAddr]>,
    /// `spec.loadBalancerSourceRanges`: who may use the load balancer's addresses; `None` for everyone.
    pub sources: Option<Arc<[IpNet]>>,
    /// `spec.ports`, without those of an unknown protocol.
    pub ports: Box<[ServicePort]>,
    /// Seconds for which a client keeps its endpoint (`sessionAffinity: ClientIP`).
    pub affinity: Option<u32>,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// The port on the node that tells load balancers whether there are endpoints here, 0 for none.
    pub health_check_port: u16,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, empty if it has none; slices name their ports alike.
    pub name: Box<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port on the service's addresses.
    pub port: u16,
    /// The port on every node, 0 if there is none.
    pub node_port: u16,
}
