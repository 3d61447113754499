//! Why devices cannot be given.

/// Why a container cannot be given what it asks for, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocationError {
    /// It has another number of devices than it asks for.
    #[error(
        "pod \"{pod}\" container \"{container}\" changed request for resource \"{resource}\" from {before} to {now}"
    )]
    Changed {
        /// The pod's uid.
        pod: String,
        /// The container.
        container: String,
        /// The resource.
        resource: String,
        /// What it has.
        before: usize,
        /// What it asks for.
        now: usize,
    },
    /// No plugin offers the resource.
    #[error("cannot allocate unregistered device {0}")]
    Unregistered(String),
    /// None of the resource's devices is healthy.
    #[error("no healthy devices present; cannot allocate unhealthy devices {0}")]
    Unhealthy(String),
    /// The container has devices that are not healthy any more.
    #[error("previously allocated devices are no longer healthy; cannot allocate unhealthy devices {0}")]
    NoLongerHealthy(String),
    /// There are too few.
    #[error(
        "requested number of devices unavailable for {resource}. Requested: {requested}, Available: {available}"
    )]
    Unavailable {
        /// The resource.
        resource: String,
        /// How many are still needed.
        requested: usize,
        /// How many are free.
        available: usize,
    },
}
