//! The service account of a pod, for plugins that have credentials for registries.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use knode_volumes::{ObjectError, TokenQuery};

use super::Context;
use crate::credentials::PodAccount;
use crate::pod::PodExt;

/// How long tokens live that are asked for without a time, in seconds.
const LIFE: i64 = 3600;

/// The service account of `pod`.
pub(super) struct AccountOf<'a> {
    pub context: &'a Context,
    pub pod: &'a Pod,
}

#[async_trait]
impl PodAccount for AccountOf<'_> {
    fn namespace(&self) -> &str {
        self.pod.ns()
    }

    fn name(&self) -> &str {
        let account = self
            .pod
            .spec()
            .and_then(|spec| spec.service_account_name.as_deref());
        account.unwrap_or_default()
    }

    async fn account(&self) -> Result<Option<ServiceAccount>, ObjectError> {
        let path = format!(
            "/api/v1/namespaces/{}/serviceaccounts/{}",
            self.namespace(),
            self.name()
        );
        let found = self.context.api.object(&path).await?;
        let read = found.map(serde_json::from_value).transpose();
        read.map_err(|error| ObjectError(error.to_string()))
    }

    async fn token(&self, audience: &str) -> Result<String, ObjectError> {
        let query = TokenQuery {
            namespace: self.namespace().to_owned(),
            service_account: self.name().to_owned(),
            pod_name: self.pod.metadata.name.clone().unwrap_or_default(),
            pod_uid: self.pod.uid().to_owned(),
            audiences: vec![audience.to_owned()],
            expiration_seconds: LIFE,
        };
        let token = self
            .context
            .volumes
            .token_for_call(query, self.context.now())
            .await?;
        Ok(token.token)
    }
}
