//! What volumes need of the API, as a trait that the kubelet implements.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::Value;

/// The API did not answer, or refused. The text is the server's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ObjectError(pub String);

/// Which token a projected source asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenQuery {
    /// Namespace of pod and service account.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
    /// The pod that the token is bound to.
    pub pod_name: String,
    /// Its uid.
    pub pod_uid: String,
    /// Audiences; none means the API server's own.
    pub audiences: Vec<String>,
    /// Lifetime asked for, in seconds.
    pub expiration_seconds: i64,
}

/// Which trust bundles a projected source asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustQuery {
    /// The one of this name.
    Name(String),
    /// Those of a signer with these labels, as a label selector is written in a query; none matches all.
    Signer {
        /// `spec.signerName`
        signer: String,
        /// The selector.
        selector: String,
    },
}

/// A token and when it ends.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The bearer token.
    pub token: String,
    /// End of its validity.
    pub expires: Timestamp,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Reads what volumes and environments refer to. `Ok(None)` means that the object does not exist.
#[async_trait]
pub trait Objects: Send + Sync + 'static {
    /// One config map.
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, ObjectError>;
    /// One secret.
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, ObjectError>;
    /// Certificates of the cluster's trust bundles in PEM, one text a bundle; none if there is no such bundle.
    async fn trust_bundles(&self, query: &TrustQuery) -> Result<Vec<String>, ObjectError>;
    /// Any object by its path in the API, as JSON.
    async fn object(&self, path: &str) -> Result<Option<Value>, ObjectError> {
        Err(ObjectError(format!("nothing to read {path} from")))
    }
    /// Changes an object, or its status, by a merge patch.
    async fn merge(&self, path: &str, _patch: &Value) -> Result<(), ObjectError> {
        Err(ObjectError(format!("nothing to write {path} to")))
    }
    /// A new token.
    async fn token(&self, query: &TokenQuery) -> Result<Token, ObjectError>;
}
