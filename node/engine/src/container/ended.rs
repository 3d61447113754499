//! What follows when a container has ended.

use std::sync::Arc;

use knode_cri::{ContainerEventType, ContainerState};

use super::Container;
use crate::crash;
use crate::engine::{Core, now_nanos};
use crate::error::chain;
use crate::sandbox::unseen_end;
use crate::state::{ContainerRecord, Ended, read_exit, write_record};

impl Core {
    /// A shim tells that a container has ended.
    pub(crate) async fn container_exited(self: &Arc<Self>, id: &str, ended: Ended) {
        if let Ok(container) = self.container(id) {
            let _guard = container.changing.lock().await;
            self.end(&container, ended).await;
        }
    }

    /// The shim that had this container is gone. What still runs of it is killed, because nobody holds its
    /// pipes any more.
    pub(crate) async fn lost_container(self: &Arc<Self>, container: &Arc<Container>) {
        let _guard = container.changing.lock().await;
        if container.state() != ContainerState::ContainerRunning {
            return;
        }
        let ended = match read_exit(&self.layout.exit_file(&container.id)) {
            Some(exit) => exit.into(),
            None => unseen_end(now_nanos()),
        };
        if let Err(error) = self.cgroups.kill(&container.with(|record| record.cgroup.clone())) {
            tracing::error!(container = container.id, %error, "killing a container without a shim");
        }
        self.end(container, ended).await;
    }

    /// Tells everybody, writes it down and lets go of the root file system. The caller holds `changing`.
    /// The shim has recorded the end already, and unmounting may wait for the disk: so that comes last.
    async fn end(self: &Arc<Self>, container: &Arc<Container>, ended: Ended) {
        if container.state() == ContainerState::ContainerExited {
            return;
        }
        let record = container.change(|record| record.ended = Some(ended));
        container.set_over();
        self.tell_container(container, ContainerEventType::ContainerStoppedEvent);
        crash::point("end.told");
        let engine = self.clone();
        let released = tokio::task::spawn_blocking(move || {
            let written = write_record(&engine.layout.container(&record.id), &record);
            crash::point("end.recorded");
            engine.unmount(&record);
            crash::point("end.unmounted");
            engine.end_scope(&record);
            written
        });
        match released.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(
                    container = container.id,
                    error = chain(&error),
                    "writing down a container's end"
                );
            }
            Err(error) => tracing::error!(container = container.id, %error, "writing down a container's end"),
        }
    }

    /// Unmounts the root of a container that has ended and the images it mounts.
    pub(crate) fn unmount(&self, record: &ContainerRecord) {
        let snapshots = self.config.images.snapshots();
        for key in std::iter::once(&record.id).chain(&record.image_mounts) {
            if let Err(error) = snapshots.unmount(key) {
                tracing::warn!(
                    container = record.id,
                    error = chain(&error),
                    "unmounting a container's root"
                );
            }
        }
    }
}
