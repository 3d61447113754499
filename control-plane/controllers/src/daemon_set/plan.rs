//! Which pods are to be made and deleted, and what the status says; pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::placement::{Fit, fit};
use super::pod::HASH_LABEL;

/// What is to be done about a set.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// Nodes that get a new pod.
    pub create: Vec<String>,
    pub delete: Vec<Arc<Pod>>,
    pub status: DaemonSetStatus,
    /// Look again after this time: a pod becomes available then.
    pub again: Option<Duration>,
}

/// The pods of a set on one node.
#[derive(Default)]
struct Local {
    pods: Vec<Arc<Pod>>,
}

/// Plans from everything that is known of the set.
pub(super) fn plan(
    set: &DaemonSet,
    nodes: &[Arc<Node>],
    pods: &[Arc<Pod>],
    hash: &str,
    now: Timestamp,
) -> Plan {
    let spec = set.spec.clone().unwrap_or_default();
    let template = spec.template.spec.unwrap_or_default();
    let view = View {
        hash,
        now,
        min_ready: spec.min_ready_seconds.unwrap_or_default(),
    };
    let mut by_node = BTreeMap::<String, Local>::new();
    for pod in pods {
        by_node.entry(node_of(pod)).or_default().pods.push(pod.clone());
    }
    let mut plan = Plan {
        create: Vec::new(),
        delete: Vec::new(),
        status: view.empty(set),
        again: None,
    };
    let mut wanted = Vec::new();
    for node in nodes {
        let name = node.metadata.name.clone().unwrap_or_default();
        let fit = fit(&template, node);
        let local = by_node.remove(&name).unwrap_or_default();
        view.one_node(&mut plan, &name, fit, &local);
        if fit.run {
            wanted.push((name, local));
        }
    }
    view.count(&mut plan, &wanted);
    let rolling = spec
        .update_strategy
        .as_ref()
        .is_none_or(|s| s.type_.as_deref() != Some("OnDelete"));
    if rolling {
        let limits = spec
            .update_strategy
            .and_then(|s| s.rolling_update)
            .unwrap_or_default();
        let of = |v: Option<IntOrString>, default| resolve(v, wanted.len(), default);
        view.roll(
            &mut plan,
            &wanted,
            of(limits.max_unavailable, 1),
            of(limits.max_surge, 0),
        );
    }
    plan
}

/// The node that a pod is on, or is meant for.
fn node_of(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    if let Some(bound) = spec.and_then(|s| s.node_name.clone()).filter(|n| !n.is_empty()) {
        return bound;
    }
    let affinity = spec.and_then(|s| s.affinity.as_ref()?.node_affinity.as_ref());
    let selector = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let field = selector.and_then(|s| s.node_selector_terms.first()?.match_fields.as_ref()?.first());
    field
        .and_then(|f| f.values.as_ref()?.first().cloned())
        .unwrap_or_default()
}

/// An absolute number or a percentage of all, rounded up.
fn resolve(value: Option<IntOrString>, all: usize, default: usize) -> usize {
    match value {
        None => default,
        Some(IntOrString::Int(n)) => usize::try_from(n).unwrap_or_default(),
        Some(IntOrString::String(s)) => {
            let percent = s.trim_end_matches('%').parse::<usize>().unwrap_or_default();
            (all * percent).div_ceil(100)
        }
    }
}

fn terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or_default()
}

struct View<'a> {
    hash: &'a str,
    now: Timestamp,
    min_ready: i32,
}

impl View<'_> {
    fn empty(&self, set: &DaemonSet) -> DaemonSetStatus {
        DaemonSetStatus {
            observed_generation: set.metadata.generation,
            collision_count: set.status.as_ref().and_then(|s| s.collision_count),
            conditions: set.status.as_ref().and_then(|s| s.conditions.clone()),
            ..DaemonSetStatus::default()
        }
    }

    fn updated(&self, pod: &Pod) -> bool {
        pod.metadata
            .labels
            .as_ref()
            .and_then(|l| l.get(HASH_LABEL))
            .is_some_and(|h| h == self.hash)
    }

    fn ready(&self, pod: &Pod) -> bool {
        self.ready_since(pod).is_some()
    }

    fn ready_since(&self, pod: &Pod) -> Option<Timestamp> {
        let conditions = pod.status.as_ref()?.conditions.as_ref()?;
        let ready = conditions
            .iter()
            .find(|c| c.type_ == "Ready" && c.status == "True")?;
        Some(ready.last_transition_time.as_ref().map_or(self.now, |t| t.0))
    }

    /// Time until a ready pod counts as available, zero if it does; none if it isn't ready.
    fn available_in(&self, pod: &Pod) -> Option<Duration> {
        let ready_for =
            Duration::try_from(self.now.duration_since(self.ready_since(pod)?)).unwrap_or_default();
        let needed = Duration::from_secs(u64::try_from(self.min_ready).unwrap_or_default());
        Some(needed.saturating_sub(ready_for))
    }

    fn available(&self, pod: &Pod) -> bool {
        !terminating(pod) && self.available_in(pod).is_some_and(|d| d.is_zero())
    }

    /// Missing, finished, surplus and misplaced pods.
    fn one_node(&self, plan: &mut Plan, node: &str, fit: Fit, local: &Local) {
        let living: Vec<_> = local.pods.iter().filter(|p| !terminating(p)).collect();
        let (finished, running): (Vec<_>, Vec<_>) = living
            .into_iter()
            .partition(|p| matches!(phase(p), "Failed" | "Succeeded"));
        plan.delete.extend(finished.into_iter().cloned());
        if !fit.stay {
            plan.delete.extend(running.into_iter().cloned());
            return;
        }
        if fit.run
            && running.is_empty()
            && local
                .pods
                .iter()
                .all(|p| terminating(p) || phase(p) == "Failed" || phase(p) == "Succeeded")
        {
            // A pod that is still terminating keeps its place until it is gone.
            if !local.pods.iter().any(|p| terminating(p)) {
                plan.create.push(node.to_owned());
            }
            return;
        }
        for kind in [true, false] {
            let mut same: Vec<_> = running.iter().filter(|p| self.updated(p) == kind).collect();
            same.sort_by_key(|p| (!self.ready(p), p.metadata.creation_timestamp.clone()));
            plan.delete.extend(same.iter().skip(1).map(|p| Arc::clone(p)));
        }
    }

    fn count(&self, plan: &mut Plan, wanted: &[(String, Local)]) {
        let status = &mut plan.status;
        let mut available = 0;
        for (_, local) in wanted {
            status.desired_number_scheduled += 1;
            let Some(pod) = self.best(local) else { continue };
            status.current_number_scheduled += 1;
            status.number_ready += i32::from(self.ready(pod));
            available += i32::from(self.available(pod));
            let updated = status.updated_number_scheduled.get_or_insert_default();
            *updated += i32::from(self.updated(pod));
            if let Some(wait) = self.available_in(pod).filter(|d| !d.is_zero()) {
                plan.again = Some(plan.again.map_or(wait, |a| a.min(wait)));
            }
        }
        status.number_available = (available > 0).then_some(available);
        let missing = status.desired_number_scheduled - available;
        status.number_unavailable = (missing > 0).then_some(missing);
        status.updated_number_scheduled = status.updated_number_scheduled.filter(|n| *n > 0);
    }

    /// The pod that speaks for the node: a living one, the oldest.
    fn best<'p>(&self, local: &'p Local) -> Option<&'p Arc<Pod>> {
        local
            .pods
            .iter()
            .min_by_key(|p| (terminating(p), p.metadata.creation_timestamp.clone()))
    }

    /// Replaces pods of older templates, at most so many at a time.
    fn roll(&self, plan: &mut Plan, wanted: &[(String, Local)], max_unavailable: usize, max_surge: usize) {
        let mut unavailable = 0;
        let mut surging = 0;
        let mut candidates = Vec::new();
        for (node, local) in wanted {
            let living: Vec<_> = local
                .pods
                .iter()
                .filter(|p| !terminating(p) && !plan.delete.contains(p))
                .collect();
            let old = living.iter().find(|p| !self.updated(p));
            let new = living.iter().find(|p| self.updated(p));
            unavailable += usize::from(!living.iter().any(|p| self.available(p)));
            match (old, new) {
                (Some(old), Some(new)) if self.available(new) || !self.available(old) => {
                    plan.delete.push(Arc::clone(old));
                }
                (Some(_), Some(_)) => surging += 1,
                // One that serves nobody is replaced at once.
                (Some(old), None) if !self.available(old) => plan.delete.push(Arc::clone(old)),
                (Some(old), None) => candidates.push((node.clone(), Arc::clone(old))),
                _ => {}
            }
        }
        if max_surge > 0 {
            let room = max_surge.saturating_sub(surging);
            plan.create
                .extend(candidates.into_iter().take(room).map(|(node, _)| node));
        } else {
            let room = max_unavailable.saturating_sub(unavailable);
            plan.delete
                .extend(candidates.into_iter().take(room).map(|(_, pod)| pod));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(limits: serde_json::Value) -> DaemonSet {
        serde_json::from_value(json!({"metadata": {"name": "d", "generation": 2},
            "spec": {"selector": {}, "template": {"spec": {"containers": []}},
                     "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": limits}}}))
        .unwrap()
    }

    fn nodes(names: &[&str]) -> Vec<Arc<Node>> {
        names
            .iter()
            .map(|n| Arc::new(serde_json::from_value(json!({"metadata": {"name": n}})).unwrap()))
            .collect()
    }

    fn pod(node: &str, hash: &str, ready: bool) -> Arc<Pod> {
        let ready = if ready { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(
                json!({"metadata": {"name": format!("{node}-{hash}"), "labels": {HASH_LABEL: hash}},
                "spec": {"nodeName": node, "containers": []},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready,
                           "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}),
            )
            .unwrap(),
        )
    }

    fn run(set: &DaemonSet, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Plan {
        plan(set, nodes, pods, "new", "2026-01-01T00:01:00Z".parse().unwrap())
    }

    #[test]
    fn every_node_gets_one() {
        let set = set(json!({"maxUnavailable": 1}));
        let p = run(&set, &nodes(&["a", "b"]), &[pod("a", "new", true)]);
        assert_eq!(p.create, ["b"]);
        assert_eq!((p.status.desired_number_scheduled, p.status.number_ready), (2, 1));
        assert_eq!(p.status.number_unavailable, Some(1));
    }

    #[test]
    fn a_surplus_pod_goes() {
        let p = run(
            &set(json!({})),
            &nodes(&["a"]),
            &[pod("a", "new", false), pod("a", "new", true)],
        );
        assert_eq!(p.delete.len(), 1);
        assert!(p.create.is_empty());
    }

    #[test]
    fn an_update_rolls_within_its_limit() {
        let all = nodes(&["a", "b", "c", "d"]);
        let old: Vec<_> = ["a", "b", "c", "d"].iter().map(|n| pod(n, "old", true)).collect();
        assert_eq!(
            run(&set(json!({"maxUnavailable": 1})), &all, &old).delete.len(),
            1
        );
        assert_eq!(
            run(&set(json!({"maxUnavailable": "50%"})), &all, &old)
                .delete
                .len(),
            2
        );
        let mut one_down = old.clone();
        one_down[0] = pod("a", "new", false);
        assert!(
            run(&set(json!({"maxUnavailable": 1})), &all, &one_down)
                .delete
                .is_empty()
        );
        let surge = run(&set(json!({"maxSurge": 1, "maxUnavailable": 0})), &all, &old);
        assert_eq!((surge.create.len(), surge.delete.len()), (1, 0));
    }

    #[test]
    fn an_old_pod_that_serves_nobody_is_replaced_at_once() {
        let p = run(
            &set(json!({"maxUnavailable": 1})),
            &nodes(&["a"]),
            &[pod("a", "old", false)],
        );
        assert_eq!(p.delete.len(), 1);
    }
}
