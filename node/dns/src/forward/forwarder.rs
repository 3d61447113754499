use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{LowerName, Name};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::cache::{Cache, CacheKey, CacheLimits, lifetime};
use super::policy::Attempts;
use super::routes::Stub;
use super::upstream::{self, Upstream, question};
use crate::metrics::{Forwarded, Metrics, Sizes, count};
use crate::wire::Request;

/// Questions under way at most (kubeadm's Corefile: `max_concurrent`).
const MAX_CONCURRENT: usize = 1000;
/// How long all tries for a question may take together (CoreDNS).
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a question was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// Too many are under way.
    #[error("more than {MAX_CONCURRENT} questions are under way")]
    TooMany,
    /// There is nobody to ask.
    #[error("there is no name server to ask")]
    NoServer,
    /// Nobody answered.
    #[error("no name server answered")]
    Unanswered,
}

/// Asks others, and remembers what they said.
#[derive(Debug)]
pub struct Forwarder {
    /// The longest domain first; the last one is the root.
    routes: RwLock<Arc<[Route]>>,
    cache: Mutex<Cache>,
    permits: Semaphore,
    origin: Instant,
    metrics: Arc<Metrics>,
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Route {
    domain: Name,
    servers: Vec<Arc<Upstream>>,
}

impl Route {
    fn new(domain: Name, servers: &[SocketAddr]) -> Self {
        let server = |server: &SocketAddr| Arc::new(Upstream::new(*server, &domain));
        let servers = servers.iter().map(server).collect();
        Self { domain, servers }
    }
}

impl Forwarder {
    /// Asks `servers` about everything but the domains of the stubs.
    pub fn new(stubs: &[Stub], servers: &[SocketAddr], limits: CacheLimits) -> Self {
        Self::counted(stubs, servers, limits, Arc::default())
    }

    pub(crate) fn counted(
        stubs: &[Stub],
        servers: &[SocketAddr],
        limits: CacheLimits,
        metrics: Arc<Metrics>,
    ) -> Self {
        let stubs = stubs
            .iter()
            .map(|stub| Route::new(stub.domain.clone(), &stub.servers));
        let mut routes: Vec<Route> = stubs.collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.domain.num_labels()));
        routes.push(Route::new(Name::root(), servers));
        Self {
            routes: RwLock::new(routes.into()),
            cache: Mutex::new(Cache::new(limits)),
            permits: Semaphore::new(MAX_CONCURRENT),
            origin: Instant::now(),
            metrics,
            tasks: Mutex::default(),
        }
    }

    /// Asks others than before about everything but the stubs; what is known of those that stay is kept.
    pub fn set_servers(&self, servers: &[SocketAddr]) {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let kept = |route: &Route| Route {
            domain: route.domain.clone(),
            servers: route.servers.clone(),
        };
        let mut now: Vec<Route> = routes.iter().map(kept).collect();
        if let Some(root) = now.last_mut() {
            let fresh = Route::new(Name::root(), servers).servers;
            let same = |new: Arc<Upstream>| {
                let known = root.servers.iter().find(|known| known.server == new.server);
                known.cloned().unwrap_or(new)
            };
            root.servers = fresh.into_iter().map(same).collect();
        }
        *routes = now.into();
    }

    /// Looks for servers that ask us what we ask them, in the background. Call it once the sockets are served, and
    /// when the servers have changed.
    pub fn look_for_loops(&self) {
        for upstream in self.routes().iter().flat_map(|route| &route.servers) {
            self.spawn(upstream::probe(Arc::downgrade(upstream)));
        }
    }

    /// Whether a question for HINFO is our own, come back; who sent it is not asked any more.
    pub fn is_own_probe(&self, name: &Name) -> bool {
        let routes = self.routes();
        let mut upstreams = routes.iter().flat_map(|route| &route.servers);
        upstreams.any(|upstream| upstream.shows_loop(name))
    }

    /// The answer to a question on behalf of a client, whose extensions and transport are used. Its number means
    /// nothing.
    ///
    /// # Errors
    /// [`ForwardError`] if nobody answers. What servers answer, failures too, is no error.
    pub async fn resolve(&self, request: &Request, query: &Query) -> Result<Message, ForwardError> {
        let key = CacheKey {
            name: LowerName::new(&query.name),
            kind: query.query_type,
            signatures: request.wants_signatures(),
            unchecked: request.checking_disabled,
        };
        if let Some(answer) = self.remembered(&key) {
            return Ok(answer);
        }
        count(&self.metrics.cache_misses);
        let Ok(_permit) = self.permits.try_acquire() else {
            count(&self.metrics.forward_rejects);
            return Err(ForwardError::TooMany);
        };
        let mut answer = self.ask(request, query).await?;
        self.remember(key, &mut answer);
        Ok(answer)
    }

    async fn ask(&self, request: &Request, query: &Query) -> Result<Message, ForwardError> {
        let routes = self.routes();
        let Some(route) = routes.iter().find(|route| route.domain.zone_of(&query.name)) else {
            return Err(ForwardError::NoServer);
        };
        let usable: Vec<_> = route.servers.iter().map(|server| server.usable()).collect();
        if !usable.iter().flatten().any(|health| !health.is_down()) {
            count(&self.metrics.checks_broken);
        }
        let mut message = question(query.clone(), request.edns.clone());
        message.metadata.recursion_desired = request.recursion_desired;
        message.metadata.checking_disabled = request.checking_disabled;
        message.metadata.authentic_data = request.authentic_data;
        let deadline = Instant::now() + PATIENCE;
        let mut error = ForwardError::NoServer;
        for at in Attempts::new(&usable, rand::random()) {
            let server = &route.servers[at];
            let asked = server.ask(&message, request.transport);
            match tokio::time::timeout_at(deadline, asked).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(problem)) => {
                    tracing::debug!(server = %server.server, error = &problem as &dyn std::error::Error, "no answer");
                    self.check(server);
                }
                Err(_) => return Err(ForwardError::Unanswered),
            }
            error = ForwardError::Unanswered;
        }
        Err(error)
    }

    fn check(&self, server: &Arc<Upstream>) {
        if server.unanswered() {
            self.spawn(upstream::check(Arc::downgrade(server)));
        }
    }

    fn remembered(&self, key: &CacheKey) -> Option<Message> {
        let (mut message, ttl) = {
            let cache = self.cache();
            let (bytes, ttl) = cache.get(key, self.origin.elapsed())?;
            (Message::from_vec(bytes).ok()?, ttl)
        };
        let counter = match message.metadata.response_code {
            ResponseCode::NoError if !message.answers.is_empty() => &self.metrics.cache_successes,
            _ => &self.metrics.cache_denials,
        };
        count(counter);
        set_ttl(&mut message, ttl);
        Some(message)
    }

    /// As CoreDNS, all its records live as long as the answer is kept.
    fn remember(&self, key: CacheKey, answer: &mut Message) {
        let mut cache = self.cache();
        let Some(ttl) = lifetime(answer, cache.limits()) else {
            return;
        };
        set_ttl(answer, ttl);
        // What was read can be written.
        if let Ok(bytes) = answer.to_vec() {
            cache.put(key, bytes.into(), ttl, self.origin.elapsed());
        }
    }

    pub(crate) fn metrics_text(&self) -> String {
        let routes = self.routes();
        let mut upstreams: Vec<_> = routes.iter().flat_map(|route| &route.servers).collect();
        // A server may know about several domains.
        upstreams.sort_by_key(|upstream| upstream.server);
        upstreams.dedup_by_key(|upstream| upstream.server);
        let forwarded: Vec<Forwarded<'_>> = upstreams
            .into_iter()
            .map(|upstream| Forwarded {
                to: upstream.server,
                durations: &upstream.durations,
                failed_checks: upstream.failed_checks.load(Ordering::Relaxed),
            })
            .collect();
        let sizes = Sizes {
            cached: self.cache().len(),
            upstreams: &forwarded,
        };
        self.metrics.text(&sizes)
    }

    fn routes(&self) -> Arc<[Route]> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

fn set_ttl(message: &mut Message, ttl: u32) {
    let (answers, authorities) = (&mut message.answers, &mut message.authorities);
    for record in answers
        .iter_mut()
        .chain(authorities)
        .chain(&mut message.additionals)
    {
        record.ttl = ttl;
    }
}
