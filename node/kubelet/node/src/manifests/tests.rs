use jiff::Timestamp;
use knode_pki::{CertificateAuthority, Profile, Subject, SubjectAltNames};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Answers one request with this text, and says what it was asked.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str) -> String {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        asked.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    String::from_utf8(asked).unwrap()
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn why(error: &Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    format!("{error}: {}", source.unwrap_or_default())
}

#[tokio::test]
async fn manifests_are_asked_for_with_the_headers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/pods?of=1", listener.local_addr().unwrap());
    let headers = BTreeMap::from([("X-Key".to_owned(), vec!["one".to_owned(), "two".to_owned()])]);
    let source = ManifestUrl::new(&url, &headers).unwrap();
    let served = async {
        let asked = answer(listener.accept().await.unwrap().0, &ok("kind: Pod")).await;
        let refused = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 1\r\n\r\n-";
        answer(listener.accept().await.unwrap().0, refused).await;
        asked
    };
    let fetched = async { (source.fetch().await, source.fetch().await) };
    let (asked, (first, second)) = tokio::join!(served, fetched);
    assert_eq!(first.unwrap(), "kind: Pod");
    let asked = asked.to_lowercase();
    assert!(asked.starts_with("get /pods?of=1 http/1.1\r\n"), "{asked}");
    for line in ["x-key: one\r\n", "x-key: two\r\n", "host: 127.0.0.1:"] {
        assert!(asked.contains(line), "no {line:?} in {asked}");
    }
    let error = why(&second.unwrap_err());
    assert!(error.contains("503 Service Unavailable"), "{error}");
}

#[tokio::test]
async fn servers_are_verified() {
    let now = Timestamp::now();
    let ca = CertificateAuthority::create("own", now).unwrap();
    let names = SubjectAltNames::new(Vec::new(), vec!["127.0.0.1".parse().unwrap()]);
    let profile = Profile::server(Subject::new("s", &[]), names, Duration::from_secs(3600));
    let identity = ca.issue(&profile, now).unwrap();
    let certificates = |pem: &str| knode_pki::pem_certificates(pem).unwrap();
    let chain = certificates(&identity.cert_pem)
        .into_iter()
        .map(Into::into)
        .collect();
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let mut roots = RootCertStore::empty();
    roots.add(certificates(ca.cert_pem()).remove(0).into()).unwrap();
    let served = async {
        for _ in 0..2 {
            if let Ok(stream) = acceptor.accept(listener.accept().await.unwrap().0).await {
                answer(stream, &ok("kind: Pod")).await;
            }
        }
    };
    let none = BTreeMap::new();
    let known = ManifestUrl::with(&url, &none, || roots).unwrap();
    let foreign = ManifestUrl::with(&url, &none, RootCertStore::empty).unwrap();
    let fetched = async { (known.fetch().await, foreign.fetch().await) };
    let ((), (known, foreign)) = tokio::join!(served, fetched);
    assert_eq!(known.unwrap(), "kind: Pod");
    let error = why(&foreign.unwrap_err());
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[test]
fn what_is_no_url_is_refused() {
    let none = BTreeMap::new();
    for (url, says) in [
        ("ftp://host/", "only http and https"),
        ("/etc/pods", "only http and https"),
        ("http://me:secret@host/", "staticPodURLHeader"),
        ("http://", "no URL"),
    ] {
        let error = ManifestUrl::new(url, &none).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let bad = BTreeMap::from([("a b".to_owned(), vec!["c".to_owned()])]);
    assert!(ManifestUrl::new("http://host/", &bad).is_err());
}
