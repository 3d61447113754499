//! Clients over real TLS: who they are, and what happens when that changes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use knode_client::{Access, Connected, Error, Material, RequestObserver, connect, from_kubeconfig};
use knode_pki::kubeconfig::Kubeconfig;
use knode_pki::{CertificateAuthority, Identity, Profile, Subject, SubjectAltNames, identity_from_der};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What the server saw of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    connection: usize,
    user: Option<String>,
    authorization: Option<String>,
    path: String,
    version: http::Version,
}

struct TestServer {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    ca: CertificateAuthority,
}

fn server_config(ca: &CertificateAuthority, issued: Timestamp) -> ServerConfig {
    let names = SubjectAltNames::new(vec!["api".to_owned()], vec!["127.0.0.1".parse().unwrap()]);
    let identity = ca
        .issue(&Profile::server(Subject::new("api", &[]), names, DAY), issued)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots
        .add(
            knode_pki::pem_certificates(ca.cert_pem())
                .unwrap()
                .remove(0)
                .into(),
        )
        .unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let chain = knode_pki::pem_certificates(&identity.cert_pem).unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
        .with_single_cert(chain.into_iter().map(Into::into).collect(), key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

async fn start() -> TestServer {
    let now = Timestamp::now();
    start_with(CertificateAuthority::create("ca", now).unwrap(), now).await
}

/// A server whose certificate was issued then.
async fn start_with(ca: CertificateAuthority, issued: Timestamp) -> TestServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::<Mutex<Vec<Seen>>>::default();
    tokio::spawn(serve(
        listener,
        TlsAcceptor::from(Arc::new(server_config(&ca, issued))),
        seen.clone(),
    ));
    TestServer { address, seen, ca }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, seen: Arc<Mutex<Vec<Seen>>>) {
    for connection in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, seen) = (acceptor.clone(), seen.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let leaf = stream
                .get_ref()
                .1
                .peer_certificates()
                .and_then(|list| list.first().cloned());
            let user = leaf.map(|leaf| identity_from_der(leaf.as_ref()).unwrap().0);
            let service = service_fn(move |request: Request<Incoming>| {
                let authorization = request.headers().get("authorization");
                seen.lock().unwrap().push(Seen {
                    connection,
                    user: user.clone(),
                    authorization: authorization.map(|value| value.to_str().unwrap().to_owned()),
                    path: request.uri().path().to_owned(),
                    version: request.version(),
                });
                let slow = request.uri().path() == "/slow";
                async move {
                    if slow {
                        tokio::time::sleep(Duration::from_millis(700)).await;
                    }
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"{}"))))
                }
            });
            // The client closing the connection is part of the test.
            let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl TestServer {
    fn access(&self) -> Access {
        Access {
            server: format!("https://{}", self.address),
            ca: Some(Material::Data(self.ca.cert_pem().to_owned())),
            ..Access::default()
        }
    }

    fn identity(&self, user: &str) -> Identity {
        self.ca
            .issue(&Profile::client(Subject::new(user, &[]), DAY), Timestamp::now())
            .unwrap()
    }

    fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().cloned().expect("a request came")
    }
}

async fn get(connected: &Connected, path: &str) -> Result<String, kube::Error> {
    connected
        .client
        .request_text(Request::get(path).body(Vec::new()).unwrap())
        .await
}

fn write_pair(dir: &Path, identity: &Identity) {
    let text = format!("{}{}", identity.cert_pem, identity.key_pem);
    knode_pki::files::write_atomic(&dir.join("current.pem"), text.as_bytes(), 0o600).unwrap();
}

#[tokio::test]
async fn one_connection_carries_all_requests_under_the_clients_name() {
    let server = start().await;
    let identity = server.identity("alice");
    let access = Access {
        client_cert: Some(Material::Data(identity.cert_pem)),
        client_key: Some(Material::Data(identity.key_pem)),
        ..server.access()
    };
    let connected = connect(&access).unwrap();
    for _ in 0..3 {
        assert_eq!(get(&connected, "/api/v1/pods?limit=1").await.unwrap(), "{}");
    }
    let seen = server.seen.lock().unwrap().clone();
    assert!(
        seen.iter()
            .all(|seen| seen.connection == 0 && seen.user.as_deref() == Some("alice")),
        "{seen:?}"
    );
    assert_eq!(seen[0].version, http::Version::HTTP_2);
    assert_eq!(seen[0].path, "/api/v1/pods");
}

#[tokio::test]
async fn a_replaced_certificate_shows_on_the_next_connection() {
    let server = start().await;
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path(), &server.identity("old"));
    let file = Material::File(dir.path().join("current.pem"));
    let access = Access {
        client_cert: Some(file.clone()),
        client_key: Some(file),
        ..server.access()
    };
    let kubeconfig = dir.path().join("kubeconfig");
    Kubeconfig::for_access(&access).write(&kubeconfig).unwrap();
    let connected = from_kubeconfig(&kubeconfig).unwrap();
    get(&connected, "/").await.unwrap();
    assert_eq!(server.last().user.as_deref(), Some("old"));
    let identity = connected.identity.clone().unwrap();
    assert!(!identity.reload().unwrap(), "nothing has changed yet");

    write_pair(dir.path(), &server.identity("new"));
    assert!(identity.reload().unwrap());
    assert_eq!(identity.certificate().unwrap().subject.common_name, "new");
    get(&connected, "/").await.unwrap();
    assert_eq!(server.last().user.as_deref(), Some("new"));
    assert_eq!(server.last().connection, 1);

    std::fs::write(dir.path().join("current.pem"), "garbage").unwrap();
    assert!(identity.reload().is_err());
    get(&connected, "/")
        .await
        .expect("the old certificate stays in use");
}

#[tokio::test]
async fn tokens_paths_and_server_names_are_applied() {
    let server = start().await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "abcdef.0123456789abcdef\n").unwrap();
    let access = Access {
        server: format!("https://127.0.0.1:{}/prefix/", server.address.port()),
        tls_server_name: Some("api".to_owned()),
        token: Some(Material::File(token)),
        ..server.access()
    };
    let connected = connect(&access).unwrap();
    get(&connected, "/healthz").await.unwrap();
    let last = server.last();
    assert_eq!(
        last.authorization.as_deref(),
        Some("Bearer abcdef.0123456789abcdef")
    );
    assert_eq!((last.path.as_str(), last.user), ("/prefix/healthz", None));
}

#[tokio::test]
async fn a_server_of_another_authority_or_name_is_not_trusted() {
    let server = start().await;
    let other = CertificateAuthority::create("ca", Timestamp::now()).unwrap();
    let access = Access {
        ca: Some(Material::Data(other.cert_pem().to_owned())),
        ..server.access()
    };
    assert!(get(&connect(&access).unwrap(), "/").await.is_err());
    let access = Access {
        tls_server_name: Some("elsewhere".to_owned()),
        ..server.access()
    };
    assert!(get(&connect(&access).unwrap(), "/").await.is_err());
    assert!(server.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn unusable_credentials_are_named_at_once() {
    let server = start().await;
    let without = Access {
        ca: None,
        ..server.access()
    };
    assert!(matches!(connect(&without), Err(Error::NoAuthority(_))));
    let url = Access {
        server: "ftp://x".to_owned(),
        ..server.access()
    };
    assert!(matches!(connect(&url), Err(Error::ServerUrl { .. })));
    let (one, other) = (server.identity("a"), server.identity("b"));
    let mixed = Access {
        client_cert: Some(Material::Data(one.cert_pem)),
        client_key: Some(Material::Data(other.key_pem)),
        ..server.access()
    };
    assert!(matches!(connect(&mixed), Err(Error::Certificate(_))));
    assert!(matches!(
        from_kubeconfig(Path::new("/nonexistent")),
        Err(Error::Credentials(_))
    ));
}

#[tokio::test]
async fn a_file_that_changes_is_taken_up_and_requests_under_way_are_answered() {
    let server = start().await;
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path(), &server.identity("old"));
    let file = Material::File(dir.path().join("current.pem"));
    let access = Access {
        client_cert: Some(file.clone()),
        client_key: Some(file),
        ..server.access()
    };
    let connected = connect(&access).unwrap();
    get(&connected, "/").await.unwrap();
    let slow = tokio::spawn({
        let connected = connected.clone();
        async move { get(&connected, "/slow").await }
    });
    while server.last().path != "/slow" {
        tokio::task::yield_now().await;
    }
    write_pair(dir.path(), &server.identity("new"));
    let taken_up = async {
        while server.last().user.as_deref() != Some("new") {
            get(&connected, "/").await.expect("no request fails meanwhile");
        }
    };
    let taken_up = tokio::time::timeout(Duration::from_secs(20), taken_up).await;
    taken_up.unwrap_or_else(|_| panic!("still {:?}", server.last()));
    slow.await
        .unwrap()
        .expect("the request that was under way is answered");
}

#[tokio::test]
async fn a_kubeconfig_that_is_written_anew_is_taken_up() {
    let server = start().await;
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("proxy.kubeconfig");
    let write = |user: &str| {
        let identity = server.identity(user);
        let access = Access {
            client_cert: Some(Material::Data(identity.cert_pem)),
            client_key: Some(Material::Data(identity.key_pem)),
            ..server.access()
        };
        Kubeconfig::for_access(&access).write(&kubeconfig).unwrap();
    };
    write("old");
    let connected = from_kubeconfig(&kubeconfig).unwrap();
    get(&connected, "/").await.unwrap();
    write("new");
    let taken_up = async {
        while server.last().user.as_deref() != Some("new") {
            get(&connected, "/").await.expect("no request fails meanwhile");
        }
    };
    let taken_up = tokio::time::timeout(Duration::from_secs(20), taken_up).await;
    taken_up.unwrap_or_else(|_| panic!("still {:?}", server.last()));
}

#[tokio::test]
async fn a_replaced_authority_is_believed_at_the_next_handshake() {
    let (one, two) = (start().await, start().await);
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, one.ca.cert_pem()).unwrap();
    let access = |server: &TestServer| Access {
        server: format!("https://{}", server.address),
        ca: Some(Material::File(ca.clone())),
        ..Access::default()
    };
    let (first, second) = (connect(&access(&one)).unwrap(), connect(&access(&two)).unwrap());
    get(&first, "/").await.unwrap();
    assert!(get(&second, "/").await.is_err());
    std::fs::write(&ca, format!("{}{}", two.ca.cert_pem(), one.ca.cert_pem())).unwrap();
    get(&second, "/").await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_between_client_and_server_is_said_in_words() {
    let now = Timestamp::now();
    let hour = jiff::SignedDuration::from_hours(1);
    let authority = || CertificateAuthority::create("ca", now).unwrap();
    let failure = async |access: Access| {
        let error = get(&connect(&access).unwrap(), "/").await.unwrap_err();
        knode_client::brief(&error)
    };
    let ahead = start_with(authority(), now + hour).await;
    let text = failure(ahead.access()).await;
    assert!(
        text.contains("begins at") && text.contains("set the clocks"),
        "{text}"
    );
    let ended = start_with(authority(), now - 25 * hour).await;
    let text = failure(ended.access()).await;
    assert!(
        text.contains("ended at") && text.contains("knode pki renew"),
        "{text}"
    );

    let server = start().await;
    let other = Access {
        ca: Some(Material::Data(authority().cert_pem().to_owned())),
        ..server.access()
    };
    let text = failure(other).await;
    assert!(
        text.contains("not signed by the authority that is known here"),
        "{text}"
    );
    let name = Access {
        tls_server_name: Some("elsewhere".to_owned()),
        ..server.access()
    };
    let text = failure(name).await;
    assert!(
        text.contains("does not name it") && text.contains("api"),
        "{text}"
    );

    let shown = |identity: Identity| Access {
        client_cert: Some(Material::Data(identity.cert_pem)),
        client_key: Some(Material::Data(identity.key_pem)),
        ..server.access()
    };
    let profile = Profile::client(Subject::new("late", &[]), DAY);
    let text = failure(shown(server.ca.issue(&profile, now - 25 * hour).unwrap())).await;
    assert!(
        text.contains("refuses this client's certificate because it has ended"),
        "{text}"
    );
    let text = failure(shown(authority().issue(&profile, now).unwrap())).await;
    assert!(
        text.contains("doesn't know the authority that signed it"),
        "{text}"
    );
    assert!(server.seen.lock().unwrap().is_empty());
}

/// Host, method and code of what was told.
#[derive(Default)]
struct Told(Mutex<Vec<(String, String, Option<u16>)>>);

impl RequestObserver for Told {
    fn answered(&self, host: &str, method: &str, code: Option<u16>, _: Duration) {
        let one = (host.to_owned(), method.to_owned(), code);
        self.0.lock().unwrap().push(one);
    }
}

#[tokio::test]
async fn an_observer_is_told_of_answers_and_of_their_lack() {
    let server = start().await;
    let connected = connect(&server.access()).unwrap();
    get(&connected, "/before").await.unwrap();
    let told = Arc::new(Told::default());
    connected.observe(told.clone());
    get(&connected, "/after").await.unwrap();
    let host = server.address.to_string();
    let get_of = |code| (host.clone(), "GET".to_owned(), code);
    assert_eq!(*told.0.lock().unwrap(), [get_of(Some(200))]);

    let other = CertificateAuthority::create("ca", Timestamp::now()).unwrap();
    let stranger = Access {
        ca: Some(Material::Data(other.cert_pem().to_owned())),
        ..server.access()
    };
    let connected = connect(&stranger).unwrap();
    connected.observe(told.clone());
    get(&connected, "/").await.unwrap_err();
    assert_eq!(told.0.lock().unwrap().last(), Some(&get_of(None)));
}
