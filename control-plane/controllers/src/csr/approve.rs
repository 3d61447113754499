//! Which requests need no person.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
use k8s_openapi::api::core::v1::Node;
use knode_pki::{SigningRequest, Usage};

use super::sign::{KUBELET_CLIENT, KUBELET_SERVING, usages};

const NODE_GROUP: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

/// What to do with a request that nobody has decided yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// A person decides.
    Wait,
    /// Approve if the requester may create this subresource of certificate requests.
    IfAllowed(&'static str, &'static str),
    /// Approve.
    Approve(&'static str),
}

/// Decides as upstream's approver does for kubelet client certificates. Serving certificates, which upstream
/// leaves to a person, are approved when a node asks for its own and every name is one of that node's addresses.
pub(super) fn decide(
    spec: &CertificateSigningRequestSpec,
    node: impl Fn(&str) -> Option<Arc<Node>>,
) -> Decision {
    let Ok(text) = std::str::from_utf8(&spec.request.0) else {
        return Decision::Wait;
    };
    let Ok(request) = SigningRequest::parse(text) else {
        return Decision::Wait;
    };
    let Some(usages) = usages(spec) else {
        return Decision::Wait;
    };
    let Some(name) = node_name(&request) else {
        return Decision::Wait;
    };
    let own = spec.username.as_deref() == Some(request.subject.common_name.as_str());
    match spec.signer_name.as_str() {
        KUBELET_CLIENT if request.names.is_empty() && client_usages(&usages) => {
            if own {
                let message = "Auto approving self kubelet client certificate after SubjectAccessReview.";
                return Decision::IfAllowed("selfnodeclient", message);
            }
            Decision::IfAllowed(
                "nodeclient",
                "Auto approving kubelet client certificate after SubjectAccessReview.",
            )
        }
        KUBELET_SERVING if own && serving_usages(&usages) => match node(name) {
            Some(node) if names_belong(&request, &node) => Decision::Approve(
                "Auto approving kubelet serving certificate: its names are the node's addresses.",
            ),
            _ => Decision::Wait,
        },
        _ => Decision::Wait,
    }
}

/// The node that the request is about, if its subject is that of a node.
fn node_name(request: &SigningRequest) -> Option<&str> {
    if request.subject.organizations != [NODE_GROUP] {
        return None;
    }
    request
        .subject
        .common_name
        .strip_prefix(NODE_PREFIX)
        .filter(|n| !n.is_empty())
}

fn exactly(usages: &[Usage], needed: &[Usage]) -> bool {
    let allowed = |u: &Usage| needed.contains(u) || *u == Usage::KeyEncipherment;
    usages.iter().all(allowed) && needed.iter().all(|n| usages.contains(n))
}

/// Whether these are the usages of a kubelet's client certificate.
pub(super) fn client_usages(usages: &[Usage]) -> bool {
    exactly(usages, &[Usage::DigitalSignature, Usage::ClientAuth])
}

/// Whether these are the usages of a kubelet's serving certificate.
pub(super) fn serving_usages(usages: &[Usage]) -> bool {
    exactly(usages, &[Usage::DigitalSignature, Usage::ServerAuth])
}

fn names_belong(request: &SigningRequest, node: &Node) -> bool {
    let addresses: Vec<&str> = node
        .status
        .iter()
        .flat_map(|s| s.addresses.iter().flatten())
        .map(|a| a.address.as_str())
        .collect();
    let ips: Vec<IpAddr> = addresses.iter().filter_map(|a| a.parse().ok()).collect();
    !request.names.is_empty()
        && request.names.emails.is_empty()
        && request.names.uris.is_empty()
        && request.names.ips.iter().all(|ip| ips.contains(ip))
        && request.names.dns.iter().all(|d| addresses.contains(&d.as_str()))
}
