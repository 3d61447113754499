//! A server that is asked, and how it fares.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::{Name, RecordType};
use knode_client::{Backoff, Retry};
use tokio::time::Instant;

use super::exchange::{ExchangeError, exchange};
use super::policy::Health;
use crate::metrics::Histogram;
use crate::wire::Transport;

/// How long a server may take (CoreDNS: `readTimeout`).
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it may take to show that it is there (CoreDNS' health check).
const CHECK_PATIENCE: Duration = Duration::from_secs(1);
/// Between two checks of a server that did not answer (CoreDNS: `hcInterval`).
const CHECK_PAUSE: Duration = Duration::from_millis(500);
/// Between two tries to find out whether a server leads back to us.
const PROBE: Backoff = Backoff {
    initial: Duration::from_secs(1),
    max: Duration::from_secs(60),
    factor: 2.0,
    jitter: 0.0,
};

/// One server.
#[derive(Debug)]
pub(super) struct Upstream {
    pub server: SocketAddr,
    /// A name that nobody asks for but us: whoever sees it as a question is asked by this server.
    probe: Name,
    health: Mutex<Health>,
    checking: AtomicBool,
    looping: AtomicBool,
    pub durations: Histogram,
    pub failed_checks: AtomicU64,
}

impl Upstream {
    /// A server of a domain.
    pub fn new(server: SocketAddr, domain: &Name) -> Self {
        let own = format!("{:016x}.{:016x}", rand::random::<u64>(), rand::random::<u64>());
        let probe = Name::from_ascii(&own).and_then(|own| own.append_domain(domain));
        Self {
            server,
            probe: probe.unwrap_or_else(|_| domain.clone()),
            health: Mutex::default(),
            checking: AtomicBool::new(false),
            looping: AtomicBool::new(false),
            durations: Histogram::default(),
            failed_checks: AtomicU64::new(0),
        }
    }

    /// How it fares; `None` if it leads back to us.
    pub fn usable(&self) -> Option<Health> {
        (!self.looping.load(Ordering::Relaxed)).then(|| *self.lock())
    }

    /// Asks it.
    pub async fn ask(&self, question: &Message, transport: Transport) -> Result<Message, ExchangeError> {
        let began = Instant::now();
        let answer = exchange(self.server, question, transport, PATIENCE).await?;
        self.durations.observe(began.elapsed());
        Ok(answer)
    }

    /// A question was not answered. Whether checks are to begin.
    pub fn unanswered(&self) -> bool {
        let mut health = self.lock();
        *health = health.unanswered();
        !self.checking.swap(true, Ordering::Relaxed)
    }

    /// Whether this is the name by which it shows that it leads back to us, which is then known.
    pub fn shows_loop(&self, name: &Name) -> bool {
        let shown = self.probe == *name;
        if shown && !self.looping.swap(true, Ordering::Relaxed) {
            tracing::error!(
                server = %self.server,
                "this name server asks us what we ask it: it is left out (see the node's resolv.conf)"
            );
        }
        shown
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks a server until it answers, or is not asked any more.
pub(super) async fn check(upstream: Weak<Upstream>) {
    loop {
        let Some(upstream) = upstream.upgrade() else {
            return;
        };
        let answered = is_there(upstream.server).await;
        if !answered {
            upstream.failed_checks.fetch_add(1, Ordering::Relaxed);
        }
        let (was, is) = {
            let mut health = upstream.lock();
            let was = *health;
            *health = was.checked(answered);
            (was, *health)
        };
        if was.is_down() != is.is_down() {
            tracing::warn!(server = %upstream.server, down = is.is_down(), "a name server changed its state");
        }
        if answered {
            upstream.checking.store(false, Ordering::Relaxed);
            return;
        }
        drop(upstream);
        tokio::time::sleep(CHECK_PAUSE).await;
    }
}

/// As CoreDNS: whatever it answers, it is there.
async fn is_there(server: SocketAddr) -> bool {
    let question = question(Query::query(Name::root(), RecordType::NS), None);
    exchange(server, &question, Transport::Udp, CHECK_PATIENCE)
        .await
        .is_ok()
}

/// Finds out whether a server leads back to us (CoreDNS: `loop`).
pub(super) async fn probe(upstream: Weak<Upstream>) {
    let mut retry = Retry::new(PROBE);
    loop {
        let Some(upstream) = upstream.upgrade() else {
            return;
        };
        let question = question(Query::query(upstream.probe.clone(), RecordType::HINFO), None);
        if exchange(upstream.server, &question, Transport::Udp, PATIENCE)
            .await
            .is_ok()
        {
            return;
        }
        drop(upstream);
        tokio::time::sleep(retry.failed()).await;
    }
}

/// A message that asks; with a number that cannot be guessed.
pub(super) fn question(query: Query, edns: Option<Edns>) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(query);
    message.edns = edns;
    message
}
