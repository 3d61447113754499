//! StopPodSandbox and RemovePodSandbox.

use std::sync::Arc;

use futures::future::join_all;
use knode_cri::ContainerEventType;

use super::{Sandbox, files, namespaces, net_request};
use crate::crash;
use crate::engine::Core;
use crate::error::{EngineError, Result, chain};
use crate::shim::protocol::Command;
use crate::state::{Ended, write_record};

impl Core {
    /// Ends what runs in the sandbox and gives back its network, namespaces and shim.
    ///
    /// # Errors
    /// The first of what could not be given back; calling again tries again.
    pub(crate) async fn stop_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<()> {
        let _guard = sandbox.changing.lock().await;
        if !sandbox.with(|record| record.held) {
            return Ok(());
        }
        let containers = self.containers_of(&sandbox.id);
        for result in join_all(containers.iter().map(|container| self.kill_container(container))).await {
            result?;
        }
        crash::point("stop-sandbox.killed");
        let was_ready = sandbox.is_ready();
        let mut errors = self.release(sandbox).await;
        if errors.is_empty() {
            let record = sandbox.change(|record| {
                record.ready = false;
                record.held = false;
            });
            write_record(&self.layout.sandbox(&sandbox.id), &record)?;
            crash::point("stop-sandbox.recorded");
        }
        if was_ready {
            self.tell_sandbox(sandbox, ContainerEventType::ContainerStoppedEvent);
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors.remove(0))
        }
    }

    /// Removes the sandbox with all its containers.
    ///
    /// # Errors
    /// The first of what could not be removed; calling again tries again.
    pub(crate) async fn remove_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<()> {
        self.stop_sandbox(sandbox).await?;
        crash::point("remove-sandbox.stopped");
        for container in self.containers_of(&sandbox.id) {
            self.remove_container(&container).await?;
        }
        crash::point("remove-sandbox.containers");
        let _guard = sandbox.changing.lock().await;
        files::remove_files(&self.layout, &sandbox.id)?;
        crash::point("remove-sandbox.files");
        self.forget_sandbox(&sandbox.id);
        self.tell_sandbox(sandbox, ContainerEventType::ContainerDeletedEvent);
        Ok(())
    }

    /// Gives back what a sandbox holds in the kernel; goes on after errors.
    pub(crate) async fn release(&self, sandbox: &Sandbox) -> Vec<EngineError> {
        let mut errors = Vec::new();
        let record = sandbox.record();
        if !record.host_network() {
            let removed = self
                .config
                .network
                .remove(&net_request(&self.layout, &record))
                .await;
            let failed = |source| EngineError::NetworkRemove {
                sandbox: record.id.clone(),
                source,
            };
            errors.extend(removed.map_err(failed).err());
        }
        crash::point("release.network");
        if let Ok(link) = sandbox.link() {
            // A shim that is gone has ended, which is what is wanted.
            match link.ask(Command::Shutdown, &[]).await {
                Err(EngineError::ShimGone { .. }) | Ok(_) => sandbox.set_link(None),
                Err(error) => errors.push(error),
            }
        }
        crash::point("release.shim");
        let layout = self.layout.clone();
        let id = record.id.clone();
        let rest = tokio::task::spawn_blocking(move || {
            let mut errors = Vec::new();
            errors.extend(namespaces::release(&layout.namespaces(&id)).err());
            crash::point("release.namespaces");
            errors.extend(files::release_shm(&layout.shm(&id)).err());
            errors.extend(remove_socket(&layout.shim_socket(&id)).err());
            crash::point("release.files");
            errors
        });
        match rest.await {
            Ok(more) => errors.extend(more),
            Err(error) => errors.push(error.into()),
        }
        errors
    }

    /// The shim has ended while it was needed: what it held is lost, and so are its containers.
    pub(crate) async fn shim_lost(self: &Arc<Self>, id: &str) {
        let Ok(sandbox) = self.sandbox(id) else { return };
        if !sandbox.is_ready() || sandbox.changing.try_lock().is_err() {
            return;
        }
        tracing::error!(
            sandbox = id,
            "the shim of a sandbox is gone; its containers are ended"
        );
        sandbox.set_link(None);
        let record = sandbox.change(|record| record.ready = false);
        if let Err(error) = write_record(&self.layout.sandbox(id), &record) {
            tracing::error!(
                sandbox = id,
                error = chain(&error),
                "writing down that a sandbox has ended"
            );
        }
        for container in self.containers_of(id) {
            self.lost_container(&container).await;
        }
        self.tell_sandbox(&sandbox, ContainerEventType::ContainerStoppedEvent);
    }
}

/// How a container ended when nobody was there to see it.
pub(crate) fn unseen_end(at: i64) -> Ended {
    Ended {
        code: 255,
        at,
        reason: "Unknown".into(),
        message: "the container's end was not seen".into(),
    }
}

fn remove_socket(path: &std::path::Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            crate::error::FileContext::file(Err(error), "removing", path)
        }
        _ => Ok(()),
    }
}
