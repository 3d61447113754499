//! RunPodSandbox.

use std::sync::Arc;

use knode_cri::{ContainerEventType, PodSandboxConfig, RunPodSandboxRequest};

use super::validate::{check_slice, check_users, validate};
use super::{Sandbox, files, namespaces, net_request, own_hostname, unique_name};
use crate::crash;
use crate::engine::{Core, new_id, now_nanos};
use crate::error::{EngineError, Result, chain};
use crate::link::{self, ShimLink};
use crate::spec::selinux::asked_by_sandbox;
use crate::state::{SandboxRecord, write_record};

impl Core {
    /// Makes a sandbox and gives its id. When it fails nothing is left of it.
    pub(crate) async fn run_sandbox(self: &Arc<Self>, request: RunPodSandboxRequest) -> Result<String> {
        let config = request
            .config
            .ok_or_else(|| EngineError::Invalid("the request has no config".into()))?;
        let metadata = validate(&config)?;
        check_slice(&config, self.config.cgroup_driver, &self.config.systemd)?;
        check_users(&config, &self.machine)?;
        self.config.runtimes.of(&request.runtime_handler)?;
        let id = new_id();
        self.reserve_name(&unique_name(&metadata), &id)?;
        crash::point("run.begin");
        let mut record = self.new_record(id, config, request.runtime_handler);
        if let Some(selinux) = &self.selinux {
            let asked = asked_by_sandbox(&record.config);
            record.labels = Some(selinux.label(&record.id, &asked).map_err(|source| {
                self.free_names(&record.id);
                EngineError::Invalid(source.to_string())
            })?);
        }
        match self.bring_up(record.clone()).await {
            Ok(sandbox) => {
                self.insert_sandbox(sandbox.clone());
                if sandbox.link().is_ok_and(|link| link.is_closed()) {
                    // Nobody knew the sandbox when that was told.
                    self.shim_lost(&sandbox.id).await;
                }
                self.tell_sandbox(&sandbox, ContainerEventType::ContainerCreatedEvent);
                self.tell_sandbox(&sandbox, ContainerEventType::ContainerStartedEvent);
                Ok(sandbox.id.clone())
            }
            Err(error) => {
                self.undo(record).await;
                Err(error)
            }
        }
    }

    fn new_record(&self, id: String, config: PodSandboxConfig, runtime_handler: String) -> SandboxRecord {
        let mut record = SandboxRecord {
            id,
            hostname: config.hostname.clone(),
            config,
            runtime_handler,
            created_at: now_nanos(),
            ips: Vec::new(),
            ready: true,
            held: true,
            labels: None,
            made: true,
            boot_id: self.boot_id.clone(),
        };
        if record.hostname.is_empty() || record.host_network() {
            record.hostname = own_hostname();
        }
        record
    }

    async fn bring_up(self: &Arc<Self>, mut record: SandboxRecord) -> Result<Arc<Sandbox>> {
        let engine = self.clone();
        let given = record.clone();
        tokio::task::spawn_blocking(move || engine.make_parts(&given)).await??;
        let socket = self.layout.shim_socket(&record.id);
        let link = ShimLink::connect(&record.id, &socket, self.shim_events.clone());
        let link = link.await.map_err(|source| EngineError::ShimStart {
            sandbox: record.id.clone(),
            source,
        })?;
        crash::point("run.connected");
        if !record.host_network() {
            let result = self.config.network.add(&net_request(&self.layout, &record)).await;
            let failed = |source| EngineError::NetworkAdd {
                sandbox: record.id.clone(),
                source,
            };
            record.ips = result.map_err(failed)?.ips;
        }
        crash::point("run.network");
        write_record(&self.layout.sandbox(&record.id), &record)?;
        crash::point("run.recorded");
        Ok(Arc::new(Sandbox::new(record, Some(link))))
    }

    /// Everything that one sandbox has in the kernel and on disk, but for its network. The record comes
    /// first, so that a crash leaves nothing that nobody knows of.
    fn make_parts(&self, record: &SandboxRecord) -> Result<()> {
        let directory = self.layout.sandbox(&record.id);
        crate::error::FileContext::file(std::fs::create_dir_all(&directory), "making", &directory)?;
        write_record(
            &directory,
            &SandboxRecord {
                ready: false,
                made: false,
                ..record.clone()
            },
        )?;
        crash::point("run.record");
        files::make(&self.layout, record)?;
        crash::point("run.files");
        if let Some(logs) = Some(&record.config.log_directory).filter(|logs| !logs.is_empty()) {
            crate::error::FileContext::file(std::fs::create_dir_all(logs), "making", logs)?;
        }
        let socket = self.layout.shim_socket(&record.id);
        let log = directory.join("shim.log");
        link::spawn(&self.config.self_exe, &self.config.cgroup_root, &socket, &log).map_err(|source| {
            EngineError::ShimStart {
                sandbox: record.id.clone(),
                source,
            }
        })?;
        crash::point("run.shim");
        namespaces::make(&self.layout, record, &self.config.self_exe)?;
        crash::point("run.namespaces");
        Ok(())
    }

    async fn undo(&self, record: SandboxRecord) {
        let socket = self.layout.shim_socket(&record.id);
        let link = ShimLink::connect(&record.id, &socket, self.shim_events.clone())
            .await
            .ok();
        let sandbox = Sandbox::new(record, link);
        for error in self.release(&sandbox).await {
            tracing::warn!(
                sandbox = sandbox.id,
                error = chain(&error),
                "undoing a sandbox that could not be made"
            );
        }
        if let Err(error) = files::remove_files(&self.layout, &sandbox.id) {
            tracing::warn!(
                sandbox = sandbox.id,
                error = chain(&error),
                "undoing a sandbox that could not be made"
            );
        }
        self.free_names(&sandbox.id);
    }

    /// Tells subscribers about a sandbox, with all its containers.
    pub(crate) fn tell_sandbox(&self, sandbox: &Sandbox, kind: ContainerEventType) {
        if self.events.wanted() {
            let containers = self.containers_of(&sandbox.id);
            let statuses = containers.iter().map(|container| container.status()).collect();
            self.events
                .send(&sandbox.id, kind, Some(sandbox.status()), statuses);
        }
    }
}
