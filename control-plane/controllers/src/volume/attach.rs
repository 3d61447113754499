//! Volumes that a driver attaches to nodes (upstream: `pkg/controller/volume/attachdetach`, `pkg/volume/csi`). Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::plan::{ATTACHMENTS, NODES, Plan, Step, World, claims_of, in_use, is_going, text};

/// One volume on one node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    driver: String,
    handle: String,
    volume: String,
    node: String,
}

impl Place {
    fn of(volume: &Value, node: &str) -> Self {
        Self {
            driver: text(volume, "/spec/csi/driver").to_owned(),
            handle: text(volume, "/spec/csi/volumeHandle").to_owned(),
            volume: text(volume, "/metadata/name").to_owned(),
            node: node.to_owned(),
        }
    }

    /// The attachment's name, as kubelets know it too.
    fn name(&self) -> String {
        let all = format!("{}{}{}", self.handle, self.driver, self.node);
        let digest = Sha256::digest(all.as_bytes());
        digest
            .iter()
            .fold("csi-".to_owned(), |name, byte| format!("{name}{byte:02x}"))
    }

    /// The volume's name in a node's status.
    fn unique(&self) -> String {
        format!("kubernetes.io/csi/{}^{}", self.driver, self.handle)
    }
}

/// Makes the attachments that pods need, takes back those that nobody needs, and tells nodes what they have.
pub(super) fn plan(world: &World) -> Plan {
    let mut plan = Plan::default();
    let wanted: BTreeMap<String, Place> = places(world).into_iter().map(|one| (one.name(), one)).collect();
    for (name, place) in &wanted {
        if World::find(&world.attachments, "", name).is_none() {
            let attachment = json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment",
                "metadata": {"name": name},
                "spec": {"attacher": place.driver, "nodeName": place.node,
                    "source": {"persistentVolumeName": place.volume}}});
            plan.write(Step::Create, ATTACHMENTS, attachment);
        }
    }
    let nodes: BTreeMap<&str, &Node> = world
        .nodes
        .iter()
        .filter_map(|node| Some((node.metadata.name.as_deref()?, node.as_ref())))
        .collect();
    let mut attached: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for attachment in world.attachments.values() {
        let node = text(attachment, "/spec/nodeName");
        let volume = text(attachment, "/spec/source/persistentVolumeName");
        let volume = World::find(&world.volumes, "", volume);
        let Some(place) = volume.map(|volume| Place::of(volume, node)) else {
            continue;
        };
        let name = text(attachment, "/metadata/name");
        let needed = wanted.contains_key(name);
        let used = nodes
            .get(node)
            .is_some_and(|node| in_use(node).contains(&place.unique()));
        if !needed && !used && !is_going(attachment) && place.name() == name {
            plan.write(Step::Delete, ATTACHMENTS, attachment.as_ref().clone());
        } else if attachment["status"]["attached"] == true && !is_going(attachment) {
            attached.entry(node).or_default().insert(place.unique());
        }
    }
    for (name, node) in nodes {
        tell(name, node, attached.remove(name).unwrap_or_default(), &mut plan);
    }
    plan
}

/// Where pods need volumes that must be attached.
fn places(world: &World) -> BTreeSet<Place> {
    let mut all = BTreeSet::new();
    for pod in world.pods.iter().filter(|pod| !has_ended(pod)) {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let Some(node) = node.filter(|node| !node.is_empty()) else {
            continue;
        };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        for (claim, _) in claims_of(pod) {
            let claim = World::find(&world.claims, namespace, &claim);
            let volume =
                claim.and_then(|claim| World::find(&world.volumes, "", text(claim, "/spec/volumeName")));
            let place = volume.map(|volume| Place::of(volume, node));
            all.extend(place.filter(|place| is_attached(world, &place.driver)));
        }
    }
    all
}

/// Whether volumes of the driver are attached at all: so unless it says otherwise.
fn is_attached(world: &World, driver: &str) -> bool {
    let found = World::find(&world.drivers, "", driver);
    !driver.is_empty() && found.is_none_or(|driver| driver["spec"]["attachRequired"] != false)
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Kubelets wait until their node's status names what they mount.
fn tell(name: &str, node: &Node, attached: BTreeSet<String>, plan: &mut Plan) {
    let known = node
        .status
        .as_ref()
        .and_then(|status| status.volumes_attached.as_ref());
    let known: BTreeSet<String> = known
        .into_iter()
        .flatten()
        .map(|volume| volume.name.clone())
        .collect();
    if known == attached {
        return;
    }
    let volumes: Vec<Value> = attached
        .into_iter()
        .map(|volume| json!({"name": volume, "devicePath": ""}))
        .collect();
    let patch = json!({"metadata": {"name": name}, "status": {"volumesAttached": volumes}});
    plan.write(Step::MergeStatus, NODES, patch);
}
