//! Sends events in the background, so that nobody waits for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, ObjectReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tokio::sync::mpsc;

use super::correlator::{Correlator, EventAction, EventKind, EventSource};
use crate::{Clock, brief, is_namespace_terminating, is_not_found, status_code};

const BACKLOG: usize = 1000;
const TRIES: u32 = 12;
const PAUSE: Duration = Duration::from_secs(10);

/// Reports events of objects. Cheap to clone; the sending ends with the last clone.
#[derive(Clone)]
pub struct EventRecorder {
    sender: mpsc::Sender<Report>,
    clock: Arc<dyn Clock>,
}

struct Report {
    object: ObjectReference,
    kind: EventKind,
    reason: String,
    message: String,
    annotations: BTreeMap<String, String>,
    at: jiff::Timestamp,
}

impl std::fmt::Debug for EventRecorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EventRecorder")
    }
}

impl EventRecorder {
    /// Starts the sender. `clock` stamps the events.
    pub fn start(client: Client, source: EventSource, clock: Arc<dyn Clock>) -> Self {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        tokio::spawn(send_all(client, source, receiver, clock.clone()));
        Self { sender, clock }
    }

    /// Reports an event. Never waits: if too many are underway, this one is dropped and logged.
    pub fn record(&self, object: ObjectReference, kind: EventKind, reason: &str, message: impl Into<String>) {
        self.annotated(object, kind, reason, message, BTreeMap::new());
    }

    /// As [`EventRecorder::record`], with annotations.
    pub fn annotated(
        &self,
        object: ObjectReference,
        kind: EventKind,
        reason: &str,
        message: impl Into<String>,
        annotations: BTreeMap<String, String>,
    ) {
        let report = Report {
            object,
            kind,
            reason: reason.to_owned(),
            message: message.into(),
            annotations,
            at: self.clock.now(),
        };
        if self.sender.try_send(report).is_err() {
            tracing::warn!(reason, "event dropped: too many underway");
        }
    }

    /// Reports a `Normal` event.
    pub fn normal(&self, object: ObjectReference, reason: &str, message: impl Into<String>) {
        self.record(object, EventKind::Normal, reason, message);
    }

    /// Reports a `Warning` event.
    pub fn warning(&self, object: ObjectReference, reason: &str, message: impl Into<String>) {
        self.record(object, EventKind::Warning, reason, message);
    }
}

async fn send_all(
    client: Client,
    source: EventSource,
    mut reports: mpsc::Receiver<Report>,
    clock: Arc<dyn Clock>,
) {
    let mut correlator = Correlator::new(source);
    while let Some(report) = reports.recv().await {
        let Report {
            object,
            kind,
            reason,
            message,
            annotations,
            at,
        } = report;
        let namespace = object.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let mut action = correlator.observe(&object, kind, &reason, &message, at);
        if let EventAction::Create(event) | EventAction::Patch { event, .. } = &mut action
            && !annotations.is_empty()
        {
            event.metadata.annotations = Some(annotations);
        }
        send(
            &Api::namespaced(client.clone(), &namespace),
            action,
            clock.as_ref(),
        )
        .await;
    }
}

/// Tries until the server has answered; what it refuses is given up, and what it is too busy for after some tries. A
/// server that is away is waited for, however long.
async fn send(events: &Api<Event>, action: EventAction, clock: &dyn Clock) {
    let mut tries = 0;
    while tries < TRIES {
        let error = match try_send(events, &action).await {
            Ok(()) => return,
            Err(error) => error,
        };
        let code = status_code(&error);
        if code.is_some_and(|code| code != 429 && code < 500) {
            if !is_namespace_terminating(&error) {
                tracing::warn!(error = brief(&error), "event refused");
            }
            return;
        }
        tries += u32::from(code.is_some());
        clock.sleep(PAUSE).await;
    }
    tracing::warn!("event given up: the API server is too busy");
}

async fn try_send(events: &Api<Event>, action: &EventAction) -> Result<(), kube::Error> {
    match action {
        EventAction::Drop => Ok(()),
        EventAction::Create(event) => create(events, event).await,
        EventAction::Patch { name, patch, event } => {
            match events
                .patch(name, &PatchParams::default(), &Patch::Strategic(patch))
                .await
            {
                Ok(_) => Ok(()),
                Err(error) if is_not_found(&error) => create(events, event).await,
                Err(error) => Err(error),
            }
        }
    }
}

async fn create(events: &Api<Event>, event: &Event) -> Result<(), kube::Error> {
    match events.create(&PostParams::default(), event).await {
        // The answer to an earlier try had been lost.
        Err(error) if status_code(&error) == Some(409) => Ok(()),
        other => other.map(|_| ()),
    }
}
