//! UpdateContainerResources and ReopenContainerLog.

use std::io::ErrorKind;
use std::sync::Arc;

use knode_cri::{ContainerState, LinuxContainerResources};

use super::{Container, state_name};
use crate::engine::Core;
use crate::error::{EngineError, Result};
use crate::shim::protocol::Command;
use crate::spec::{CgroupValue, SWAP_LIMIT, SWAP_MAX, cgroup_values};
use crate::state::write_record;

impl Core {
    /// Gives a container other limits.
    ///
    /// # Errors
    /// For one that has ended, values out of range, and what the kernel refuses.
    pub(crate) async fn update_container(
        self: &Arc<Self>,
        container: &Arc<Container>,
        resources: LinuxContainerResources,
    ) -> Result<()> {
        let _guard = container.changing.lock().await;
        let state = container.state();
        if state == ContainerState::ContainerExited {
            return Err(EngineError::ContainerState {
                container: container.id.clone(),
                state: state_name(state),
            });
        }
        let merged = container.with(|record| {
            let current = record
                .config
                .linux
                .as_ref()
                .and_then(|linux| linux.resources.clone());
            merge(current.unwrap_or_default(), &resources)
        });
        if state == ContainerState::ContainerRunning {
            self.limit(container, &resources, &merged).await?;
        }
        let record = container.change(|record| {
            record.config.linux.get_or_insert_default().resources = Some(merged);
        });
        if state == ContainerState::ContainerCreated {
            self.respecify(&record.id, &record.config)?;
        }
        write_record(&self.layout.container(&container.id), &record)
    }

    /// Gives a running container other limits. What systemd writes of a scope is what it can express: all else is
    /// written after it.
    async fn limit(
        self: &Arc<Self>,
        container: &Container,
        update: &LinuxContainerResources,
        merged: &LinuxContainerResources,
    ) -> Result<()> {
        let (engine, record, all) = (self.clone(), container.record(), merged.clone());
        let is_scope = tokio::task::spawn_blocking(move || engine.limit_scope(&record, &all)).await??;
        self.write_limits(container, if is_scope { merged } else { update })
    }

    fn write_limits(&self, container: &Container, resources: &LinuxContainerResources) -> Result<()> {
        let of = |source| EngineError::Spec {
            container: container.id.clone(),
            source,
        };
        let group = container.with(|record| record.cgroup.clone());
        let write = |value: &CgroupValue| {
            let written = self
                .cgroups
                .write(value.controller, &group, &value.file, &value.value);
            match written {
                Err(error)
                    if [SWAP_LIMIT, SWAP_MAX].contains(&value.file.as_str())
                        && error.kind() == ErrorKind::NotFound =>
                {
                    Ok(())
                }
                other => other,
            }
        };
        let values = cgroup_values(resources, &self.machine).map_err(of)?;
        // The limits of memory alone and with swap hold one another: of two that grow the second has to come first.
        let refused: Vec<_> = values.into_iter().filter(|value| write(value).is_err()).collect();
        refused.iter().try_for_each(|value| {
            write(value).map_err(|source| EngineError::Cgroup {
                operation: "updating",
                path: group.join(&value.file),
                source,
            })
        })
    }

    /// The log has been renamed: writes go to a new file when this returns.
    ///
    /// # Errors
    /// For a container that does not run, and when the file cannot be opened.
    pub(crate) async fn reopen_log(&self, container: &Container) -> Result<()> {
        let state = container.state();
        let not_running = EngineError::ContainerState {
            container: container.id.clone(),
            state: state_name(state),
        };
        if state != ContainerState::ContainerRunning {
            return Err(not_running);
        }
        let link = self.sandbox(&container.sandbox_id)?.link()?;
        let known = link
            .ask(
                Command::ReopenLog {
                    container: container.id.clone(),
                },
                &[],
            )
            .await?;
        if known { Ok(()) } else { Err(not_running) }
    }
}

/// The update laid over what is set: zero and empty mean "as it was".
fn merge(mut current: LinuxContainerResources, update: &LinuxContainerResources) -> LinuxContainerResources {
    let number = |current: &mut i64, update: i64| {
        if update != 0 {
            *current = update;
        }
    };
    number(&mut current.cpu_period, update.cpu_period);
    number(&mut current.cpu_quota, update.cpu_quota);
    number(&mut current.cpu_shares, update.cpu_shares);
    number(&mut current.memory_limit_in_bytes, update.memory_limit_in_bytes);
    number(
        &mut current.memory_swap_limit_in_bytes,
        update.memory_swap_limit_in_bytes,
    );
    number(&mut current.oom_score_adj, update.oom_score_adj);
    for (current, update) in [
        (&mut current.cpuset_cpus, &update.cpuset_cpus),
        (&mut current.cpuset_mems, &update.cpuset_mems),
    ] {
        if !update.is_empty() {
            current.clone_from(update);
        }
    }
    for limit in &update.hugepage_limits {
        match current
            .hugepage_limits
            .iter_mut()
            .find(|other| other.page_size == limit.page_size)
        {
            Some(other) => other.limit = limit.limit,
            None => current.hugepage_limits.push(limit.clone()),
        }
    }
    current.unified.extend(update.unified.clone());
    current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_changes_what_it_names() {
        let current = LinuxContainerResources {
            cpu_shares: 100,
            memory_limit_in_bytes: 5,
            ..Default::default()
        };
        let update = LinuxContainerResources {
            cpu_shares: 200,
            cpuset_cpus: "0".into(),
            ..Default::default()
        };
        let merged = merge(current, &update);
        assert_eq!((merged.cpu_shares, merged.memory_limit_in_bytes), (200, 5));
        assert_eq!(merged.cpuset_cpus, "0");
    }
}
