//! postStart and preStop hooks (upstream: `pkg/kubelet/lifecycle/handlers.go`).

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use knode_cri as cri;

use super::context::Context;
use crate::probe::{get, http_target};

/// Time that one HTTP hook may take to answer.
const HTTP_LIMIT: Duration = Duration::from_secs(30);

/// Runs a hook; the error is for logs.
pub(super) async fn run(
    context: &Context,
    container: &Container,
    container_id: &str,
    pod_ip: &str,
    hook: &LifecycleHandler,
) -> Result<(), String> {
    if let Some(action) = &hook.exec {
        let cmd = action.command.clone().unwrap_or_default();
        let request = cri::ExecSyncRequest {
            container_id: container_id.to_owned(),
            cmd,
            timeout: 0,
        };
        let answer = context
            .runtime()
            .exec_sync(request)
            .await
            .map_err(|error| error.rpc_text())?;
        return match answer.exit_code {
            0 => Ok(()),
            code => Err(format!("the hook's command exited with {code}")),
        };
    }
    if let Some(action) = &hook.sleep {
        let seconds = u64::try_from(action.seconds).unwrap_or(0);
        context.config.clock.sleep(Duration::from_secs(seconds)).await;
        return Ok(());
    }
    if let Some(action) = &hook.http_get {
        let target = http_target(action, container, pod_ip).ok_or("the hook's port has no number")?;
        let (status, _) = get(&target, HTTP_LIMIT).await?;
        return match status.as_u16() {
            200..400 => Ok(()),
            code => Err(format!("the hook was answered with {code}")),
        };
    }
    Err("unsupported: this kind of hook".to_owned())
}
