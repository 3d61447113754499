//! Trust bundles in a projected volume (upstream: `pkg/kubelet/clustertrustbundle`). Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ClusterTrustBundleProjection;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::error::VolumeError;
use crate::objects::TrustQuery;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Which bundles a source asks for. A signer without a selector matches nothing, as upstream.
pub(super) fn query(source: &ClusterTrustBundleProjection) -> Option<TrustQuery> {
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(name) = text(&source.name) {
        return Some(TrustQuery::Name(name));
    }
    Some(TrustQuery::Signer {
        signer: text(&source.signer_name)?,
        selector: selector(source.label_selector.as_ref()?),
    })
}

/// A label selector as it is written in a query.
fn selector(selector: &LabelSelector) -> String {
    let equal = selector.match_labels.iter().flatten();
    let equal = equal.map(|(key, value)| format!("{key}={value}"));
    let others = selector.match_expressions.iter().flatten().map(|one| {
        let values = one.values.as_deref().unwrap_or_default().join(",");
        match one.operator.as_str() {
            "In" => format!("{} in ({values})", one.key),
            "NotIn" => format!("{} notin ({values})", one.key),
            "DoesNotExist" => format!("!{}", one.key),
            _ => one.key.clone(),
        }
    });
    equal.chain(others).collect::<Vec<_>>().join(",")
}

/// All certificates, each once, in an order that depends on them alone.
pub(crate) fn together(bundles: &[String]) -> String {
    let mut all = BTreeSet::new();
    for bundle in bundles {
        let mut rest = bundle.as_str();
        while let Some((_, after)) = rest.split_once(BEGIN) {
            let Some((body, after)) = after.split_once(END) else {
                break;
            };
            all.insert(body.split_whitespace().collect::<Vec<_>>().join("\n"));
            rest = after;
        }
    }
    let all = all.into_iter().map(|body| format!("{BEGIN}\n{body}\n{END}\n"));
    all.collect()
}

/// That there is no such bundle.
pub(crate) fn missing(query: Option<&TrustQuery>) -> VolumeError {
    match query {
        Some(TrustQuery::Name(name)) => VolumeError::NotFound {
            kind: "clustertrustbundle.certificates.k8s.io",
            name: name.clone(),
        },
        Some(TrustQuery::Signer { signer, selector }) => VolumeError::NoTrustBundle {
            signer: signer.clone(),
            selector: selector.clone(),
        },
        None => VolumeError::NoTrustBundle {
            signer: String::new(),
            selector: String::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn bundles_are_named_or_selected() {
        let of = |source: Value| query(&serde_json::from_value(source).unwrap());
        let named = of(json!({"path": "ca.pem", "name": "mine"}));
        assert_eq!(named, Some(TrustQuery::Name("mine".to_owned())));
        let selected = of(json!({"path": "ca.pem", "signerName": "s/x", "labelSelector": {
            "matchLabels": {"a": "b"}, "matchExpressions": [
                {"key": "c", "operator": "In", "values": ["d", "e"]}, {"key": "f", "operator": "DoesNotExist"}]}}));
        let selector = "a=b,c in (d,e),!f".to_owned();
        let signer = "s/x".to_owned();
        assert_eq!(selected, Some(TrustQuery::Signer { signer, selector }));
        assert_eq!(
            of(json!({"path": "ca.pem", "signerName": "s/x"})),
            None,
            "no selector matches nothing"
        );
    }

    #[test]
    fn certificates_come_once() {
        let one = |body: &str| format!("# said\n{BEGIN}\n{body}\n{END}\n");
        let text = together(&[one("BBBB\nCC") + &one("AAAA"), one("BBBB\nCC")]);
        assert_eq!(text, format!("{BEGIN}\nAAAA\n{END}\n{BEGIN}\nBBBB\nCC\n{END}\n"));
        assert_eq!(together(&[]), "");
    }
}
