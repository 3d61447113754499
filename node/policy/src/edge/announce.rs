//! Addresses of this node's pods, told by whoever gives them out: sooner than the API server knows, and before a
//! container runs.

use std::net::IpAddr;

use tokio::sync::{mpsc, oneshot};

use crate::model::Key;

/// Tells of the addresses that pods of this node were given.
#[derive(Debug, Clone)]
pub struct Announcer(mpsc::UnboundedSender<Announced>);

/// What is told; for [`crate::run`].
#[derive(Debug)]
pub struct Announcements(mpsc::UnboundedReceiver<Announced>);

/// A pod of this node has these addresses.
#[derive(Debug)]
pub(super) struct Announced {
    pub pod: Key,
    pub ips: Vec<IpAddr>,
    /// Dropped or used when there is nothing to wait for any more.
    pub enforced: oneshot::Sender<()>,
}

/// The two ends.
pub fn announcements() -> (Announcer, Announcements) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Announcer(sender), Announcements(receiver))
}

impl Announcer {
    /// Tells that a pod has these addresses, and waits until the policies that select it are enforced for them. That
    /// takes as long as it takes for the pod itself to become known from the API server, so that callers set a bound;
    /// it takes no time where there are no policies, or where they cannot be known.
    pub async fn pod_has(&self, namespace: &str, name: &str, ips: Vec<IpAddr>) {
        let (enforced, wait) = oneshot::channel();
        let announced = Announced {
            pod: Key::new(namespace, name),
            ips,
            enforced,
        };
        if self.0.send(announced).is_ok() {
            // Dropped: nobody enforces any more.
            let _ = wait.await;
        }
    }
}

impl Announcements {
    /// The next one; never when nobody is left to tell.
    pub(super) async fn next(&mut self) -> Announced {
        match self.0.recv().await {
            Some(announced) => announced,
            None => std::future::pending().await,
        }
    }
}
