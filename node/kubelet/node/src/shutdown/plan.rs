//! In which order pods end when the machine shuts down, and how long each may take (upstream: `nodeshutdown_manager.go`).
//! Pure.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

/// Priority from which on pods are critical (`scheduling.SystemCriticalPriority`).
pub const CRITICAL: i32 = 2_000_000_000;

/// How long pods may take to end when the machine shuts down, by their priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShutdownGrace {
    /// From which priority on, and how long; ascending.
    groups: Vec<(i32, Duration)>,
}

/// Times that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShutdownGraceError {
    /// Critical pods would have more time than all pods together.
    #[error(
        "invalid configuration: shutdownGracePeriodCriticalPods {critical:?} must be <= shutdownGracePeriod {all:?}"
    )]
    Critical {
        /// For all pods.
        all: Duration,
        /// Of that, for the critical ones.
        critical: Duration,
    },
    /// A priority is named twice.
    #[error("invalid configuration: shutdownGracePeriodByPodPriority names priority {0} twice")]
    Twice(i32),
}

impl ShutdownGrace {
    /// `all` for all pods together, of which `critical` is set aside for critical ones. No time at all turns it off.
    ///
    /// # Errors
    /// [`ShutdownGraceError::Critical`].
    pub fn periods(all: Duration, critical: Duration) -> Result<Self, ShutdownGraceError> {
        let rest = all
            .checked_sub(critical)
            .ok_or(ShutdownGraceError::Critical { all, critical })?;
        let mut groups = vec![(0, rest), (CRITICAL, critical)];
        if all.is_zero() {
            groups.clear();
        }
        Ok(Self { groups })
    }

    /// A time for the pods from each priority on; those below the lowest one belong to that.
    ///
    /// # Errors
    /// [`ShutdownGraceError::Twice`].
    pub fn by_priority(mut groups: Vec<(i32, Duration)>) -> Result<Self, ShutdownGraceError> {
        groups.sort_by_key(|(priority, _)| *priority);
        let twice = groups.windows(2).find(|two| two[0].0 == two[1].0);
        match twice {
            Some(two) => Err(ShutdownGraceError::Twice(two[0].0)),
            None => Ok(Self { groups }),
        }
    }

    /// Whether shutdowns are waited for at all.
    pub fn is_off(&self) -> bool {
        self.groups.is_empty()
    }

    /// How long a shutdown may be held up.
    pub fn total(&self) -> Duration {
        self.groups
            .iter()
            .fold(Duration::ZERO, |sum, (_, period)| sum.saturating_add(*period))
    }

    /// The pods that end together, the least important first, each group with the time it has. Groups without pods are
    /// not there: nobody waits for them.
    pub fn steps(&self, pods: Vec<Arc<Pod>>) -> Vec<Step> {
        let mut steps: Vec<Step> = self
            .groups
            .iter()
            .map(|(_, period)| Step {
                period: *period,
                pods: Vec::new(),
            })
            .collect();
        for pod in pods.into_iter().filter(|pod| is_active(pod)) {
            let above = self.groups.partition_point(|(from, _)| *from <= priority(&pod));
            if let Some(step) = steps.get_mut(above.saturating_sub(1)) {
                let grace = grace(&pod, step.period);
                step.pods.push(Ending { pod, grace });
            }
        }
        steps.retain(|step| !step.pods.is_empty());
        steps
    }
}

/// Pods that end together.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// How long they have, all together.
    pub period: Duration,
    /// The pods.
    pub pods: Vec<Ending>,
}

/// One pod that ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Seconds that it has.
    pub grace: i64,
}

fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

/// What the pod asks for, but no more than its group has.
fn grace(pod: &Pod, period: Duration) -> i64 {
    let limit = i64::try_from(period.as_secs()).unwrap_or(i64::MAX);
    let own = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.termination_grace_period_seconds);
    own.map_or(limit, |own| own.min(limit))
}

fn is_active(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, priority: Option<i32>, grace: Option<i64>) -> Arc<Pod> {
        let mut spec = json!({"containers": []});
        if let Some(priority) = priority {
            spec["priority"] = json!(priority);
        }
        if let Some(grace) = grace {
            spec["terminationGracePeriodSeconds"] = json!(grace);
        }
        let pod = json!({"metadata": {"name": name, "uid": name}, "spec": spec});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn shown(steps: &[Step]) -> Vec<String> {
        let one = |step: &Step| {
            let pods = step.pods.iter();
            let names = pods.map(|one| format!("{}:{}", one.pod.metadata.name.clone().unwrap(), one.grace));
            format!(
                "{}s {}",
                step.period.as_secs(),
                names.collect::<Vec<_>>().join(" ")
            )
        };
        steps.iter().map(one).collect()
    }

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn critical_pods_end_last_in_the_time_set_aside_for_them() {
        let grace = ShutdownGrace::periods(seconds(30), seconds(10)).unwrap();
        assert_eq!(grace.total(), seconds(30));
        let pods = vec![
            pod("dns", Some(CRITICAL), Some(30)),
            pod("web", None, Some(5)),
            pod("slow", Some(100), Some(600)),
            pod("low", Some(-7), None),
        ];
        assert_eq!(
            shown(&grace.steps(pods)),
            ["20s web:5 slow:20 low:20", "10s dns:10"]
        );
        assert!(
            grace.steps(Vec::new()).is_empty(),
            "nobody waits for groups without pods"
        );
    }

    /// The table of upstream's `TestGroupByPriority`.
    #[test]
    fn each_pod_belongs_to_the_highest_group_that_it_reaches() {
        let groups = vec![(100, seconds(1)), (0, seconds(2)), (10, seconds(3))];
        let grace = ShutdownGrace::by_priority(groups).unwrap();
        let pods = [-5, 0, 9, 10, 99, 100, CRITICAL]
            .map(|priority| pod(&priority.to_string(), Some(priority), None));
        assert_eq!(
            shown(&grace.steps(pods.to_vec())),
            ["2s -5:2 0:2 9:2", "3s 10:3 99:3", "1s 100:1 2000000000:1"]
        );
    }

    #[test]
    fn pods_that_have_ended_hold_nobody_up() {
        let grace = ShutdownGrace::periods(seconds(30), seconds(0)).unwrap();
        let mut ended = Pod::clone(&pod("done", None, None));
        ended.status = Some(serde_json::from_value(json!({"phase": "Succeeded"})).unwrap());
        assert!(grace.steps(vec![Arc::new(ended)]).is_empty());
    }

    #[test]
    fn contradictions_are_named() {
        let error = ShutdownGrace::periods(seconds(10), seconds(20)).unwrap_err();
        assert!(
            error.to_string().contains("shutdownGracePeriodCriticalPods"),
            "{error}"
        );
        let twice = ShutdownGrace::by_priority(vec![(1, seconds(1)), (1, seconds(2))]);
        assert_eq!(twice, Err(ShutdownGraceError::Twice(1)));
        assert!(ShutdownGrace::periods(seconds(0), seconds(0)).unwrap().is_off());
    }
}
