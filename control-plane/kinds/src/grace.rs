//! Graceful deletion.
use serde_json::Value;

/// How a delete proceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// The object goes at once (finalizers permitting).
    Immediate,
    /// `deletionTimestamp` = now + seconds, `deletionGracePeriodSeconds` = seconds; whoever runs it deletes
    /// it again with zero.
    Graceful {
        /// How long whoever runs it has, more than zero.
        seconds: i64,
    },
}

/// A delete that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("grace period {0} is below zero")]
pub struct GraceError(pub i64);

pub(crate) fn immediate() -> Grace {
    Grace::Immediate
}

/// A pod's way to go: not yet placed, or ended, it goes at once; else its own grace period unless the
/// request names another.
pub(crate) fn pod(object: &Value, requested: Option<i64>) -> Grace {
    let own = object
        .pointer("/spec/terminationGracePeriodSeconds")
        .and_then(Value::as_i64);
    let placed = object
        .pointer("/spec/nodeName")
        .and_then(Value::as_str)
        .is_some_and(|n| !n.is_empty());
    let phase = object
        .pointer("/status/phase")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let mut seconds = requested.or(own).unwrap_or(0);
    if seconds < 0 {
        seconds = 1;
    }
    if !placed || matches!(phase, "Failed" | "Succeeded") || seconds == 0 {
        return Grace::Immediate;
    }
    Grace::Graceful { seconds }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_end_gracefully_once_placed() {
        let placed = json!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}});
        assert_eq!(pod(&placed, None), Grace::Graceful { seconds: 30 });
        assert_eq!(pod(&placed, Some(5)), Grace::Graceful { seconds: 5 });
        assert_eq!(pod(&placed, Some(0)), Grace::Immediate);
        let free = json!({"spec": {"terminationGracePeriodSeconds": 30}});
        assert_eq!(pod(&free, None), Grace::Immediate);
    }
}
