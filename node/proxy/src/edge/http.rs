//! `/healthz` and `/livez`, `/metrics` and `/proxyMode`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::Error;
use super::metrics::{Metrics, write_services};
use crate::apply::ServiceCount;

/// A change that waits longer than this makes the proxy unhealthy.
const HEALTHY_DELAY: SignedDuration = SignedDuration::from_secs(60);

/// A proxy that is busy for longer is not waited for: what the kernel counts is left out then.
const COUNTS_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// The metrics, shared with the servers.
pub(super) type SharedMetrics = Arc<Mutex<Metrics>>;
/// Asks the proxy what the kernel has counted.
pub(super) type Counts = mpsc::Sender<oneshot::Sender<Vec<ServiceCount>>>;

/// What the servers tell from.
#[derive(Clone)]
pub(super) struct Sources {
    pub metrics: SharedMetrics,
    pub counts: Counts,
}

#[derive(Clone, Copy)]
enum Role {
    Health,
    Metrics,
}

/// Binds both addresses and serves them in tasks that end with the set.
pub(super) async fn serve(
    health: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    sources: &Sources,
    tasks: &mut JoinSet<()>,
) -> Result<(), Error> {
    let roles = [
        (health, "health", Role::Health),
        (metrics, "metrics", Role::Metrics),
    ];
    for (address, what, role) in roles {
        let Some(address) = address else { continue };
        let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen {
            what,
            address,
            source,
        })?;
        tasks.spawn(accept(listener, role, sources.clone()));
    }
    Ok(())
}

async fn accept(listener: TcpListener, role: Role, sources: Sources) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let sources = sources.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let sources = sources.clone();
                        async move { Ok::<_, Infallible>(answer(role, request.uri().path(), &sources).await) }
                    });
                    let served = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    if let Err(error) = served.await {
                        tracing::debug!(error = &error as &dyn std::error::Error, "connection broke");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot accept a connection"
                );
                // Out of descriptors, most likely: give others a chance to close theirs.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(role: Role, path: &str, sources: &Sources) -> Response<Full<Bytes>> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    match (role, path) {
        (Role::Health, "/healthz" | "/livez") => health_of(path == "/livez", &sources.metrics),
        (Role::Metrics, "/healthz") => text(StatusCode::OK, PLAIN, "ok".to_owned()),
        (Role::Metrics, "/proxyMode") => text(StatusCode::OK, PLAIN, lock(&sources.metrics).mode.to_string()),
        (Role::Metrics, "/metrics") => {
            let mut body = lock(&sources.metrics).text();
            write_services(&mut body, counts(&sources.counts).await);
            text(StatusCode::OK, "text/plain; version=0.0.4", body)
        }
        _ => text(StatusCode::NOT_FOUND, PLAIN, "404 page not found\n".to_owned()),
    }
}

fn lock(metrics: &SharedMetrics) -> MutexGuard<'_, Metrics> {
    metrics.lock().unwrap_or_else(PoisonError::into_inner)
}

fn health_of(livez: bool, metrics: &SharedMetrics) -> Response<Full<Bytes>> {
    let mut metrics = lock(metrics);
    let eligible = (!livez).then_some(metrics.eligible);
    let answer = health(&metrics, Timestamp::now(), eligible);
    let answers = if livez {
        &mut metrics.livez
    } else {
        &mut metrics.healthz
    };
    answers.count(answer.status().as_u16());
    answer
}

async fn counts(proxy: &Counts) -> Vec<ServiceCount> {
    let (reply, counts) = oneshot::channel();
    let asked = async {
        proxy.send(reply).await.ok()?;
        counts.await.ok()
    };
    let answered = tokio::time::timeout(COUNTS_PATIENCE, asked).await;
    answered.ok().flatten().unwrap_or_default()
}

/// Whether no change waits too long.
pub(super) fn is_healthy(metrics: &SharedMetrics) -> bool {
    !is_overdue(&lock(metrics), Timestamp::now())
}

fn is_overdue(metrics: &Metrics, now: Timestamp) -> bool {
    let since = metrics.queued;
    since.is_some_and(|since| now.duration_since(since) > HEALTHY_DELAY)
}

/// `/healthz` also says whether load balancers may send new connections to this node.
fn health(metrics: &Metrics, now: Timestamp, eligible: Option<bool>) -> Response<Full<Bytes>> {
    let status = if is_overdue(metrics, now) || eligible == Some(false) {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    // As upstream: while nothing waits, the rules are as new as the question.
    let last = if metrics.queued.is_none() {
        Some(now)
    } else {
        metrics.last_sync
    };
    let last = last.map(|time| time.to_string()).unwrap_or_default();
    let eligible = eligible
        .map(|eligible| format!(", \"nodeEligible\": {eligible}"))
        .unwrap_or_default();
    text(
        status,
        "application/json",
        format!("{{\"lastUpdated\": \"{last}\",\"currentTime\": \"{now}\"{eligible}}}"),
    )
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        hyper::header::CONTENT_TYPE,
        hyper::header::HeaderValue::from_static(kind),
    );
    response.headers_mut().insert(
        hyper::header::X_CONTENT_TYPE_OPTIONS,
        hyper::header::HeaderValue::from_static("nosniff"),
    );
    response
}
