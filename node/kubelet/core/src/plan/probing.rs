//! Probes that are due.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::action::Action;
use crate::model::{Observed, Op};
use crate::pod::PodExt;

pub(super) fn plan(pod: &Pod, observed: &Observed, now: Timestamp, out: &mut Vec<Action>) {
    for record in observed.running() {
        let Some(probes) = observed.probes.get(&record.id) else {
            continue;
        };
        if pod.container(&record.name).is_none() || observed.stops.contains_key(&record.id) {
            continue;
        }
        for (kind, due) in probes.due() {
            let op = Op::Probe(record.id.clone(), kind);
            if observed.busy.contains(&op) {
                continue;
            }
            out.push(match due <= now {
                true => Action::Probe {
                    id: record.id.clone(),
                    container: record.name.clone(),
                    kind,
                },
                false => Action::WakeAt(due),
            });
        }
    }
}
