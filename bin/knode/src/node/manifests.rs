//! Static pods from a URL: the node's side fetches them, the pods' side runs them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use knode_kubelet::{FetchedPods, ManifestSource};
use knode_kubelet_config::Settings;
use knode_kubelet_node::ManifestUrl;

struct Fetched(ManifestUrl);

#[async_trait]
impl ManifestSource for Fetched {
    fn url(&self) -> &str {
        self.0.url()
    }

    async fn fetch(&self) -> Result<Bytes, String> {
        let answer = self.0.fetch().await;
        answer.map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    }
}

/// What `staticPodURL` names, if it names anything.
///
/// # Errors
/// A URL or header that cannot be used.
pub fn fetched(settings: &Settings) -> anyhow::Result<Option<FetchedPods>> {
    if settings.static_pod_url.is_empty() {
        return Ok(None);
    }
    let url = ManifestUrl::new(&settings.static_pod_url, &settings.static_pod_url_header)?;
    Ok(Some(FetchedPods {
        source: Arc::new(Fetched(url)),
        interval: settings.http_check_frequency,
    }))
}
