//! Image names, pull policies and the credentials for pulls. Pure.

mod credentials;
mod reference;

use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, Pod};

pub use credentials::{docker_credentials, full_name, repository, secret_credentials};
pub use reference::with_default_tag;

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// At each start.
    Always,
    /// When it is missing.
    IfNotPresent,
    /// Never.
    Never,
}

/// The policy of a container (the API server fills it in; without it the tag decides).
pub fn pull_policy(container: &Container) -> PullPolicy {
    policy(container.image_pull_policy.as_deref(), container.image.as_deref())
}

fn policy(said: Option<&str>, image: Option<&str>) -> PullPolicy {
    match said {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        Some(_) => PullPolicy::IfNotPresent,
        None => match image.map(with_default_tag) {
            Some(Ok(name)) if name.ends_with(":latest") => PullPolicy::Always,
            _ => PullPolicy::IfNotPresent,
        },
    }
}

/// An image that a pod mounts as a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageVolume<'a> {
    /// The volume's name.
    pub volume: &'a str,
    /// The image's.
    pub reference: &'a str,
    /// When it is pulled, by the rules of containers' images.
    pub policy: PullPolicy,
}

/// The images that a container mounts, each once.
pub fn image_volumes<'a>(pod: &'a Pod, container: &Container) -> Vec<ImageVolume<'a>> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mounted = |name: &str| {
        container
            .volume_mounts
            .iter()
            .flatten()
            .any(|mount| mount.name == name)
    };
    volumes
        .filter(|volume| mounted(&volume.name))
        .filter_map(|volume| Some(image_volume(&volume.name, volume.image.as_ref()?)))
        .collect()
}

fn image_volume<'a>(volume: &'a str, source: &'a ImageVolumeSource) -> ImageVolume<'a> {
    let reference = source.reference.as_deref();
    ImageVolume {
        volume,
        reference: reference.unwrap_or_default(),
        policy: policy(source.pull_policy.as_deref(), reference),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_container_mounts_the_images_that_it_names() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [{"name": "c", "volumeMounts": [
                {"name": "a", "mountPath": "/1"}, {"name": "a", "mountPath": "/2"}, {"name": "e", "mountPath": "/3"}]}],
            "volumes": [{"name": "a", "image": {"reference": "x"}}, {"name": "e", "emptyDir": {}},
                {"name": "other", "image": {"reference": "y:1", "pullPolicy": "Never"}}]}}))
        .unwrap();
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let one = ImageVolume {
            volume: "a",
            reference: "x",
            policy: PullPolicy::Always,
        };
        assert_eq!(image_volumes(&pod, container), [one]);
    }
}
