//! Looking, and removing what is to go.

use std::collections::BTreeSet;
use std::path::PathBuf;

use knode_cri::{
    ContainerStatusRequest, Image, ImageFsInfoRequest, ImageSpec, ImageStatusRequest, ListContainersRequest,
    ListImagesRequest, RemoveImageRequest, StatusRequest,
};
use knode_linux::filewatch;
use tokio::sync::{Mutex, OnceCell};

use super::ImageGcPolicy;
use super::census::{Candidate, Census, Listed, to_free};
use crate::agent::{NodeDeps, node_reference};
use crate::{Error, Result};

/// Frees space on the images' file system.
pub(crate) struct ImageGc {
    policy: ImageGcPolicy,
    node_name: String,
    deps: NodeDeps,
    census: Mutex<Census>,
    path: Mutex<Option<PathBuf>>,
    sandbox_image: OnceCell<Option<String>>,
}

impl ImageGc {
    pub(crate) fn new(policy: ImageGcPolicy, node_name: &str, deps: NodeDeps) -> Self {
        Self {
            policy,
            node_name: node_name.to_owned(),
            deps,
            census: Mutex::default(),
            path: Mutex::default(),
            sandbox_image: OnceCell::new(),
        }
    }

    /// Looks from time to time, for ever. What is there at the first look counts as old.
    pub(crate) async fn run(self: std::sync::Arc<Self>) {
        if let Err(error) = self.census().await {
            tracing::warn!(error = chain(&error), "cannot see which images there are");
        }
        let mut failed = false;
        loop {
            self.deps.clock.sleep(self.policy.interval).await;
            match self.collect().await {
                Ok(()) => failed = false,
                Err(error) => {
                    let text = chain(&error);
                    tracing::warn!(error = text, "image garbage collection failed");
                    // Once may be because the runtime has just begun.
                    if std::mem::replace(&mut failed, true) {
                        self.warn("ImageGCFailed", &text);
                    }
                }
            }
        }
    }

    /// Where the runtime keeps its images, if it says so.
    pub(crate) async fn path(&self) -> Option<PathBuf> {
        let mut path = self.path.lock().await;
        if path.is_none() {
            let request = ImageFsInfoRequest::default();
            let answer = self.deps.images.image_fs_info(request).await.ok()?;
            let id = answer.image_filesystems.into_iter().next()?.fs_id?;
            *path = Some(PathBuf::from(id.mountpoint));
        }
        path.clone()
    }

    /// Removes images that are too old, and others if more than the upper mark is in use.
    async fn collect(&self) -> Result<()> {
        self.census().await?;
        self.remove_outdated().await;
        // A runtime that does not say where its images are is not measured.
        let Some(path) = self.path().await else {
            return Ok(());
        };
        let usage = filewatch::file_system_usage(&path).map_err(|source| Error::Machine {
            what: path.display().to_string(),
            source,
        })?;
        if usage.capacity == 0 {
            self.warn("InvalidDiskCapacity", "invalid capacity 0 on image filesystem");
            return Ok(());
        }
        let Some((wanted, percentage)) = to_free(&self.policy, &usage) else {
            return Ok(());
        };
        tracing::info!(
            percentage,
            wanted,
            "the images' file system is too full, removing unused images"
        );
        let freed = self.free(wanted).await;
        tracing::info!(freed, wanted, "unused images removed");
        if freed < wanted {
            let text = format!(
                "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {freed} bytes eligible to free."
            );
            self.warn("FreeDiskSpaceFailed", &text);
        }
        Ok(())
    }

    /// Removes every image that may go.
    pub(crate) async fn delete_unused(&self) {
        if let Err(error) = self.census().await {
            tracing::warn!(error = chain(&error), "cannot see which images are unused");
            return;
        }
        let freed = self.free(u64::MAX).await;
        tracing::info!(freed, "unused images removed");
    }

    fn warn(&self, reason: &str, text: &str) {
        if let Some(recorder) = &self.deps.recorder {
            recorder.warning(node_reference(&self.node_name), reason, text);
        }
    }

    /// Notes which images there are and which of them are used.
    async fn census(&self) -> Result<()> {
        let failed = |call| move |source| Error::Runtime { call, source };
        let containers = self
            .deps
            .runtime
            .list_containers(ListContainersRequest::default());
        let containers = containers.await.map_err(failed("ListContainers"))?.containers;
        let asked = self.deps.clock.now();
        let images = self.deps.images.list_images(ListImagesRequest::default());
        let images = images.await.map_err(failed("ListImages"))?.images;
        let mut in_use = BTreeSet::new();
        for container in containers {
            in_use.extend(self.mounted_images(&container.id).await?);
            in_use.extend(container.image.map(|image| image.image));
            in_use.extend([container.image_ref, container.image_id]);
        }
        in_use.extend(self.sandbox_image().await?);
        in_use.remove("");
        let images: Vec<Listed> = images.into_iter().map(listed).collect();
        let present = images.iter().map(|image| image.id.clone()).collect();
        self.deps.pods.images_listed(&present, asked).await;
        self.census
            .lock()
            .await
            .take(&images, &in_use, self.deps.clock.now());
        Ok(())
    }

    /// The images that a container mounts (upstream: `handleImageVolumes`).
    async fn mounted_images(&self, container: &str) -> Result<Vec<String>> {
        let request = ContainerStatusRequest {
            container_id: container.to_owned(),
            verbose: false,
        };
        let status = match self.deps.runtime.container_status(request).await {
            Ok(answer) => answer.status.unwrap_or_default(),
            // It has gone since it was listed.
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(source) => {
                let call = "ContainerStatus";
                return Err(Error::Runtime { call, source });
            }
        };
        let mounts = status.mounts.into_iter();
        let images = mounts.filter_map(|mount| mount.image);
        Ok(images.flat_map(|image| [image.image, image.image_ref]).collect())
    }

    /// The id of the image that the runtime makes sandboxes from, where it has one. Older containerds do not
    /// pin it, and without it no pod starts any more where no registry is in reach.
    async fn sandbox_image(&self) -> Result<Option<String>> {
        let failed = |call| move |source| Error::Runtime { call, source };
        let name = self.sandbox_image.get_or_try_init(async || -> Result<_> {
            let status = self.deps.runtime.status(StatusRequest { verbose: true });
            let info = status.await.map_err(failed("Status"))?.info;
            Ok(info.get("config").and_then(|config| sandbox_image(config)))
        });
        let Some(name) = name.await? else {
            return Ok(None);
        };
        let image = ImageSpec {
            image: name.clone(),
            ..Default::default()
        };
        let request = ImageStatusRequest {
            image: Some(image),
            verbose: false,
        };
        let found = self.deps.images.image_status(request).await;
        Ok(found.map_err(failed("ImageStatus"))?.image.map(|image| image.id))
    }

    /// Removes images until `wanted` bytes are free or none is left that may go; the bytes freed.
    async fn free(&self, wanted: u64) -> u64 {
        let mut census = self.census.lock().await;
        let mut freed = 0_u64;
        for one in census.candidates(self.policy.min_age, self.deps.clock.now()) {
            if freed >= wanted {
                break;
            }
            freed = freed.saturating_add(self.remove(&mut census, one, "space").await);
        }
        freed
    }

    /// Removes images that were not used for too long.
    async fn remove_outdated(&self) {
        let mut census = self.census.lock().await;
        for one in census.outdated(self.policy.max_age, self.deps.clock.now()) {
            self.remove(&mut census, one, "age").await;
        }
    }

    /// Removes an image for this reason; the bytes freed.
    async fn remove(&self, census: &mut Census, Candidate { id, size }: Candidate, reason: &str) -> u64 {
        let image = ImageSpec {
            image: id.clone(),
            ..ImageSpec::default()
        };
        let request = RemoveImageRequest { image: Some(image) };
        match self.deps.images.remove_image(request).await {
            Ok(_) => {
                tracing::info!(image = id, size, "unused image removed");
                census.forget(&id);
                self.deps.metrics.node.images_removed(reason, 1);
                size
            }
            Err(error) => {
                tracing::warn!(image = id, %error, "cannot remove the image");
                0
            }
        }
    }
}

fn listed(image: Image) -> Listed {
    Listed {
        names: image.repo_tags.into_iter().chain(image.repo_digests).collect(),
        id: image.id,
        size: image.size,
        pinned: image.pinned,
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The image of sandboxes that a runtime's configuration names, as containerd and CRI-O tell it by `Status`.
fn sandbox_image(config: &str) -> Option<String> {
    let config: serde_json::Value = serde_json::from_str(config).ok()?;
    let name = config["sandboxImage"].as_str()?;
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::sandbox_image;

    #[test]
    fn the_image_of_sandboxes_is_read_where_it_is_told() {
        let told = |config| sandbox_image(config);
        assert_eq!(
            told(r#"{"sandboxImage": "pause:3.6"}"#).as_deref(),
            Some("pause:3.6")
        );
        for none in [r#"{"sandboxImage": ""}"#, r#"{"root": "/x"}"#, "not JSON"] {
            assert_eq!(told(none), None, "{none}");
        }
    }
}
