use sha2::{Digest, Sha256};

use crate::model::Protocol;

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Chains that upstream's proxy makes once, in any of its modes that use iptables.
const SHARED: &[&str] = &[
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-POSTROUTING",
    "KUBE-MARK-MASQ",
    "KUBE-FORWARD",
    "KUBE-PROXY-FIREWALL",
    "KUBE-PROXY-CANARY",
    "KUBE-NODE-PORT",
    "KUBE-LOAD-BALANCER",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
];
const PER_SERVICE: &[&str] = &[
    "KUBE-SVC-",
    "KUBE-SVL-",
    "KUBE-EXT-",
    "KUBE-FW-",
    "KUBE-SEP-",
    "KUBE-XLB-",
];

/// Whether a chain of this name belongs to a proxy; the kubelet's `KUBE-FIREWALL` and its like do not.
pub fn is_ours(chain: &str) -> bool {
    SHARED.contains(&chain) || is_per_service(chain)
}

/// Whether a chain of this name belongs to one port of a Service.
pub fn is_per_service(chain: &str) -> bool {
    PER_SERVICE.iter().any(|prefix| chain.starts_with(prefix))
}

/// The chains of one port of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// Spreads over all endpoints.
    Cluster,
    /// Spreads over the endpoints on this node.
    Local,
    /// Takes what comes from outside.
    External,
    /// Lets a load balancer's source ranges in.
    Firewall,
}

impl Chain {
    /// Its name for a port (`namespace/name:port`), hashed as upstream does.
    pub fn name(self, port: &str, protocol: Protocol) -> String {
        let prefix = match self {
            Self::Cluster => "KUBE-SVC-",
            Self::Local => "KUBE-SVL-",
            Self::External => "KUBE-EXT-",
            Self::Firewall => "KUBE-FW-",
        };
        format!("{prefix}{}", hash(&format!("{port}{protocol}")))
    }
}

/// The name of the chain of an endpoint (`address:port`) of a port of a Service.
pub(super) fn endpoint_chain(port: &str, protocol: Protocol, endpoint: &str) -> String {
    format!("KUBE-SEP-{}", hash(&format!("{port}{protocol}{endpoint}")))
}

/// The first sixteen characters of the SHA-256 in base 32.
fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let bits = digest
        .iter()
        .take(10)
        .fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte));
    let letter = |at: u32| char::from(BASE32[(bits >> (75 - 5 * at)) as usize & 31]);
    (0..16).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that every cluster has: `default/kubernetes:https` and the cluster's DNS.
    #[test]
    fn names_are_upstreams() {
        let of = |port: &str, protocol| Chain::Cluster.name(port, protocol);
        assert_eq!(
            of("default/kubernetes:https", Protocol::Tcp),
            "KUBE-SVC-NPX46M4PTMTKRN6Y"
        );
        assert_eq!(
            of("kube-system/kube-dns:dns", Protocol::Udp),
            "KUBE-SVC-TCOU7JCQXEZGVUNU"
        );
        assert_eq!(
            of("kube-system/kube-dns:dns-tcp", Protocol::Tcp),
            "KUBE-SVC-ERIFXISQEP7F7OF4"
        );
    }

    #[test]
    fn the_kubelets_chains_are_not_ours() {
        assert!(is_ours("KUBE-SEP-2TLZC6QOUTI37HEJ") && is_ours("KUBE-SERVICES"));
        assert!(
            !is_ours("KUBE-FIREWALL") && !is_ours("KUBE-KUBELET-CANARY") && !is_ours("KUBE-ROUTER-INPUT")
        );
    }
}
