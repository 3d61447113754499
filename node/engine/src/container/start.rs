//! StartContainer.

use std::path::PathBuf;
use std::sync::Arc;

use knode_cri::{ContainerEventType, ContainerState, NamespaceMode};

use super::{Container, state_name};
use crate::crash;
use crate::engine::{Core, now_nanos};
use crate::error::{EngineError, Result, chain};
use crate::shim::protocol::{Answer, Command, Joins, StartContainer};
use crate::spec;
use crate::state::{ContainerRecord, Ended, SandboxRecord, Started, write_record};

/// Exit code and reason of a container whose program could not be started, as upstream runtimes give them.
const START_ERROR: (i32, &str) = (128, "StartError");

impl Core {
    /// Starts a created container; its program runs when this returns.
    ///
    /// # Errors
    /// [`EngineError::Start`] when the program cannot run; the container has then ended.
    pub(crate) async fn start_container(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        let _guard = container.changing.lock().await;
        let state = container.state();
        if state != ContainerState::ContainerCreated {
            return Err(EngineError::ContainerState {
                container: container.id.clone(),
                state: state_name(state),
            });
        }
        let sandbox = self.sandbox(&container.sandbox_id)?;
        if !sandbox.is_ready() {
            return Err(EngineError::SandboxNotReady {
                sandbox: sandbox.id.clone(),
            });
        }
        crash::point("start.begin");
        let start = self.start_request(&container.record());
        let answer = match self.check_joined(start.joins.as_ref()) {
            Ok(()) => sandbox.link()?.call(Command::Start(Box::new(start)), &[]).await,
            Err(error) => Err(error),
        };
        let result = match answer {
            Ok(Answer::Started {
                pid,
                started_at,
                oom_score_refused,
            }) => {
                self.note_oom_score(oom_score_refused);
                Ok(Started { pid, at: started_at })
            }
            Ok(Answer::Failed { message }) => Err(EngineError::Start { message }),
            Ok(other) => Err(EngineError::Shim {
                message: format!("unexpected answer {other:?}"),
            }),
            Err(error) => Err(error),
        };
        crash::point("start.answered");
        match result {
            Ok(started) => {
                let record = container.change(|record| record.started = Some(started));
                write_record(&self.layout.container(&container.id), &record)?;
                crash::point("start.recorded");
                self.tell_container(container, ContainerEventType::ContainerStartedEvent);
                Ok(())
            }
            Err(error) => {
                if matches!(error, EngineError::ShimGone { .. }) {
                    self.end_half_started(container).await;
                }
                self.start_failed(container, &error)?;
                Err(error)
            }
        }
    }

    /// A container whose PID namespace is to be joined may have ended since that was asked for.
    fn check_joined(&self, joins: Option<&Joins>) -> Result<()> {
        let Some(Joins::Container(target)) = joins else {
            return Ok(());
        };
        match self.container(target)?.state() {
            ContainerState::ContainerRunning => Ok(()),
            other => Err(EngineError::TargetState {
                target: target.clone(),
                state: state_name(other),
            }),
        }
    }

    fn start_request(&self, record: &ContainerRecord) -> StartContainer {
        let log = &record.log_path;
        let resources = record
            .config
            .linux
            .as_ref()
            .and_then(|linux| linux.resources.as_ref());
        StartContainer {
            id: record.id.clone(),
            bundle: self.layout.container(&record.id),
            runtime_root: self.layout.runtime_root(),
            cgroup: record.cgroup.clone(),
            exit_file: self.layout.exit_file(&record.id),
            log_file: (log != &PathBuf::new()).then(|| log.clone()),
            tty: record.config.tty,
            stdin: record.config.stdin,
            stdin_once: record.config.stdin_once,
            oom_score_adj: resources.and_then(|resources| i32::try_from(resources.oom_score_adj).ok()),
            program: record.program.clone(),
            scope: self.scope_of(record, resources),
            secluded: self.secluded.of(record),
            joins: self.joins(record),
            queues_label: queues_label(record),
        }
    }

    /// Whose PID namespace the specification of a container names.
    fn joins(&self, record: &ContainerRecord) -> Option<Joins> {
        match spec::pid_mode(&record.config) {
            NamespaceMode::Target => {
                let options = spec::security_context(&record.config).namespace_options;
                let given = options.unwrap_or_default().target_id;
                // It may have been named by the beginning of its id.
                let target = self.container(&given).map(|target| target.id.clone());
                Some(Joins::Container(target.unwrap_or(given)))
            }
            NamespaceMode::Pod => {
                let sandbox = self.sandbox(&record.sandbox_id).ok()?;
                (!sandbox.with(SandboxRecord::host_pid)).then_some(Joins::Pod)
            }
            NamespaceMode::Container | NamespaceMode::Node => None,
        }
    }

    /// A machine without the capability refuses every time: one line is enough.
    fn note_oom_score(&self, refused: bool) {
        if refused {
            self.oom_score_noted.call_once(|| {
                tracing::warn!("oom_score_adj of containers cannot be lowered without CAP_SYS_RESOURCE");
            });
        }
    }

    /// Whatever the creator of a dead shim has made by now has lost its pipes.
    async fn end_half_started(self: &Arc<Self>, container: &Arc<Container>) {
        let engine = self.clone();
        let group = container.with(|record| record.cgroup.clone());
        let ended = tokio::task::spawn_blocking(move || engine.remove_cgroup(&group)).await;
        if let Err(error) = ended.unwrap_or_else(|error| Err(error.into())) {
            tracing::warn!(
                container = container.id,
                error = chain(&error),
                "ending a half-started container"
            );
        }
    }

    fn start_failed(&self, container: &Arc<Container>, error: &EngineError) -> Result<()> {
        let (code, reason) = START_ERROR;
        let ended = Ended {
            code,
            at: now_nanos(),
            reason: reason.into(),
            message: error.to_string(),
        };
        let record = container.change(|record| record.ended = Some(ended));
        container.set_over();
        write_record(&self.layout.container(&container.id), &record)?;
        self.tell_container(container, ContainerEventType::ContainerStoppedEvent);
        Ok(())
    }
}

/// The host's own message queues keep their label.
fn queues_label(record: &ContainerRecord) -> Option<String> {
    let options = spec::security_context(&record.config).namespace_options;
    let hosts = options.unwrap_or_default().ipc() == NamespaceMode::Node;
    record.file_label().filter(|_| !hosts).map(str::to_owned)
}
