//! Which approved requests our signer signs, and for how long
//! (upstream: pkg/controller/certificates/signer, pkg/apis/certificates/helpers.go).

use std::time::Duration;

use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
use knode_pki::{SigningRequest, Usage};

use super::approve::{client_usages, serving_usages};

pub(super) const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub(super) const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub(super) const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";

/// Shortest life that can be asked for.
const SHORTEST: Duration = Duration::from_secs(600);

/// A request that is fit to be signed.
#[derive(Debug)]
pub(super) struct Order {
    pub request: SigningRequest,
    pub usages: Vec<Usage>,
    pub lifetime: Duration,
}

/// What the signer makes of an approved request.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Another signer's.
    NotOurs,
    /// Never to be signed, and why.
    Refuse(String),
    Sign(Box<Order>),
}

/// The usages of the API object; none if one of them is unknown.
pub(super) fn usages(spec: &CertificateSigningRequestSpec) -> Option<Vec<Usage>> {
    spec.usages.iter().flatten().map(|u| u.parse().ok()).collect()
}

/// Holds a request against the rules of its signer. `longest` is the life of a certificate of which nothing shorter
/// is asked.
pub(super) fn check(spec: &CertificateSigningRequestSpec, longest: Duration) -> Verdict {
    if ![CLIENT, KUBELET_CLIENT, KUBELET_SERVING].contains(&spec.signer_name.as_str()) {
        return Verdict::NotOurs;
    }
    let parsed = std::str::from_utf8(&spec.request.0).map_err(|e| e.to_string());
    let parsed = parsed.and_then(|text| SigningRequest::parse(text).map_err(|e| e.to_string()));
    let request = match parsed {
        Ok(request) => request,
        Err(why) => return Verdict::Refuse(format!("unable to parse csr: {why}")),
    };
    let Some(usages) = usages(spec) else {
        return Verdict::Refuse("unknown usage".into());
    };
    if let Some(why) = refusal(&spec.signer_name, &request, &usages) {
        return Verdict::Refuse(why.into());
    }
    let asked = spec
        .expiration_seconds
        .and_then(|s| u64::try_from(s).ok())
        .map(Duration::from_secs);
    let lifetime = asked.map_or(longest, |asked| asked.max(SHORTEST).min(longest));
    Verdict::Sign(Box::new(Order {
        request,
        usages,
        lifetime,
    }))
}

fn refusal(signer: &str, request: &SigningRequest, usages: &[Usage]) -> Option<&'static str> {
    if signer == CLIENT {
        return match usages.contains(&Usage::ClientAuth) && !usages.contains(&Usage::ServerAuth) {
            true if request
                .subject
                .organizations
                .iter()
                .any(|o| o == "system:masters") =>
            {
                Some(
                    "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
                )
            }
            true => None,
            false => Some("usages did not match the signer's"),
        };
    }
    if request.subject.organizations != ["system:nodes"] {
        return Some("subject organization is not system:nodes");
    }
    if !request.subject.common_name.starts_with("system:node:") {
        return Some("subject common name does not begin with system:node:");
    }
    match signer {
        KUBELET_CLIENT if !request.names.is_empty() => Some("subjectAltNames are not allowed"),
        KUBELET_CLIENT if !client_usages(usages) => Some("usages did not match the signer's"),
        KUBELET_SERVING if !request.names.emails.is_empty() => {
            Some("only IPs and DNS subjectAltNames are allowed: found e-mail addresses")
        }
        KUBELET_SERVING if !request.names.uris.is_empty() => {
            Some("only IPs and DNS subjectAltNames are allowed: found URIs")
        }
        KUBELET_SERVING if request.names.is_empty() => {
            Some("at least one DNS or IP subjectAltName is required")
        }
        KUBELET_SERVING if !serving_usages(usages) => Some("usages did not match the signer's"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Node;
    use knode_pki::{PrivateKey, Subject, SubjectAltNames};
    use serde_json::json;

    use super::super::approve::{Decision, decide};
    use super::*;

    fn spec(
        signer: &str,
        user: &str,
        subject: Subject,
        names: SubjectAltNames,
        usages: &[&str],
    ) -> CertificateSigningRequestSpec {
        let pem = SigningRequest::create(&PrivateKey::generate(), &subject, &names).unwrap();
        CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: signer.into(),
            username: Some(user.into()),
            usages: Some(usages.iter().map(|u| (*u).to_owned()).collect()),
            ..CertificateSigningRequestSpec::default()
        }
    }

    fn node() -> Arc<Node> {
        let node = json!({"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
        Arc::new(serde_json::from_value(node).unwrap())
    }

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    const CLIENT_USAGES: &[&str] = &["digital signature", "client auth"];
    const SERVER_USAGES: &[&str] = &["digital signature", "server auth"];

    #[test]
    fn a_bootstrapping_kubelet_needs_a_permission() {
        let subject = Subject::new("system:node:a", &["system:nodes"]);
        let s = spec(
            KUBELET_CLIENT,
            "system:bootstrap:x",
            subject,
            SubjectAltNames::default(),
            CLIENT_USAGES,
        );
        assert!(matches!(
            decide(&s, |_| None),
            Decision::IfAllowed("nodeclient", _)
        ));
        assert!(matches!(check(&s, YEAR), Verdict::Sign(_)));
    }

    #[test]
    fn nobody_becomes_a_master_by_a_request() {
        let subject = Subject::new("x", &["system:masters"]);
        let s = spec(
            CLIENT,
            "u",
            subject.clone(),
            SubjectAltNames::default(),
            CLIENT_USAGES,
        );
        assert!(matches!(check(&s, YEAR), Verdict::Refuse(_)));
        let s = spec(
            KUBELET_CLIENT,
            "u",
            subject,
            SubjectAltNames::default(),
            CLIENT_USAGES,
        );
        assert_eq!(decide(&s, |_| None), Decision::Wait);
        assert!(matches!(check(&s, YEAR), Verdict::Refuse(_)));
    }

    #[test]
    fn a_serving_certificate_names_only_the_nodes_own_addresses() {
        let ask = |user: &str, ip: &str| {
            let names = SubjectAltNames {
                ips: vec![ip.parse().unwrap()],
                ..SubjectAltNames::default()
            };
            let subject = Subject::new("system:node:a", &["system:nodes"]);
            decide(&spec(KUBELET_SERVING, user, subject, names, SERVER_USAGES), |n| {
                (n == "a").then(node)
            })
        };
        assert!(matches!(ask("system:node:a", "10.0.0.1"), Decision::Approve(_)));
        assert_eq!(ask("system:node:a", "10.0.0.2"), Decision::Wait);
        assert_eq!(ask("system:node:b", "10.0.0.1"), Decision::Wait);
    }

    #[test]
    fn a_serving_certificate_names_nothing_but_addresses_and_hosts() {
        let names = SubjectAltNames {
            ips: vec!["10.0.0.1".parse().unwrap()],
            uris: vec!["spiffe://cluster/admin".into()],
            ..SubjectAltNames::default()
        };
        let subject = Subject::new("system:node:a", &["system:nodes"]);
        let s = spec(KUBELET_SERVING, "system:node:a", subject, names, SERVER_USAGES);
        assert_eq!(decide(&s, |_| Some(node())), Decision::Wait);
        assert!(matches!(check(&s, YEAR), Verdict::Refuse(why) if why.contains("URIs")));
    }

    #[test]
    fn a_life_is_as_long_as_asked_for_within_bounds() {
        let life = |asked: Option<i32>, longest: u64| {
            let mut s = spec(
                KUBELET_CLIENT,
                "u",
                Subject::new("system:node:a", &["system:nodes"]),
                SubjectAltNames::default(),
                CLIENT_USAGES,
            );
            s.expiration_seconds = asked;
            match check(&s, Duration::from_secs(longest)) {
                Verdict::Sign(order) => order.lifetime.as_secs(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(life(None, 3600), 3600);
        assert_eq!(life(Some(900), 3600), 900);
        assert_eq!(life(Some(60), 3600), 600, "nobody asks for less than ten minutes");
        assert_eq!(life(Some(7200), 3600), 3600);
        assert_eq!(life(Some(900), 30), 30, "the signer's own bound wins");
    }

    #[test]
    fn a_request_that_somebody_else_sends_again_is_not_approved() {
        // What a node has asked for can be read by others; sent by them it is not the node's own.
        let subject = Subject::new("system:node:a", &["system:nodes"]);
        let client = spec(
            KUBELET_CLIENT,
            "system:node:b",
            subject.clone(),
            SubjectAltNames::default(),
            CLIENT_USAGES,
        );
        assert!(
            matches!(decide(&client, |_| None), Decision::IfAllowed("nodeclient", _)),
            "nodes have no right to this one"
        );
        let names = SubjectAltNames {
            ips: vec!["10.0.0.1".parse().unwrap()],
            ..SubjectAltNames::default()
        };
        let serving = spec(KUBELET_SERVING, "system:node:b", subject, names, SERVER_USAGES);
        assert_eq!(decide(&serving, |_| Some(node())), Decision::Wait);
    }

    #[test]
    fn another_signers_requests_are_left_alone() {
        let s = spec(
            "example.com/x",
            "u",
            Subject::new("x", &[]),
            SubjectAltNames::default(),
            CLIENT_USAGES,
        );
        assert!(matches!(check(&s, YEAR), Verdict::NotOurs));
    }
}
