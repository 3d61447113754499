//! Which audiences a node may get tokens for: those that volumes of the pod ask for, and those that somebody has allowed
//! it (`ServiceAccountNodeAudienceRestriction` of `plugin/pkg/admission/noderestriction`).

use serde_json::Value;

use crate::auth::{Attributes, Decision};
use crate::core::Core;
use crate::http::Failure;
use crate::registry::Ask;

/// The verb that allows an audience, which stands in the resource's place.
const VERB: &str = "request-serviceaccounts-token-audience";

/// Refuses a token for an audience that neither the pod nor a role names.
pub(super) fn check(core: &Core, ask: &Ask, pod: &Value, request: &Value) -> Result<(), Failure> {
    let wanted = match request["spec"]["audiences"].as_array().map(Vec::as_slice) {
        None | Some([]) => "",
        Some([one]) => one.as_str().unwrap_or_default(),
        Some(_) => return refuse(ask, "node may only request 0 or 1 audiences"),
    };
    if in_volumes(core, &ask.info.namespace, pod, wanted) || allowed(core, ask, wanted) {
        return Ok(());
    }
    let user = &ask.user.name;
    refuse(
        ask,
        &format!(
            "audience {wanted:?} not found in pod spec volume, {user:?} is not authorized to request tokens for this \
             audience"
        ),
    )
}

fn refuse(ask: &Ask, why: &str) -> Result<(), Failure> {
    Err(ask.forbidden(&ask.info.name, why))
}

fn allowed(core: &Core, ask: &Ask, audience: &str) -> bool {
    let question = Attributes {
        user: ask.user.clone(),
        verb: VERB.to_owned(),
        is_resource: true,
        resource: audience.to_owned(),
        namespace: ask.info.namespace.clone(),
        name: ask.info.name.clone(),
        ..Attributes::default()
    };
    core.authorizer.decide(&question) == Decision::Allowed
}

/// Whether a projected volume asks for it, or the driver of a volume is to be given it.
fn in_volumes(core: &Core, namespace: &str, pod: &Value, audience: &str) -> bool {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let mut volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes.any(|volume| {
        is_projected(volume, audience)
            || driver(core, namespace, name, volume).is_some_and(|driver| asks(core, &driver, audience))
    })
}

fn is_projected(volume: &Value, audience: &str) -> bool {
    let sources = volume["projected"]["sources"].as_array();
    let tokens = sources
        .into_iter()
        .flatten()
        .map(|source| &source["serviceAccountToken"]);
    let mut audiences = tokens
        .filter(|token| token.is_object())
        .map(|token| &token["audience"]);
    audiences.any(|found| found.as_str().unwrap_or_default() == audience)
}

/// The CSI driver of a volume, its own or that of its claim.
fn driver(core: &Core, namespace: &str, pod: &str, volume: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(driver) = text(&volume["csi"]["driver"]) {
        return Some(driver);
    }
    let (claim, _) = knode_api::volume::claim_of(pod, volume)?;
    let claim = core.cached("", "persistentvolumeclaims", &format!("{namespace}/{claim}"))?;
    let bound = text(&claim.value()["spec"]["volumeName"])?;
    text(&core.cached("", "persistentvolumes", &bound)?.value()["spec"]["csi"]["driver"])
}

fn asks(core: &Core, driver: &str, audience: &str) -> bool {
    let Some(driver) = core.cached("storage.k8s.io", "csidrivers", driver) else {
        return false;
    };
    let driver = driver.value();
    let mut asked = driver["spec"]["tokenRequests"].as_array().into_iter().flatten();
    asked.any(|one| one["audience"].as_str().unwrap_or_default() == audience)
}
