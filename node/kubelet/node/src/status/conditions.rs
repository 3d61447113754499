//! The four conditions that the kubelet owns (`pkg/kubelet/nodestatus/setters.go`), pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NodeCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::pressure::Pressure;

/// What the conditions depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// What is scarce.
    pub pressure: Pressure,
    /// Why the node cannot run pods; empty if it can.
    pub problems: Vec<String>,
}

struct Wanted {
    kind: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Conditions {
    /// The conditions now: those of `old` that others own stay, times of transition stay where nothing changed.
    pub fn apply(&self, old: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let mut list = old.to_vec();
        for wanted in self.wanted() {
            let status = if wanted.holds { "True" } else { "False" };
            let known = list.iter().position(|condition| condition.type_ == wanted.kind);
            let since = known
                .map(|at| &list[at])
                .filter(|condition| condition.status == status);
            let condition = NodeCondition {
                type_: wanted.kind.to_owned(),
                status: status.to_owned(),
                reason: Some(wanted.reason.to_owned()),
                message: Some(wanted.message),
                last_heartbeat_time: Some(Time(now)),
                last_transition_time: since
                    .and_then(|condition| condition.last_transition_time.clone())
                    .or(Some(Time(now))),
            };
            match known {
                Some(at) => list[at] = condition,
                None => list.push(condition),
            }
        }
        list
    }

    fn wanted(&self) -> [Wanted; 4] {
        let Pressure { memory, disk, pid } = self.pressure;
        let pressure = |kind, holds, scarce: (&'static str, &str), enough: (&'static str, &str)| {
            let (reason, message) = if holds { scarce } else { enough };
            Wanted {
                kind,
                holds,
                reason,
                message: message.to_owned(),
            }
        };
        let ready = self.problems.is_empty();
        [
            pressure(
                "MemoryPressure",
                memory,
                (
                    "KubeletHasInsufficientMemory",
                    "kubelet has insufficient memory available",
                ),
                (
                    "KubeletHasSufficientMemory",
                    "kubelet has sufficient memory available",
                ),
            ),
            pressure(
                "DiskPressure",
                disk,
                ("KubeletHasDiskPressure", "kubelet has disk pressure"),
                ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ),
            pressure(
                "PIDPressure",
                pid,
                (
                    "KubeletHasInsufficientPID",
                    "kubelet has insufficient PID available",
                ),
                ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ),
            Wanted {
                kind: "Ready",
                holds: ready,
                reason: if ready { "KubeletReady" } else { "KubeletNotReady" },
                message: if ready {
                    "kubelet is posting ready status".to_owned()
                } else {
                    aggregate(&self.problems)
                },
            },
        ]
    }
}

/// Several errors as Go's aggregate prints them.
fn aggregate(problems: &[String]) -> String {
    match problems {
        [only] => only.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

/// The reason of the event that tells of a condition's new value, if upstream tells of it.
pub(crate) fn transition_event(condition: &NodeCondition) -> Option<&'static str> {
    Some(match (condition.type_.as_str(), condition.status == "True") {
        ("Ready", true) => "NodeReady",
        ("Ready", false) => "NodeNotReady",
        ("MemoryPressure", true) => "NodeHasInsufficientMemory",
        ("MemoryPressure", false) => "NodeHasSufficientMemory",
        ("DiskPressure", true) => "NodeHasDiskPressure",
        ("DiskPressure", false) => "NodeHasNoDiskPressure",
        ("PIDPressure", true) => "NodeHasInsufficientPID",
        ("PIDPressure", false) => "NodeHasSufficientPID",
        _ => return None,
    })
}
