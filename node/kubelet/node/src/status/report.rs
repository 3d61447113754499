//! When the status is sent, pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::NodeStatus;

/// How often the status is looked at.
const UPDATE: Duration = Duration::from_secs(10);
/// How often it is sent even though nothing changed.
const FORCED: Duration = Duration::from_secs(300);
/// How often it is looked at until the node is ready for the first time.
const FAST: Duration = Duration::from_millis(100);

/// What to do with a fresh status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportPlan {
    Send,
    Skip,
}

/// Remembers when the status was sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    sent: Option<Duration>,
    been_ready: bool,
}

impl Report {
    /// Whether to send `new` at `now` (monotonic), given what the API server has.
    pub(crate) fn plan(&self, old: &NodeStatus, new: &NodeStatus, now: Duration) -> ReportPlan {
        let due = self.sent.is_none_or(|sent| now.saturating_sub(sent) >= FORCED);
        if due || without_heartbeats(old) != without_heartbeats(new) {
            ReportPlan::Send
        } else {
            ReportPlan::Skip
        }
    }

    pub(crate) fn sent(&mut self, now: Duration) {
        self.sent = Some(now);
    }

    /// Pause until the next look.
    pub(crate) fn pause(&mut self, ready: bool) -> Duration {
        self.been_ready |= ready;
        if self.been_ready { UPDATE } else { FAST }
    }
}

fn without_heartbeats(status: &NodeStatus) -> NodeStatus {
    let mut status = status.clone();
    for condition in status.conditions.iter_mut().flatten() {
        condition.last_heartbeat_time = None;
    }
    status
}
