//! What the API is told of a driver: the CSINode, the node's annotation, its topology (upstream:
//! `pkg/volume/csi/nodeinfomanager`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::csi::CsiConfig;
use crate::v1::NodeGetInfoResponse;

const ANNOTATION: &str = "csi.volume.kubernetes.io/nodeid";

fn csi_node(config: &CsiConfig) -> String {
    format!("/apis/storage.k8s.io/v1/csinodes/{}", config.node_name)
}

fn own_node(config: &CsiConfig) -> String {
    format!("/api/v1/nodes/{}", config.node_name)
}

async fn read(config: &CsiConfig, path: &str) -> Result<Value, String> {
    let found = config
        .objects
        .object(path)
        .await
        .map_err(|error| error.to_string())?;
    found.ok_or_else(|| format!("{path} is not there"))
}

/// Tells of a driver.
pub(crate) async fn add(config: &CsiConfig, name: &str, info: &NodeGetInfoResponse) -> Result<(), String> {
    if info.node_id.is_empty() {
        return Err(format!(
            "error updating Node object with CSI driver node info: error adding CSI driver node info: nodeID must not be empty for driver {name}"
        ));
    }
    let none = BTreeMap::new();
    let topology = info
        .accessible_topology
        .as_ref()
        .map_or(&none, |one| &one.segments);
    let node = read(config, &own_node(config)).await?;
    if let Some(patch) = node_patch(&node, name, &info.node_id, topology) {
        write(config, &own_node(config), &patch).await?;
    }
    let csi_node = read(config, &self::csi_node(config)).await?;
    let entry = entry(name, info, topology);
    change(config, &csi_node, name, Some(entry)).await
}

/// Takes it back: the node's own labels and annotation stay, as upstream's.
pub(crate) async fn remove(config: &CsiConfig, name: &str) -> Result<(), String> {
    let csi_node = read(config, &self::csi_node(config)).await?;
    change(config, &csi_node, name, None).await
}

/// Tells which volumes must not be detached, unless it is known.
pub(crate) async fn tell_in_use(config: &CsiConfig, names: &BTreeSet<String>) -> Result<(), String> {
    let node = read(config, &own_node(config)).await?;
    let known = node["status"]["volumesInUse"].as_array().into_iter().flatten();
    let known: BTreeSet<String> = known
        .filter_map(|one| one.as_str().map(ToOwned::to_owned))
        .collect();
    if known == *names {
        return Ok(());
    }
    let patch = json!({"status": {"volumesInUse": names}});
    write(config, &format!("{}/status", own_node(config)), &patch).await
}

async fn change(
    config: &CsiConfig,
    csi_node: &Value,
    name: &str,
    entry: Option<Value>,
) -> Result<(), String> {
    let known = csi_node["spec"]["drivers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let drivers = with(known.clone(), name, entry);
    if drivers == known {
        return Ok(());
    }
    let patch = json!({"metadata": {"resourceVersion": csi_node["metadata"]["resourceVersion"]},
        "spec": {"drivers": drivers}});
    write(config, &self::csi_node(config), &patch).await
}

async fn write(config: &CsiConfig, path: &str, patch: &Value) -> Result<(), String> {
    config
        .objects
        .merge(path, patch)
        .await
        .map_err(|error| error.to_string())
}

fn entry(name: &str, info: &NodeGetInfoResponse, topology: &BTreeMap<String, String>) -> Value {
    let keys: Vec<&String> = topology.keys().collect();
    let mut entry = json!({"name": name, "nodeID": info.node_id, "topologyKeys": keys});
    if info.max_volumes_per_node > 0 {
        entry["allocatable"] = json!({"count": info.max_volumes_per_node.min(i64::from(i32::MAX))});
    }
    entry
}

/// The drivers with this one's entry, or without it.
fn with(mut drivers: Vec<Value>, name: &str, entry: Option<Value>) -> Vec<Value> {
    let place = drivers.iter().position(|one| one["name"] == name);
    match (place, entry) {
        (Some(place), Some(entry)) => drivers[place] = entry,
        (Some(place), None) => drop(drivers.remove(place)),
        (None, Some(entry)) => drivers.push(entry),
        (None, None) => {}
    }
    drivers
}

/// The change to the node's annotation and labels, if any is needed.
fn node_patch(node: &Value, name: &str, id: &str, topology: &BTreeMap<String, String>) -> Option<Value> {
    let metadata = &node["metadata"];
    let text = metadata["annotations"][ANNOTATION].as_str().unwrap_or("{}");
    let mut ids: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    let known = ids.insert(name.to_owned(), id.into());
    let new: BTreeMap<&String, &String> = topology
        .iter()
        .filter(|(key, value)| metadata["labels"][key.as_str()] != **value)
        .collect();
    if known.as_ref().and_then(Value::as_str) == Some(id) && new.is_empty() {
        return None;
    }
    let annotation = Value::Object(ids).to_string();
    Some(json!({"metadata": {"annotations": {ANNOTATION: annotation}, "labels": new}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_stands_once_on_the_csi_node() {
        let topology = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        let info = NodeGetInfoResponse {
            node_id: "n1".into(),
            max_volumes_per_node: 7,
            ..NodeGetInfoResponse::default()
        };
        let own = entry("d", &info, &topology);
        assert_eq!(
            own,
            json!({"name": "d", "nodeID": "n1", "topologyKeys": ["zone"], "allocatable": {"count": 7}})
        );
        let other = json!({"name": "e", "nodeID": "x"});
        let both = with(
            vec![other.clone(), json!({"name": "d", "nodeID": "old"})],
            "d",
            Some(own.clone()),
        );
        assert_eq!(both, [other.clone(), own]);
        assert_eq!(with(both, "d", None), [other]);
    }

    #[test]
    fn the_node_is_only_changed_when_something_is_new() {
        let topology = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        let node = json!({"metadata": {"annotations": {ANNOTATION: r#"{"e":"x"}"#}}});
        let patch = node_patch(&node, "d", "n1", &topology).unwrap();
        assert_eq!(
            patch["metadata"]["annotations"][ANNOTATION],
            r#"{"d":"n1","e":"x"}"#
        );
        assert_eq!(patch["metadata"]["labels"], json!({"zone": "a"}));
        assert_eq!(node_patch(&patch, "d", "n1", &topology), None);
        assert!(node_patch(&patch, "d", "n2", &topology).is_some());
    }
}
