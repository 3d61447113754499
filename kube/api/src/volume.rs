//! Claims of storage and the volumes that fit them (upstream: `pkg/volume/util`, `component-helpers/storage`). Pure.

use serde_json::Value;

use crate::quantity::Quantity;
use crate::selector::LabelSelector;

/// On a claim and its volume: a controller, not a person, has bound them.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

/// On a claim: the scheduler has chosen this node for the volume that is to be made.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// The provisioner that makes nothing.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// An annotation, empty if there is none.
pub fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"]["annotations"][key]
        .as_str()
        .unwrap_or_default()
}

/// The class that a claim or volume names; none if it says nothing, empty if it wants none.
pub fn class(object: &Value) -> Option<&str> {
    match annotation(object, OLD_CLASS) {
        "" => object["spec"]["storageClassName"].as_str(),
        old => Some(old),
    }
}

/// Whether claims of this class wait for a pod.
pub fn waits_for_consumer(class: &Value) -> bool {
    class["volumeBindingMode"] == "WaitForFirstConsumer"
}

/// Bytes at a pointer; zero where nothing stands there.
pub fn bytes(object: &Value, pointer: &str) -> i64 {
    Quantity::parse(text(object, pointer)).map_or(0, |amount| amount.value())
}

/// Whether the volume is kept for exactly this claim, or for one of its name that is not known yet.
pub fn is_for(volume: &Value, claim: &Value) -> bool {
    let kept = &volume["spec"]["claimRef"];
    let same = |field: &str| kept[field] == claim["metadata"][field];
    kept.is_object() && same("name") && same("namespace") && (text(kept, "/uid").is_empty() || same("uid"))
}

/// Why a volume is not what a claim that names it wants; upstream's words.
pub fn mismatch(volume: &Value, claim: &Value) -> Option<&'static str> {
    if too_small(volume, claim) {
        Some("requested PV is too small")
    } else if class(volume).unwrap_or_default() != class(claim).unwrap_or_default() {
        Some("storageClassName does not match")
    } else if mode(volume) != mode(claim) {
        Some("incompatible volumeMode")
    } else if !offers_modes(volume, claim) {
        Some("incompatible accessMode")
    } else {
        None
    }
}

fn too_small(volume: &Value, claim: &Value) -> bool {
    bytes(volume, "/spec/capacity/storage") < bytes(claim, "/spec/resources/requests/storage")
}

/// `Filesystem` or `Block`.
pub fn mode(object: &Value) -> &str {
    match text(object, "/spec/volumeMode") {
        "" => "Filesystem",
        mode => mode,
    }
}

fn offers_modes(volume: &Value, claim: &Value) -> bool {
    let offered = volume["spec"]["accessModes"].as_array();
    let wanted = claim["spec"]["accessModes"].as_array();
    let offers = |mode| offered.is_some_and(|offered| offered.contains(mode));
    wanted.into_iter().flatten().all(offers)
}

/// The smallest volume that fits a claim, or the one that is kept for it.
///
/// `reachable` says whether the volume can be had on the node in question; without a node, a claim that
/// `waits` for one only gets what is kept for it.
pub fn best<'a>(
    claim: &Value,
    volumes: impl Iterator<Item = &'a Value>,
    reachable: Option<&dyn Fn(&Value) -> bool>,
    waits: bool,
) -> Option<&'a Value> {
    let selector = claim["spec"]
        .get("selector")
        .filter(|selector| selector.is_object());
    let selector = selector.map(|selector| LabelSelector::from_object(Some(selector)));
    let mut smallest: Option<&Value> = None;
    for volume in volumes {
        let kept = is_for(volume, claim);
        let taken = volume["spec"]["claimRef"].is_object() && !kept;
        let going = volume["metadata"]["deletionTimestamp"].is_string();
        if taken || going || too_small(volume, claim) || mode(volume) != mode(claim) {
            continue;
        }
        let reached = reachable.is_none_or(|reachable| reachable(volume));
        if kept {
            return reached.then_some(volume);
        }
        let selected = match &selector {
            None => true,
            Some(Ok(selector)) => selector.matches(volume["metadata"]["labels"].as_object()),
            Some(Err(_)) => false,
        };
        let fits = reached
            && selected
            && !(reachable.is_none() && waits)
            && volume["status"]["phase"] == "Available"
            && class(volume).unwrap_or_default() == class(claim).unwrap_or_default()
            && offers_modes(volume, claim);
        let size = |volume: &Value| bytes(volume, "/spec/capacity/storage");
        if fits && smallest.is_none_or(|smallest| size(volume) < size(smallest)) {
            smallest = Some(volume);
        }
    }
    smallest
}

/// The claim behind a pod's volume: its name, and whether it is made for the pod alone.
pub fn claim_of(pod: &str, volume: &Value) -> Option<(String, bool)> {
    if let Some(name) = volume["persistentVolumeClaim"]["claimName"].as_str() {
        return Some((name.to_owned(), false));
    }
    let own = volume.get("ephemeral").filter(|source| source.is_object());
    own.map(|_| (format!("{pod}-{}", text(volume, "/name")), true))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn volume(name: &str, size: &str, spec: Value) -> Value {
        let mut volume = json!({"metadata": {"name": name, "labels": {"disk": name}},
            "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce", "ReadOnlyMany"],
                "storageClassName": "fast", "volumeMode": "Filesystem"},
            "status": {"phase": "Available"}});
        for (key, value) in spec.as_object().unwrap() {
            volume["spec"][key] = value.clone();
        }
        volume
    }

    fn claim(spec: Value) -> Value {
        let mut claim = json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"},
            "spec": {"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"],
                "storageClassName": "fast"}});
        for (key, value) in spec.as_object().unwrap() {
            claim["spec"][key] = value.clone();
        }
        claim
    }

    #[test]
    fn the_smallest_that_fits_or_the_one_that_is_kept() {
        let volumes = [
            volume("small", "500Mi", json!({})),
            volume("large", "10Gi", json!({})),
            volume("right", "1Gi", json!({})),
            volume("block", "1Gi", json!({"volumeMode": "Block"})),
            volume("slow", "1Gi", json!({"storageClassName": "slow"})),
            volume("once", "1Gi", json!({"accessModes": ["ReadWriteOncePod"]})),
            volume(
                "other",
                "1Gi",
                json!({"claimRef": {"name": "x", "namespace": "n"}}),
            ),
        ];
        let found = |claim: Value, waits| {
            let best = best(&claim, volumes.iter(), None, waits);
            best.map(|volume| text(volume, "/metadata/name").to_owned())
        };
        for (spec, expected) in [
            (json!({}), Some("right")),
            (
                json!({"resources": {"requests": {"storage": "2Gi"}}}),
                Some("large"),
            ),
            (json!({"resources": {"requests": {"storage": "20Gi"}}}), None),
            (json!({"volumeMode": "Block"}), Some("block")),
            (json!({"storageClassName": "slow"}), Some("slow")),
            (json!({"storageClassName": ""}), None),
            (json!({"accessModes": ["ReadWriteOncePod"]}), Some("once")),
            (json!({"accessModes": ["ReadWriteMany"]}), None),
            (
                json!({"selector": {"matchLabels": {"disk": "large"}}}),
                Some("large"),
            ),
        ] {
            assert_eq!(found(claim(spec.clone()), false).as_deref(), expected, "{spec}");
        }
        assert_eq!(found(claim(json!({})), true), None, "it waits for a pod");
        let kept = volume(
            "kept",
            "1Ti",
            json!({"claimRef": {"name": "c", "namespace": "n"}}),
        );
        let all = volumes.iter().chain([&kept]);
        let best = best(&claim(json!({})), all, None, true).unwrap();
        assert_eq!(best["metadata"]["name"], "kept");
    }

    #[test]
    fn a_node_decides_what_can_be_had() {
        let volumes = [volume("a", "1Gi", json!({})), volume("b", "2Gi", json!({}))];
        let reachable = |volume: &Value| volume["metadata"]["name"] == "b";
        let found = best(&claim(json!({})), volumes.iter(), Some(&reachable), true).unwrap();
        assert_eq!(found["metadata"]["name"], "b");
    }

    #[test]
    fn volumes_name_claims() {
        let named = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
        assert_eq!(claim_of("p", &named), Some(("c".into(), false)));
        assert_eq!(
            claim_of("p", &json!({"name": "v", "ephemeral": {}})),
            Some(("p-v".into(), true))
        );
        assert_eq!(claim_of("p", &json!({"name": "v", "emptyDir": {}})), None);
    }
}
