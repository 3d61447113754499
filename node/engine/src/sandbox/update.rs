//! UpdatePodSandboxResources.

use std::sync::Arc;

use knode_cri::LinuxContainerResources;

use super::Sandbox;
use crate::engine::Core;
use crate::error::{EngineError, Result};
use crate::spec::linux_resources;
use crate::state::write_record;

impl Core {
    /// Remembers the resources of a pod, as its status and those who ask for more show them.
    ///
    /// # Errors
    /// For a sandbox that is not ready, and values out of range.
    pub(crate) async fn update_sandbox(
        self: &Arc<Self>,
        sandbox: &Sandbox,
        overhead: Option<LinuxContainerResources>,
        resources: Option<LinuxContainerResources>,
    ) -> Result<()> {
        let _guard = sandbox.changing.lock().await;
        if !sandbox.is_ready() {
            return Err(EngineError::SandboxNotReady {
                sandbox: sandbox.id.clone(),
            });
        }
        for given in [&overhead, &resources] {
            linux_resources(given.as_ref(), Vec::new(), &self.machine)
                .map_err(|error| EngineError::Invalid(error.to_string()))?;
        }
        let record = sandbox.change(|record| {
            let linux = record.config.linux.get_or_insert_default();
            if overhead.is_some() {
                linux.overhead = overhead;
            }
            if resources.is_some() {
                linux.resources = resources;
            }
        });
        write_record(&self.layout.sandbox(&sandbox.id), &record)
    }
}
