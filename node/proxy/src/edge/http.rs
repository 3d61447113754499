//! `/healthz` and `/livez`, `/metrics` and `/proxyMode`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Error;
use super::metrics::Metrics;

/// A change that waits longer than this makes the proxy unhealthy.
const HEALTHY_DELAY: SignedDuration = SignedDuration::from_secs(60);

/// The metrics, shared with the servers.
pub(super) type SharedMetrics = Arc<Mutex<Metrics>>;

#[derive(Clone, Copy)]
enum Role {
    Health,
    Metrics,
}

/// Binds both addresses and serves them in tasks that end with the set.
pub(super) async fn serve(
    health: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    shared: &SharedMetrics,
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
        tasks.spawn(accept(listener, role, shared.clone()));
    }
    Ok(())
}

async fn accept(listener: TcpListener, role: Role, shared: SharedMetrics) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let answer = answer(role, &request, &shared);
                        async move { Ok::<_, Infallible>(answer) }
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

fn answer(role: Role, request: &Request<Incoming>, shared: &SharedMetrics) -> Response<Full<Bytes>> {
    let mut metrics = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Timestamp::now();
    match (role, request.uri().path()) {
        (Role::Health, "/healthz") => {
            let answer = health(&metrics, now, Some(metrics.eligible));
            metrics.healthz.count(answer.status().as_u16());
            answer
        }
        (Role::Health, "/livez") => {
            let answer = health(&metrics, now, None);
            metrics.livez.count(answer.status().as_u16());
            answer
        }
        (Role::Metrics, "/healthz") => text(StatusCode::OK, "text/plain; charset=utf-8", "ok".to_owned()),
        (Role::Metrics, "/proxyMode") => {
            text(StatusCode::OK, "text/plain; charset=utf-8", "nftables".to_owned())
        }
        (Role::Metrics, "/metrics") => text(StatusCode::OK, "text/plain; version=0.0.4", metrics.text()),
        _ => text(
            StatusCode::NOT_FOUND,
            "text/plain; charset=utf-8",
            "404 page not found\n".to_owned(),
        ),
    }
}

/// Whether no change waits too long.
pub(super) fn is_healthy(metrics: &SharedMetrics) -> bool {
    let metrics = metrics.lock().unwrap_or_else(PoisonError::into_inner);
    !is_overdue(&metrics, Timestamp::now())
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
    response
}
