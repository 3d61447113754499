//! From the pod's specification to CRI configurations (upstream: `pkg/kubelet/kuberuntime`). Pure.

pub mod container;
pub mod dns;
pub mod hash;
pub mod hosts;
pub mod labels;
pub mod resources;
pub mod sandbox;
pub mod security;
