//! Dynamic resources: claims and classes of devices.
use jiff::Timestamp;
use serde_json::Value;

use super::{BASE, BODY_VERBS, STATUS};
use crate::cells::{AGE, NAME, column};
use crate::kind::{Kind, Storage, Subresource};
use crate::strategies::dynamic;

pub(super) static RESOURCE_CLAIM: Kind = Kind {
    group: "resource.k8s.io",
    kind: "ResourceClaim",
    list_kind: "ResourceClaimList",
    plural: "resourceclaims",
    singular: "resourceclaim",
    subresources: &[Subresource {
        verbs: BODY_VERBS,
        ..STATUS
    }],
    storage: Storage::Stored("resourceclaims"),
    columns: &[NAME, column("State", "string", 0, state), AGE],
    strategy: &dynamic::Claims,
    ..BASE
};

pub(super) static RESOURCE_CLAIM_TEMPLATE: Kind = Kind {
    group: "resource.k8s.io",
    kind: "ResourceClaimTemplate",
    list_kind: "ResourceClaimTemplateList",
    plural: "resourceclaimtemplates",
    singular: "resourceclaimtemplate",
    storage: Storage::Stored("resourceclaimtemplates"),
    columns: &[NAME, AGE],
    strategy: &dynamic::Templates,
    ..BASE
};

pub(super) static DEVICE_CLASS: Kind = Kind {
    group: "resource.k8s.io",
    kind: "DeviceClass",
    list_kind: "DeviceClassList",
    plural: "deviceclasses",
    singular: "deviceclass",
    namespaced: false,
    storage: Storage::Stored("deviceclasses"),
    columns: &[NAME, AGE],
    strategy: &dynamic::Classes,
    ..BASE
};

/// How far a claim is.
fn state(claim: &Value, _now: Timestamp) -> Value {
    let deleted = claim["metadata"]["deletionTimestamp"].is_string();
    let allocated = claim["status"]["allocation"].is_object();
    let users = claim["status"]["reservedFor"].as_array();
    let states = [
        (deleted, "deleted"),
        (!deleted && !allocated, "pending"),
        (allocated, "allocated"),
        (
            allocated && users.is_some_and(|users| !users.is_empty()),
            "reserved",
        ),
    ];
    let words: Vec<_> = states
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, word)| word)
        .collect();
    words.join(",").into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn states_of_claims() {
        let text = |claim: Value| state(&claim, Timestamp::UNIX_EPOCH);
        assert_eq!(text(json!({})), "pending");
        let allocated = json!({"status": {"allocation": {}, "reservedFor": [{}]}});
        assert_eq!(text(allocated), "allocated,reserved");
        let gone = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(text(gone), "deleted");
    }
}
