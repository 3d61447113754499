//! From a manifest to a static pod (upstream: `pkg/kubelet/config/common.go`). Pure.

use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus, Toleration};
use knode_volumes::references;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{FILE, HASH, HTTP, SEEN, SOURCE};
use crate::pod::PodExt;

/// Bytes of the hash that become the uid: as many as upstream's has.
const UID_BYTES: usize = 16;

/// Why a manifest is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum ManifestError {
    /// It is neither YAML nor JSON.
    #[error("the manifest is neither YAML nor JSON")]
    Syntax(#[source] serde_norway::Error),
    /// It is something else than a pod.
    #[error("the manifest's kind is {kind:?} of {version:?}, only Pod of \"v1\" can be a static pod")]
    Kind {
        /// What it says it is.
        kind: String,
        /// The version it names.
        version: String,
    },
    /// A field has the wrong type.
    #[error("the manifest is not a pod's")]
    Pod(#[source] serde_json::Error),
    /// A field is missing or wrong.
    #[error("invalid pod: {0}")]
    Invalid(&'static str),
    /// It needs an object of the API, which need not be there.
    #[error("static pods may not reference {0}")]
    Reference(&'static str),
}

/// Where a manifest stands, which the pod's uid depends on.
#[derive(Clone, Copy)]
enum Place<'a> {
    File(&'a Path),
    Url(&'a str),
}

impl Place<'_> {
    /// How upstream calls such a source.
    fn source(self) -> &'static str {
        match self {
            Self::File(_) => FILE,
            Self::Url(_) => HTTP,
        }
    }
}

/// Reads the manifest of a file. `seen` becomes the time at which the node first saw the pod.
pub(super) fn parse(
    text: &[u8],
    file: &Path,
    node_name: &str,
    seen: Timestamp,
) -> Result<Pod, ManifestError> {
    let value: Value = serde_norway::from_slice(text).map_err(ManifestError::Syntax)?;
    pod_of(value, Place::File(file), node_name, seen)
}

/// Reads what a URL holds: one pod or a list of pods, of which all must be good; none if it is empty.
pub(super) fn parse_all(
    text: &[u8],
    url: &str,
    node_name: &str,
    seen: Timestamp,
) -> Result<Vec<Pod>, ManifestError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut value: Value = serde_norway::from_slice(text).map_err(ManifestError::Syntax)?;
    let place = Place::Url(url);
    if kind_of(&value) != ("PodList".to_owned(), "v1".to_owned()) {
        return Ok(vec![pod_of(value, place, node_name, seen)?]);
    }
    let items = match value["items"].take() {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        _ => return Err(ManifestError::Invalid("items: not a list")),
    };
    let pod = |mut item: Value| {
        // Those of a list need not say that they are pods.
        if let Value::Object(fields) = &mut item {
            fields.entry("kind").or_insert_with(|| "Pod".into());
            fields.entry("apiVersion").or_insert_with(|| "v1".into());
        }
        pod_of(item, place, node_name, seen)
    };
    items.into_iter().map(pod).collect()
}

/// Kind and version that a manifest says it is of.
fn kind_of(value: &Value) -> (String, String) {
    let word = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    (word("kind"), word("apiVersion"))
}

fn pod_of(
    mut value: Value,
    place: Place<'_>,
    node_name: &str,
    seen: Timestamp,
) -> Result<Pod, ManifestError> {
    let (kind, version) = kind_of(&value);
    if (kind.as_str(), version.as_str()) != ("Pod", "v1") {
        return Err(ManifestError::Kind { kind, version });
    }
    value.sort_all_objects();
    let mut pod: Pod = serde_json::from_value(value.clone()).map_err(ManifestError::Pod)?;
    validate(&pod)?;
    let uid = match pod.metadata.uid.take() {
        Some(uid) if !uid.is_empty() => uid,
        _ => hash(&value, place, node_name),
    };
    adopt(&mut pod, uid, place.source(), node_name, seen);
    Ok(pod)
}

/// The same manifest at the same place always gives the same uid, and another one another.
fn hash(manifest: &Value, place: Place<'_>, node_name: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(manifest.to_string());
    hasher.update(match place {
        Place::File(file) => format!("host:{node_name}file:{}", file.display()),
        Place::Url(url) => format!("url:{url}"),
    });
    let bytes = hasher.finalize();
    bytes[..UID_BYTES]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn validate(pod: &Pod) -> Result<(), ManifestError> {
    let spec = pod
        .spec
        .as_ref()
        .ok_or(ManifestError::Invalid("spec: Required value"))?;
    let named = |container: &Container| {
        !container.name.is_empty() && container.image.as_ref().is_some_and(|image| !image.is_empty())
    };
    let wrong = match () {
        () if pod.pod_name().is_empty() => Some("metadata.name: Required value"),
        () if spec.containers.is_empty() => Some("spec.containers: Required value"),
        () if !pod.all_containers().all(|(_, one)| named(one)) => {
            Some("spec.containers: name and image are required")
        }
        () if spec
            .ephemeral_containers
            .as_ref()
            .is_some_and(|all| !all.is_empty()) =>
        {
            Some("spec.ephemeralContainers: Forbidden: static pods do not support ephemeral containers")
        }
        () => None,
    };
    if let Some(wrong) = wrong {
        return Err(ManifestError::Invalid(wrong));
    }
    match reference(pod, spec) {
        Some(what) => Err(ManifestError::Reference(what)),
        None => Ok(()),
    }
}

/// The plural of a kind of object that the pod refers to.
fn reference(pod: &Pod, spec: &PodSpec) -> Option<&'static str> {
    let found = references(pod);
    let account = spec
        .service_account_name
        .as_ref()
        .is_some_and(|name| !name.is_empty());
    let claims = spec.resource_claims.as_ref().is_some_and(|all| !all.is_empty());
    let volumes = || spec.volumes.iter().flatten();
    let sources = || {
        volumes()
            .filter_map(|one| one.projected.as_ref()?.sources.as_ref())
            .flatten()
    };
    match () {
        () if account => Some("serviceaccounts"),
        () if !found.secrets.is_empty() => Some("secrets"),
        () if !found.config_maps.is_empty() => Some("configmaps"),
        () if claims => Some("resourceclaims"),
        () if volumes().any(|one| one.persistent_volume_claim.is_some() || one.ephemeral.is_some()) => {
            Some("persistentvolumeclaims")
        }
        () if sources().any(|one| one.service_account_token.is_some()) => Some("serviceaccounts"),
        () if sources().any(|one| one.cluster_trust_bundle.is_some()) => Some("clustertrustbundles"),
        () => None,
    }
}

/// Puts in what makes it this node's.
fn adopt(pod: &mut Pod, uid: String, source: &str, node_name: &str, seen: Timestamp) {
    let name = format!("{}-{}", pod.pod_name(), node_name.to_lowercase());
    let metadata = &mut pod.metadata;
    metadata.name = Some(name);
    metadata.namespace.get_or_insert_with(|| "default".to_owned());
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(HASH.to_owned(), uid.clone());
    annotations.insert(SEEN.to_owned(), seen.to_string());
    annotations.insert(SOURCE.to_owned(), source.to_owned());
    metadata.uid = Some(uid);
    pod.status = Some(PodStatus {
        phase: Some("Pending".to_owned()),
        ..PodStatus::default()
    });
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node_name.to_owned());
    // As the API server settles them, so that the node's own view says the same as the mirror pod.
    spec.restart_policy.get_or_insert_with(|| "Always".to_owned());
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".to_owned());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    let tolerations = spec.tolerations.get_or_insert_default();
    tolerations.retain(|one| one.key.is_some() || one.effect.as_deref() != Some("NoExecute"));
    // Problems of the node do not end what belongs to it.
    tolerations.push(Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    });
}
