//! Image names, pull policies and the credentials for pulls. Pure.

mod credentials;
mod reference;

use k8s_openapi::api::core::v1::Container;

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
    match container.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        Some(_) => PullPolicy::IfNotPresent,
        None => match container.image.as_deref().map(with_default_tag) {
            Some(Ok(name)) if name.ends_with(":latest") => PullPolicy::Always,
            _ => PullPolicy::IfNotPresent,
        },
    }
}
