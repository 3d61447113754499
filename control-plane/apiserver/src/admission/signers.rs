//! Who may speak for a signer (`plugin/pkg/admission/certificates`).

use serde_json::Value;

use super::Operation;
use crate::auth::{Attributes, Decision};
use crate::core::Core;
use crate::http::Failure;
use crate::registry::Ask;

const GROUP: &str = "certificates.k8s.io";

/// Refuses a trust bundle of a signer by who may not attest for it.
pub(super) fn check(
    core: &Core,
    ask: &Ask,
    operation: Operation,
    new: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Failure> {
    let Some(new) = new.filter(|_| operation != Operation::Delete) else {
        return Ok(());
    };
    if (ask.kind.group, ask.kind.plural) != (GROUP, "clustertrustbundles") {
        return Ok(());
    }
    let signer = new["spec"]["signerName"].as_str().unwrap_or_default();
    if signer.is_empty() || old.is_some_and(|old| same(new, old)) || may(core, ask, "attest", signer) {
        return Ok(());
    }
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    Err(ask.forbidden(
        name,
        &format!("user not permitted to attest for signerName {signer:?}"),
    ))
}

/// Whether no more than owners and finalizers has changed: what garbage collectors do.
fn same(new: &Value, old: &Value) -> bool {
    let bare = |bundle: &Value| {
        let mut bundle = bundle.clone();
        if let Some(metadata) = bundle["metadata"].as_object_mut() {
            for field in [
                "ownerReferences",
                "finalizers",
                "managedFields",
                "resourceVersion",
                "generation",
            ] {
                metadata.remove(field);
            }
        }
        bundle
    };
    bare(new) == bare(old)
}

/// Whether the user may do this for the signer, or for all signers of its domain.
fn may(core: &Core, ask: &Ask, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    let allowed = |name: String| {
        let question = Attributes {
            user: ask.user.clone(),
            verb: verb.to_owned(),
            is_resource: true,
            group: GROUP.to_owned(),
            resource: "signers".to_owned(),
            name,
            ..Attributes::default()
        };
        core.authorizer.decide(&question) == Decision::Allowed
    };
    allowed(signer.to_owned()) || allowed(format!("{domain}/*"))
}
