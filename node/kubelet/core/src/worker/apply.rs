//! Taking in signals and outcomes.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use knode_client::EventKind;
use tokio::sync::oneshot;

use super::outcome::StartFailure;
use super::{Outcome, Signal, Worker, execute, sandbox};
use crate::api::PodApiError;
use crate::model::{
    Cause, ContainerRecord, ContainerState, Eviction, Op, ProbeKind, ProbeOutcome, Probes, VolumeState, Wait,
    after, after_spread,
};
use crate::plan::{PodEvent, Stage, stage};
use crate::pod::PodExt;
use crate::status::EVICTED;

/// Seconds between tries of a container that cannot be configured or created: soon once, then rarely.
const RETRY_FIRST: i64 = 1;
const RETRY_LATER: i64 = 15;
/// Milliseconds in which the pods of a node tell a server that is back what it has missed.
const BACK_WITHIN: u32 = 5000;

impl Worker {
    pub(super) fn take(&mut self, signal: Signal) {
        let now = self.context.now();
        match signal {
            Signal::Pod(pod) => {
                self.retry_soon(now);
                self.take_pod(pod);
            }
            Signal::Evict(eviction) => self.evict(eviction, now),
            Signal::Clear(waiting) => self.clear(waiting, now),
            Signal::Removed => self.observed.removed = true,
            Signal::Sandbox(sandbox) => self.observed.put_sandbox(sandbox),
            Signal::Container(record) => self.take_event(*record, now),
            Signal::Look { container, sandbox } => self.look(container, sandbox),
            Signal::Present {
                sandboxes,
                containers,
            } => self.compare(&sandboxes, &containers),
            Signal::Content => {
                if let VolumeState::Ready { refresh_at } = &mut self.observed.volumes {
                    *refresh_at = Some(now);
                }
                self.observed
                    .waits
                    .values_mut()
                    .filter(|wait| wait.reason == "CreateContainerConfigError")
                    .for_each(|wait| wait.until = now);
                if let VolumeState::Failed { retry_at, .. } = &mut self.observed.volumes {
                    *retry_at = now;
                }
            }
        }
        self.cancel_if_ending(now);
    }

    fn evict(&mut self, eviction: Eviction, now: Timestamp) {
        if stage(&self.pod, &self.observed, now) == Stage::Ended || self.observed.evicted.is_some() {
            return;
        }
        // Of a shutdown the status tells, and the events of the containers that end.
        if eviction.cause == Cause::Scarcity {
            let event = PodEvent {
                marks: eviction.marks.clone(),
                ..PodEvent::pod(EventKind::Warning, EVICTED, eviction.message.clone())
            };
            self.context.api.event(&self.pod, &event);
        }
        self.observed.evicted = Some(eviction);
    }

    fn clear(&mut self, waiting: oneshot::Sender<()>, now: Timestamp) {
        let ended = stage(&self.pod, &self.observed, now) == Stage::Ended;
        if ended && self.observed.released != Some(true) {
            self.observed.cleared = true;
            self.clearing.push(waiting);
        }
    }

    /// Takes the newer of the pod at hand and this one.
    fn take_pod(&mut self, pod: Arc<Pod>) {
        if pod.uid() != self.pod.uid() || version(&pod) < version(&self.pod) {
            return;
        }
        let (old, new) = (&self.pod.metadata, &pod.metadata);
        let tags_changed = old.labels != new.labels || old.annotations != new.annotations;
        self.pod = self.granted(pod, self.context.now());
        if let VolumeState::Ready { refresh_at } = &mut self.observed.volumes
            && tags_changed
        {
            // Downward API volumes show labels and annotations.
            *refresh_at = Some(self.context.now());
        }
    }

    /// Takes what an event says. That a container runs counts only once its start, with the postStart hook,
    /// is over.
    fn take_event(&mut self, record: ContainerRecord, now: Timestamp) {
        let starting = self.observed.busy.contains(&Op::Start(record.name.clone()));
        if starting && record.state != ContainerState::Exited {
            return;
        }
        self.take_record(record, now);
    }

    fn take_record(&mut self, mut record: ContainerRecord, now: Timestamp) {
        // The file or log that the message was read from may be gone by now.
        let before = self.observed.by_id(&record.id).map(|old| &old.message);
        if let Some(message) = before.filter(|_| record.message.is_empty()) {
            record.message = message.clone();
        }
        if self.observed.put_container(record) {
            self.track_probes(now);
            self.track_resources();
        }
    }

    /// Gives each running container its probes, and takes them from those that have ended.
    pub(super) fn track_probes(&mut self, now: Timestamp) {
        let running: Vec<(String, String, Option<Timestamp>)> = self
            .observed
            .running()
            .map(|record| (record.id.clone(), record.name.clone(), record.started_at))
            .collect();
        self.observed
            .probes
            .retain(|id, _| running.iter().any(|(one, ..)| one == id));
        for (id, name, started) in running {
            let Some((_, container)) = self.pod.container(&name) else {
                continue;
            };
            let probed = [
                &container.startup_probe,
                &container.liveness_probe,
                &container.readiness_probe,
            ];
            if self.observed.probes.contains_key(&id) || probed.iter().all(|probe| probe.is_none()) {
                continue;
            }
            let (was_started, was_ready) = self.known_before(&id);
            let probes = Probes::new(&container, started.unwrap_or(now), now, was_started, was_ready);
            self.observed.probes.insert(id, probes);
        }
    }

    /// Whether the API says that this very container has started and is ready.
    fn known_before(&self, id: &str) -> (bool, bool) {
        let known = self.api_status_of(id);
        known.map_or((false, false), |status| {
            (status.started.unwrap_or(false), status.ready)
        })
    }

    fn look(&mut self, container: String, sandbox: String) {
        let context = self.context.clone();
        self.ops
            .push(Box::pin(execute::look(context, container, sandbox)));
    }

    /// What could not be told before may be heard now. All pods hear at once of a server that is back, and don't all
    /// answer at once.
    fn retry_soon(&mut self, now: Timestamp) {
        self.status_retry = match self.status_retry {
            Some((at, failures)) if failures > 0 => {
                let soon = after_spread(now, self.pod.uid(), 0, BACK_WITHIN);
                Some((at.min(soon), failures))
            }
            _ => None,
        };
    }

    /// Looks at what differs from what the runtime has.
    fn compare(&mut self, sandboxes: &[(String, bool)], containers: &[(String, String, ContainerState)]) {
        let lost = self
            .observed
            .running()
            .filter(|record| containers.iter().all(|(id, ..)| *id != record.id));
        let lost = lost.map(|record| (record.id.clone(), record.sandbox_id.clone()));
        let other = containers.iter().filter(|(id, _, state)| {
            self.observed
                .by_id(id)
                .is_none_or(|record| record.state != *state)
        });
        let other = other.map(|(id, sandbox, _)| (id.clone(), sandbox.clone()));
        let looks: Vec<(String, String)> = lost.chain(other).collect();
        for (id, sandbox) in looks {
            self.look(id, sandbox);
        }
        // The list may be older than what is observed: asking about the one sandbox settles it.
        let ready = self.observed.sandboxes.iter().filter(|sandbox| sandbox.ready);
        let doubtful = ready.filter(|sandbox| !sandboxes.contains(&(sandbox.id.clone(), true)));
        let doubtful: Vec<String> = doubtful.map(|sandbox| sandbox.id.clone()).collect();
        for id in doubtful {
            self.ops.push(Box::pin(sandbox::look(self.context.clone(), id)));
        }
    }

    pub(super) fn apply(&mut self, outcome: Outcome) {
        let now = self.context.now();
        match outcome {
            Outcome::Volumes(result) => self.volumes_done(result, now),
            Outcome::Sandbox(result) => {
                self.observed.busy.remove(&Op::Sandbox);
                match result {
                    Ok(sandbox) => {
                        self.observed.sandbox_retry = None;
                        self.observed.put_sandbox(sandbox);
                    }
                    Err(()) => {
                        let failures = self.observed.sandbox_retry.map_or(0, |(_, failures)| failures) + 1;
                        let wait = 1_i64 << failures.min(4).saturating_sub(1);
                        self.observed.sandbox_retry = Some((after(now, wait), failures));
                    }
                }
            }
            Outcome::Started {
                container,
                record,
                failure,
            } => self.started(&container, record, failure, now),
            Outcome::Stopped { id, record } => {
                self.observed.busy.remove(&Op::Stop(id.clone()));
                self.observed.stops.remove(&id);
                self.looked(&id, record, now);
            }
            Outcome::Looked { id, record } => match record {
                // A look says no more than an event.
                Some(record) => self.take_event(*record, now),
                None => self.looked(&id, None, now),
            },
            Outcome::SandboxStopped { id, done } => self.sandbox_stopped(&id, done),
            Outcome::SandboxLooked { id, sandbox } => match sandbox {
                Some(sandbox) => self.observed.put_sandbox(sandbox),
                None => self.sandbox_gone(&id),
            },
            Outcome::Removed { id, done } => {
                self.observed.busy.remove(&Op::Remove(id.clone()));
                if done {
                    self.observed.forget_container(&id);
                }
            }
            Outcome::SandboxRemoved { id, done } => {
                self.observed.busy.remove(&Op::RemoveSandbox(id.clone()));
                if done {
                    self.observed.sandboxes.retain(|sandbox| sandbox.id != id);
                }
            }
            Outcome::Probed { id, kind, outcome } => self.probed(&id, kind, &outcome, now),
            Outcome::Resized { id, result } => self.resized(&id, result, now),
            Outcome::Released { all, done } => self.released(all, done, now),
            Outcome::Deleted(result) => self.deleted(result, now),
            Outcome::Status(result) => self.status_written(result, now),
        }
        self.cancel_if_ending(now);
    }

    fn volumes_done(&mut self, result: Result<Option<Timestamp>, ()>, now: Timestamp) {
        self.observed.busy.remove(&Op::Volumes);
        self.observed.volumes = match (result, &self.observed.volumes) {
            (Ok(refresh_at), _) => VolumeState::Ready { refresh_at },
            // What containers have mounted stays; the content is renewed later.
            (Err(()), VolumeState::Ready { .. }) => VolumeState::Ready {
                refresh_at: Some(after_spread(now, self.pod.uid(), 60_000, 30_000)),
            },
            (Err(()), VolumeState::Failed { failures, .. }) => {
                let failures = (failures + 1).min(9);
                // Upstream: 0.5 s doubling to a little over two minutes.
                let millis = (500_i64 << failures).min(122_000);
                VolumeState::Failed {
                    retry_at: after(now, millis / 1000),
                    failures,
                }
            }
            (Err(()), VolumeState::Missing) => VolumeState::Failed {
                retry_at: after(now, 1),
                failures: 0,
            },
        };
    }

    fn started(
        &mut self,
        name: &str,
        record: Option<Box<ContainerRecord>>,
        failure: Option<StartFailure>,
        now: Timestamp,
    ) {
        self.observed.busy.remove(&Op::Start(name.to_owned()));
        let about = record
            .as_ref()
            .map(|record| record.id.clone())
            .unwrap_or_default();
        if let Some(record) = record {
            self.take_record(*record, now);
        }
        match failure {
            None => drop(self.observed.waits.remove(name)),
            Some(failure) if failure.cancelled => {}
            Some(failure) => self.note_failure(name, failure, about, now),
        }
    }

    fn note_failure(&mut self, name: &str, failure: StartFailure, about: String, now: Timestamp) {
        let before = self
            .observed
            .waits
            .get(name)
            .filter(|wait| wait.reason == failure.reason);
        let failures = before.map_or(0, |wait| wait.failures + 1);
        let until = match (&failure.image, failure.reason) {
            (Some(image), _) => self.observed.note_pull_failure(image, now),
            // The container has ended: from here on its restarts are counted.
            (None, "RunContainerError" | "PostStartHookError") => now,
            _ => after(now, if failures == 0 { RETRY_FIRST } else { RETRY_LATER }),
        };
        let wait = Wait {
            reason: failure.reason.to_owned(),
            message: failure.message,
            since: now,
            visible_from: now,
            until,
            about,
            failures,
            previous: None,
        };
        self.observed.waits.insert(name.to_owned(), wait);
    }

    /// Takes what the runtime says about a container; one that it does not have any more has ended unseen.
    fn looked(&mut self, id: &str, record: Option<Box<ContainerRecord>>, now: Timestamp) {
        match record {
            Some(record) => self.take_record(*record, now),
            None => {
                let Some(mut lost) = self.observed.by_id(id).cloned() else {
                    return;
                };
                if lost.state == ContainerState::Exited {
                    return;
                }
                lost.state = ContainerState::Exited;
                lost.exit_code = 137;
                lost.reason = "ContainerStatusUnknown".to_owned();
                lost.message = "The container could not be located when the pod was terminated".to_owned();
                lost.finished_at = Some(now);
                self.take_record(lost, now);
            }
        }
    }

    fn sandbox_stopped(&mut self, id: &str, done: bool) {
        self.observed.busy.remove(&Op::StopSandbox(id.to_owned()));
        if done {
            self.sandbox_gone(id);
        }
    }

    fn sandbox_gone(&mut self, id: &str) {
        for sandbox in self
            .observed
            .sandboxes
            .iter_mut()
            .filter(|sandbox| sandbox.id == id)
        {
            sandbox.ready = false;
        }
    }

    fn probed(&mut self, id: &str, kind: ProbeKind, outcome: &ProbeOutcome, now: Timestamp) {
        self.observed.busy.remove(&Op::Probe(id.to_owned(), kind));
        let Some(record) = self
            .observed
            .by_id(id)
            .filter(|record| record.state == ContainerState::Running)
        else {
            return;
        };
        let Some((place, container)) = self.pod.container(&record.name) else {
            return;
        };
        let shared = &self.context.shared;
        shared.probed(self.pod.uid(), &container.name, kind, outcome);
        let message = match outcome {
            ProbeOutcome::Success => None,
            ProbeOutcome::Failure(output) => Some(format!("{} probe failed: {output}", kind.as_str())),
            ProbeOutcome::Unknown(error) => Some(format!(
                "{} probe errored and resulted in unknown state: {error}",
                kind.as_str()
            )),
        };
        if let Some(message) = message {
            let event = PodEvent::container(EventKind::Warning, "Unhealthy", message, place, &container.name);
            self.context.api.event(&self.pod, &event);
        }
        let Some(probe) = kind.of(&container) else { return };
        if let Some(track) = self
            .observed
            .probes
            .get_mut(id)
            .and_then(|probes| probes.track(kind))
        {
            track.step(probe, outcome, now);
        }
    }

    fn released(&mut self, all: bool, done: bool, now: Timestamp) {
        self.observed.busy.remove(&Op::Release);
        match done {
            true => {
                self.observed.released = Some(all);
                self.observed.end_retry = None;
                if all {
                    self.clearing.clear();
                }
                self.observed.volumes = VolumeState::Missing;
            }
            false => self.observed.end_retry = Some(after(now, 2)),
        }
    }

    fn deleted(&mut self, result: Result<(), PodApiError>, now: Timestamp) {
        self.observed.busy.remove(&Op::Delete);
        match result {
            // What is left is to forget the pod; the watch says the same a little later.
            Ok(()) | Err(PodApiError::Gone) => self.observed.removed = true,
            Err(PodApiError::Failed(error)) => {
                tracing::warn!(pod = %self.pod.full_name(), error, "cannot delete the pod from the API");
                self.observed.end_retry = Some(after_spread(now, self.pod.uid(), 2000, 3000));
            }
        }
    }

    fn status_written(&mut self, result: Result<Box<Pod>, PodApiError>, now: Timestamp) {
        self.observed.busy.remove(&Op::Status);
        match result {
            Ok(pod) => {
                self.status_retry = None;
                self.take_pod(Arc::new(*pod));
            }
            // The watch will say so; until then there is nobody to report to.
            Err(PodApiError::Gone) => self.status_retry = Some((after(now, 5), 0)),
            Err(PodApiError::Failed(error)) => {
                let failures = self.status_retry.map_or(0, |(_, failures)| failures) + 1;
                tracing::warn!(pod = %self.pod.full_name(), error, "cannot write the pod's status");
                let wait = failures.min(10) * 1000;
                let at = after_spread(now, self.pod.uid(), wait.into(), wait / 2);
                self.status_retry = Some((at, failures));
            }
        }
    }
}

/// The version of an object; the API server promises since 1.35 that they can be compared as numbers.
fn version(pod: &Pod) -> u64 {
    pod.metadata
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}
