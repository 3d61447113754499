//! Noticing that a container has ended.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use knode_cri::{ContainerEventType, ContainerState, ContainerStatusRequest, RuntimeService};

/// How often a runtime without events is asked.
const POLL: Duration = Duration::from_secs(1);

/// Resolves once the container runs no longer (or is not known).
pub(super) async fn container_end(runtime: Arc<dyn RuntimeService>, id: String) {
    // The subscription comes first, so that no end falls between the two.
    let events = runtime.container_events().await;
    if !is_running(runtime.as_ref(), &id).await {
        return;
    }
    if let Ok(mut events) = events {
        while let Some(Ok(event)) = events.next().await {
            let over = [
                ContainerEventType::ContainerStoppedEvent as i32,
                ContainerEventType::ContainerDeletedEvent as i32,
            ];
            if event.container_id == id && over.contains(&event.container_event_type) {
                return;
            }
        }
    }
    while is_running(runtime.as_ref(), &id).await {
        tokio::time::sleep(POLL).await;
    }
}

async fn is_running(runtime: &dyn RuntimeService, id: &str) -> bool {
    let request = ContainerStatusRequest {
        container_id: id.to_owned(),
        verbose: false,
    };
    match runtime.container_status(request).await {
        Ok(answer) => {
            let state = answer.status.map(|status| status.state);
            state == Some(ContainerState::ContainerRunning as i32)
        }
        Err(error) => error.code != knode_cri::Code::NotFound,
    }
}
