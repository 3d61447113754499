use std::time::{Duration, Instant};

use knode_client::{Backoff, Client, Retry};
use knode_nft::{Applied, Error as NftError, Notice, Watcher};

use super::bridge::Bridges;
use super::feed::Feed;
use super::{Announcements, Error};
use crate::apply::Applier;
use crate::model::IpFamily;

/// Between two repairs of a table that someone keeps breaking.
const REPAIR_PAUSE: Duration = Duration::from_secs(1);

/// What policies are enforced with.
pub struct PolicyConfig {
    /// The API server, with the right to list and watch NetworkPolicies, pods and namespaces.
    pub client: Client,
    /// This node's name: policies are enforced for the pods that run here.
    pub node_name: String,
    /// The name of the tables, usually [`crate::table::NAME`].
    pub table: String,
    /// Addresses of this node's pods before the API server knows them.
    pub announcements: Announcements,
}

impl std::fmt::Debug for PolicyConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyConfig")
            .field("node_name", &self.node_name)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

/// Enforces the policies of the cluster for this node's pods until `shutdown` resolves. The tables stay then;
/// [`crate::teardown`] removes them.
///
/// Netlink sockets belong to the network namespace of the thread that polls this first.
///
/// # Errors
/// [`Error`], before anything is changed. Later failures are logged and tried again.
pub async fn run(config: PolicyConfig, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let applier = Applier::open(&config.table).map_err(Error::Nftables)?;
    let watcher = Watcher::open(Some(applier.portid())).map_err(Error::Nftables)?;
    let enforcer = Enforcer {
        feed: Feed::start(config.client, config.node_name, config.announcements),
        applier,
        watcher,
        bridges: Bridges::default(),
        retry: Retry::new(Backoff::API),
        state: State::Starting,
        retry_at: None,
    };
    tokio::select! {
        () = shutdown => Ok(()),
        error = enforcer.serve() => Err(Error::Nftables(error)),
    }
}

/// How far the tables are to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first lists are not complete; nothing was applied, what an earlier run left goes on.
    Starting,
    /// The tables are as planned, as far as is known.
    Applied,
    /// The tables may differ from the plan and are to be compared.
    Doubtful,
}

/// The feed, the kernel, and what happens between them.
struct Enforcer {
    feed: Feed,
    applier: Applier,
    watcher: Watcher,
    bridges: Bridges,
    retry: Retry,
    state: State,
    /// When to try again what failed, or to repair again.
    retry_at: Option<tokio::time::Instant>,
}

impl Enforcer {
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
            tracing::warn!("someone changed the table of network policies; it is compared and mended");
            self.state = State::Doubtful;
        }
    }

    /// Brings the kernel up to what the feed says, unless it is too early.
    fn step(&mut self) {
        if !self.feed.is_synced() || (self.state != State::Applied && self.retry_at.is_some()) {
            return;
        }
        let began = Instant::now();
        let changes = self.feed.planner.take();
        let is_isolating = IpFamily::ALL
            .iter()
            .any(|family| self.feed.planner.is_isolated(*family));
        if is_isolating && (self.state != State::Applied || !changes.verdicts.is_empty()) {
            self.bridges.ask_the_rules();
        }
        let applied = match self.state {
            State::Applied if changes.is_empty() => return self.feed.enforced(),
            State::Applied => self.applier.update(&self.feed.planner, &changes),
            State::Starting | State::Doubtful => self.applier.verify(&self.feed.planner),
        };
        match applied {
            Ok(applied) => self.succeeded(applied, began.elapsed()),
            Err(error) => self.failed(&error),
        }
    }

    fn succeeded(&mut self, applied: Applied, took: Duration) {
        if self.state == State::Starting {
            let policies = self.feed.planner.model().policies();
            tracing::info!(
                policies,
                commands = applied.commands,
                took_ms = took.as_millis(),
                "network policies are enforced"
            );
        } else if self.state == State::Doubtful && applied.repaired {
            self.retry_at = Some(tokio::time::Instant::now() + REPAIR_PAUSE);
        }
        self.retry.succeeded();
        self.state = State::Applied;
        self.feed.enforced();
    }

    fn failed(&mut self, error: &NftError) {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "cannot program network policies; trying again"
        );
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
