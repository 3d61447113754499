//! Giving back what a pod had on this node.

use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use knode_cri as cri;

use super::context::Context;
use super::{Outcome, files, sandbox};
use crate::model::{ContainerRecord, Observed};
use crate::pod::PodExt;
use crate::spec::resources;
use crate::spec::sandbox::log_directory;

/// What there is to give back.
pub(super) struct Work {
    all: bool,
    containers: Vec<ContainerRecord>,
    sandboxes: Vec<String>,
}

impl Work {
    pub(super) fn new(observed: &Observed, all: bool) -> Self {
        Self {
            all,
            containers: observed.containers.clone(),
            sandboxes: observed
                .sandboxes
                .iter()
                .map(|sandbox| sandbox.id.clone())
                .collect(),
        }
    }
}

/// Volumes and cgroup; with `all` containers, sandboxes, logs and directories too. Goes on after errors.
pub(super) async fn run(context: Arc<Context>, pod: Arc<Pod>, work: Work) -> Outcome {
    let mut done = true;
    if work.all {
        for record in &work.containers {
            done &= remove(&context, &record.id, Some(record)).await;
        }
        for id in &work.sandboxes {
            done &= sandbox::remove_now(&context, id).await;
        }
    }
    if let Err(error) = context.config.devices.release(&pod).await {
        tracing::warn!(pod = %pod.full_name(), error, "cannot take back the pod's devices");
        done = false;
    }
    context.release_resources(pod.uid());
    let (all, owner) = (work.all, context.clone());
    let (pod_uid, logs) = (
        pod.uid().to_owned(),
        log_directory(&context.config.pod_logs_dir, &pod),
    );
    let parents = match &pod.status {
        Some(_) => vec![resources::cgroup_parent(&context.config.cgroup_root, &pod)],
        // Known from the runtime alone, which does not say the class.
        None => resources::cgroup_candidates(&context.config.cgroup_root, pod.uid()).to_vec(),
    };
    for error in context
        .volumes
        .release(pod.uid())
        .await
        .err()
        .into_iter()
        .flatten()
    {
        tracing::warn!(pod = %pod.full_name(), %error, "cannot give back a volume");
        done = false;
    }
    // Deleting an emptyDir may take long.
    let given = tokio::task::spawn_blocking(move || give_back(&owner, &pod_uid, &logs, &parents, all)).await;
    done &= given.unwrap_or(false);
    context.classes.notify_one();
    if work.all {
        context.api.unregister(&pod);
        if done {
            context.users.release(pod.uid());
        }
    }
    Outcome::Released { all: work.all, done }
}

fn give_back(context: &Context, uid: &str, logs: &Path, cgroups: &[String], all: bool) -> bool {
    let mut done = true;
    let volumes = if all {
        context.volumes.tear_down(uid)
    } else {
        context.volumes.unmount(uid)
    };
    for error in volumes.err().into_iter().flatten() {
        tracing::warn!(uid, %error, "cannot take away a volume");
        done = false;
    }
    for cgroup in cgroups {
        if let Err(error) = context.config.cgroups.remove(cgroup) {
            tracing::warn!(uid, cgroup, %error, "cannot remove the pod's cgroup");
            done = false;
        }
    }
    if all
        && let Err(error) = std::fs::remove_dir_all(logs)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(uid, %error, "cannot remove the pod's logs");
    }
    done
}

/// Removes one container that has ended.
pub(super) async fn remove_container(
    context: Arc<Context>,
    id: String,
    record: Option<ContainerRecord>,
) -> Outcome {
    let done = remove(&context, &id, record.as_ref()).await;
    if !done {
        context
            .config
            .clock
            .sleep(std::time::Duration::from_secs(1))
            .await;
    }
    Outcome::Removed { id, done }
}

/// Removes a container, its log and the link to that.
async fn remove(context: &Context, id: &str, record: Option<&ContainerRecord>) -> bool {
    let request = cri::RemoveContainerRequest {
        container_id: id.to_owned(),
    };
    match context.runtime().remove_container(request).await {
        Ok(_) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) => {
            tracing::warn!(container = id, %error, "cannot remove the container");
            return false;
        }
    }
    if let Some(record) = record {
        remove_logs(context, record);
    }
    true
}

fn remove_logs(context: &Context, record: &ContainerRecord) {
    if record.log_path.is_empty() {
        return;
    }
    if let Err(error) = crate::logs::remove_all(Path::new(&record.log_path)) {
        tracing::warn!(container = record.id, %error, "cannot remove the container's log");
    }
    let suffix = format!("-{}.log", record.id);
    let links = std::fs::read_dir(&context.config.container_logs_dir);
    for link in links.into_iter().flatten().flatten() {
        if link.file_name().to_string_lossy().ends_with(&suffix)
            && let Err(error) = files::remove_file(&link.path())
        {
            tracing::warn!(container = record.id, %error, "cannot remove the link to the container's log");
        }
    }
}
