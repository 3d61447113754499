//! Events of pods, in the `events.k8s.io` form, sent in the background.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use knode_client::{Api, ApiError, Client};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::NAME;
use crate::model::Pod;

/// Events that wait to be sent; more are dropped.
const BACKLOG: usize = 1000;
/// After so long without a repetition an event starts anew.
const SERIES_GAP: Duration = Duration::from_secs(360);

/// Which event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// The pod got a node.
    Scheduled,
    /// No node can take it, or binding failed.
    FailedScheduling,
}

impl Kind {
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Scheduled => ("Normal", "Scheduled", "Binding"),
            Self::FailedScheduling => ("Warning", "FailedScheduling", "Scheduling"),
        }
    }
}

/// Reports events; never waits.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    sender: mpsc::Sender<Report>,
}

#[derive(Debug)]
struct Report {
    regarding: ObjectReference,
    kind: Kind,
    note: String,
    at: Timestamp,
}

impl Reporter {
    /// Starts the sender, which signs as this scheduler on `host`.
    pub(crate) fn start(client: Client, host: &str) -> Self {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        tokio::spawn(send_all(client, format!("{NAME}-{host}"), receiver));
        Self { sender }
    }

    /// Reports an event of a pod.
    pub(crate) fn report(&self, pod: &Pod, kind: Kind, note: String, at: Timestamp) {
        let regarding = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.key.namespace.clone()),
            name: Some(pod.key.name.clone()),
            uid: Some(pod.uid.clone()),
            resource_version: Some(pod.resource_version.clone()),
            field_path: None,
        };
        if self
            .sender
            .try_send(Report {
                regarding,
                kind,
                note,
                at,
            })
            .is_err()
        {
            tracing::warn!(pod = %pod.key, ?kind, "event dropped: too many underway");
        }
    }
}

async fn send_all(client: Client, instance: String, mut reports: mpsc::Receiver<Report>) {
    let mut known = Known::default();
    while let Some(report) = reports.recv().await {
        let namespace = report.regarding.namespace.clone().unwrap_or_default();
        let name = report.regarding.name.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let sent = match known.step(report, &instance) {
            Step::Create(event) => api.create(&PostParams::default(), &event).await.map(|_| ()),
            Step::Repeat { name, patch } => repeat(&api, &name, &patch).await,
            Step::Nothing => Ok(()),
        };
        if let Err(error) = sent {
            tracing::warn!(pod = %format!("{namespace}/{name}"), error = &error as &dyn std::error::Error, "event lost");
        }
    }
}

async fn repeat(api: &Api<Event>, name: &str, patch: &Value) -> Result<(), ApiError> {
    api.patch(name, &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .map(|_| ())
}

/// What to send for a report.
#[derive(Debug)]
enum Step {
    Create(Box<Event>),
    Repeat { name: String, patch: Value },
    Nothing,
}

/// Events sent lately: a repetition becomes a series, whose later members are only counted, as upstream does it.
#[derive(Debug, Default)]
struct Known {
    sent: HashMap<(Option<String>, Kind, String), Sent>,
}

#[derive(Debug)]
struct Sent {
    name: String,
    count: i32,
    last: Timestamp,
}

impl Known {
    fn step(&mut self, report: Report, instance: &str) -> Step {
        let now = report.at;
        self.sent
            .retain(|_, sent| now.duration_since(sent.last).unsigned_abs() < SERIES_GAP);
        let key = (report.regarding.uid.clone(), report.kind, report.note.clone());
        if let Some(sent) = self.sent.get_mut(&key) {
            (sent.count, sent.last) = (sent.count + 1, now);
            if sent.count > 2 {
                return Step::Nothing;
            }
            let series = EventSeries {
                count: sent.count,
                last_observed_time: MicroTime(now),
            };
            return Step::Repeat {
                name: sent.name.clone(),
                patch: json!({"series": series}),
            };
        }
        let event = event(report, instance);
        if key.1 == Kind::FailedScheduling {
            let name = event.metadata.name.clone().unwrap_or_default();
            self.sent.insert(
                key,
                Sent {
                    name,
                    count: 1,
                    last: now,
                },
            );
        }
        Step::Create(Box::new(event))
    }
}

fn event(report: Report, instance: &str) -> Event {
    let (type_, reason, action) = report.kind.words();
    let pod = report.regarding.name.clone().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{pod}.{:x}", report.at.as_nanosecond())),
            namespace: report.regarding.namespace.clone(),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(report.at)),
        reporting_controller: Some(NAME.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        action: Some(action.to_owned()),
        reason: Some(reason.to_owned()),
        regarding: Some(report.regarding),
        note: Some(report.note),
        type_: Some(type_.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(note: &str, second: u32) -> Report {
        let regarding = ObjectReference {
            name: Some("unschedulable-cpu".into()),
            namespace: Some("rec".into()),
            uid: Some("u".into()),
            ..ObjectReference::default()
        };
        let at = format!("2026-11-22T14:{:02}:{:02}.845889Z", second / 60, second % 60)
            .parse()
            .unwrap();
        Report {
            regarding,
            kind: Kind::FailedScheduling,
            note: note.into(),
            at,
        }
    }

    #[test]
    fn an_event_has_the_recorded_fields() {
        let Step::Create(event) = Known::default().step(report("note", 25), "default-scheduler-node1") else {
            panic!("the first is created")
        };
        let told = serde_json::to_value(event).unwrap();
        let name = told["metadata"]["name"].as_str().unwrap();
        assert!(name.starts_with("unschedulable-cpu.18"), "{name}");
        for (field, value) in [
            ("eventTime", "2026-11-22T14:00:25.845889Z"),
            ("reportingController", "default-scheduler"),
            ("reportingInstance", "default-scheduler-node1"),
            ("action", "Scheduling"),
            ("reason", "FailedScheduling"),
            ("note", "note"),
            ("type", "Warning"),
        ] {
            assert_eq!(told[field], value, "{field}");
        }
    }

    #[test]
    fn repetitions_are_one_series() {
        let mut known = Known::default();
        assert!(matches!(known.step(report("a", 1), "i"), Step::Create(_)));
        let Step::Repeat { patch, .. } = known.step(report("a", 2), "i") else {
            panic!("the second is a series")
        };
        assert_eq!(patch["series"]["count"], 2);
        assert!(matches!(known.step(report("a", 3), "i"), Step::Nothing));
        assert!(matches!(known.step(report("b", 4), "i"), Step::Create(_)));
        assert!(matches!(known.step(report("a", 3 + 361), "i"), Step::Create(_)));
    }
}
