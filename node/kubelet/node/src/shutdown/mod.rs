//! Graceful shutdown of the node: logind tells that the machine shuts down, and waits until the pods have ended.

mod logind;
mod plan;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, select};
use knode_client::{Backoff, Clock, Retry};
use knode_dbus::DbusError;
use tokio::sync::{Notify, watch};

pub use plan::{ShutdownGrace, ShutdownGraceError};

use self::logind::{Inhibitor, Logind};
use crate::pods::{EvictionCause, PodEviction, PodSource};

/// The system bus's socket unless another one is named.
pub const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
/// Where logind is told how long a shutdown may be held up (upstream's file).
pub const LOGIND_DROP_IN: &str = "/etc/systemd/logind.conf.d/99-kubelet.conf";
/// What pods say that ended with the machine.
const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";

const RETRY: Backoff = Backoff {
    initial: Duration::from_secs(1),
    max: Duration::from_secs(60),
    factor: 2.0,
    jitter: 0.1,
};
/// How often and for how long logind's answer is looked at after it was told another delay.
const LOOK: Duration = Duration::from_millis(200);
const LOOKS: u32 = 25;

/// Settings of the graceful shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownConfig {
    /// How long pods may take; nothing is held up where that is no time.
    pub grace: ShutdownGrace,
    /// The system bus's socket, [`SYSTEM_BUS`].
    pub bus: PathBuf,
    /// The file in which logind is told the delay if its own is shorter, [`LOGIND_DROP_IN`].
    pub drop_in: PathBuf,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self {
            grace: ShutdownGrace::default(),
            bus: SYSTEM_BUS.into(),
            drop_in: LOGIND_DROP_IN.into(),
        }
    }
}

/// Why a shutdown cannot be held up.
#[derive(Debug, thiserror::Error)]
pub enum ShutdownError {
    /// The bus, or logind on it, does not answer.
    #[error("unsupported without systemd-logind: graceful node shutdown")]
    Logind(#[source] DbusError),
    /// The drop-in cannot be written.
    #[error("write {path}")]
    DropIn {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// logind keeps to a shorter delay (upstream's words).
    #[error(
        "node shutdown manager was unable to update logind InhibitDelayMaxSec to {wanted:?} (ShutdownGracePeriod), current value of InhibitDelayMaxSec ({longest:?}) is less than requested ShutdownGracePeriod"
    )]
    TooShort {
        /// The time that pods may take.
        wanted: Duration,
        /// What logind lets them.
        longest: Duration,
    },
}

/// Follows logind, and ends pods when it says so.
pub(crate) struct ShutdownManager {
    pub(crate) config: ShutdownConfig,
    pub(crate) pods: Arc<dyn PodSource>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Whether the machine shuts down.
    pub(crate) down: watch::Sender<bool>,
    /// Wakes who reports the node's status.
    pub(crate) wake: Arc<Notify>,
}

impl ShutdownManager {
    /// Works for ever; where there is no logind it says so, and tries again now and then.
    pub(crate) async fn run(self) {
        let mut retry = Retry::new(RETRY);
        loop {
            let error = match self.connect().await {
                Ok((logind, lock)) => {
                    retry.succeeded();
                    tracing::info!("shutdowns of this machine wait for its pods");
                    self.follow(logind, lock).await
                }
                Err(error) => error,
            };
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "shutdowns of this machine do not wait for its pods"
            );
            self.clock.sleep(retry.failed()).await;
        }
    }

    async fn connect(&self) -> Result<(Logind, Inhibitor), ShutdownError> {
        let mut logind = Logind::open(&self.config.bus)
            .await
            .map_err(ShutdownError::Logind)?;
        self.ensure_delay(&mut logind).await?;
        let lock = logind.inhibit().await.map_err(ShutdownError::Logind)?;
        Ok((logind, lock))
    }

    /// Tells logind to wait as long as the pods may take.
    async fn ensure_delay(&self, logind: &mut Logind) -> Result<(), ShutdownError> {
        let wanted = self.config.grace.total();
        let mut longest = logind.longest_delay().await.map_err(ShutdownError::Logind)?;
        if longest >= wanted {
            return Ok(());
        }
        self.write_drop_in(wanted)?;
        logind.reload().await.map_err(ShutdownError::Logind)?;
        for _ in 0..LOOKS {
            longest = logind.longest_delay().await.map_err(ShutdownError::Logind)?;
            if longest >= wanted {
                return Ok(());
            }
            self.clock.sleep(LOOK).await;
        }
        Err(ShutdownError::TooShort { wanted, longest })
    }

    fn write_drop_in(&self, wanted: Duration) -> Result<(), ShutdownError> {
        let path = &self.config.drop_in;
        let text = format!(
            "# Kubelet logind override\n[Login]\nInhibitDelayMaxSec={}\n",
            wanted.as_secs()
        );
        let write = || {
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory)?;
            }
            std::fs::write(path, text)
        };
        write().map_err(|source| ShutdownError::DropIn {
            path: path.clone(),
            source,
        })
    }

    /// Until the bus is lost: when a shutdown begins pods are ended, then it may go on; when it is called off the next
    /// one is held up again.
    async fn follow(&self, mut logind: Logind, lock: Inhibitor) -> ShutdownError {
        let mut lock = Some(lock);
        loop {
            let begins = match logind.changed().await {
                Ok(begins) => begins,
                Err(error) => return ShutdownError::Logind(error),
            };
            self.tell(begins);
            if begins {
                tracing::warn!("the machine shuts down: pods are ended");
                self.end_pods().await;
                tracing::warn!("the machine may shut down");
                lock = None;
            } else if lock.is_none() {
                tracing::info!("the shutdown was called off");
                match logind.inhibit().await {
                    Ok(again) => lock = Some(again),
                    Err(error) => return ShutdownError::Logind(error),
                }
            }
        }
    }

    /// The node is not ready from now on, or is again.
    fn tell(&self, down: bool) {
        self.down.send_replace(down);
        self.wake.notify_one();
    }

    /// Ends the pods, group by group; a group that takes longer than it may is left behind.
    async fn end_pods(&self) {
        for step in self.config.grace.steps(self.pods.pods()) {
            let end = step.pods.iter().map(|one| async move {
                let uid = one.pod.metadata.uid.clone().unwrap_or_default();
                let eviction = PodEviction {
                    message: MESSAGE.to_owned(),
                    marks: Default::default(),
                    // A time of 0 would leave the pod its own.
                    grace: one.grace.max(1),
                    for_others: true,
                    cause: EvictionCause::Shutdown,
                };
                if !self.pods.evict(&uid, eviction).await {
                    tracing::debug!(uid, "the pod had ended already");
                }
            });
            // As upstream: a time of 0 is none, not as much as one likes.
            let late = self.clock.sleep(step.period);
            select(Box::pin(join_all(end)), late).await;
        }
    }
}
