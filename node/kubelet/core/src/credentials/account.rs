//! What a plugin is told of the service account of the pod whose image is wanted.

use std::collections::BTreeMap;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::ServiceAccount;
use knode_volumes::ObjectError;
use sha2::{Digest, Sha256};

use super::attributes::{CacheType, TokenAttributes};
use crate::pulls::PullAccount;

/// The pod whose image is pulled, as far as plugins may know it.
#[async_trait]
pub trait PodAccount: Send + Sync {
    /// Its namespace.
    fn namespace(&self) -> &str;
    /// The name of its service account; empty for a pod without one, such as a static pod.
    fn name(&self) -> &str;
    /// The service account as the API has it; `None` if there is no such.
    ///
    /// # Errors
    /// The API's answer.
    async fn account(&self) -> Result<Option<ServiceAccount>, ObjectError>;
    /// A token of the service account for `audience` that is bound to the pod.
    ///
    /// # Errors
    /// The API's answer.
    async fn token(&self, audience: &str) -> Result<String, ObjectError>;
}

/// Why a plugin could not be told who the pod is.
#[derive(Debug, thiserror::Error)]
pub(super) enum AccountError {
    #[error("cannot get service account {0}: {1}")]
    Account(String, #[source] ObjectError),
    #[error("service account {0} does not exist")]
    Absent(String),
    #[error("cannot get a token of service account {0}: {1}")]
    Token(String, #[source] ObjectError),
}

/// A pod's service account as a plugin is told it; without a token for plugins that are not told, and for pods that
/// have none.
#[derive(Default)]
pub(super) struct Identity {
    pub token: Option<String>,
    pub annotations: BTreeMap<String, String>,
    /// What answers for it are kept by; the same for all where no account is told. Holds no token.
    pub key: String,
    /// The account, for those who ask later whose credentials they were; none where no account is told.
    pub account: Option<PullAccount>,
}

/// Who a plugin with `attributes` is told that the pod is; `None` if it is not to be run for the pod.
pub(super) async fn identity(
    attributes: &TokenAttributes,
    pod: &dyn PodAccount,
) -> Result<Option<Identity>, AccountError> {
    if pod.name().is_empty() {
        return Ok((!attributes.require_account).then(Identity::default));
    }
    let name = || format!("{}/{}", pod.namespace(), pod.name());
    let account = pod.account().await;
    let account = account.map_err(|error| AccountError::Account(name(), error))?;
    let account = account.ok_or_else(|| AccountError::Absent(name()))?;
    let Some(annotations) = annotations(attributes, &account) else {
        tracing::debug!(
            account = name(),
            "the service account lacks an annotation that a credential provider needs"
        );
        return Ok(None);
    };
    let token = pod.token(&attributes.audience).await;
    let token = token.map_err(|error| AccountError::Token(name(), error))?;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    Ok(Some(Identity {
        account: Some(PullAccount {
            namespace: pod.namespace().to_owned(),
            name: pod.name().to_owned(),
            uid: text(&account.metadata.uid),
        }),
        key: key(attributes.cache_type, pod, &account, &annotations, &token),
        annotations,
        token: Some(token),
    }))
}

/// The annotations that the plugin is told; `None` if one that it needs is missing: that is how an account opts in.
fn annotations(attributes: &TokenAttributes, account: &ServiceAccount) -> Option<BTreeMap<String, String>> {
    let all = account.metadata.annotations.as_ref();
    let find = |key: &String| Some((key.clone(), all?.get(key)?.clone()));
    let required: Option<BTreeMap<String, String>> = attributes.required.iter().map(find).collect();
    let mut told = required?;
    told.extend(attributes.optional.iter().filter_map(find));
    Some(told)
}

/// Accounts with the same key may have the same credentials: a new annotation, a new account of the same name and,
/// where tokens count, a new token ask anew.
fn key(
    cache_type: CacheType,
    pod: &dyn PodAccount,
    account: &ServiceAccount,
    annotations: &BTreeMap<String, String>,
    token: &str,
) -> String {
    let token = match cache_type {
        CacheType::Token => Sha256::digest(token).iter().map(|b| format!("{b:02x}")).collect(),
        CacheType::ServiceAccount => String::new(),
    };
    serde_json::json!([
        pod.namespace(),
        pod.name(),
        account.metadata.uid,
        annotations,
        token
    ])
    .to_string()
}
