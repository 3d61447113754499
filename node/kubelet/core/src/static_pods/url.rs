//! Manifests that are fetched by the clock (upstream: `pkg/kubelet/config/http.go`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use knode_client::Clock;

use super::manifest::parse_all;
use crate::pod::PodExt;

/// So often in a row a failure is worth a warning.
const WARNINGS: u32 = 3;

/// Where manifests of static pods are fetched: a pod's, or a list of pods.
#[async_trait]
pub trait ManifestSource: Send + Sync + 'static {
    /// Its URL, which the pods' uids depend on.
    fn url(&self) -> &str;
    /// What it says now.
    ///
    /// # Errors
    /// Why nothing can be had, for the log.
    async fn fetch(&self) -> Result<Bytes, String>;
}

/// Static pods that are fetched.
#[derive(Clone)]
pub struct FetchedPods {
    /// From where.
    pub source: Arc<dyn ManifestSource>,
    /// Pause between two looks (`httpCheckFrequency`).
    pub interval: Duration,
}

/// Looks at a source of manifests.
pub(super) struct Fetcher {
    fetched: FetchedPods,
    node_name: String,
    clock: Arc<dyn Clock>,
    seen: Bytes,
    pods: Vec<Arc<Pod>>,
    failures: u32,
}

impl Fetcher {
    pub(super) fn new(fetched: FetchedPods, node_name: &str, clock: Arc<dyn Clock>) -> Self {
        Self {
            fetched,
            node_name: node_name.to_owned(),
            clock,
            seen: Bytes::new(),
            pods: Vec::new(),
            failures: 0,
        }
    }

    /// The pods there are now; none if that is not known or nothing has changed.
    pub(super) async fn look(&mut self) -> Option<Vec<Arc<Pod>>> {
        match self.try_look().await {
            Ok(pods) => {
                self.failures = 0;
                pods
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let url = self.fetched.source.url();
                match self.failures {
                    ..=WARNINGS => tracing::warn!(url, error, "static pods stay as they were"),
                    _ => tracing::debug!(url, error, "static pods stay as they were"),
                }
                None
            }
        }
    }

    async fn try_look(&mut self) -> Result<Option<Vec<Arc<Pod>>>, String> {
        let source = self.fetched.source.clone();
        let text = source.fetch().await?;
        if text.is_empty() {
            // As upstream: no pods, but no good sign.
            tracing::warn!(url = source.url(), "the manifest of static pods is empty");
        } else if text == self.seen {
            return Ok(None);
        }
        self.seen = text;
        let found = parse_all(&self.seen, source.url(), &self.node_name, self.clock.now());
        let found = found.map_err(|error| chain(&error))?;
        // Only a change counts: the time at which a pod was first seen stays.
        let known = |pod: Pod| {
            let mut before = self.pods.iter();
            let before = before.find(|before| before.uid() == pod.uid()).cloned();
            before.unwrap_or_else(|| Arc::new(pod))
        };
        self.pods = found.into_iter().map(known).collect();
        Ok(Some(self.pods.clone()))
    }

    /// Waits until the next look.
    pub(super) async fn pause(&self) {
        self.clock.sleep(self.fetched.interval).await;
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
