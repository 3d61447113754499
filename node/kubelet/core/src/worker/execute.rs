//! From actions to operations.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use knode_client::EventKind;
use knode_cri as cri;
use serde_json::Value;

use super::context::{Context, FieldSource};
use super::start::{Start, Target};
use super::{Outcome, Worker, release, resize, sandbox, start, stop};
use crate::model::{Op, ProbeOutcome, Stop};
use crate::plan::{Action, PodEvent};
use crate::pod::PodExt;
use crate::probe;

impl Worker {
    /// Begins the operation that an action asks for.
    pub(super) fn execute(&mut self, action: Action, now: Timestamp) {
        let (context, pod) = (self.context.clone(), self.pod.clone());
        let source = FieldSource::new(&self.context, &self.pod, &self.observed);
        match action {
            Action::MountVolumes => self.start(Op::Volumes, mount(context, pod, source)),
            Action::RunSandbox { attempt } => self.start(Op::Sandbox, sandbox::run(context, pod, attempt)),
            Action::Start {
                container,
                kind,
                attempt,
                sandbox_id,
                ended,
            } => {
                if let Some(ended) = ended {
                    self.observed.note_restart(&container, ended, now);
                }
                let work = Start {
                    target: self.target(&container),
                    name: container.clone(),
                    kind,
                    attempt,
                    sandbox_id,
                    source,
                    cancel: self.cancel.subscribe(),
                    seen: self.observed.start_time.unwrap_or(now),
                    images: self.starting.as_ref().map(|starting| starting.images.clone()),
                };
                self.start(Op::Start(container), start::run(context, pod, work));
            }
            Action::Stop {
                id,
                container,
                grace,
                message,
            } => self.execute_stop(id, container, grace, message, first_ip(&source)),
            Action::StopSandbox { id } => self.start(Op::StopSandbox(id.clone()), sandbox::stop(context, id)),
            Action::RemoveContainer { id } => {
                let record = self.observed.by_id(&id).cloned();
                let work = release::remove_container(context, id.clone(), record);
                self.start(Op::Remove(id), work);
            }
            Action::RemoveSandbox { id } => {
                self.start(Op::RemoveSandbox(id.clone()), sandbox::remove(context, id));
            }
            Action::Probe { id, container, kind } => {
                let op = Op::Probe(id.clone(), kind);
                let pod_ip = first_ip(&source);
                self.start(op, run_probe(context, pod, id, container, kind, pod_ip));
            }
            Action::Resize { id, container } => {
                let work = resize::run(context, pod, id.clone(), container, source.node_memory());
                self.start(Op::Resize(id), work);
            }
            Action::Release { all } => {
                let work = release::Work::new(&self.observed, all);
                self.start(Op::Release, release::run(context, pod, work));
            }
            Action::Delete => self.start(Op::Delete, delete(context, pod)),
            Action::Event(_)
            | Action::Wait { .. }
            | Action::NoteDeadline
            | Action::Reset
            | Action::WakeAt(_)
            | Action::Finish => {}
        }
    }

    /// Begins to stop a container, or to stop it sooner than was begun.
    fn execute_stop(&mut self, id: String, container: String, grace: i64, message: String, pod_ip: String) {
        self.observed.stopped.insert(id.clone());
        let shorter = self.observed.stops.insert(id.clone(), Stop { grace }).is_some();
        let record = self.observed.by_id(&id);
        let target = stop::Target {
            id: id.clone(),
            container,
            sandbox_id: record.map(|one| one.sandbox_id.clone()).unwrap_or_default(),
            grace,
            message,
            pod_ip,
            shorter,
        };
        let work = stop::run(self.context.clone(), self.pod.clone(), target);
        self.start(Op::Stop(id), work);
    }

    /// Whose processes the container is to see, if it is one for debugging that names another.
    fn target(&self, container: &str) -> Option<Target> {
        let name = self.pod.target_of(container)?;
        let found = self.observed.latest(name);
        Some(found.map_or_else(
            || Target::Missing(name.to_owned()),
            |record| Target::Container(record.id.clone()),
        ))
    }
}

fn first_ip(source: &FieldSource) -> String {
    source.pod_ips().first().cloned().unwrap_or_default()
}

pub(super) async fn write_status(context: Arc<Context>, pod: Arc<Pod>, patch: Value) -> Outcome {
    let written = context.api.patch_status(pod.ns(), pod.pod_name(), patch).await;
    Outcome::Status(written.map(Box::new))
}

async fn delete(context: Arc<Context>, pod: Arc<Pod>) -> Outcome {
    Outcome::Deleted(context.api.delete(pod.ns(), pod.pod_name(), pod.uid()).await)
}

pub(super) async fn look(context: Arc<Context>, id: String, sandbox: String) -> Outcome {
    match context.look(&id, &sandbox).await {
        Ok(record) => Outcome::Looked {
            id,
            record: record.map(Box::new),
        },
        Err(error) => {
            tracing::warn!(container = id, %error, "cannot ask the runtime about a container");
            context
                .config
                .clock
                .sleep(std::time::Duration::from_secs(1))
                .await;
            Box::pin(look(context, id, sandbox)).await
        }
    }
}

async fn mount(context: Arc<Context>, pod: Arc<Pod>, source: FieldSource) -> Outcome {
    match context.volumes.set_up(source.fields(&pod), context.now()).await {
        Ok(done) => {
            for volume in done.grown {
                let message = format!("MountVolume.NodeExpandVolume succeeded for volume {volume:?}");
                let event = PodEvent::pod(EventKind::Normal, "FileSystemResizeSuccessful", message);
                context.api.event(&pod, &event);
            }
            Outcome::Volumes(Ok(done.refresh_at))
        }
        Err(errors) => {
            for (volume, error) in errors {
                let (reason, message) = error.event(&volume);
                let event = PodEvent::pod(EventKind::Warning, reason, message);
                context.api.event(&pod, &event);
            }
            Outcome::Volumes(Err(()))
        }
    }
}

async fn run_probe(
    context: Arc<Context>,
    pod: Arc<Pod>,
    id: String,
    name: String,
    kind: crate::model::ProbeKind,
    pod_ip: String,
) -> Outcome {
    let runtime: &dyn cri::RuntimeService = context.runtime();
    let found = pod.container(&name).map(|(_, container)| container);
    let outcome = match found
        .as_ref()
        .and_then(|container| Some((container, kind.of(container)?)))
    {
        Some((container, asked)) => probe::run(runtime, container, &id, &pod_ip, asked).await,
        None => ProbeOutcome::Success,
    };
    Outcome::Probed { id, kind, outcome }
}
