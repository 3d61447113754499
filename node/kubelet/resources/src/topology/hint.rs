//! What a kind of resource proposes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::NumaMask;

/// A set of NUMA nodes from which a request can be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopologyHint {
    /// The nodes; none is no preference.
    pub affinity: Option<NumaMask>,
    /// Whether no smaller set could ever meet the request.
    pub preferred: bool,
}

impl TopologyHint {
    /// No preference, which is always met.
    pub const ANY: Self = Self {
        affinity: None,
        preferred: true,
    };

    /// These nodes.
    pub fn new(affinity: NumaMask, preferred: bool) -> Self {
        Self {
            affinity: Some(affinity),
            preferred,
        }
    }
}

/// Hints by the resource's name. `None` is no preference, an empty list that the request cannot be met; a resource
/// that is not asked for is left out.
pub type Hints = BTreeMap<String, Option<Vec<TopologyHint>>>;

/// Why a resource that was promised cannot be had; the pod is rejected with it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct AllocateError {
    /// The pod's reason, in CamelCase (`UnexpectedAdmissionError` where there is no better one).
    pub reason: String,
    /// The pod's message.
    pub message: String,
}

impl AllocateError {
    /// An error without a reason of its own.
    pub fn unexpected(message: impl Into<String>) -> Self {
        Self {
            reason: "UnexpectedAdmissionError".to_owned(),
            message: message.into(),
        }
    }
}

/// A kind of resource that takes part in the decision on NUMA nodes (upstream: `topologymanager.HintProvider`).
/// All calls come from the admission of pods, one after another, and must not wait for anything.
pub trait HintProvider: Send + Sync {
    /// What one container could be given.
    fn container_hints(&self, pod: &Pod, container: &Container) -> Hints;

    /// What the pod as a whole could be given, in scope `pod`.
    fn pod_hints(&self, pod: &Pod) -> Hints;

    /// Gives a container what it asks for, from the nodes that were chosen. What it has already is kept.
    ///
    /// # Errors
    /// [`AllocateError`] if there is not enough; the caller releases what other providers gave the pod.
    fn allocate(&self, pod: &Pod, container: &Container, affinity: TopologyHint)
    -> Result<(), AllocateError>;

    /// Takes back everything that the pod with this uid was given; nothing if it was given nothing.
    fn release(&self, pod_uid: &str);
}
