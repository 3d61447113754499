//! Which claims a pod has, and whether it may use them (upstream: `k8s.io/dynamic-resource-allocation/resourceclaim`).
//! Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::Value;

use crate::error::ClaimsError;

/// A claim as a pod names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodClaim {
    /// Its name in the pod.
    pub local: String,
    /// The object's name.
    pub name: String,
    /// Whether it was made of a template for this pod alone.
    pub own: bool,
}

/// The pod's claims. Those of templates for which no object is needed are left out.
///
/// # Errors
/// [`ClaimsError::NotCreated`].
pub fn claims_of(pod: &Pod) -> Result<Vec<PodClaim>, ClaimsError> {
    let wanted = pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_ref());
    let made = pod
        .status
        .as_ref()
        .and_then(|status| status.resource_claim_statuses.as_ref());
    let mut all = Vec::new();
    for one in wanted.into_iter().flatten() {
        let local = one.name.clone();
        if let Some(name) = one.resource_claim_name.clone() {
            all.push(PodClaim {
                local,
                name,
                own: false,
            });
            continue;
        }
        let mut made = made.into_iter().flatten();
        let Some(status) = made.find(|status| status.name == local) else {
            return Err(ClaimsError::NotCreated(local));
        };
        if let Some(name) = status.resource_claim_name.clone() {
            all.push(PodClaim {
                local,
                name,
                own: true,
            });
        }
    }
    Ok(all)
}

/// The requests of the claim with this name in the pod that a container uses; none where it does not use the claim,
/// an empty name for all of them.
pub fn requests_of<'a>(container: &'a Container, local: &str) -> Vec<&'a str> {
    let claims = container
        .resources
        .as_ref()
        .and_then(|resources| resources.claims.as_ref());
    let used = claims.into_iter().flatten().filter(|claim| claim.name == local);
    used.map(|claim| claim.request.as_deref().unwrap_or_default())
        .collect()
}

/// What of a claim's object counts here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
    /// The uid of what it was made for.
    pub owner: Option<String>,
    /// Uids of the pods for which it is reserved.
    pub reserved: BTreeSet<String>,
    /// Drivers of its devices; none if nothing is allocated.
    pub drivers: Option<BTreeSet<String>>,
}

impl Claim {
    /// Reads an object.
    pub fn of(object: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let metadata = &object["metadata"];
        let owners = list(&metadata["ownerReferences"]).into_iter();
        let mut owners = owners.filter(|owner| owner["controller"] == true);
        let users = list(&object["status"]["reservedFor"]).into_iter();
        let pods = users.filter(|user| user["resource"] == "pods" && text(&user["apiGroup"]).is_empty());
        let allocation = &object["status"]["allocation"];
        let results = list(&allocation["devices"]["results"]);
        let drivers = results.iter().map(|result| text(&result["driver"])).collect();
        Self {
            name: text(&metadata["name"]),
            namespace: text(&metadata["namespace"]),
            uid: text(&metadata["uid"]),
            owner: owners.next().map(|owner| text(&owner["uid"])),
            reserved: pods.map(|user| text(&user["uid"])).collect(),
            drivers: allocation.is_object().then_some(drivers),
        }
    }

    /// Whether `pod` may use it, and the drivers that must make it ready.
    ///
    /// # Errors
    /// Why not.
    pub fn usable(&self, pod: &Pod, own: bool) -> Result<&BTreeSet<String>, ClaimsError> {
        let pod_name = pod.metadata.name.clone().unwrap_or_default();
        let pod_uid = pod.metadata.uid.clone().unwrap_or_default();
        if own && self.owner.as_deref() != Some(&pod_uid) {
            return Err(ClaimsError::NotOwner {
                name: self.name.clone(),
                pod: pod_name,
            });
        }
        if !self.reserved.contains(&pod_uid) {
            return Err(ClaimsError::NotReserved {
                pod: pod_name,
                pod_uid,
                name: self.name.clone(),
                uid: self.uid.clone(),
            });
        }
        let allocated = self.drivers.as_ref();
        allocated.ok_or_else(|| ClaimsError::NotAllocated(self.name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {
                "containers": [{"name": "c", "resources": {"claims": [{"name": "a", "request": "r"}, {"name": "b"}]}}],
                "resourceClaims": [
                    {"name": "a", "resourceClaimName": "given"},
                    {"name": "b", "resourceClaimTemplateName": "t"},
                    {"name": "c", "resourceClaimTemplateName": "t"},
                ],
            },
            "status": {"resourceClaimStatuses": [{"name": "b", "resourceClaimName": "made"}, {"name": "c"}]},
        }))
        .unwrap()
    }

    #[test]
    fn claims_by_name_and_of_templates() {
        let mut pod = pod();
        let names = |pod: &Pod| -> Result<Vec<(String, bool)>, String> {
            let claims = claims_of(pod).map_err(|error| error.to_string())?;
            Ok(claims.into_iter().map(|claim| (claim.name, claim.own)).collect())
        };
        assert_eq!(
            names(&pod).unwrap(),
            [("given".to_owned(), false), ("made".to_owned(), true)]
        );
        let container = &pod.spec.as_ref().unwrap().containers[0];
        assert_eq!(requests_of(container, "a"), ["r"]);
        assert_eq!(requests_of(container, "b"), [""]);
        assert_eq!(requests_of(container, "c"), [""; 0]);
        pod.status = None;
        assert_eq!(
            names(&pod).unwrap_err(),
            "the ResourceClaim of pod claim \"b\" is not created yet"
        );
    }

    #[test]
    fn who_may_use_a_claim() {
        let claim = |owner: &str, user: &str, allocated: bool| {
            let allocation = allocated.then(|| json!({"devices": {"results": [{"driver": "d"}]}}));
            Claim::of(&json!({
                "metadata": {"name": "made", "namespace": "n", "uid": "cu",
                    "ownerReferences": [{"uid": owner, "controller": true}]},
                "status": {"reservedFor": [{"resource": "pods", "name": "p", "uid": user}], "allocation": allocation},
            }))
        };
        let verdict = |claim: Claim, own| match claim.usable(&pod(), own) {
            Ok(drivers) => drivers.iter().cloned().collect::<Vec<_>>().join(","),
            Err(error) => error.to_string(),
        };
        assert_eq!(verdict(claim("u", "u", true), true), "d");
        assert_eq!(verdict(claim("other", "u", true), false), "d");
        assert_eq!(
            verdict(claim("other", "u", true), true),
            "ResourceClaim made was not created for pod p (pod is not owner)"
        );
        assert_eq!(
            verdict(claim("u", "other", true), true),
            "pod p (u) is not allowed to use ResourceClaim made (cu)"
        );
        assert_eq!(
            verdict(claim("u", "u", false), true),
            "ResourceClaim made is not allocated"
        );
    }
}
