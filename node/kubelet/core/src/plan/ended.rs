//! A pod of which nothing runs any more: give back what it had; if it is deleted, say so to the API.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::action::Action;
use crate::model::{Observed, Op};
use crate::pod::PodExt;

pub(super) fn plan(pod: &Pod, observed: &Observed, now: Timestamp, out: &mut Vec<Action>) {
    if observed.busy.contains(&Op::Release) {
        return;
    }
    if let Some(retry) = observed.end_retry.filter(|retry| *retry > now) {
        return out.push(Action::WakeAt(retry));
    }
    let all = observed.removed || observed.cleared || pod.is_deleted();
    let done = observed.released.is_some_and(|everything| everything || !all);
    if !done {
        return out.push(Action::Release { all });
    }
    if observed.removed {
        return out.push(Action::Finish);
    }
    let writing = observed.busy.contains(&Op::Status) || observed.busy.contains(&Op::Delete);
    if pod.is_deleted() && observed.reported && !writing {
        out.push(Action::Delete);
    }
}
