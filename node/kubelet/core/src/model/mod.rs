//! What is known about one pod on this node: what the runtime says, and what its worker remembers.

mod addresses;
mod backoff;
mod from_cri;
mod observed;
mod probes;
mod spread;

pub use addresses::pod_ips;
pub use backoff::{Backoff, go_duration};
pub use from_cri::{container_record, container_uid, sandbox_record};
pub(crate) use observed::after;
pub use observed::{
    Cause, ContainerRecord, ContainerState, Eviction, Observed, Op, Rejection, Sandbox, Stop, Use,
    VolumeState, Wait,
};
pub use probes::{ProbeKind, ProbeOutcome, ProbeTrack, ProbeVerdict, Probes};
pub(crate) use spread::after_spread;
