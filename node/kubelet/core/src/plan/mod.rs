//! What to do next about one pod. Pure: [`plan`] looks at the pod, at what is observed and at the time, and
//! says what to do; it may be called at any time and says nothing twice while something is under way.

mod action;
mod active;
mod ended;
mod ending;
mod garbage;
mod order;
mod probing;
mod resizing;
mod restart_all;
mod stage;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::model::Observed;

pub use action::{Action, PodEvent};
pub(crate) use ending::DEADLINE;
pub(crate) use order::has_started;
pub(crate) use resizing::is_resizing;
pub(crate) use restart_all::{is_under_way, reset};
pub use stage::{Stage, past_deadline, stage};
pub(crate) use stage::{done_for_good, start_time};

/// The next actions for `pod`, in order.
pub fn plan(pod: &Pod, observed: &Observed, now: Timestamp) -> Vec<Action> {
    let mut out = Vec::new();
    match stage(pod, observed, now) {
        Stage::Active => active::plan(pod, observed, now, &mut out),
        Stage::Ending => ending::plan(pod, observed, now, &mut out),
        Stage::Ended => ended::plan(pod, observed, now, &mut out),
    }
    out
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;
