//! Probes by the standard health service of gRPC (upstream: `pkg/probe/grpc/grpc.go`).

use std::io;
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use jiff::SignedDuration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::tcp;
use crate::model::{ProbeOutcome, go_duration};

const CHECK: PathAndQuery = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
const USER_AGENT: &str = "kube-probe/1.36";

/// `grpc.health.v1.HealthCheckRequest`
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    status: i32,
}

/// `grpc.health.v1.HealthCheckResponse.ServingStatus`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

impl ServingStatus {
    fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::ServiceUnknown => "SERVICE_UNKNOWN",
        }
    }
}

/// Asks for the health of `service`, of the server as a whole if that is empty.
pub(super) async fn probe(host: &str, port: u16, service: &str, limit: Duration) -> ProbeOutcome {
    let within = go_duration(SignedDuration::try_from(limit).unwrap_or_default());
    match timeout(limit, check(host, port, service, limit, &within)).await {
        Ok(outcome) => outcome,
        Err(_) => ProbeOutcome::Failure(format!("timeout: health rpc did not complete within {within}")),
    }
}

async fn check(host: &str, port: u16, service: &str, limit: Duration, within: &str) -> ProbeOutcome {
    let place = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    // What keeps the connection from coming about is told in the same words as by the other probes.
    let stream = match tcp::connect(host, port, limit).await {
        Ok(stream) => stream,
        Err(text) => {
            return ProbeOutcome::Failure(format!(
                "timeout: failed to connect service \"{place}\" within {within}: {text}"
            ));
        }
    };
    let channel = match channel(&place, stream).await {
        Ok(channel) => channel,
        Err(error) => {
            return ProbeOutcome::Failure(format!(
                "error: failed to connect service at \"{place}\": {error}"
            ));
        }
    };
    match ask(channel, service).await {
        Ok(ServingStatus::Serving) => ProbeOutcome::Success,
        Ok(other) => {
            ProbeOutcome::Failure(format!("service unhealthy (responded with \"{}\")", other.name()))
        }
        Err(status) => ProbeOutcome::Failure(refusal(&status, within)),
    }
}

/// A channel over this one connection.
async fn channel(place: &str, stream: TcpStream) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{place}"))?.user_agent(USER_AGENT)?;
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take();
        async { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    endpoint.connect_with_connector(connector).await
}

async fn ask(channel: Channel, service: &str) -> Result<ServingStatus, Status> {
    let mut client = Grpc::new(channel);
    client
        .ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let answer = client.unary(Request::new(request), CHECK, codec).await?;
    Ok(answer.into_inner().status())
}

fn refusal(status: &Status, within: &str) -> String {
    match status.code() {
        Code::Unimplemented => format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message()
        ),
        Code::DeadlineExceeded => format!("timeout: health rpc did not complete within {within}"),
        code => format!(
            "error: health rpc probe failed: rpc error: code = {code:?} desc = {}",
            status.message()
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::body::Frame;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    fn failure(outcome: ProbeOutcome) -> String {
        match outcome {
            ProbeOutcome::Failure(text) => text,
            other => panic!("no failure: {other:?}"),
        }
    }

    /// Serves one call with this body and this trailing status over plain HTTP/2.
    async fn server(status: Option<ServingStatus>, code: &'static str) -> u16 {
        use http_body_util::{BodyExt, StreamBody};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = move |request: http::Request<hyper::body::Incoming>| async move {
            let asked = request.into_body().collect().await.unwrap().to_bytes();
            let asked: HealthCheckRequest = prost::Message::decode(&asked[5..]).unwrap();
            assert_eq!(asked.service, "db");
            let mut frames = Vec::new();
            if let Some(status) = status {
                let message = HealthCheckResponse {
                    status: status as i32,
                };
                let bytes = prost::Message::encode_to_vec(&message);
                let mut framed = vec![0, 0, 0, 0, u8::try_from(bytes.len()).unwrap()];
                framed.extend(bytes);
                frames.push(Ok::<_, Infallible>(Frame::data(bytes::Bytes::from(framed))));
            }
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static(code));
            frames.push(Ok(Frame::trailers(trailers)));
            let body = StreamBody::new(futures::stream::iter(frames)).boxed_unsync();
            let answer = http::Response::builder().header("content-type", "application/grpc");
            Ok::<_, Infallible>(answer.body(body).unwrap())
        };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let io = hyper_util::rt::TokioIo::new(stream);
                let executor = hyper_util::rt::TokioExecutor::new();
                let service = hyper::service::service_fn(answer);
                let serving =
                    hyper::server::conn::http2::Builder::new(executor).serve_connection(io, service);
                tokio::spawn(async move { drop(serving.await) });
            }
        });
        port
    }

    #[tokio::test]
    async fn the_service_says_how_it_is() {
        let limit = Duration::from_secs(5);
        let good = server(Some(ServingStatus::Serving), "0").await;
        assert_eq!(probe("127.0.0.1", good, "db", limit).await, ProbeOutcome::Success);
        let bad = server(Some(ServingStatus::NotServing), "0").await;
        assert_eq!(
            failure(probe("127.0.0.1", bad, "db", limit).await),
            "service unhealthy (responded with \"NOT_SERVING\")"
        );
        let other = server(None, "12").await;
        let text = failure(probe("127.0.0.1", other, "db", limit).await);
        assert!(
            text.starts_with("error: this server does not implement the grpc health protocol"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn who_does_not_answer_fails_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut held = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                // Neither HTTP/2 nor an end.
                let mut greeting = [0; 3];
                let _ = stream.read(&mut greeting).await;
                held.push(stream);
            }
        });
        let text = failure(probe("127.0.0.1", port, "", Duration::from_millis(1100)).await);
        assert_eq!(text, "timeout: health rpc did not complete within 1s");
        let closed = {
            let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
            gone.local_addr().unwrap().port()
        };
        let text = failure(probe("127.0.0.1", closed, "", Duration::from_secs(2)).await);
        let wanted = format!(
            "timeout: failed to connect service \"127.0.0.1:{closed}\" within 2s: dial tcp 127.0.0.1:{closed}: connect: connection refused"
        );
        assert_eq!(text, wanted);
    }
}
