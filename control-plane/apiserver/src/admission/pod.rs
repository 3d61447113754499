//! New pods: service account, priority, tolerations, runtime class.

use std::time::Duration;

use knode_kinds::admission;
use rand::RngExt;
use serde_json::{Value, json};

use crate::cache::Object;
use crate::core::Core;
use crate::http::Failure;
use crate::registry::Ask;

/// How long a new pod waits for the service account `default` of a new namespace.
const PATIENCE: Duration = Duration::from_secs(1);
/// Priority classes that every cluster has, with their values.
const SYSTEM_CLASSES: [(&str, i64); 2] = [
    ("system-node-critical", 2_000_001_000),
    ("system-cluster-critical", 2_000_000_000),
];

/// Completes a new pod.
pub(super) async fn admit(core: &Core, ask: &Ask, pod: &mut Value) -> Result<(), Failure> {
    if !admission::is_mirror_pod(pod) {
        settle_account(core, ask, pod).await?;
    }
    settle_priority(core, ask, pod)?;
    admission::default_tolerations(pod);
    settle_runtime_class(core, ask, pod)
}

fn settle_runtime_class(core: &Core, ask: &Ask, pod: &mut Value) -> Result<(), Failure> {
    let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let refuse = |why: String| ask.forbidden(&pod_name, &why);
    let class = match pod["spec"]["runtimeClassName"].as_str() {
        None => None,
        Some(name) => match core.cached("node.k8s.io", "runtimeclasses", name) {
            Some(class) => Some(class.value()),
            None => return Err(refuse(format!("pod rejected: RuntimeClass \"{name}\" not found"))),
        },
    };
    admission::runtime_class(pod, class.as_ref()).map_err(refuse)
}

async fn settle_account(core: &Core, ask: &Ask, pod: &mut Value) -> Result<(), Failure> {
    let name = admission::service_account_name(pod);
    let key = format!("{}/{name}", ask.info.namespace);
    let Some(account) = find_account(core, &key, name == "default").await else {
        let why = format!("error looking up service account {key}: serviceaccount \"{name}\" not found");
        return Err(ask.forbidden(pod["metadata"]["name"].as_str().unwrap_or_default(), &why));
    };
    let account = account.value();
    let automount = account["automountServiceAccountToken"].as_bool();
    admission::service_account_volume(pod, &volume_name(), automount);
    admission::image_pull_secrets(pod, &account);
    Ok(())
}

/// The account; the default one comes a moment after its namespace.
async fn find_account(core: &Core, key: &str, wait: bool) -> Option<std::sync::Arc<Object>> {
    let table = core.cached_table("", "serviceaccounts")?;
    if let Some(account) = table.get(key) {
        return Some(account);
    }
    let mut changed = table.subscribe();
    let appeared = async {
        loop {
            if let Some(account) = table.get(key) {
                return Some(account);
            }
            changed.changed().await.ok()?;
        }
    };
    match wait {
        true => tokio::time::timeout(PATIENCE, appeared).await.ok().flatten(),
        false => None,
    }
}

fn volume_name() -> String {
    knode_api::names::generate_name(admission::TOKEN_VOLUME_PREFIX, rand::rng().random())
}

fn settle_priority(core: &Core, ask: &Ask, pod: &mut Value) -> Result<(), Failure> {
    let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let class = match pod["spec"]["priorityClassName"]
        .as_str()
        .filter(|name| !name.is_empty())
    {
        None => default_class(core),
        Some(name) => match find_class(core, name) {
            Some(class) => Some(class),
            None => {
                let why = format!("no PriorityClass with name {name} was found");
                return Err(ask.forbidden(&pod_name, &why));
            }
        },
    };
    admission::priority(pod, class.as_ref()).map_err(|why| ask.forbidden(&pod_name, &why))
}

fn find_class(core: &Core, name: &str) -> Option<Value> {
    let kept = core
        .cached("scheduling.k8s.io", "priorityclasses", name)
        .map(|object| object.value());
    kept.or_else(|| {
        let (name, value) = SYSTEM_CLASSES.into_iter().find(|(system, _)| *system == name)?;
        Some(json!({"metadata": {"name": name}, "value": value, "preemptionPolicy": "PreemptLowerPriority"}))
    })
}

fn default_class(core: &Core) -> Option<Value> {
    let table = core.cached_table("scheduling.k8s.io", "priorityclasses")?;
    let defaults = table
        .all("")
        .into_iter()
        .map(|object| object.value())
        .filter(|v| v["globalDefault"] == true);
    defaults.min_by_key(|class| class["value"].as_i64())
}

/// A mirror pod is the node's: it gets nothing of the cluster's.
pub(super) fn check(ask: &Ask, pod: &Value) -> Result<(), Failure> {
    if !admission::is_mirror_pod(pod) {
        return Ok(());
    }
    let refuse = |what: &str| {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        Err(ask.forbidden(name, &format!("a mirror pod may not reference {what}")))
    };
    let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
    if !account.is_empty() {
        return refuse("service accounts");
    }
    if super::node::references(pod, "secret").next().is_some() {
        return refuse("secrets");
    }
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let mut sources = volumes
        .filter_map(|v| v["projected"]["sources"].as_array())
        .flatten();
    if sources.any(|source| source["serviceAccountToken"].is_object()) {
        return refuse("a ServiceAccountToken volume projection");
    }
    Ok(())
}
