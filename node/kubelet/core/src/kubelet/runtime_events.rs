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
}

/// How often to list where the runtime gives no events, and how long to wait before asking again.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows the events until nobody listens. Without events (older runtimes) it calls for a list each second.
pub(super) async fn follow(context: Arc<Context>, to: mpsc::UnboundedSender<RuntimeEvent>) {
    let mut said = false;
    loop {
        match context.runtime().container_events().await {
            Ok(mut events) => {
                if to.send(RuntimeEvent::Gap).is_err() {
                    return;
                }
                while let Some(event) = events.next().await {
                    let event = match event {
                        Ok(event) => RuntimeEvent::Event(Box::new(event)),
                        Err(error) => {
                            tracing::warn!(%error, "the runtime's events broke off");
                            break;
                        }
                    };
                    if to.send(event).is_err() {
                        return;
                    }
                }
            }
            Err(error) if error.code == cri::Code::Unimplemented => {
                if !said {
                    tracing::info!("the runtime gives no events, its containers are listed each second");
                    said = true;
                }
            }
            Err(error) => tracing::warn!(%error, "cannot follow the runtime's events"),
        }
        context.config.clock.sleep(PAUSE).await;
        if to.send(RuntimeEvent::Gap).is_err() {
            return;
        }
    }
}
