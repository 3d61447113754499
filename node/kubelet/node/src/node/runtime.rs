//! What the container runtime says about itself, as the node reports it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    ContainerImage, NodeFeatures, NodeRuntimeHandler, NodeRuntimeHandlerFeatures,
};
use knode_cri::{
    Image, ImageService, ListImagesRequest, NetworkConfig, RuntimeConfig, RuntimeService, StatusRequest,
    StatusResponse, UpdateRuntimeConfigRequest, VersionRequest,
};

use crate::{Error, Result};

/// Names of each image in the node's status.
const MAX_NAMES: usize = 5;

/// The runtime's part of the node's status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuntimeInfo {
    /// `<name>://<version>`.
    pub version: String,
    /// Handlers with what they can do.
    pub handlers: Vec<NodeRuntimeHandler>,
    /// What the runtime as a whole can do.
    pub features: Option<NodeFeatures>,
    /// Images, largest first.
    pub images: Vec<ContainerImage>,
    /// Why no pod can run: the runtime's own conditions that are not met.
    pub problems: Vec<String>,
}

/// How long a runtime may be away before the node is not ready (upstream: `maxWaitForContainerRuntime`).
const TOLERATED: Duration = Duration::from_secs(30);

/// Asks the runtime, and remembers when it answered.
pub(crate) struct RuntimeWatch {
    runtime: Arc<dyn RuntimeService>,
    images: Arc<dyn ImageService>,
    max_images: Option<usize>,
    seen: LastSeen,
}

/// What the runtime said last, and when.
#[derive(Clone, Debug, Default)]
struct LastSeen(Option<(Duration, RuntimeInfo)>);

impl LastSeen {
    fn take(&mut self, info: &RuntimeInfo, now: Duration) {
        self.0 = Some((now, info.clone()));
    }

    /// What is true of a runtime that does not answer at `now` (monotonic): for a while what was true before.
    fn without_answer(&self, now: Duration) -> RuntimeInfo {
        let down = || vec!["container runtime is down".to_owned()];
        match &self.0 {
            Some((at, info)) if now.saturating_sub(*at) <= TOLERATED => info.clone(),
            Some((_, info)) => RuntimeInfo {
                version: format!("{}://Unknown", info.version.split(':').next().unwrap_or_default()),
                problems: down(),
                images: Vec::new(),
                ..info.clone()
            },
            None => RuntimeInfo {
                problems: down(),
                ..RuntimeInfo::default()
            },
        }
    }
}

impl RuntimeWatch {
    /// `max_images` of the runtime's are listed, or all.
    pub(crate) fn new(
        runtime: Arc<dyn RuntimeService>,
        images: Arc<dyn ImageService>,
        max_images: Option<usize>,
    ) -> Self {
        Self {
            runtime,
            images,
            max_images,
            seen: LastSeen::default(),
        }
    }

    /// The runtime's state at `now` (monotonic); a runtime that does not answer is a problem of the node, not an error.
    pub(crate) async fn look(&mut self, now: Duration) -> RuntimeInfo {
        match self.try_look().await {
            Ok(info) => {
                self.seen.take(&info, now);
                info
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "container runtime does not answer"
                );
                self.seen.without_answer(now)
            }
        }
    }

    async fn try_look(&self) -> Result<RuntimeInfo> {
        let failed = |call| move |source| Error::Runtime { call, source };
        let version = self
            .runtime
            .version(VersionRequest::default())
            .await
            .map_err(failed("Version"))?;
        let status = self
            .runtime
            .status(StatusRequest::default())
            .await
            .map_err(failed("Status"))?;
        let images = self.images.list_images(ListImagesRequest::default()).await;
        let images = images.map_err(failed("ListImages"))?.images;
        Ok(RuntimeInfo {
            version: format!("{}://{}", version.runtime_name, version.runtime_version),
            problems: problems(&status),
            handlers: handlers(&status),
            features: status.features.map(|features| NodeFeatures {
                supplemental_groups_policy: Some(features.supplemental_groups_policy),
            }),
            images: image_list(images, self.max_images),
        })
    }

    /// Tells the runtime the pod network's range.
    ///
    /// # Errors
    /// [`Error::Runtime`].
    pub(crate) async fn set_pod_cidr(&self, cidr: &str) -> Result<()> {
        let network_config = Some(NetworkConfig {
            pod_cidr: cidr.to_owned(),
        });
        let request = UpdateRuntimeConfigRequest {
            runtime_config: Some(RuntimeConfig { network_config }),
        };
        let answer = self.runtime.update_runtime_config(request).await;
        answer.map(|_| ()).map_err(|source| Error::Runtime {
            call: "UpdateRuntimeConfig",
            source,
        })
    }
}

/// Upstream's words for the runtime's conditions that are not met.
fn problems(status: &StatusResponse) -> Vec<String> {
    let conditions = status
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice())
        .unwrap_or_default();
    let unmet = |kind: &str, what: &str| match conditions.iter().find(|condition| condition.r#type == kind) {
        Some(condition) if condition.status => None,
        Some(condition) => Some(format!(
            "{what} not ready: {kind}=false reason:{} message:{}",
            condition.reason, condition.message
        )),
        None => Some(format!("{what} not ready: condition {kind} is missing")),
    };
    let runtime = unmet("RuntimeReady", "container runtime");
    let network = unmet("NetworkReady", "container runtime network");
    [runtime, network].into_iter().flatten().collect()
}

fn handlers(status: &StatusResponse) -> Vec<NodeRuntimeHandler> {
    let handler = |handler: &knode_cri::RuntimeHandler| NodeRuntimeHandler {
        name: Some(handler.name.clone()),
        features: handler
            .features
            .as_ref()
            .map(|features| NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
                user_namespaces: Some(features.user_namespaces),
            }),
    };
    status.runtime_handlers.iter().map(handler).collect()
}

fn image_list(mut images: Vec<Image>, most: Option<usize>) -> Vec<ContainerImage> {
    images.sort_by(|one, other| other.size.cmp(&one.size).then_with(|| one.id.cmp(&other.id)));
    images.truncate(most.unwrap_or(usize::MAX));
    let image = |image: Image| {
        let digests = image.repo_digests.into_iter();
        let mut names: Vec<String> = digests.chain(image.repo_tags).collect();
        names.truncate(MAX_NAMES);
        ContainerImage {
            names: (!names.is_empty()).then_some(names),
            size_bytes: i64::try_from(image.size).ok(),
        }
    };
    images.into_iter().map(image).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_images_are_listed() {
        let image = |n: u64| Image {
            id: n.to_string(),
            size: n,
            ..Image::default()
        };
        let sizes = |most| {
            let images = image_list((0..60).map(image).collect(), most);
            images.iter().filter_map(|one| one.size_bytes).collect::<Vec<_>>()
        };
        assert_eq!(sizes(Some(2)), [59, 58]);
        assert!(sizes(Some(0)).is_empty());
        assert_eq!(sizes(None).len(), 60);
    }

    #[test]
    fn a_runtime_that_comes_back_soon_was_never_away() {
        let at = Duration::from_secs;
        let mut seen = LastSeen::default();
        assert_eq!(seen.without_answer(at(1)).problems, ["container runtime is down"]);
        let info = RuntimeInfo {
            version: "containerd://1.6.20".to_owned(),
            images: vec![ContainerImage::default()],
            ..RuntimeInfo::default()
        };
        seen.take(&info, at(10));
        assert_eq!(seen.without_answer(at(40)), info);
        let away = seen.without_answer(at(41));
        assert_eq!(away.problems, ["container runtime is down"]);
        assert_eq!(away.version, "containerd://Unknown");
        assert!(away.images.is_empty());
    }
}
