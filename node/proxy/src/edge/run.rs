use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use knode_client::{Backoff, EventRecorder, EventSource, Retry, SystemClock};
use knode_nft::{Applied, Error as NftError, Notice, Watcher};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::backend::{Backend, SyncError};
use super::feed::Feed;
use super::http::{self, SharedMetrics, Sources};
use super::metrics::{Metrics, Synced};
use super::service_health::{Refused, ServiceHealth};
use super::{Error, ProxyConfig, ProxyMode, leftovers, sysctl};
use crate::apply::ServiceCount;
use crate::model::{IpFamily, Name};
use crate::table::misplaced_cidr;

/// Between two repairs of rules that someone keeps breaking.
const REPAIR_PAUSE: Duration = Duration::from_secs(1);
/// How often the canary of iptables is looked for, which nothing tells of; upstream's time.
const CANARY_PERIOD: Duration = Duration::from_secs(30);
/// Scrapes that may wait for an answer.
const SCRAPES: usize = 4;

/// Serves the Services of the cluster on this node until `shutdown` resolves. The rules stay then, so that
/// connections go on; [`crate::cleanup`] removes them.
///
/// Netlink sockets belong to the network namespace of the thread that polls this first, and programs run in it.
///
/// # Errors
/// [`Error`], before anything is changed. Later failures are logged and tried again.
pub async fn run(config: ProxyConfig, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let backend = Backend::open(&config)?;
    if let Some(limits) = &config.options.conntrack {
        sysctl::apply(limits);
    }
    let metrics: SharedMetrics = Arc::new(Mutex::new(Metrics::new(config.options.mode)));
    let mut tasks = JoinSet::new();
    let watch = |ours| Watcher::open(Some(ours)).map_err(Error::Nftables);
    let watcher = backend.portid().map(watch).transpose()?;
    let (counts, scrapes) = mpsc::channel(SCRAPES);
    let sources = Sources {
        metrics: metrics.clone(),
        counts,
    };
    http::serve(config.health, config.metrics, &sources, &mut tasks).await?;
    let feed = Feed::start(&config.client, &config.node_name);
    let recorder = start_events(&config);
    let canary_at = (config.options.mode == ProxyMode::Iptables).then(|| Instant::now() + CANARY_PERIOD);
    let proxy = Proxy {
        config,
        service_health: ServiceHealth::default(),
        recorder,
        feed,
        backend,
        watcher,
        metrics,
        scrapes,
        retry: Retry::new(Backoff::API),
        state: State::Starting,
        retry_at: None,
        canary_at,
    };
    tokio::select! {
        () = shutdown => {}
        error = proxy.serve() => return Err(Error::Nftables(error)),
    }
    Ok(())
}

/// How far the rules are to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first lists are not complete; nothing was applied.
    Starting,
    /// The rules are as planned, as far as is known.
    Applied,
    /// The rules may differ from the plan and are to be compared.
    Doubtful,
}

/// The feed, the kernel, and what happens between them.
struct Proxy {
    config: ProxyConfig,
    service_health: ServiceHealth,
    recorder: EventRecorder,
    feed: Feed,
    backend: Backend,
    /// Tells of changes of nftables; nothing tells of those of iptables.
    watcher: Option<Watcher>,
    metrics: SharedMetrics,
    /// Who wants to know what the kernel has counted.
    scrapes: mpsc::Receiver<oneshot::Sender<Vec<ServiceCount>>>,
    retry: Retry,
    state: State,
    /// When to try again what failed, or to repair again.
    retry_at: Option<Instant>,
    /// When to look for the canary, in iptables.
    canary_at: Option<Instant>,
}

impl Proxy {
    async fn serve(mut self) -> NftError {
        loop {
            let (wake, canary) = (self.retry_at, self.canary_at);
            tokio::select! {
                () = self.feed.next() => {}
                notices = next_notices(&mut self.watcher) => match notices {
                    Ok(notices) => self.doubt(&notices),
                    Err(error) => return error,
                },
                () = sleep_until(wake) => self.retry_at = None,
                () = sleep_until(canary) => self.look_for_canary().await,
                Some(reply) = self.scrapes.recv() => {
                    self.answer_scrape(reply);
                    continue;
                }
            }
            self.step().await;
        }
    }

    fn doubt(&mut self, notices: &[Notice]) {
        let concerns = |notice: &Notice| match notice {
            Notice::Lost => true,
            Notice::Changed { table, .. } => self.backend.owns(table),
        };
        if self.state == State::Applied && notices.iter().any(concerns) {
            tracing::warn!("someone changed the table; it is compared and mended");
            self.state = State::Doubtful;
        }
    }

    async fn look_for_canary(&mut self) {
        self.canary_at = Some(Instant::now() + CANARY_PERIOD);
        match self.backend.is_intact().await {
            Ok(true) => {}
            Ok(false) if self.state == State::Applied => {
                tracing::warn!("someone flushed iptables; all rules are written again");
                self.state = State::Doubtful;
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot look for the canary of iptables"
            ),
        }
    }

    fn answer_scrape(&mut self, reply: oneshot::Sender<Vec<ServiceCount>>) {
        let counts = self.backend.counts().unwrap_or_else(|error| {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot read the services' counters"
            );
            Vec::new()
        });
        // Who asked may have gone.
        let _ = reply.send(counts);
    }

    /// Brings the kernel up to what the feed says, unless it is too early.
    async fn step(&mut self) {
        self.count();
        let node = self.feed.node_info();
        if !self.feed.is_synced() || (self.config.options.needs_node() && node.is_none()) {
            return;
        }
        if let Some(node) = node {
            let table = node.complete(self.config.table.clone(), &self.config.options);
            if self.backend.configure(table) && self.state == State::Applied {
                self.state = State::Doubtful;
            }
        }
        if self.state != State::Applied && self.retry_at.is_some() {
            return;
        }
        let (dirty, triggers) = self.feed.take();
        self.serve_health(&dirty);
        let model = &self.feed.model;
        let applied = match self.state {
            State::Starting => self.backend.take_over(model).await,
            State::Applied if dirty.is_empty() => return,
            State::Applied => self.backend.update(model, dirty).await,
            State::Doubtful => {
                self.backend.settle(model, &dirty);
                self.backend.verify(model).await
            }
        };
        match applied {
            Ok(applied) => self.succeeded(applied, &triggers),
            Err(error) => {
                self.feed.put_back(triggers);
                self.failed(&error);
            }
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
        metrics.pending = self.feed.waiting();
        if !self.feed.is_synced() || metrics.pending > 0 {
            metrics.wait(Timestamp::now());
        }
    }

    fn succeeded(&mut self, applied: Applied, triggers: &[(IpFamily, Timestamp)]) {
        let (now, was) = (Timestamp::now(), self.state);
        self.state = State::Applied;
        self.retry.succeeded();
        self.observe(applied, was, now, triggers);
        if was == State::Starting {
            if let Some(warning) = misplaced_cidr(&self.feed.model, &self.backend.config().locality) {
                tracing::warn!("{warning}");
            }
            let services = self.feed.model.names().count();
            let commands = applied.commands;
            let mode = self.config.options.mode;
            tracing::info!(%mode, services, commands, "service proxy is up");
            leftovers::remove_in_background(mode, self.backend.config());
        } else if applied.repaired {
            self.retry_at = Some(Instant::now() + REPAIR_PAUSE);
        }
    }

    fn observe(&self, applied: Applied, was: State, now: Timestamp, triggers: &[(IpFamily, Timestamp)]) {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        for family in IpFamily::ALL {
            let Some(took) = self.backend.took(family) else {
                continue;
            };
            let step = Synced {
                took,
                full: was != State::Applied,
                repaired: was == State::Doubtful && applied.repaired,
                no_local: self.backend.plan(family).without_local(),
            };
            metrics.synced(family, step, now);
        }
        metrics.applied(now, triggers);
    }

    fn failed(&mut self, error: &SyncError) {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "cannot bring the rules up to date; trying again"
        );
        self.metrics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .failed();
        self.retry_at = Some(Instant::now() + self.retry.failed());
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

async fn next_notices(watcher: &mut Option<Watcher>) -> Result<Vec<Notice>, NftError> {
    match watcher {
        Some(watcher) => watcher.next().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
