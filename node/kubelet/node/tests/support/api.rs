//! An API server: TLS, certificates and a bootstrap token, objects with versions, watches, and a signer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use knode_client::{Access, Material};
use knode_pki::kubeconfig::Kubeconfig;
use knode_pki::{
    CertificateAuthority, Identity, Profile, SigningRequest, Subject, SubjectAltNames, Usage,
    identity_from_der,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::merge::merge;

pub const TOKEN: &str = "abcdef.0123456789abcdef";
pub const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const DAY: Duration = Duration::from_secs(24 * 3600);
const COLLECTIONS: [&str; 7] = [
    "certificatesigningrequests",
    "nodes",
    "csinodes",
    "leases",
    "events",
    "tokenreviews",
    "subjectaccessreviews",
];

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// A request as the server got it.
#[derive(Clone, Debug, PartialEq)]
pub struct Logged {
    pub method: String,
    pub path: String,
    pub query: String,
    pub user: String,
    pub body: Value,
}

struct Watcher {
    collection: String,
    name: Option<String>,
    sender: mpsc::UnboundedSender<Bytes>,
}

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<String, Value>,
    watchers: Vec<Watcher>,
    log: Vec<Logged>,
    /// Users that may do everything with the kubelet.
    allowed: Vec<String>,
}

pub struct Api {
    pub address: SocketAddr,
    pub ca: CertificateAuthority,
    state: Mutex<State>,
}

impl Api {
    pub async fn start() -> Arc<Self> {
        let ca = CertificateAuthority::create("kubernetes", Timestamp::now()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls(&ca)));
        let api = Arc::new(Self {
            address,
            ca,
            state: Mutex::default(),
        });
        tokio::spawn(serve(listener, acceptor, api.clone()));
        api
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn access(&self) -> Access {
        Access {
            server: format!("https://{}", self.address),
            ca: Some(Material::Data(self.ca.cert_pem().to_owned())),
            ..Access::default()
        }
    }

    pub fn write_bootstrap(&self, path: &Path) {
        let access = Access {
            token: Some(Material::Data(TOKEN.to_owned())),
            ..self.access()
        };
        Kubeconfig::for_access(&access).write(path).unwrap();
    }

    pub fn identity(&self, user: &str, groups: &[&str]) -> Identity {
        self.ca
            .issue(
                &Profile::client(Subject::new(user, groups), DAY),
                Timestamp::now(),
            )
            .unwrap()
    }

    pub fn allow(&self, user: &str) {
        self.state().allowed.push(user.to_owned());
    }

    pub fn log(&self) -> Vec<Logged> {
        self.state().log.clone()
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    /// The objects below a collection whose body holds `text`.
    pub fn find(&self, collection: &str, text: &str) -> Vec<Value> {
        let prefix = format!("{collection}/");
        let state = self.state();
        let below = state.objects.iter().filter(|(path, _)| path.starts_with(&prefix));
        below
            .map(|(_, object)| object.clone())
            .filter(|object| object.to_string().contains(text))
            .collect()
    }

    pub fn put(&self, path: &str, object: Value) {
        self.state().put(path, object, "MODIFIED");
    }

    pub fn delete(&self, path: &str) {
        let mut state = self.state();
        let object = state.objects.remove(path).expect("there");
        state.version += 1;
        state.notify(path, "DELETED", &object);
    }

    /// Approves and signs a request.
    pub fn sign(&self, name: &str) {
        let path = format!("{REQUESTS}/{name}");
        let mut object = self.get(&path).expect("the request is there");
        let pem = decode(object["spec"]["request"].as_str().unwrap());
        let request = SigningRequest::parse(&pem).unwrap();
        let usages = object["spec"]["usages"].as_array().unwrap().iter();
        let usages: Vec<Usage> = usages
            .map(|usage| usage.as_str().unwrap().parse().unwrap())
            .collect();
        let certificate = self
            .ca
            .sign_request(&request, &usages, DAY, Timestamp::now())
            .unwrap();
        object["status"] = json!({
            "conditions": [{"type": "Approved", "status": "True", "reason": "AutoApproved", "message": "yes"}],
            "certificate": encode(&certificate),
        });
        self.put(&path, object);
    }

    pub fn deny(&self, name: &str) {
        let path = format!("{REQUESTS}/{name}");
        let mut object = self.get(&path).expect("the request is there");
        let condition = json!({"type": "Denied", "status": "True", "reason": "No", "message": "not you"});
        object["status"] = json!({"conditions": [condition]});
        self.put(&path, object);
    }
}

pub fn encode(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

pub fn decode(text: &str) -> String {
    use base64::Engine;
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap()
}

fn tls(ca: &CertificateAuthority) -> ServerConfig {
    let names = SubjectAltNames::new(Vec::new(), vec!["127.0.0.1".parse().unwrap()]);
    let identity = ca
        .issue(
            &Profile::server(Subject::new("api", &[]), names, DAY),
            Timestamp::now(),
        )
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
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, api: Arc<Api>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, api) = (acceptor.clone(), api.clone());
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
                let (api, user) = (api.clone(), user.clone());
                async move { Ok::<_, Infallible>(handle(&api, user, request).await) }
            });
            // Clients close connections when their certificate changes.
            let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn handle(api: &Api, user: Option<String>, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let token = parts
        .headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    let token = token.filter(|value| *value == format!("Bearer {TOKEN}"));
    let Some(user) = user.or(token.map(|_| "system:bootstrap:abcdef".to_owned())) else {
        return status(StatusCode::UNAUTHORIZED, "Unauthorized");
    };
    let logged = Logged {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        user,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    api.state().answer(logged, &parts.method)
}

impl State {
    fn answer(&mut self, request: Logged, method: &Method) -> Answer {
        self.log.push(request.clone());
        let path = request.path.trim_end_matches("/status").to_owned();
        let kind = path.rsplit('/').next().unwrap_or_default();
        let is_collection = COLLECTIONS.contains(&kind);
        match (method.as_str(), kind) {
            ("POST", "tokenreviews") => self.review_token(request.body),
            ("POST", "subjectaccessreviews") => self.review_access(request.body),
            ("POST", _) => self.create(&path, request),
            ("GET", _) if is_collection && request.query.contains("watch=true") => {
                self.watch(path, &request.query)
            }
            ("GET", _) => self.found(&path),
            ("PUT", _) => self.replace(&path, request.body),
            ("PATCH", _) => self.patch(&path, &request.body),
            _ => status(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }

    fn review_token(&self, mut review: Value) -> Answer {
        let known = review["spec"]["token"] == "good";
        review["status"] = if known {
            json!({"authenticated": true, "user": {"username": "robot", "groups": ["system:authenticated"]}})
        } else {
            json!({"authenticated": false, "error": "invalid bearer token"})
        };
        json_answer(StatusCode::CREATED, &review)
    }

    fn review_access(&self, mut review: Value) -> Answer {
        let user = review["spec"]["user"].as_str().unwrap_or_default();
        review["status"] = json!({"allowed": self.allowed.iter().any(|allowed| allowed == user)});
        json_answer(StatusCode::CREATED, &review)
    }

    fn create(&mut self, collection: &str, request: Logged) -> Answer {
        let mut object = request.body;
        let metadata = object["metadata"].clone();
        let made = || {
            format!(
                "{}{}",
                metadata["generateName"].as_str().unwrap_or_default(),
                self.version
            )
        };
        let name = metadata["name"].as_str().map_or_else(made, str::to_owned);
        let path = format!("{collection}/{name}");
        if self.objects.contains_key(&path) {
            return status(StatusCode::CONFLICT, "AlreadyExists");
        }
        object["metadata"]["name"] = json!(name);
        object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        object["spec"]["username"] = json!(request.user);
        if collection != REQUESTS {
            object["spec"].as_object_mut().unwrap().remove("username");
        }
        let object = self.put(&path, object, "ADDED");
        json_answer(StatusCode::CREATED, &object)
    }

    fn put(&mut self, path: &str, mut object: Value, kind: &str) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        self.notify(path, kind, &object);
        object
    }

    fn notify(&mut self, path: &str, kind: &str, object: &Value) {
        let (collection, name) = path.rsplit_once('/').unwrap();
        let line = Bytes::from(format!("{}\n", json!({"type": kind, "object": object})));
        self.watchers.retain(|watcher| {
            let concerned = watcher.collection == collection
                && watcher.name.as_deref().is_none_or(|wanted| wanted == name);
            !concerned || watcher.sender.send(line.clone()).is_ok()
        });
    }

    fn watch(&mut self, collection: String, query: &str) -> Answer {
        let name = query
            .split('&')
            .find_map(|part| part.strip_prefix("fieldSelector=metadata.name%3D"));
        let name = name.map(str::to_owned);
        let (sender, receiver) = mpsc::unbounded_channel();
        if query.contains("sendInitialEvents=true") {
            let prefix = format!("{collection}/");
            let wanted = |path: &str| {
                path.strip_prefix(&prefix)
                    .is_some_and(|found| name.as_deref().is_none_or(|name| name == found))
            };
            for (_, object) in self.objects.iter().filter(|(path, _)| wanted(path)) {
                let line = format!("{}\n", json!({"type": "ADDED", "object": object}));
                sender.send(Bytes::from(line)).unwrap();
            }
            let end = json!({"type": "BOOKMARK", "object": {"kind": "Any", "apiVersion": "v1", "metadata": {
                "resourceVersion": self.version.to_string(),
                "annotations": {"k8s.io/initial-events-end": "true"},
            }}});
            sender.send(Bytes::from(format!("{end}\n"))).unwrap();
        }
        self.watchers.push(Watcher {
            collection,
            name,
            sender,
        });
        let frames = futures::stream::unfold(receiver, |mut receiver| async {
            receiver
                .recv()
                .await
                .map(|bytes| (Ok(http_body::Frame::data(bytes)), receiver))
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }

    fn found(&self, path: &str) -> Answer {
        match self.objects.get(path) {
            Some(object) => json_answer(StatusCode::OK, object),
            None => status(StatusCode::NOT_FOUND, "NotFound"),
        }
    }

    fn replace(&mut self, path: &str, object: Value) -> Answer {
        let Some(existing) = self.objects.get(path) else {
            return status(StatusCode::NOT_FOUND, "NotFound");
        };
        if existing["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
            return status(StatusCode::CONFLICT, "Conflict");
        }
        let object = self.put(path, object, "MODIFIED");
        json_answer(StatusCode::OK, &object)
    }

    fn patch(&mut self, path: &str, patch: &Value) -> Answer {
        let Some(existing) = self.objects.get(path) else {
            return status(StatusCode::NOT_FOUND, "NotFound");
        };
        let mut object = existing.clone();
        merge(&mut object, patch);
        let object = self.put(path, object, "MODIFIED");
        json_answer(StatusCode::OK, &object)
    }
}

fn json_answer(code: StatusCode, value: &Value) -> Answer {
    let body = Full::new(Bytes::from(value.to_string()))
        .map_err(|never| match never {})
        .boxed_unsync();
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

fn status(code: StatusCode, reason: &str) -> Answer {
    json_answer(
        code,
        &json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": reason, "reason": reason, "code": code.as_u16(),
        }),
    )
}
