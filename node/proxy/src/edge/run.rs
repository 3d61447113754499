use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use knode_client::{Backoff, EventRecorder, EventSource, Retry, SystemClock};
use knode_nft::{Error as NftError, Notice, Watcher};
use tokio::task::JoinSet;

use super::feed::Feed;
use super::http::{self, SharedMetrics};
use super::metrics::Metrics;
use super::service_health::{Refused, ServiceHealth};
use super::{Error, ProxyConfig, sysctl};
use crate::apply::{Applied, Applier};
use crate::model::Name;
use crate::table::misplaced_cidr;

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
    if let Some(limits) = &config.options.conntrack {
        sysctl::apply(limits);
    }
    let metrics: SharedMetrics = Arc::new(Mutex::new(Metrics::default()));
    let mut tasks = JoinSet::new();
    let applier = Applier::open(config.table.clone()).map_err(Error::Nftables)?;
    let watcher = Watcher::open(Some(applier.portid())).map_err(Error::Nftables)?;
    http::serve(config.health, config.metrics, &metrics, &mut tasks).await?;
    let feed = Feed::start(&config.client, &config.node_name);
    let recorder = start_events(&config);
    let retry = Retry::new(Backoff::API);
    let proxy = Proxy {
        config,
        service_health: ServiceHealth::default(),
        recorder,
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
    config: ProxyConfig,
    service_health: ServiceHealth,
    recorder: EventRecorder,
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
        let node = self.feed.node_info();
        if !self.feed.is_synced() || (self.config.options.needs_node() && node.is_none()) {
            return;
        }
        if let Some(node) = node {
            let table = node.complete(self.config.table.clone(), &self.config.options);
            if self.applier.configure(table) && self.state == State::Applied {
                self.state = State::Doubtful;
            }
        }
        if self.state != State::Applied && self.retry_at.is_some() {
            return;
        }
        let began = Instant::now();
        let (dirty, triggers) = self.feed.take();
        self.serve_health(&dirty);
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

    /// Opens and closes the health check ports of these Services.
    fn serve_health(&mut self, dirty: &BTreeSet<Name>) {
        let refused = self.service_health.sync(&self.feed.model, dirty, &self.metrics);
        for Refused {
            service,
            port,
            source,
        } in refused
        {
            tracing::error!(%service, port, error = &source as &dyn std::error::Error, "cannot serve health check");
            let (namespace, name) = service.split_once('/').unwrap_or(("", &service));
            let object = ObjectReference {
                kind: Some("Service".to_owned()),
                namespace: Some(namespace.to_owned()),
                name: Some(name.to_owned()),
                ..ObjectReference::default()
            };
            let message = format!(
                "node {} failed to start healthcheck {service:?} on port {port}: {source}",
                self.config.node_name
            );
            self.recorder
                .warning(object, "FailedToStartServiceHealthcheck", message);
        }
    }

    fn count(&self) {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.service_changes = self.feed.counts.services;
        metrics.endpoint_changes = self.feed.counts.slices;
        metrics.eligible = self.feed.node_info().is_none_or(|node| node.eligible);
        if !self.feed.is_synced() {
            metrics.queued = metrics.queued.or_else(|| Some(Timestamp::now()));
        }
    }

    fn succeeded(&mut self, applied: Applied, took: Duration, triggers: &[Timestamp]) {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.synced(took, Timestamp::now(), triggers);
        metrics.no_local = self.applier.without_local();
        if self.state == State::Starting {
            if let Some(warning) = misplaced_cidr(&self.feed.model, &self.applier.config().locality) {
                tracing::warn!("{warning}");
            }
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

/// Says that the proxy starts, in the name of the node.
fn start_events(config: &ProxyConfig) -> EventRecorder {
    let source = EventSource {
        component: "kube-proxy".into(),
        host: config.node_name.clone(),
    };
    let recorder = EventRecorder::start(config.client.clone(), source, Arc::new(SystemClock::default()));
    let node = ObjectReference {
        kind: Some("Node".to_owned()),
        name: Some(config.node_name.clone()),
        uid: Some(config.node_name.clone()),
        ..ObjectReference::default()
    };
    recorder.normal(node, "Starting", "");
    recorder
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
