//! Containers that run with other resources than they were granted.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::action::Action;
use crate::model::{Observed, Op};
use crate::pod::{ContainerKind, PodExt};
use crate::qos::own_resources;
use crate::resize::{Way, same_whole, way};

pub(super) fn plan(pod: &Pod, observed: &Observed, now: Timestamp, out: &mut Vec<Action>) {
    for record in observed.running() {
        let known = pod.container(&record.name).zip(observed.applied.get(&record.id));
        let Some(((kind, container), applied)) = known else {
            continue;
        };
        let fixed = matches!(kind, ContainerKind::Init | ContainerKind::Ephemeral);
        if fixed || observed.stops.contains_key(&record.id) {
            continue;
        }
        match way(&container, applied) {
            Way::Done if has_whole(pod, observed, &record.id) => {}
            Way::Restart => out.push(Action::Stop {
                id: record.id.clone(),
                container: record.name.clone(),
                grace: pod.grace_seconds(),
                message: format!("Container {} resize requires restart", record.name),
            }),
            Way::Done | Way::Update if observed.busy.contains(&Op::Resize(record.id.clone())) => {}
            Way::Done | Way::Update => match &observed.resize_failed {
                Some((retry, _)) if *retry > now => out.push(Action::WakeAt(*retry)),
                _ => out.push(Action::Resize {
                    id: record.id.clone(),
                    container: record.name.clone(),
                }),
            },
        }
    }
    if let Some(retry) = observed.wish.as_ref().and(observed.judge_at) {
        out.push(Action::WakeAt(retry));
    }
}

/// Whether the limits of a container were set when the pod as a whole had what it has.
fn has_whole(pod: &Pod, observed: &Observed, id: &str) -> bool {
    let then = observed.applied_whole.get(id);
    then.is_none_or(|then| same_whole(then.as_ref(), own_resources(pod)))
}

/// Whether a running container does not have yet what it is granted.
pub(crate) fn is_resizing(pod: &Pod, observed: &Observed) -> bool {
    observed.running().any(|record| {
        let known = pod.container(&record.name).zip(observed.applied.get(&record.id));
        let limits = known.is_some_and(|((_, container), applied)| way(&container, applied) != Way::Done);
        limits || !has_whole(pod, observed, &record.id)
    })
}
