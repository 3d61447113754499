//! Containers that are scopes of systemd's.

use std::path::{Path, PathBuf};

use knode_cri::LinuxContainerResources;

use crate::config::CgroupDriver;
use crate::engine::Core;
use crate::error::{EngineError, Result, chain};
use crate::scope::{self, Limits, Scope};
use crate::spec::cgroup;
use crate::state::{ContainerRecord, SandboxRecord};

impl Core {
    /// The scope of a container, `None` if its pod's parent is no slice.
    pub(crate) fn scope_of(
        &self,
        record: &ContainerRecord,
        resources: Option<&LinuxContainerResources>,
    ) -> Option<Scope> {
        let sandbox = self.sandbox(&record.sandbox_id).ok()?;
        Some(Scope {
            systemd: self.config.systemd.clone(),
            unit: cgroup::scope(&record.id),
            slice: sandbox.with(SandboxRecord::slice)?,
            group: record.cgroup.clone(),
            limits: Limits::of(resources, self.machine.cgroup_v2),
        })
    }

    /// Tells systemd the limits of a container that runs, lest it puts back those that it knows.
    pub(crate) fn limit_scope(
        &self,
        record: &ContainerRecord,
        resources: &LinuxContainerResources,
    ) -> Result<bool> {
        let Some(scope) = self.scope_of(record, Some(resources)) else {
            return Ok(false);
        };
        let limited = scope.limit();
        limited.map_err(|source| failed("limiting", &scope.unit, source))?;
        Ok(true)
    }

    /// Ends the scope of a container that has ended. systemd does not notice every time that its group is gone.
    pub(crate) fn end_scope(&self, record: &ContainerRecord) {
        if let Err(error) = self.forget_scope(&record.cgroup) {
            tracing::warn!(
                container = record.id,
                error = chain(&error),
                "ending a container's scope"
            );
        }
    }

    /// Has systemd forget the scope that a container of this id can have been.
    pub(crate) fn forget_scope_named(&self, id: &str) -> Result<()> {
        match self.config.cgroup_driver {
            CgroupDriver::Cgroupfs => Ok(()),
            CgroupDriver::Systemd => self.forget_scope(Path::new(&cgroup::scope(id))),
        }
    }

    /// Has systemd forget the scope whose group this is, if it is one.
    pub(crate) fn forget_scope(&self, group: &Path) -> Result<()> {
        let Some(unit) = cgroup::scope_of(group) else {
            return Ok(());
        };
        let forgotten = scope::forget(&self.config.systemd, unit);
        forgotten.map_err(|source| failed("removing", unit, source))
    }
}

/// The control group as the specification names it: by its path, but for a runtime that asks systemd itself.
pub(crate) fn specified_group(record: &ContainerRecord, sandbox: &SandboxRecord) -> PathBuf {
    match sandbox.slice().filter(|_| record.program.is_some()) {
        Some(slice) => cgroup::of_runtime(&slice, &record.id),
        None => record.cgroup.clone(),
    }
}

fn failed(operation: &'static str, unit: &str, source: knode_dbus::systemd::SystemdError) -> EngineError {
    EngineError::Scope {
        operation,
        unit: unit.to_owned(),
        source: Box::new(source),
    }
}
