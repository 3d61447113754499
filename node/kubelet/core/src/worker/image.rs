//! Having the image of a container (upstream: `pkg/kubelet/images/image_manager.go`).

mod account;
mod credentials;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use knode_client::EventKind;
use knode_cri as cri;
use tokio::sync::{OnceCell, watch};

use super::context::Context;
use super::outcome::StartFailure;
use crate::image::{PullPolicy, image_volumes, pull_policy, with_default_tag};
use crate::plan::PodEvent;
use crate::pod::ContainerKind;
use crate::pulls::{Look, Match, Source, compare};
use crate::spec::security::ImageUser;
use account::AccountOf;
use credentials::{Credential, of_pod};

/// An image that is there.
pub(super) struct Present {
    pub id: String,
    pub user: Option<ImageUser>,
}

/// Images by the names of the volumes that they are.
pub(super) type Mounted = BTreeMap<String, cri::ImageSpec>;

/// What an image is wanted for.
#[derive(Clone, Copy)]
enum Use {
    /// A container's root.
    Root,
    /// A volume: its events are the pod's.
    Volume,
}

/// Which image is wanted.
struct Wanted<'a> {
    /// As the container names it.
    image: &'a str,
    /// The same with a tag.
    name: &'a str,
    used: Use,
    /// What the pod has for it, once that was asked for.
    found: OnceCell<Vec<Credential>>,
}

/// Whose image is wanted.
pub(super) struct Subject<'a> {
    pub context: &'a Context,
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub kind: ContainerKind,
}

impl Subject<'_> {
    pub(super) fn event(&self, kind: EventKind, reason: &str, message: impl Into<String>) {
        let event = PodEvent::container(kind, reason, message, self.kind, &self.container.name);
        self.context.api.event(self.pod, &event);
    }

    /// A failure with its `Failed` event.
    pub(super) fn failure(&self, reason: &'static str, shown: &str, message: String) -> StartFailure {
        self.event(EventKind::Warning, "Failed", format!("Error: {shown}"));
        StartFailure {
            reason,
            message,
            image: None,
            cancelled: false,
        }
    }

    /// The container's image, pulled if the policy says so. A pull is given up when `cancel` turns true.
    pub(super) async fn image(&self, cancel: watch::Receiver<bool>) -> Result<Present, StartFailure> {
        let image = self.container.image.clone().unwrap_or_default();
        self.have(&image, pull_policy(self.container), Use::Root, cancel)
            .await
    }

    /// The images that the container mounts, by the names of their volumes (upstream: `getImageVolumes`).
    pub(super) async fn mounted_images(
        &self,
        cancel: &watch::Receiver<bool>,
    ) -> Result<Mounted, StartFailure> {
        let mut all = Mounted::new();
        for wanted in image_volumes(self.pod, self.container) {
            let present = self.have(wanted.reference, wanted.policy, Use::Volume, cancel.clone());
            let spec = cri::ImageSpec {
                image: present.await?.id,
                user_specified_image: wanted.reference.to_owned(),
                ..cri::ImageSpec::default()
            };
            all.insert(wanted.volume.to_owned(), spec);
        }
        Ok(all)
    }

    fn told(&self, used: Use, kind: EventKind, reason: &str, message: impl Into<String>) {
        match used {
            Use::Root => self.event(kind, reason, message),
            Use::Volume => self
                .context
                .api
                .event(self.pod, &PodEvent::pod(kind, reason, message)),
        }
    }

    fn failed(&self, used: Use, reason: &'static str, message: String) -> StartFailure {
        self.told(used, EventKind::Warning, "Failed", format!("Error: {reason}"));
        StartFailure {
            reason,
            message,
            image: None,
            cancelled: false,
        }
    }

    async fn have(
        &self,
        image: &str,
        policy: PullPolicy,
        used: Use,
        mut cancel: watch::Receiver<bool>,
    ) -> Result<Present, StartFailure> {
        let name = with_default_tag(image).map_err(|error| {
            self.told(used, EventKind::Warning, "InspectFailed", error.to_string());
            self.failed(used, "InvalidImageName", error.to_string())
        })?;
        let present = self.find(&name, used).await?;
        let wanted = Wanted {
            image,
            name: &name,
            used,
            found: OnceCell::new(),
        };
        if let Some(present) = present.filter(|_| policy != PullPolicy::Always)
            && self.may_use(&wanted, &present).await
        {
            let message = format!(
                "Container image \"{image}\" already present on machine and can be accessed by the pod"
            );
            self.told(used, EventKind::Normal, "Pulled", message);
            return Ok(present);
        }
        // Whether an image is here is not told to those that may not use it.
        if policy == PullPolicy::Never {
            let message = format!("Container image \"{image}\" is not present with pull policy of Never");
            self.told(used, EventKind::Warning, "ErrImageNeverPull", message.clone());
            return Err(self.failed(used, "ErrImageNeverPull", message));
        }
        tokio::select! {
            pulled = self.pull(&wanted) => pulled,
            // The sender lives as long as the worker that waits for this.
            _ = cancel.wait_for(|cancelled| *cancelled) => Err(StartFailure {
                reason: "Cancelled",
                message: String::new(),
                image: None,
                cancelled: true,
            }),
        }
    }

    /// Whether the pod may use an image that is here without pulling it.
    async fn may_use(&self, wanted: &Wanted<'_>, present: &Present) -> bool {
        let records = &self.context.pulled;
        let known = match records.look(wanted.image, &present.id) {
            Look::Open => return true,
            Look::Verify => return false,
            Look::Compare(known) => known,
        };
        match compare(&known, &of_pod(self.credentials_of(wanted).await)) {
            Match::None => false,
            Match::Same => true,
            Match::Learn(secret) => {
                let now = self.context.now();
                // A failure is logged there. What the pod has is good all the same.
                records
                    .learn(wanted.image, &present.id, Source::Secret(secret), now)
                    .await;
                true
            }
        }
    }

    /// What the pod has for an image, looked for once.
    async fn credentials_of<'w>(&self, wanted: &'w Wanted<'_>) -> &'w [Credential] {
        wanted.found.get_or_init(|| self.credentials(wanted.name)).await
    }

    async fn find(&self, name: &str, used: Use) -> Result<Option<Present>, StartFailure> {
        let spec = cri::ImageSpec {
            image: name.to_owned(),
            ..cri::ImageSpec::default()
        };
        let request = cri::ImageStatusRequest {
            image: Some(spec),
            verbose: false,
        };
        let answer = self
            .context
            .config
            .images
            .image_status(request)
            .await
            .map_err(|error| {
                let message = format!("Failed to inspect image \"{name}\": {}", error.rpc_text());
                self.told(used, EventKind::Warning, "InspectFailed", message.clone());
                self.failed(used, "ImageInspectError", message)
            })?;
        Ok(answer.image.map(|image| Present {
            user: user(&image),
            id: image.id,
        }))
    }

    async fn pull(&self, wanted: &Wanted<'_>) -> Result<Present, StartFailure> {
        let image = wanted.image;
        let used = wanted.used;
        self.told(
            used,
            EventKind::Normal,
            "Pulling",
            format!("Pulling image \"{image}\""),
        );
        let asked = self.context.now();
        // The semaphore is never closed.
        let _turn = self.context.pulls.acquire().await;
        let begun = self.context.now();
        let id = self
            .pull_recorded(wanted)
            .await
            .map_err(|error| self.pull_failure(image, used, &error))?;
        let (total, own) = (
            self.context.now().duration_since(asked),
            self.context.now().duration_since(begun),
        );
        let seconds = |duration: jiff::SignedDuration| format!("{:.3}s", duration.as_secs_f64());
        let found = self.find(&id, used).await?;
        let Some(present) = found else {
            let missing = cri::CriError::not_found(format!("image \"{id}\" is missing after its pull"));
            return Err(self.pull_failure(image, used, &missing));
        };
        let size = self.size(&id).await;
        let took = std::time::Duration::try_from(total).unwrap_or_default();
        self.context.config.metrics.pods.pulled(size, took);
        let message = format!(
            "Successfully pulled image \"{image}\" in {} ({} including waiting). Image size: {size} bytes.",
            seconds(own),
            seconds(total),
        );
        self.told(used, EventKind::Normal, "Pulled", message);
        Ok(present)
    }

    async fn size(&self, id: &str) -> u64 {
        let spec = cri::ImageSpec {
            image: id.to_owned(),
            ..cri::ImageSpec::default()
        };
        let request = cri::ImageStatusRequest {
            image: Some(spec),
            verbose: false,
        };
        let answer = self.context.config.images.image_status(request).await;
        answer
            .ok()
            .and_then(|answer| answer.image)
            .map_or(0, |image| image.size)
    }

    fn pull_failure(&self, image: &str, used: Use, error: &cri::CriError) -> StartFailure {
        self.told(
            used,
            EventKind::Warning,
            "Failed",
            format!("Failed to pull image \"{image}\": {error}"),
        );
        let failure = self.failed(used, "ErrImagePull", error.to_string());
        StartFailure {
            image: Some(image.to_owned()),
            ..failure
        }
    }

    /// Pulls, and writes down who may use what came.
    async fn pull_recorded(&self, wanted: &Wanted<'_>) -> Result<String, cri::CriError> {
        let tries = self.credentials_of(wanted).await;
        let begun = self.context.pulled.begin(wanted.image).await;
        let pull = begun.map_err(|error| {
            let text = format!(
                "Failed to record image pull intent for container image \"{}\"",
                wanted.image
            );
            tracing::error!(error = &error as &dyn std::error::Error, "{text}");
            cri::CriError::unknown(format!("{text}: {error}"))
        })?;
        match self.pull_with(wanted.name, tries).await {
            Ok((id, source)) => {
                pull.succeeded(&id, source, self.context.now()).await;
                Ok(id)
            }
            Err(error) => {
                pull.failed().await;
                Err(error)
            }
        }
    }

    /// Tries one after the other: the image's id, and what it could be pulled with.
    async fn pull_with(&self, name: &str, tries: &[Credential]) -> Result<(String, Source), cri::CriError> {
        let mut last = cri::CriError::unknown("no credentials");
        for one in tries {
            let annotations = self.pod.metadata.annotations.iter().flatten();
            let spec = cri::ImageSpec {
                image: name.to_owned(),
                annotations: annotations
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect(),
                ..cri::ImageSpec::default()
            };
            let request = cri::PullImageRequest {
                image: Some(spec),
                auth: one.auth.clone(),
                sandbox_config: None,
            };
            match self.context.config.images.pull_image(request).await {
                Ok(answer) => return Ok((answer.image_ref, one.source.clone())),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn user(image: &cri::Image) -> Option<ImageUser> {
    match (&image.uid, image.username.as_str()) {
        (Some(uid), _) => Some(ImageUser::Id(uid.value)),
        (None, "") => None,
        (None, name) => Some(ImageUser::Name(name.to_owned())),
    }
}
