//! Credentials that a node has for registries, besides those of pods: the kubelet's credential-provider plugins and
//! Docker's configuration file (upstream: `pkg/credentialprovider`).

mod account;
mod attributes;
mod cache;
mod config;
mod exec;
mod file;
mod matching;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use knode_client::Clock;
use knode_cri::AuthConfig;
use tokio::sync::Mutex;

use crate::image::repository;
use crate::pulls::PullAccount;
use account::Identity;
pub use account::PodAccount;
use cache::Cache;
use config::Provider;
pub use config::ProvidersError;
pub use file::NodeFile;
pub(crate) use matching::matches;

/// All credentials that a node has for registries.
#[derive(Debug, Default)]
pub struct NodeCredentials {
    /// Docker's configuration file.
    pub file: NodeFile,
    /// Plugins, where there is a configuration of them.
    pub providers: Option<CredentialProviders>,
}

impl NodeCredentials {
    /// The credentials for an image as a container of `pod` names it.
    pub(crate) async fn credentials(&self, image: &str, pod: &dyn PodAccount) -> Vec<NodeCredential> {
        let repository = repository(image);
        let of_file = self.file.credentials(&repository).await.into_iter();
        let mut found: Vec<_> = of_file
            .map(|auth| NodeCredential { auth, account: None })
            .collect();
        if let Some(providers) = &self.providers {
            found.extend(providers.credentials(&repository, pod).await);
        }
        found
    }
}

/// Credentials that a node has.
#[derive(Debug)]
pub(crate) struct NodeCredential {
    pub auth: AuthConfig,
    /// Whose they are; none if they are every pod's.
    pub account: Option<PullAccount>,
}

/// The plugins that a configuration names, and what they answered.
pub struct CredentialProviders {
    providers: Vec<Plugin>,
    clock: Arc<dyn Clock>,
}

struct Plugin {
    provider: Provider,
    program: PathBuf,
    /// Held while the plugin runs, so that one answer serves all who wait.
    cache: Mutex<Cache>,
}

impl std::fmt::Debug for CredentialProviders {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.providers.iter().map(|plugin| plugin.provider.name.as_str());
        out.debug_list().entries(names).finish()
    }
}

impl CredentialProviders {
    /// Reads a `CredentialProviderConfig` (a file, or a directory of them), and finds each plugin in `bin_dir`: what
    /// `--image-credential-provider-config` and `--image-credential-provider-bin-dir` name. Blocks.
    ///
    /// # Errors
    /// [`ProvidersError`]: what cannot be read, is invalid or not supported, and plugins that are not there.
    pub fn load(path: &Path, bin_dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, ProvidersError> {
        let mut providers = Vec::new();
        for provider in config::read(path)? {
            let program = bin_dir.join(&provider.name);
            exec::check(&program)?;
            providers.push(Plugin {
                provider,
                program,
                cache: Mutex::default(),
            });
        }
        Ok(Self { providers, clock })
    }

    /// The credentials that plugins have for `image`, a repository with its registry and without tag. Those of earlier
    /// plugins come first, and of one plugin the closest. Plugins that are to know the service account of `pod` are told
    /// it. A plugin that fails is logged and has none.
    pub(crate) async fn credentials(&self, image: &str, pod: &dyn PodAccount) -> Vec<NodeCredential> {
        let mut found = Vec::new();
        for plugin in &self.providers {
            if !plugin
                .provider
                .match_images
                .iter()
                .any(|pattern| matches(pattern, image))
            {
                continue;
            }
            match plugin.credentials(image, pod, self.clock.as_ref()).await {
                Ok((credentials, account)) => {
                    found.extend(credentials.into_iter().map(|auth| NodeCredential {
                        auth,
                        account: account.clone(),
                    }))
                }
                Err(error) => {
                    let name = &plugin.provider.name;
                    tracing::warn!(plugin = name, image, %error, "a credential provider gives no credentials");
                }
            }
        }
        found
    }
}

impl Plugin {
    /// What it answers, and for which account if it is told one.
    async fn credentials(
        &self,
        image: &str,
        pod: &dyn PodAccount,
        clock: &dyn Clock,
    ) -> Result<(Vec<AuthConfig>, Option<PullAccount>), exec::ExecError> {
        let identity = match &self.provider.attributes {
            Some(attributes) => account::identity(attributes, pod).await?,
            None => Some(Identity::default()),
        };
        let Some(identity) = identity else {
            return Ok((Vec::new(), None));
        };
        let mut cache = self.cache.lock().await;
        if let Some(known) = cache.get(image, &identity.key, clock.monotonic()) {
            return Ok((matching::closest(image, &known), identity.account));
        }
        let answer = exec::run(&self.program, &self.provider, image, &identity).await?;
        let credentials = matching::closest(image, &answer.credentials);
        let keep = answer.keep.unwrap_or(self.provider.default_cache_duration);
        let place = (image, identity.key.as_str());
        cache.insert(answer.key, place, answer.credentials, keep, clock.monotonic());
        Ok((credentials, identity.account))
    }
}
