//! NUMA affinity: what each kind of resource proposes, and what is chosen of it
//! (upstream: `pkg/kubelet/cm/topologymanager`).

mod hint;
mod mask;
mod merge;
mod policy;

pub use hint::{AllocateError, HintProvider, Hints, TopologyHint};
pub use mask::NumaMask;
pub use policy::{Choice, NumaInfo, Policy, Scope, TopologyOptions};
