//! Logs, tunnels and whatever else goes through this server to a node's kubelet.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::Server;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use knode_apiserver::ApiServer;
use knode_pki::{Profile, Subject, SubjectAltNames};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A kubelet that says what it was asked, and echoes bytes after an upgrade.
async fn kubelet(server: &Server) -> SocketAddr {
    let names = SubjectAltNames::new(vec![], vec![[127, 0, 0, 1].into()]);
    let profile = Profile::server(
        Subject::new("system:node:n", &["system:nodes"]),
        names,
        Duration::from_secs(86_400),
    );
    let identity = server
        .pki
        .ca
        .issue(&profile, jiff::Timestamp::now())
        .expect("a certificate");
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(server.pki.ca.cert_pem().as_bytes()).expect("PEM"))
        .expect("a CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(
            CertificateDer::pem_slice_iter(identity.cert_pem.as_bytes())
                .map(|c| c.expect("PEM"))
                .collect(),
            PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).expect("PEM"),
        )
        .expect("an identity");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let stream = acceptor
                    .accept(stream)
                    .await
                    .expect("a client with a certificate");
                let service = hyper::service::service_fn(answer);
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                // Connections end as their clients like.
                drop(connection.with_upgrades().await);
            });
        }
    });
    address
}

async fn answer(
    mut request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let asked = format!("{} {}", request.method(), request.uri());
    let mut response = Response::new(Full::new(Bytes::from(asked)));
    if request.headers().contains_key("upgrade") {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for name in ["upgrade", "connection"] {
            response
                .headers_mut()
                .insert(name, request.headers()[name].clone());
        }
        let asked = request.uri().to_string();
        tokio::spawn(async move {
            let mut stream = TokioIo::new(hyper::upgrade::on(&mut request).await.expect("an upgrade"));
            stream.write_all(asked.as_bytes()).await.expect("a write");
            let mut buffer = [0; 64];
            while let Ok(read) = stream.read(&mut buffer).await {
                if read == 0 || stream.write_all(&buffer[..read]).await.is_err() {
                    break;
                }
            }
        });
    } else if request.uri().path().ends_with("/gone") {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        *response.body_mut() = Full::new(Bytes::from_static(
            b"previous terminated container \"c\" in pod \"p\" not found",
        ));
    }
    Ok(response)
}

/// A server with a pod on a node with such a kubelet.
async fn start() -> Server {
    let server = Server::start().await;
    server.namespace("ns").await;
    let kubelet = kubelet(&server).await;
    server
        .create("/api/v1/nodes", json!({"metadata": {"name": "n"}}))
        .await;
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port()}}}});
    let answer = server.admin("PATCH", "/api/v1/nodes/n/status", &status).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    let containers = json!([{"name": "c", "image": "i"}, {"name": "gone", "image": "i"}]);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": containers}});
    server.create("/api/v1/namespaces/ns/pods", pod).await;
    server
}

#[tokio::test]
async fn logs_come_from_the_kubelet_with_its_refusals() {
    let server = start().await;
    let log = |query: &'static str| {
        let path = format!("/api/v1/namespaces/ns/pods/p/log{query}");
        let server = &server;
        async move { server.admin("GET", &path, &Value::Null).await }
    };
    let answer = log("?container=c&tailLines=5&timestamps=true").await;
    assert_eq!(
        (answer.code, answer.text().as_str()),
        (200, "GET /containerLogs/ns/p/c?timestamps=true&tailLines=5")
    );
    let answer = log("").await;
    let wanted = "a container name must be specified for pod p, choose one of: [c gone]";
    assert_eq!(
        (answer.code, answer.json()["message"].as_str()),
        (400, Some(wanted))
    );
    let answer = log("?container=no").await;
    assert_eq!(answer.json()["message"], "container no is not valid for pod p");
    let answer = log("?container=gone").await;
    let wanted = "previous terminated container \"c\" in pod \"p\" not found";
    assert_eq!(
        (answer.code, answer.json()["message"].as_str()),
        (400, Some(wanted))
    );
}

#[tokio::test]
async fn a_node_s_kubelet_can_be_asked_anything() {
    let server = start().await;
    let answer = server
        .admin(
            "GET",
            "/api/v1/nodes/n/proxy/stats/summary?only=cpu",
            &Value::Null,
        )
        .await;
    assert_eq!(
        (answer.code, answer.text().as_str()),
        (200, "GET /stats/summary?only=cpu")
    );
    let answer = server
        .admin("GET", "/api/v1/nodes/none/proxy/pods", &Value::Null)
        .await;
    assert_eq!(answer.code, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exec_is_a_tunnel_both_ways() {
    let server = start().await;
    let listener = ApiServer::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let api = server.api.clone();
    tokio::spawn(async move { api.serve(listener, std::future::pending()).await });
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(server.pki.ca.cert_pem().as_bytes()).expect("PEM"))
        .expect("a CA");
    let admin = &server.pki.admin.identity;
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(
            CertificateDer::pem_slice_iter(admin.cert_pem.as_bytes())
                .map(|c| c.expect("PEM"))
                .collect(),
            PrivateKeyDer::from_pem_slice(admin.key_pem.as_bytes()).expect("PEM"),
        )
        .expect("an identity");
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("a connection");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let stream = connector
        .connect(ServerName::IpAddress(address.ip().into()), stream)
        .await
        .expect("TLS");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("HTTP");
    tokio::spawn(connection.with_upgrades());
    let path =
        "/api/v1/namespaces/ns/pods/p/exec?command=echo&command=a+b&container=c&stdin=true&stdout=true";
    let request = Request::builder()
        .method("POST")
        .uri(path)
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1")
        .body(Full::new(Bytes::new()))
        .expect("a request");
    let mut response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "SPDY/3.1");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.expect("an upgrade"));
    stream.write_all(b" hello").await.expect("a write");
    let wanted = "/exec/ns/p/c?command=echo&command=a%20b&input=1&output=1 hello";
    let mut seen = vec![0; wanted.len()];
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut seen)).await;
    read.expect("an echo in time").expect("an echo");
    assert_eq!(String::from_utf8_lossy(&seen), wanted);
}

#[tokio::test]
async fn an_exec_without_an_upgrade_is_refused() {
    let server = start().await;
    let answer = server
        .admin(
            "POST",
            "/api/v1/namespaces/ns/pods/p/exec?command=x&container=c&stdout=1",
            &Value::Null,
        )
        .await;
    assert_eq!(
        (answer.code, answer.json()["message"].as_str()),
        (400, Some("Upgrade request required"))
    );
}
