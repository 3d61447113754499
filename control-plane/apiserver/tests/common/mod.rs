//! A server of one's own for each test.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use knode_apiserver::{ApiServer, ApiServerConfig, Body, Credentials, NodeBindings, TlsIdentity, UserInfo};
use knode_pki::{ApiServerSans, ControlPlanePki, IdentityFile};
use knode_store::Store;
use serde_json::Value;
use tower::Service;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A directory that goes away with the value.
pub struct Scratch(pub PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // A directory left behind does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server with its store and certificates.
pub struct Server {
    pub api: ApiServer,
    pub store: Store,
    pub pki: ControlPlanePki,
    pub dir: Scratch,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: http::HeaderMap,
    pub bytes: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| Value::String(self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .collect()
    }
}

pub fn scratch() -> Scratch {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("knode-apiserver-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a scratch directory");
    Scratch(path)
}

pub fn pki(dir: &Scratch) -> ControlPlanePki {
    let sans = ApiServerSans {
        service_ip: [10, 96, 0, 1].into(),
        node_ips: vec![[127, 0, 0, 1].into()],
        dns: vec![],
        cluster_domain: "cluster.local".to_owned(),
    };
    ControlPlanePki::ensure(&dir.0.join("pki"), &sans, jiff::Timestamp::now()).expect("certificates")
}

pub fn config(pki: &ControlPlanePki) -> ApiServerConfig {
    let tls = |file: &IdentityFile| TlsIdentity {
        cert_pem: file.identity.cert_pem.clone(),
        key_pem: file.identity.key_pem.clone(),
    };
    ApiServerConfig {
        credentials: Credentials {
            tls: tls(&pki.apiserver),
            client_ca_pem: pki.ca.cert_pem().to_owned(),
            kubelet_client: tls(&pki.kubelet_client),
        },
        node_bindings: NodeBindings::default(),
        service_account_key: Arc::new(pki.service_account.clone()),
        issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
        service_cidrs: vec!["10.96.0.0/16".parse().expect("a network")],
        node_port_range: 30000..=32767,
        advertise: SocketAddr::from(([10, 99, 0, 1], 6443)),
        static_tokens: Default::default(),
    }
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// With another configuration than the usual one.
    pub async fn start_with(change: impl FnOnce(&mut ApiServerConfig)) -> Self {
        let dir = scratch();
        let pki = pki(&dir);
        let store = Store::open(dir.0.join("state.db")).await.expect("a store");
        let mut config = config(&pki);
        change(&mut config);
        let api = ApiServer::start(config, store.clone()).await.expect("a server");
        Self { api, store, pki, dir }
    }

    /// A request as this user.
    pub async fn open(&self, user: &UserInfo, request: Request<Full<Bytes>>) -> Response<Body> {
        let mut service = self.api.service(user.clone());
        match service.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    pub async fn send(&self, user: &UserInfo, request: Request<Full<Bytes>>) -> Answer {
        let (parts, body) = self.open(user, request).await.into_parts();
        let bytes = body.collect().await.expect("a whole answer").to_bytes();
        Answer {
            code: parts.status.as_u16(),
            headers: parts.headers,
            bytes,
        }
    }

    /// A request as the administrator, with a JSON body unless it is null.
    pub async fn admin(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.send(&admin(), request(method, path, body)).await
    }

    /// Creates an object, which must work.
    pub async fn create(&self, path: &str, body: Value) -> Value {
        let answer = self.admin("POST", path, &body).await;
        assert_eq!(answer.code, 201, "{}", answer.text());
        answer.json()
    }

    /// A namespace with the service account that new pods need.
    pub async fn namespace(&self, name: &str) {
        let object = serde_json::json!({"metadata": {"name": name}});
        self.create("/api/v1/namespaces", object).await;
        let account = serde_json::json!({"metadata": {"name": "default"}});
        self.create(&format!("/api/v1/namespaces/{name}/serviceaccounts"), account)
            .await;
    }
}

pub fn admin() -> UserInfo {
    UserInfo::new("admin", ["system:masters"])
}

pub fn node(name: &str) -> UserInfo {
    UserInfo::new(format!("system:node:{name}"), ["system:nodes"])
}

pub fn request(method: &str, path: &str, body: &Value) -> Request<Full<Bytes>> {
    let bytes = if body.is_null() {
        Bytes::new()
    } else {
        body.to_string().into()
    };
    let content_type = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type)
        .header("accept", "application/json")
        .body(Full::new(bytes))
        .expect("a request")
}
