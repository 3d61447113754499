//! Old containers and sandboxes of a pod that lives on (upstream keeps one ended container each; here two,
//! so that `lastState` survives a restart of the kubelet).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use super::action::Action;
use crate::model::{Observed, Op};
use crate::pod::PodExt;

const KEEP: usize = 2;

pub(super) fn plan(pod: &Pod, observed: &Observed, out: &mut Vec<Action>) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &observed.containers {
        let count = seen.entry(&record.name).or_default();
        *count += 1;
        let known = pod.container(&record.name).is_some();
        let surplus = *count > KEEP || !known;
        if surplus && record.is_down() && !observed.busy.contains(&Op::Remove(record.id.clone())) {
            out.push(Action::RemoveContainer {
                id: record.id.clone(),
            });
        }
    }
    for sandbox in observed.sandboxes.iter().skip(1).filter(|sandbox| !sandbox.ready) {
        let empty = !observed
            .containers
            .iter()
            .any(|record| record.sandbox_id == sandbox.id);
        if empty && !observed.busy.contains(&Op::RemoveSandbox(sandbox.id.clone())) {
            out.push(Action::RemoveSandbox {
                id: sandbox.id.clone(),
            });
        }
    }
}
