//! Stopping one container (upstream: `killContainer`).

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use knode_client::EventKind;
use knode_cri as cri;

use super::context::Context;
use super::{Outcome, hooks};
use crate::plan::PodEvent;
use crate::pod::{ContainerKind, PodExt};

/// What is left to a container after its hook took all the time, in seconds.
const MIN_GRACE: i64 = 2;

/// What to stop.
pub(super) struct Target {
    pub id: String,
    pub container: String,
    pub sandbox_id: String,
    pub grace: i64,
    pub message: String,
    pub pod_ip: String,
    /// It is being stopped already, with more time.
    pub shorter: bool,
}

/// Event, hook, signal, and a look at what became of it.
pub(super) async fn run(context: Arc<Context>, pod: Arc<Pod>, target: Target) -> Outcome {
    let mut grace = target.grace;
    if !target.shorter {
        let kind = pod
            .container(&target.container)
            .map_or(ContainerKind::Main, |(kind, _)| kind);
        let event = PodEvent::container(
            EventKind::Normal,
            "Killing",
            &target.message,
            kind,
            &target.container,
        );
        context.api.event(&pod, &event);
        grace = pre_stop(&context, &pod, &target).await;
    }
    let record = loop {
        let request = cri::StopContainerRequest {
            container_id: target.id.clone(),
            timeout: grace,
        };
        let stopped = context.runtime().stop_container(request).await;
        let looked = match stopped {
            Err(error) if !error.is_not_found() => Err(error),
            _ => context.look(&target.id, &target.sandbox_id).await,
        };
        match looked {
            Ok(record) => break record,
            Err(error) => {
                tracing::warn!(container = target.id, %error, "cannot stop the container");
                context.config.clock.sleep(Duration::from_secs(1)).await;
            }
        }
    };
    Outcome::Stopped {
        id: target.id,
        record: record.map(Box::new),
    }
}

/// Runs the preStop hook; the seconds that are left.
async fn pre_stop(context: &Context, pod: &Pod, target: &Target) -> i64 {
    let Some((kind, container)) = pod.container(&target.container) else {
        return target.grace;
    };
    let hook = container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    let Some(hook) = hook else { return target.grace };
    let begun = context.now();
    let limit = Duration::from_secs(target.grace.unsigned_abs());
    let result = tokio::select! {
        result = hooks::run(context, &container, &target.id, &target.pod_ip, hook) => result,
        () = context.config.clock.sleep(limit) => Err("PreStopHook did not end in time".to_owned()),
    };
    if let Err(error) = result {
        tracing::info!(pod = %pod.full_name(), container = target.container, error, "preStop hook failed");
        let name = &target.container;
        let event = PodEvent::container(
            EventKind::Warning,
            "FailedPreStopHook",
            "PreStopHook failed",
            kind,
            name,
        );
        context.api.event(pod, &event);
    }
    let spent = context.now().duration_since(begun).as_secs();
    (target.grace - spent).max(MIN_GRACE)
}
