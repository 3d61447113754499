//! The HTTP side: one-time URLs, upgrades, and which protocol is spoken after them.

use std::convert::Infallible;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::header::{
    CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    UPGRADE,
};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use knode_cri::{AttachRequest, ExecRequest};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::channel;
use super::ports::Dialer;
use super::process;
use super::spdy::process::Shape;
use super::tokens::Wanted;
use super::{spdy, websocket};
use crate::engine::Core;
use crate::error::chain;

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// How an upgraded connection is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Spdy(&'static str),
    WebSocket(&'static str),
}

/// Accepts connections until the engine goes.
pub(super) async fn accept(listener: TcpListener, core: Weak<Core>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting a streaming connection");
                continue;
            }
        };
        // Keystrokes must not wait for more of them.
        let _ = stream.set_nodelay(true);
        let core = core.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let core = core.clone();
                async move { Ok::<_, Infallible>(answer(core, request)) }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(error = chain(&error), "a streaming connection");
            }
        });
    }
}

fn answer(core: Weak<Core>, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Some(core) = core.upgrade() else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "the engine is going");
    };
    let mut parts = request.uri().path().trim_start_matches('/').splitn(2, '/');
    let (kind, token) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let forwarding = kind == "portforward";
    let transport = match choose(&request, forwarding) {
        Ok(transport) => transport,
        Err(text) => return plain(StatusCode::BAD_REQUEST, text),
    };
    let Some(wanted) = core.streaming.redeem(token) else {
        return plain(StatusCode::NOT_FOUND, "no such stream, or it has been used");
    };
    let fits = match &wanted {
        Wanted::Exec(_) => kind == "exec",
        Wanted::Attach(_) => kind == "attach",
        Wanted::PortForward(_) => forwarding,
    };
    if !fits {
        return plain(StatusCode::NOT_FOUND, "no such stream, or it has been used");
    }
    let response = switching(&request, transport);
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(serve(core, wanted, transport, upgrade));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

/// Which protocol is spoken after the upgrade.
fn choose(request: &Request<Incoming>, forwarding: bool) -> Result<Transport, &'static str> {
    let headers = request.headers();
    let upgrade = headers
        .get(UPGRADE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let offered = |name: &HeaderName| -> Vec<String> {
        let values = headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .map(|name| name.trim().to_string())
            .collect()
    };
    if upgrade.eq_ignore_ascii_case("websocket") {
        let offered = offered(&SEC_WEBSOCKET_PROTOCOL);
        let chosen = if forwarding {
            Some(websocket::TUNNEL_PROTOCOL).filter(|name| offered.iter().any(|other| other == name))
        } else {
            websocket::choose(&offered)
        };
        return chosen
            .map(Transport::WebSocket)
            .ok_or("no WebSocket protocol that is offered is spoken here");
    }
    if !upgrade.eq_ignore_ascii_case("SPDY/3.1") {
        return Err("the connection must be upgraded to websocket or SPDY/3.1");
    }
    if forwarding {
        return Ok(Transport::Spdy(spdy::PORT_FORWARD));
    }
    spdy::choose(&offered(&STREAM_PROTOCOL))
        .map(Transport::Spdy)
        .ok_or("no stream protocol that is offered is spoken here")
}

fn switching(request: &Request<Incoming>, transport: Transport) -> Response<Full<Bytes>> {
    let mut response = plain(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    match transport {
        Transport::Spdy(protocol) => {
            headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
        }
        Transport::WebSocket(protocol) => {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
            let key = request
                .headers()
                .get(SEC_WEBSOCKET_KEY)
                .map(HeaderValue::as_bytes)
                .unwrap_or_default();
            if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key)) {
                headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
            }
        }
    }
    response
}

async fn serve(core: Arc<Core>, wanted: Wanted, transport: Transport, upgrade: OnUpgrade) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            return tracing::debug!(error = chain(&error), "a streaming connection was not upgraded");
        }
    };
    let result = match wanted {
        Wanted::PortForward(request) => forward(&core, &request, transport, upgraded).await,
        Wanted::Exec(request) => serve_process(core, Work::Exec(request), transport, upgraded).await,
        Wanted::Attach(request) => serve_process(core, Work::Attach(request), transport, upgraded).await,
    };
    if let Err(error) = result {
        tracing::debug!(error, "a stream");
    }
}

/// What a process stream does.
enum Work {
    Exec(ExecRequest),
    Attach(AttachRequest),
}

impl Work {
    fn shape(&self, protocol: &str) -> Shape {
        let (stdin, stdout, stderr, tty) = match self {
            Self::Exec(request) => (request.stdin, request.stdout, request.stderr, request.tty),
            Self::Attach(request) => (request.stdin, request.stdout, request.stderr, request.tty),
        };
        let status_object = protocol == "v4.channel.k8s.io";
        let resizes = status_object || protocol == "v3.channel.k8s.io";
        Shape {
            stdin,
            stdout,
            stderr,
            tty,
            status_object,
            resizes,
        }
    }

    fn start(self, core: Arc<Core>) -> channel::FarEnds {
        let (near, far) = channel::pair();
        match self {
            Self::Exec(request) => tokio::spawn(process::exec(core, request, near)),
            Self::Attach(request) => tokio::spawn(process::attach(core, request, near)),
        };
        far
    }
}

async fn serve_process(
    core: Arc<Core>,
    work: Work,
    transport: Transport,
    upgraded: Upgraded,
) -> Result<(), String> {
    match transport {
        Transport::WebSocket(_) => {
            let socket = websocket::open(upgraded).await;
            websocket::carry(socket, work.start(core))
                .await
                .map_err(|error| chain(&error))
        }
        Transport::Spdy(protocol) => {
            let shape = work.shape(protocol);
            let carried = spdy::process::carry(TokioIo::new(upgraded), shape, || work.start(core)).await;
            carried.map_err(|error| error.to_string())
        }
    }
}

async fn forward(
    core: &Core,
    request: &knode_cri::PortForwardRequest,
    transport: Transport,
    upgraded: Upgraded,
) -> Result<(), String> {
    let dialer = Arc::new(Dialer::new(core, request).map_err(|error| chain(&error))?);
    let carried = match transport {
        Transport::Spdy(_) => spdy::ports::carry(TokioIo::new(upgraded), dialer).await,
        Transport::WebSocket(_) => {
            let tunnel = websocket::tunnel(websocket::open(upgraded).await);
            spdy::ports::carry(tunnel, dialer).await
        }
    };
    carried.map_err(|error| error.to_string())
}
