//! Objects that every cluster has: made if they are missing, and roles completed if they lack a rule.

use std::sync::Arc;

use knode_kinds::ip_families::IpFamily;
use knode_store::Expect;
use serde_json::{Value, json};

use super::Error;
use crate::auth::policy;
use crate::cache::{Stamp, storage_key};
use crate::clock::stamp;
use crate::config::NodeBindings;
use crate::core::Core;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const PRIORITIES: [(&str, i64, &str); 2] = [
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];

/// Makes sure of all of them.
pub(super) async fn ensure(core: &Arc<Core>) -> Result<(), Error> {
    let mut objects: Vec<Value> = NAMESPACES.iter().map(|name| namespace(name)).collect();
    objects.extend(policy::cluster_roles());
    let left_out = left_out(core.config.node_bindings);
    let bindings = policy::cluster_role_bindings().into_iter();
    objects.extend(bindings.filter(|b| !left_out.iter().any(|name| b["metadata"]["name"] == *name)));
    objects.extend(
        PRIORITIES
            .iter()
            .map(|(name, value, text)| priority_class(name, *value, text)),
    );
    objects.extend(kubernetes_service(core));
    let writes = objects.into_iter().map(|object| ensure_object(core, object));
    let results = futures::future::join_all(writes).await;
    results.into_iter().collect::<Result<Vec<()>, Error>>()?;
    for name in left_out {
        withdraw(core, name).await?;
    }
    core.settle().await.map_err(|status| Error::Bootstrap {
        what: "the first objects".into(),
        why: status.message,
    })
}

/// Bindings that are not made, and taken away where an earlier start has made them.
fn left_out(bindings: NodeBindings) -> &'static [&'static str] {
    const ALL: [&str; 3] = [
        "knode:node-autoapprove-bootstrap",
        "knode:node-autoapprove-certificate-rotation",
        "knode:kubelet-bootstrap",
    ];
    match bindings {
        NodeBindings::Approve => &[],
        NodeBindings::Ask => &ALL[..2],
        NodeBindings::Nothing => &ALL,
    }
}

async fn withdraw(core: &Core, name: &str) -> Result<(), Error> {
    let failed = |why: String| Error::Bootstrap {
        what: format!("the cluster without ClusterRoleBinding {name:?}"),
        why,
    };
    let Some(kind) = knode_kinds::find("rbac.authorization.k8s.io", "v1", "clusterrolebindings") else {
        return Ok(());
    };
    let key = crate::registry::key(kind, "", name);
    let table = core.table(kind).map_err(|status| failed(status.message))?;
    let Some(found) = table.get(&key) else {
        return Ok(());
    };
    let storage = core.storage(kind).map_err(|status| failed(status.message))?;
    core.store
        .delete(storage_key(storage, &key), Expect::Revision(found.revision))
        .await
        .map(drop)
        .map_err(|error| failed(crate::core::chain(&error)))
}

async fn ensure_object(core: &Core, wanted: Value) -> Result<(), Error> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind_name, version) = (text(&wanted["kind"]), text(&wanted["apiVersion"]));
    let (group, version) = version.split_once('/').unwrap_or(("", version.as_str()));
    let Some(kind) = knode_kinds::find_kind(group, version, &kind_name) else {
        tracing::debug!(kind = kind_name, "a first object of a kind that is not served");
        return Ok(());
    };
    let name = text(&wanted["metadata"]["name"]);
    let key = crate::registry::key(kind, &text(&wanted["metadata"]["namespace"]), &name);
    let failed = |why: String| Error::Bootstrap {
        what: format!("{kind_name} {name:?}"),
        why,
    };
    let table = core.table(kind).map_err(|status| failed(status.message))?;
    let (object, expect) = match table.get(&key) {
        None => (Some(fresh(kind, wanted)), Expect::Absent),
        Some(found) => (
            completed(found.value(), &wanted),
            Expect::Revision(found.revision),
        ),
    };
    let Some(object) = object else { return Ok(()) };
    let mut object = kind.strategy.stored_form(object);
    let storage = core.storage(kind).map_err(|status| failed(status.message))?;
    core.store
        .put(storage_key(storage, &key), Stamp::new(&mut object), expect)
        .await
        .map_err(|error| failed(crate::core::chain(&error)))?;
    if kind.plural == "services" {
        core.allocators.adopt(&object);
    }
    Ok(())
}

fn fresh(kind: &knode_kinds::Kind, mut object: Value) -> Value {
    kind.strategy.default(&mut object);
    let status = object.get("status").cloned();
    kind.strategy.prepare_for_create(&mut object);
    if let Some(status) = status {
        object["status"] = status;
    }
    object["metadata"]["uid"] = crate::registry::new_uid().into();
    object["metadata"]["creationTimestamp"] = stamp().into();
    object
}

/// Adds what a role or binding lacks, unless it is kept from that; `None` if nothing is to be done.
fn completed(mut found: Value, wanted: &Value) -> Option<Value> {
    let own = &found["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"];
    if own != "true" {
        return None;
    }
    let mut changed = false;
    for field in ["rules", "subjects"] {
        let mut list = found[field].as_array().cloned().unwrap_or_default();
        let missing: Vec<Value> = wanted[field]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|item| !list.contains(item))
            .cloned()
            .collect();
        if !missing.is_empty() && wanted.get("aggregationRule").is_none() {
            list.extend(missing);
            found[field] = list.into();
            changed = true;
        }
    }
    changed.then_some(found)
}

fn namespace(name: &str) -> Value {
    json!({"kind": "Namespace", "apiVersion": "v1",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
}

fn priority_class(name: &str, value: i64, text: &str) -> Value {
    json!({"kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1", "metadata": {"name": name},
        "value": value, "description": text, "preemptionPolicy": "PreemptLowerPriority"})
}

/// The Service `kubernetes`, which leads to this server, and its endpoints.
fn kubernetes_service(core: &Core) -> Vec<Value> {
    let Some(address) = core.config.kubernetes_address() else {
        return Vec::new();
    };
    let family = IpFamily::of(address).name();
    let address = address.to_string();
    let advertise = core.config.advertise;
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let service = json!({"kind": "Service", "apiVersion": "v1",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {"clusterIP": address, "clusterIPs": [address], "ipFamilies": [family],
            "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
            "type": "ClusterIP",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": advertise.port()}]}});
    let mut found = vec![service];
    if !advertise.ip().is_unspecified() && !advertise.ip().is_loopback() {
        found.extend(kubernetes_endpoints(advertise, family));
    }
    found
}

fn kubernetes_endpoints(advertise: std::net::SocketAddr, family: &str) -> [Value; 2] {
    let (ip, port) = (advertise.ip().to_string(), advertise.port());
    let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    let name = json!({"name": "kubernetes", "namespace": "default",
        "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}});
    let slice_name = json!({"name": "kubernetes", "namespace": "default",
        "labels": {"kubernetes.io/service-name": "kubernetes"}});
    [
        json!({"kind": "Endpoints", "apiVersion": "v1", "metadata": name,
            "subsets": [{"addresses": [{"ip": ip}], "ports": ports}]}),
        json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata": slice_name,
            "addressType": family, "ports": ports,
            "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}]}),
    ]
}
