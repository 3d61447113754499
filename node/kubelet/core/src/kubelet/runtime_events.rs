//! The runtime's events, for ever: subscribed again when they end.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use knode_cri as cri;
use tokio::sync::mpsc;

use crate::worker::Context;

/// What the dispatcher gets.
pub(super) enum RuntimeEvent {
    /// Something happened.
    Event(Box<cri::ContainerEventResponse>),
    /// Events may have been missed.
    Gap,
    /// There are no events: it is time to look for changes.
    Beat,
}

/// How often to list where the runtime gives no events, and how long to wait before asking again.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows the events until nobody listens. Without events (runtimes older than containerd 1.7) it calls for a list each
/// second, as upstream's generic PLEG.
pub(super) async fn follow(context: Arc<Context>, to: mpsc::UnboundedSender<RuntimeEvent>) {
    let mut said = false;
    loop {
        let next = match context.runtime().container_events().await {
            Ok(events) => {
                if to.send(RuntimeEvent::Gap).is_err() || !pass_on(events, &to).await {
                    return;
                }
                RuntimeEvent::Gap
            }
            Err(error) if error.code == cri::Code::Unimplemented => {
                if !said {
                    tracing::info!("the runtime gives no events, its containers are listed each second");
                    said = true;
                }
                RuntimeEvent::Beat
            }
            Err(error) => {
                tracing::warn!(%error, "cannot follow the runtime's events");
                RuntimeEvent::Gap
            }
        };
        context.config.clock.sleep(PAUSE).await;
        if to.send(next).is_err() {
            return;
        }
    }
}

/// Hands events on until they end; false if nobody listens any more.
async fn pass_on(mut events: cri::ContainerEvents, to: &mpsc::UnboundedSender<RuntimeEvent>) -> bool {
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => RuntimeEvent::Event(Box::new(event)),
            Err(error) => {
                tracing::warn!(%error, "the runtime's events broke off");
                return true;
            }
        };
        if to.send(event).is_err() {
            return false;
        }
    }
    true
}
