//! The stream of container events.

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use knode_cri::{
    ContainerEventResponse, ContainerEventType, ContainerEvents, ContainerStatus, CriError, PodSandboxStatus,
};
use tokio::sync::broadcast;

use crate::engine::now_nanos;

/// Events a slow subscriber may be behind before it is told to start over.
const BACKLOG: usize = 1024;

/// Hands events to all who subscribed.
#[derive(Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<ContainerEventResponse>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            sender: broadcast::channel(BACKLOG).0,
        }
    }
}

impl Events {
    /// True when it would be of use to make an event.
    pub(crate) fn wanted(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Tells that something happened to the container or sandbox `id`.
    pub(crate) fn send(
        &self,
        id: &str,
        kind: ContainerEventType,
        sandbox: Option<PodSandboxStatus>,
        containers: Vec<ContainerStatus>,
    ) {
        let event = ContainerEventResponse {
            container_id: id.to_string(),
            container_event_type: kind as i32,
            created_at: now_nanos(),
            pod_sandbox_status: sandbox,
            containers_statuses: containers,
        };
        // Fails only when the last subscriber has just gone.
        let _ = self.sender.send(event);
    }

    /// Everything from now on. Who falls too far behind gets an error and must list anew.
    pub(crate) fn subscribe(&self) -> ContainerEvents {
        let receiver = self.sender.subscribe();
        let events: BoxStream<'static, _> = stream::unfold(Some(receiver), |receiver| async {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Ok(event) => Some((Ok(event), Some(receiver))),
                Err(broadcast::error::RecvError::Closed) => None,
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    let text = format!("{missed} container events were missed");
                    Some((Err(CriError::new(knode_cri::Code::DataLoss, text)), None))
                }
            }
        })
        .boxed();
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_subscriber_that_fell_behind_is_told() {
        let events = Events::default();
        assert!(!events.wanted());
        let mut stream = events.subscribe();
        assert!(events.wanted());
        events.send("a", ContainerEventType::ContainerStartedEvent, None, vec![]);
        assert_eq!(stream.next().await.unwrap().unwrap().container_id, "a");
        for _ in 0..BACKLOG + 5 {
            events.send("b", ContainerEventType::ContainerStoppedEvent, None, vec![]);
        }
        assert!(stream.next().await.unwrap().is_err());
        assert!(stream.next().await.is_none());
    }
}
