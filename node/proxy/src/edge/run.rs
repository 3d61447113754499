use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use knode_client::{Backoff, Retry};
use knode_nft::{Error as NftError, Notice, Watcher};
use tokio::task::JoinSet;

use super::feed::Feed;
use super::http::{self, SharedMetrics};
use super::metrics::Metrics;
use super::{Error, ProxyConfig};
use crate::apply::{Applied, Applier};

/// Between two repairs of a table that someone keeps breaking.
const REPAIR_PAUSE: Duration = Duration::from_secs(1);

/// Serves the Services of the cluster on this node until `shutdown` resolves. The table stays then, so that
/// connections go on; [`crate::teardown`] removes it.
///
/// Netlink sockets belong to the network namespace of the thread that polls this first.
///
/// # Errors
/// [`Error`], before anything is changed. Later failures are logged and tried again.
pub async fn run(config: ProxyConfig, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let metrics: SharedMetrics = Arc::new(Mutex::new(Metrics::default()));
    let mut tasks = JoinSet::new();
    let applier = Applier::open(config.table.clone()).map_err(Error::Nftables)?;
    let watcher = Watcher::open(Some(applier.portid())).map_err(Error::Nftables)?;
    http::serve(config.health, config.metrics, &metrics, &mut tasks).await?;
    let feed = Feed::start(&config.client, &config.node_name);
    let retry = Retry::new(Backoff::API);
    let proxy = Proxy {
        feed,
        applier,
        watcher,
        metrics,
        retry,
        state: State::Starting,
        retry_at: None,
    };
    tokio::select! {
        () = shutdown => {}
        error = proxy.serve() => return Err(Error::Nftables(error)),
    }
    Ok(())
}

/// How far the table is to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first lists are not complete; nothing was applied.
    Starting,
    /// The table is as planned, as far as is known.
    Applied,
    /// The table may differ from the plan and is to be compared.
    Doubtful,
}

/// The feed, the kernel, and what happens between them.
struct Proxy {
    feed: Feed,
    applier: Applier,
    watcher: Watcher,
    metrics: SharedMetrics,
    retry: Retry,
    state: State,
    /// When to try again what failed, or to repair again.
    retry_at: Option<tokio::time::Instant>,
}

impl Proxy {
    async fn serve(mut self) -> NftError {
        loop {
            let wake = self.retry_at;
            tokio::select! {
                () = self.feed.next() => {}
                notices = self.watcher.next() => match notices {
                    Ok(notices) => self.doubt(&notices),
                    Err(error) => return error,
                },
                () = sleep_until(wake) => self.retry_at = None,
            }
            self.step();
        }
    }

    fn doubt(&mut self, notices: &[Notice]) {
        let concerns = |notice: &Notice| match notice {
            Notice::Lost => true,
            Notice::Changed { table, .. } => self.applier.owns(table),
        };
        if self.state == State::Applied && notices.iter().any(concerns) {
            tracing::warn!("someone changed the table; it is compared and mended");
            self.state = State::Doubtful;
        }
    }

    /// Brings the kernel up to what the feed says, unless it is too early.
    fn step(&mut self) {
        self.count();
        if !self.feed.is_synced() {
            return;
        }
        if self.state != State::Applied && self.retry_at.is_some() {
            return;
        }
        let began = Instant::now();
        let (dirty, triggers) = self.feed.take();
        let applied = match self.state {
            State::Starting => self.applier.take_over(&self.feed.model),
            State::Applied if dirty.is_empty() => return,
            State::Applied => self.applier.update(&self.feed.model, dirty),
            State::Doubtful => {
                self.applier.settle(&self.feed.model, &dirty);
                self.applier.verify()
            }
        };
        match applied {
            Ok(applied) => self.succeeded(applied, began.elapsed(), &triggers),
            Err(error) => self.failed(&error),
        }
    }

    fn count(&self) {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.service_changes = self.feed.counts.services;
        metrics.endpoint_changes = self.feed.counts.slices;
        if !self.feed.is_synced() {
            metrics.queued = metrics.queued.or_else(|| Some(Timestamp::now()));
        }
    }

    fn succeeded(&mut self, applied: Applied, took: Duration, triggers: &[Timestamp]) {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.synced(took, Timestamp::now(), triggers);
        if self.state == State::Starting {
            let services = self.feed.model.names().count();
            tracing::info!(
                services,
                commands = applied.commands,
                took_ms = took.as_millis(),
                "service proxy is up"
            );
        } else if applied.repaired {
            metrics.repairs += 1;
            self.retry_at = Some(tokio::time::Instant::now() + REPAIR_PAUSE);
        }
        self.retry.succeeded();
        self.state = State::Applied;
    }

    fn failed(&mut self, error: &NftError) {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "cannot program nftables; trying again"
        );
        self.metrics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .failures += 1;
        self.retry_at = Some(tokio::time::Instant::now() + self.retry.failed());
        if self.state != State::Starting {
            self.state = State::Doubtful;
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
