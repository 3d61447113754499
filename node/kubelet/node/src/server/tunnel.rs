//! Passing a request on to the runtime's streaming server, and its connection byte for byte.

use http::header::{CONNECTION, HOST, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::body::{Answer, full, text};

/// Meant for the kubelet, not for what is behind it.
const OWN: HeaderName = http::header::AUTHORIZATION;

/// Sends the request to `url`; if that switches protocols, so do we, and then copy both ways until one side ends.
pub(super) async fn tunnel(url: &str, mut request: Request<Incoming>) -> Answer {
    let upgraded_client = hyper::upgrade::on(&mut request);
    let upstream = match forward(url, &request).await {
        Ok(answer) => answer,
        Err(reason) => {
            tracing::warn!(reason, "runtime's streaming server cannot be reached");
            return text(
                StatusCode::BAD_GATEWAY,
                format!("cannot reach the runtime's streaming server: {reason}"),
            );
        }
    };
    if upstream.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (parts, body) = upstream.into_parts();
        return Response::from_parts(parts, body.map_err(std::io::Error::other).boxed_unsync());
    }
    let mut answer = full(StatusCode::SWITCHING_PROTOCOLS, super::body::TEXT, "");
    *answer.headers_mut() = upstream.headers().clone();
    let upgraded_upstream = hyper::upgrade::on(upstream);
    tokio::spawn(async move {
        let (client, upstream) = match tokio::try_join!(upgraded_client, upgraded_upstream) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "stream was not upgraded"),
        };
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut upstream).await {
            tracing::debug!(%error, "stream ended");
        }
    });
    answer
}

async fn forward(url: &str, request: &Request<Incoming>) -> Result<Response<Incoming>, String> {
    let uri: Uri = url.parse().map_err(|error| format!("{url:?}: {error}"))?;
    if uri.scheme_str() != Some("http") {
        return Err(format!("{url:?}: only http is supported"));
    }
    let authority = uri.authority().ok_or_else(|| format!("{url:?} names no host"))?;
    let address = (authority.host().to_owned(), authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| format!("{authority}: {error}"))?;
    // Interactive sessions are many small writes.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to the runtime's streaming server ended");
        }
    });
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut onward = Request::new(http_body_util::Empty::<bytes::Bytes>::new());
    *onward.method_mut() = request.method().clone();
    *onward.uri_mut() = path.parse().map_err(|error| format!("{path:?}: {error}"))?;
    *onward.headers_mut() = onward_headers(request.headers());
    let host = HeaderValue::from_str(authority.as_str()).map_err(|error| error.to_string())?;
    onward.headers_mut().insert(HOST, host);
    sender
        .send_request(onward)
        .await
        .map_err(|error| error.to_string())
}

fn onward_headers(headers: &HeaderMap) -> HeaderMap {
    let mut onward = headers.clone();
    onward.remove(OWN);
    onward.remove(http::header::CONTENT_LENGTH);
    onward.remove(http::header::TRANSFER_ENCODING);
    if onward.contains_key(http::header::UPGRADE) {
        onward.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    onward
}
