//! Groups and resources.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use knode_kinds::{Kind, Storage, Subresource};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{group_versions, kinds_of};

/// APIGroupList.
pub(super) fn list() -> Value {
    let names = names();
    let groups: Vec<Value> = names
        .into_iter()
        .filter(|name| !name.is_empty())
        .map(entry)
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = group_versions().into_iter().map(|(group, _)| group).collect();
    names.dedup();
    names
}

fn entry(name: &str) -> Value {
    let versions: Vec<Value> = group_versions()
        .into_iter()
        .filter(|(group, _)| *group == name)
        .map(|(group, version)| json!({"groupVersion": format!("{group}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "preferredVersion": versions.first(), "versions": versions})
}

/// APIGroup.
pub(super) fn group(name: &str) -> Option<Value> {
    if name.is_empty() || !names().contains(&name) {
        return None;
    }
    let mut value = entry(name);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Some(value)
}

/// APIResourceList.
pub(super) fn resources(group: &str, version: &str) -> Option<Value> {
    let kinds = kinds_of(group, version);
    if kinds.is_empty() {
        return None;
    }
    let resources: Vec<Value> = kinds.into_iter().flat_map(with_subresources).collect();
    let name = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let mut value = json!({"kind": "APIResourceList", "groupVersion": name, "resources": resources});
    if !group.is_empty() {
        value["apiVersion"] = "v1".into();
    }
    Some(value)
}

fn with_subresources(kind: &'static Kind) -> Vec<Value> {
    let mut own = json!({"name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
        "kind": kind.kind, "verbs": kind.verbs});
    if !kind.short_names.is_empty() {
        own["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        own["categories"] = json!(kind.categories);
    }
    if kind.storage != Storage::Virtual {
        own["storageVersionHash"] = storage_hash(kind).into();
    }
    let below = kind.subresources.iter().map(|sub| {
        let mut value = json!({"name": format!("{}/{}", kind.plural, sub.name), "singularName": "",
            "namespaced": kind.namespaced, "kind": kind_of(kind, sub), "verbs": sub.verbs});
        if !sub.version.is_empty() {
            value["group"] = sub.group.into();
            value["version"] = sub.version.into();
        }
        value
    });
    std::iter::once(own).chain(below).collect()
}

fn kind_of(kind: &Kind, sub: &Subresource) -> &'static str {
    if sub.kind.is_empty() { kind.kind } else { sub.kind }
}

/// Upstream's hash of the kind in whose form objects are stored.
fn storage_hash(kind: &'static Kind) -> String {
    let stored = knode_kinds::kinds()
        .iter()
        .find(|other| other.storage == kind.storage)
        .unwrap_or(&kind);
    let digest = Sha256::digest(format!("{}/{}/{}", stored.group, stored.version, stored.kind));
    STANDARD.encode(&digest[..8])
}

/// APIGroupDiscoveryList of `/api` or `/apis`.
pub(super) fn aggregated(core: bool) -> Value {
    let names = names().into_iter().filter(|name| name.is_empty() == core);
    let items: Vec<Value> = names
        .map(|name| {
            let metadata = if core { json!({}) } else { json!({"name": name}) };
            let versions: Vec<Value> = group_versions()
                .into_iter()
                .filter(|(group, _)| *group == name)
                .map(|(group, version)| {
                    let resources: Vec<Value> = kinds_of(group, version)
                        .into_iter()
                        .map(aggregated_kind)
                        .collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_kind(kind: &'static Kind) -> Value {
    let response =
        |group: &str, version: &str, name: &str| json!({"group": group, "version": version, "kind": name});
    let mut value = json!({"resource": kind.plural, "responseKind": response("", "", kind.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular, "verbs": kind.verbs});
    if !kind.short_names.is_empty() {
        value["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        value["categories"] = json!(kind.categories);
    }
    if !kind.subresources.is_empty() {
        let below = kind.subresources.iter().map(|sub| {
            json!({"subresource": sub.name, "verbs": sub.verbs,
                "responseKind": response(sub.group, sub.version, kind_of(kind, sub))})
        });
        value["subresources"] = below.collect();
    }
    value
}
