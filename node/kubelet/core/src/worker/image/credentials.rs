//! The credentials with which a pod's images may be pulled.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use knode_cri as cri;

use super::{AccountOf, Subject};
use crate::image::secret_credentials;
use crate::pod::PodExt;
use crate::pulls::{PodCredentials, Source};

/// One thing to try a pull with.
pub(super) struct Credential {
    /// None: without any.
    pub auth: Option<cri::AuthConfig>,
    pub source: Source,
}

/// What of `all` belongs to the pod: of several service accounts the first, as for upstream's kubelet.
pub(super) fn of_pod(all: &[Credential]) -> PodCredentials {
    let mut found = PodCredentials::default();
    for one in all {
        match &one.source {
            Source::Secret(secret) => found.secrets.push(secret.clone()),
            Source::Account(account) if found.account.is_none() => found.account = Some(account.clone()),
            Source::Account(_) | Source::Node => {}
        }
    }
    found
}

impl Subject<'_> {
    /// What a pull of the image `name` is tried with, in this order: the pod's secrets, and what the node has. No
    /// credentials where there are none that fit.
    pub(super) async fn credentials(&self, name: &str) -> Vec<Credential> {
        let secrets = self.secrets().await;
        let fitting = secret_credentials(name, secrets.iter().map(AsRef::as_ref));
        let of_secret = |(auth, secret)| Credential {
            auth: Some(auth),
            source: Source::Secret(secret),
        };
        let mut all: Vec<Credential> = fitting.into_iter().map(of_secret).collect();
        if let Some(node) = self.context.config.node.registry_credentials() {
            let account = AccountOf {
                context: self.context,
                pod: self.pod,
            };
            let known = node.credentials(name, &account).await.into_iter();
            all.extend(known.map(|one| Credential {
                auth: Some(one.auth),
                source: one.account.map_or(Source::Node, Source::Account),
            }));
        }
        if all.is_empty() {
            all.push(Credential {
                auth: None,
                source: Source::Node,
            });
        }
        all
    }

    /// The pod's image pull secrets, as far as they can be read.
    async fn secrets(&self) -> Vec<Arc<Secret>> {
        let wanted = self.pod.spec().and_then(|spec| spec.image_pull_secrets.as_ref());
        let mut found = Vec::new();
        for one in wanted.into_iter().flatten() {
            match self.context.api.secret(self.pod.ns(), &one.name).await {
                Ok(Some(secret)) => found.push(secret),
                Ok(None) => tracing::debug!(secret = one.name, "image pull secret does not exist"),
                Err(error) => tracing::warn!(secret = one.name, %error, "cannot read image pull secret"),
            }
        }
        found
    }
}
