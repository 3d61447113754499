//! RemoveContainer.

use std::sync::Arc;

use knode_cri::ContainerEventType;

use super::Container;
use crate::crash;
use crate::engine::Core;
use crate::error::{EngineError, Result, chain};
use crate::runtime::OciProgram;
use crate::state::remove_dir;

impl Core {
    /// Removes a container, killing it if it runs.
    ///
    /// # Errors
    /// The first of what could not be removed; calling again tries again.
    pub(crate) async fn remove_container(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        self.kill_container(container).await?;
        crash::point("remove.killed");
        let _guard = container.changing.lock().await;
        if self.container(&container.id).is_err() {
            return Ok(());
        }
        let engine = self.clone();
        let id = container.id.clone();
        let (cgroup, program) = container.with(|record| (record.cgroup.clone(), record.program.clone()));
        let removed = tokio::task::spawn_blocking(move || {
            if let Some(program) = program {
                engine.delete_from(&program, &id);
            }
            let mut errors = engine.remove_snapshots(&id);
            crash::point("remove.snapshots");
            errors.extend(engine.remove_cgroup(&cgroup).err());
            crash::point("remove.cgroup");
            errors.extend(remove_dir(&engine.layout.runtime_root().join(&id)).err());
            if errors.is_empty() {
                errors.extend(remove_dir(&engine.layout.container(&id)).err());
            }
            crash::point("remove.directory");
            errors
        });
        if let Some(error) = removed.await?.into_iter().next() {
            return Err(error);
        }
        self.forget_container(&container.id);
        self.tell_container(container, ContainerEventType::ContainerDeletedEvent);
        Ok(())
    }

    /// Lets an OCI runtime do what it does when a container goes; all that must go is removed here too.
    fn delete_from(&self, program: &OciProgram, id: &str) {
        if let Err(error) = crate::runtime::delete(program, &self.layout.runtime_root(), id) {
            tracing::warn!(
                container = id,
                error = chain(&error),
                "deleting a container from its runtime"
            );
        }
    }

    /// Ends what is left in a control group and removes it, with the scope that it may be.
    pub(crate) fn remove_cgroup(&self, group: &std::path::Path) -> Result<()> {
        super::groups::end(&self.cgroups, group).map_err(|source| EngineError::Cgroup {
            operation: "removing",
            path: group.to_path_buf(),
            source,
        })?;
        self.forget_scope(group)
    }
}
