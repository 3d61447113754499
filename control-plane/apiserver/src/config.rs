//! How an API server is set up.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
use knode_pki::ServiceAccountKey;

use crate::user::UserInfo;

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub struct TlsIdentity {
    /// The certificate, and those that sign it.
    pub cert_pem: String,
    /// Its private key.
    pub key_pem: String,
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsIdentity")
    }
}

/// What a server shows and whom it believes; can be replaced while it runs ([`crate::ApiServer::renew`]).
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The certificate that clients see.
    pub tls: TlsIdentity,
    /// Authorities whose client certificates are identities, and which sign the kubelets' serving
    /// certificates; PEM.
    pub client_ca_pem: String,
    /// Who this server is to kubelets: its client certificate.
    pub kubelet_client: TlsIdentity,
}

/// Which bindings a cluster has beyond upstream's defaults, so that nodes can join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeBindings {
    /// Bootstrap tokens may ask for a node's certificate, and get it; nodes renew theirs.
    #[default]
    Approve,
    /// Bootstrap tokens may ask; a person approves, also renewals.
    Ask,
    /// None, as upstream's server has it.
    Nothing,
}

/// How an API server is set up.
#[derive(Clone, Debug)]
pub struct ApiServerConfig {
    /// Certificates and authorities.
    pub credentials: Credentials,
    /// How nodes may join.
    pub node_bindings: NodeBindings,
    /// Signs and checks service-account tokens.
    pub service_account_key: Arc<ServiceAccountKey>,
    /// Issuer of service-account tokens, an https URL.
    pub issuer: String,
    /// Addresses of services: one range, or one of each family, of which the first is the default.
    pub service_cidrs: Vec<IpNet>,
    /// Ports of services on nodes.
    pub node_port_range: RangeInclusive<u16>,
    /// Where clients in the cluster find this server: endpoint of the Service `kubernetes`.
    pub advertise: SocketAddr,
    /// Further bearer tokens with their users (upstream's token file).
    pub static_tokens: BTreeMap<String, UserInfo>,
}

impl ApiServerConfig {
    /// The address of the Service `kubernetes`: the first of the default range.
    pub fn kubernetes_address(&self) -> Option<IpAddr> {
        kubernetes_address(*self.service_cidrs.first()?)
    }
}

/// The address of the Service `kubernetes` where this is the default range of services: the first after the
/// network's own. `None` for a range without it.
pub fn kubernetes_address(range: IpNet) -> Option<IpAddr> {
    let first: IpAddr = match range.network() {
        IpAddr::V4(network) => Ipv4Addr::from(u32::from(network).checked_add(1)?).into(),
        IpAddr::V6(network) => Ipv6Addr::from(u128::from(network).checked_add(1)?).into(),
    };
    range.contains(&first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_after_the_networks_own() {
        let of = |range: &str| kubernetes_address(range.parse().unwrap()).map(|address| address.to_string());
        assert_eq!(of("10.254.0.0/16").as_deref(), Some("10.254.0.1"));
        assert_eq!(of("fd00:254::/112").as_deref(), Some("fd00:254::1"));
        assert_eq!(of("10.254.0.0/32"), None);
    }
}
