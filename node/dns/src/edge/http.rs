//! `/health`, `/ready` and `/metrics`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::server::Server;

/// What a listener tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Health,
    Ready,
    Metrics,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Ready => "readiness",
            Self::Metrics => "metrics",
        }
    }
}

/// What it is told from.
#[derive(Clone)]
pub(super) struct Sources {
    pub server: Arc<Server>,
    /// Whether the end is near.
    pub ending: Arc<AtomicBool>,
}

/// Serves a listener, for ever.
pub(super) async fn serve(listener: TcpListener, role: Role, sources: Sources) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let sources = sources.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let answer = answer(role, request.uri().path(), &sources);
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
                tracing::warn!(%error, "cannot accept a connection");
                // Out of descriptors, most likely: give others a chance to close theirs.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

fn answer(role: Role, path: &str, sources: &Sources) -> Response<Full<Bytes>> {
    let ending = sources.ending.load(Ordering::Relaxed);
    let (status, body) = match (role, path) {
        (Role::Health, "/health") if ending => (StatusCode::SERVICE_UNAVAILABLE, "Shutting down".into()),
        (Role::Health, "/health") => (StatusCode::OK, "OK".into()),
        (Role::Ready, "/ready") if ending => (StatusCode::SERVICE_UNAVAILABLE, "Shutting down".into()),
        (Role::Ready, "/ready") if sources.server.is_synced() => (StatusCode::OK, "OK".into()),
        // As CoreDNS, the parts that are not ready.
        (Role::Ready, "/ready") => (StatusCode::SERVICE_UNAVAILABLE, "kubernetes".into()),
        (Role::Metrics, "/metrics") => (StatusCode::OK, sources.server.forwarder.metrics_text()),
        _ => (StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = match role {
        Role::Metrics => "text/plain; version=0.0.4",
        Role::Health | Role::Ready => "text/plain; charset=utf-8",
    };
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    response
}
