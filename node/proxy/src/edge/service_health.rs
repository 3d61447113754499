//! Health check ports: each tells load balancers whether this node has endpoints of a Service.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

use super::http::{SharedMetrics, is_healthy};
use crate::model::{Entry, Model, Name, State};

/// The servers that run, by Service.
#[derive(Default)]
pub(super) struct ServiceHealth {
    servers: HashMap<Name, Server>,
    tasks: JoinSet<()>,
}

struct Server {
    port: u16,
    local: Arc<AtomicUsize>,
    task: AbortHandle,
}

/// A port that could not be opened.
#[derive(Debug)]
pub(super) struct Refused {
    pub service: Name,
    pub port: u16,
    pub source: std::io::Error,
}

/// The port to serve for a Service and the number of its ready endpoints here; `None` if it has none to serve.
fn wanted(entry: &Entry) -> Option<(u16, usize)> {
    let service = entry.service.as_ref()?;
    let port = service.health_check_port;
    let ready = entry.slices.iter().flat_map(|(_, slice)| &slice.endpoints);
    let ready = ready.filter(|endpoint| endpoint.local && endpoint.state == State::Ready);
    let local: BTreeSet<_> = ready.map(|endpoint| endpoint.ip).collect();
    (port != 0 && service.external_local).then_some((port, local.len()))
}

impl ServiceHealth {
    /// Opens, changes and closes what these Services ask for; returns the ports that could not be opened.
    pub fn sync(&mut self, model: &Model, dirty: &BTreeSet<Name>, metrics: &SharedMetrics) -> Vec<Refused> {
        let mut refused = Vec::new();
        for name in dirty {
            let wanted = model.get(name).and_then(wanted);
            if self.servers.get(name).map(|server| server.port) != wanted.map(|(port, _)| port)
                && let Some(server) = self.servers.remove(name)
            {
                server.task.abort();
            }
            let Some((port, local)) = wanted else { continue };
            match self.servers.get(name) {
                Some(server) => server.local.store(local, Ordering::Relaxed),
                None => match self.open(name, port, local, metrics) {
                    Ok(server) => {
                        self.servers.insert(name.clone(), server);
                    }
                    Err(source) => refused.push(Refused {
                        service: name.clone(),
                        port,
                        source,
                    }),
                },
            }
        }
        while self.tasks.try_join_next().is_some() {}
        refused
    }

    fn open(
        &mut self,
        name: &Name,
        port: u16,
        local: usize,
        metrics: &SharedMetrics,
    ) -> std::io::Result<Server> {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let any4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        // Where the host has no IPv6, its sockets cannot be had.
        let listener = std::net::TcpListener::bind(any).or_else(|_| std::net::TcpListener::bind(any4))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let local = Arc::new(AtomicUsize::new(local));
        let serve = serve(listener, name.clone(), local.clone(), metrics.clone());
        let task = self.tasks.spawn(serve);
        Ok(Server { port, local, task })
    }
}

async fn serve(listener: TcpListener, name: Name, local: Arc<AtomicUsize>, metrics: SharedMetrics) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: give others a chance to close theirs.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let (name, local, metrics) = (name.clone(), local.clone(), metrics.clone());
        connections.spawn(async move {
            let service = service_fn(move |_| {
                let answer = answer(&name, local.load(Ordering::Relaxed), is_healthy(&metrics));
                async move { Ok::<_, Infallible>(answer) }
            });
            let served =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = served.await {
                tracing::debug!(error = &error as &dyn std::error::Error, "connection broke");
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// As upstream's `pkg/proxy/healthcheck` answers.
fn answer(name: &str, local: usize, healthy: bool) -> Response<Full<Bytes>> {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\t\
         \"localEndpoints\": {local},\n\t\"serviceProxyHealthy\": {healthy}\n}}"
    );
    let mut response = Response::new(Full::new(Bytes::from(body)));
    if local == 0 || !healthy {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        HeaderName::from_static("x-load-balancing-endpoint-weight"),
        HeaderValue::from(local),
    );
    response
}
