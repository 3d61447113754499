//! Making, stopping and removing sandboxes.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use knode_client::EventKind;
use knode_cri as cri;

use super::context::Context;
use super::{Outcome, files};
use crate::error::ConfigError;
use crate::model::{Sandbox, sandbox_record};
use crate::plan::PodEvent;
use crate::pod::PodExt;
use crate::spec::resources;
use crate::spec::sandbox::{SandboxNode, config};

/// Makes a sandbox and reads its addresses.
pub(super) async fn run(context: Arc<Context>, pod: Arc<Pod>, attempt: u32) -> Outcome {
    if let Err(error) = context.config.devices.prepare(&pod).await {
        let message = format!("Failed to prepare dynamic resources: {error}");
        let event = PodEvent::pod(EventKind::Warning, "FailedPrepareDynamicResources", message);
        context.api.event(&pod, &event);
        return Outcome::Sandbox(Err(()));
    }
    let made = make(&context, &pod, attempt).await;
    if let Err(error) = &made {
        let message = format!("Failed to create pod sandbox: {error}");
        context.api.event(
            &pod,
            &PodEvent::pod(EventKind::Warning, "FailedCreatePodSandBox", message),
        );
    }
    Outcome::Sandbox(made.map_err(drop))
}

async fn make(context: &Context, pod: &Pod, attempt: u32) -> Result<Sandbox, String> {
    let config = sandbox_config(context, pod, attempt, context.now()).map_err(|error| error.to_string())?;
    let directory = std::path::Path::new(&config.log_directory);
    files::directory(directory).map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
    let parent = resources::cgroup_parent(&context.config.cgroup_root, pod);
    let limits = context.config.rules.of_pod(pod);
    context
        .config
        .cgroups
        .apply(&parent, &limits)
        .map_err(|error| format!("cgroup {parent}: {error}"))?;
    context.classes.notify_one();
    let runtime_handler = handler(context, pod).await?;
    let request = cri::RunPodSandboxRequest {
        config: Some(config),
        runtime_handler,
    };
    let id = run_sandbox(context, request).await?;
    let request = cri::PodSandboxStatusRequest {
        pod_sandbox_id: id,
        verbose: false,
    };
    let answer = context
        .runtime()
        .pod_sandbox_status(request)
        .await
        .map_err(|error| error.rpc_text())?;
    answer
        .status
        .map(|status| sandbox_record(&status))
        .ok_or_else(|| "the runtime gave no status".to_owned())
}

/// Has the sandbox made; its id.
async fn run_sandbox(context: &Context, request: cri::RunPodSandboxRequest) -> Result<String, String> {
    let handler = request.runtime_handler.clone();
    let since = Instant::now();
    let made = context.runtime().run_pod_sandbox(request).await;
    let metrics = &context.config.metrics.pods;
    metrics.sandbox(&handler, since.elapsed(), made.is_ok());
    let made = made.map_err(|error| error.rpc_text())?;
    Ok(made.pod_sandbox_id)
}

/// The runtime handler of the pod's RuntimeClass (upstream: `pkg/kubelet/runtimeclass`).
async fn handler(context: &Context, pod: &Pod) -> Result<String, String> {
    let class = pod.spec().and_then(|spec| spec.runtime_class_name.as_deref());
    let Some(class) = class.filter(|class| !class.is_empty()) else {
        return Ok(String::new());
    };
    let found = context.api.runtime_handler(class).await;
    found
        .map_err(|error| error.to_string())?
        .ok_or_else(|| format!("runtimeclass.node.k8s.io \"{class}\" not found"))
}

/// The configuration of the pod's sandbox.
pub(super) fn sandbox_config(
    context: &Context,
    pod: &Pod,
    attempt: u32,
    seen: jiff::Timestamp,
) -> Result<cri::PodSandboxConfig, ConfigError> {
    let resolver = context.host_resolver();
    let seen = seen.strftime("%Y-%m-%dT%H:%M:%S%.9fZ").to_string();
    let node = SandboxNode {
        pod_logs_dir: &context.config.pod_logs_dir,
        dns: &context.dns,
        host_resolver: &resolver,
        cgroup_root: &context.config.cgroup_root,
        seen: &seen,
    };
    let mut made = config(pod, attempt, &node)?;
    let linux = made.linux.get_or_insert_default();
    linux.cgroup_parent = context.config.cgroups.path(&linux.cgroup_parent);
    if let Some(users) = context.users_of(pod)? {
        let linux = made.linux.get_or_insert_default();
        let security = linux.security_context.get_or_insert_default();
        security.namespace_options.get_or_insert_default().userns_options = Some(users);
    }
    Ok(made)
}

/// Stops a sandbox; a failure is tried again after a moment.
pub(super) async fn stop(context: Arc<Context>, id: String) -> Outcome {
    let request = cri::StopPodSandboxRequest {
        pod_sandbox_id: id.clone(),
    };
    let done = match context.runtime().stop_pod_sandbox(request).await {
        Ok(_) => true,
        Err(error) if error.is_not_found() => true,
        Err(error) => {
            tracing::warn!(sandbox = id, %error, "cannot stop the sandbox");
            context
                .config
                .clock
                .sleep(std::time::Duration::from_secs(1))
                .await;
            false
        }
    };
    Outcome::SandboxStopped { id, done }
}

/// Asks the runtime about a sandbox until it answers.
pub(super) async fn look(context: Arc<Context>, id: String) -> Outcome {
    loop {
        let request = cri::PodSandboxStatusRequest {
            pod_sandbox_id: id.clone(),
            verbose: false,
        };
        match context.runtime().pod_sandbox_status(request).await {
            Ok(answer) => {
                let sandbox = answer.status.map(|status| sandbox_record(&status));
                return Outcome::SandboxLooked { id, sandbox };
            }
            Err(error) if error.is_not_found() => return Outcome::SandboxLooked { id, sandbox: None },
            Err(error) => tracing::warn!(sandbox = id, %error, "cannot ask the runtime about a sandbox"),
        }
        context
            .config
            .clock
            .sleep(std::time::Duration::from_secs(1))
            .await;
    }
}

/// Stops a sandbox once more and removes it.
pub(super) async fn remove(context: Arc<Context>, id: String) -> Outcome {
    let done = remove_now(&context, &id).await;
    if !done {
        context
            .config
            .clock
            .sleep(std::time::Duration::from_secs(1))
            .await;
    }
    Outcome::SandboxRemoved { id, done }
}

pub(super) async fn remove_now(context: &Context, id: &str) -> bool {
    let stop = cri::StopPodSandboxRequest {
        pod_sandbox_id: id.to_owned(),
    };
    let remove = cri::RemovePodSandboxRequest {
        pod_sandbox_id: id.to_owned(),
    };
    let stopped = context.runtime().stop_pod_sandbox(stop).await.map(drop);
    let removed = match stopped {
        Ok(()) => context.runtime().remove_pod_sandbox(remove).await.map(drop),
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => true,
        Err(error) if error.is_not_found() => true,
        Err(error) => {
            tracing::warn!(sandbox = id, %error, "cannot remove the sandbox");
            false
        }
    }
}
