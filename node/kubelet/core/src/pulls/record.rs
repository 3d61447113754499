//! What is written down of pulls, in upstream's form (`k8s.io/kubelet/config/v1beta1`: `ImagePullIntent`,
//! `ImagePulledRecord`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What is written.
const VERSION: &str = "kubelet.config.k8s.io/v1beta1";
/// What upstream's kubelet wrote before 1.35, with the same fields.
const OLD_VERSION: &str = "kubelet.config.k8s.io/v1alpha1";

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FormError {
    #[error("no record: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{version}/{kind} is not what belongs here")]
    Kind { version: String, kind: String },
}

/// A pull that has begun: what it brings was brought by the kubelet, whatever becomes of the kubelet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PullIntent {
    kind: String,
    api_version: String,
    /// As the container names it.
    pub image: String,
}

impl PullIntent {
    pub(super) fn new(image: &str) -> Self {
        Self {
            kind: Self::KIND.to_owned(),
            api_version: VERSION.to_owned(),
            image: image.to_owned(),
        }
    }
}

/// An image that the kubelet has pulled, and who may use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PulledRecord {
    kind: String,
    api_version: String,
    /// To the second, as upstream writes it.
    pub last_updated_time: Option<Timestamp>,
    /// The runtime's id of the image.
    pub image_ref: String,
    /// By repository with its registry, without tag and digest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credential_mapping: BTreeMap<String, PullCredentials>,
}

impl PulledRecord {
    /// Nobody's yet.
    pub(super) fn new(image_ref: &str) -> Self {
        Self {
            kind: Self::KIND.to_owned(),
            api_version: VERSION.to_owned(),
            last_updated_time: None,
            image_ref: image_ref.to_owned(),
            credential_mapping: BTreeMap::new(),
        }
    }
}

/// Credentials that an image could be pulled with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PullCredentials {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kubernetes_secrets: Vec<PullSecret>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kubernetes_service_accounts: Vec<PullAccount>,
    /// The node's own, or none were needed: every pod here may use the image.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub node_pods_accessible: bool,
}

/// A secret with credentials. Ordered as upstream orders them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PullSecret {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// SHA-256 of the credentials, hexadecimal; empty where they could not be read.
    pub credential_hash: String,
}

impl PullSecret {
    /// Which secret it is, whatever is in it.
    pub(super) fn at(&self) -> (&str, &str, &str) {
        (&self.namespace, &self.name, &self.uid)
    }
}

/// A service account with whose token a plugin gave credentials.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PullAccount {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// What has a file of its own.
pub(super) trait Record: Serialize + DeserializeOwned {
    const KIND: &'static str;

    fn head(&self) -> (&str, &str);

    /// Reads it.
    fn read(text: &[u8]) -> Result<Self, FormError> {
        let read: Self = serde_json::from_slice(text)?;
        match read.head() {
            (kind, VERSION | OLD_VERSION) if kind == Self::KIND => Ok(read),
            (kind, version) => Err(FormError::Kind {
                version: version.to_owned(),
                kind: kind.to_owned(),
            }),
        }
    }
}

impl Record for PullIntent {
    const KIND: &'static str = "ImagePullIntent";

    fn head(&self) -> (&str, &str) {
        (&self.kind, &self.api_version)
    }
}

impl Record for PulledRecord {
    const KIND: &'static str = "ImagePulledRecord";

    fn head(&self) -> (&str, &str) {
        (&self.kind, &self.api_version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_records_are_read_and_written() {
        let intent =
            r#"{"kind":"ImagePullIntent","apiVersion":"kubelet.config.k8s.io/v1beta1","image":"a.io/b:1"}"#;
        let read = PullIntent::read(intent.as_bytes()).unwrap();
        assert_eq!(read, PullIntent::new("a.io/b:1"));
        assert_eq!(serde_json::to_string(&read).unwrap(), intent);
        let pulled = concat!(
            r#"{"kind":"ImagePulledRecord","apiVersion":"kubelet.config.k8s.io/v1alpha1","#,
            r#""lastUpdatedTime":"2024-10-21T12:26:40Z","imageRef":"ref","credentialMapping":{"#,
            r#""docker.io/a/b":{"kubernetesSecrets":[{"uid":"u","namespace":"n","name":"s","credentialHash":"h"}]},"#,
            r#""docker.io/a/c":{"kubernetesServiceAccounts":[{"uid":"u","namespace":"n","name":"a"}]},"#,
            r#""docker.io/a/d":{"nodePodsAccessible":true}}}"#
        );
        let read = PulledRecord::read(pulled.as_bytes()).unwrap();
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let again = serde_json::to_string(&read).unwrap();
        assert_eq!(value(&again), value(pulled));
        assert!(read.credential_mapping["docker.io/a/d"].node_pods_accessible);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for (text, why) in [
            ("", "EOF"),
            (
                r#"{"kind":"ImagePulledRecord","apiVersion":"kubelet.config.k8s.io/v1beta1","image":"a"}"#,
                "ImagePulledRecord",
            ),
            (
                r#"{"kind":"ImagePullIntent","apiVersion":"v2","image":"a"}"#,
                "v2",
            ),
            (
                r#"{"kind":"ImagePullIntent","apiVersion":"kubelet.config.k8s.io/v1beta1","image":"a","x":1}"#,
                "unknown field",
            ),
        ] {
            let error = PullIntent::read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
