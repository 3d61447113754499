//! Who may come in, over TLS, and what he may do then.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use common::{Answer, Server};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use knode_apiserver::{ApiServer, Credentials, NodeBindings, TlsIdentity, UserInfo};
use knode_pki::{BootstrapToken, CertificateAuthority, Identity, Profile, Subject, SubjectAltNames};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// A server that listens on loopback.
struct Listening {
    server: Server,
    address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

async fn listen() -> Listening {
    let server = Server::start().await;
    let listener = ApiServer::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (end, ended) = oneshot::channel::<()>();
    let api = server.api.clone();
    let task = tokio::spawn(async move {
        // Whether the sender speaks or goes, it is the end.
        api.serve(listener, async move { drop(ended.await) }).await;
    });
    Listening {
        server,
        address,
        end: Some(end),
        task,
    }
}

impl Listening {
    fn tls(&self, identity: Option<&Identity>) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.server.pki.ca.cert_pem().as_bytes()).expect("PEM"))
            .expect("a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = CertificateDer::pem_slice_iter(identity.cert_pem.as_bytes())
                    .map(|c| c.expect("PEM"))
                    .collect();
                let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("an identity")
            }
        }
    }

    /// A connection that stays open, and the certificate that the server has shown.
    async fn open(
        &self,
        identity: Option<&Identity>,
    ) -> (hyper::client::conn::http1::SendRequest<Full<Bytes>>, Vec<u8>) {
        let stream = tokio::net::TcpStream::connect(self.address)
            .await
            .expect("a connection");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(self.tls(identity)));
        let name = ServerName::IpAddress(self.address.ip().into());
        let stream = connector.connect(name, stream).await.expect("TLS");
        let shown = stream.get_ref().1.peer_certificates().expect("a certificate")[0].to_vec();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("HTTP");
        tokio::spawn(connection);
        (sender, shown)
    }

    async fn send(&self, identity: Option<&Identity>, request: Request<Full<Bytes>>) -> Answer {
        let stream = tokio::net::TcpStream::connect(self.address)
            .await
            .expect("a connection");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(self.tls(identity)));
        let name = ServerName::IpAddress(self.address.ip().into());
        let stream = connector.connect(name, stream).await.expect("TLS");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("HTTP");
        let task = tokio::spawn(connection);
        let (parts, body) = sender
            .send_request(request)
            .await
            .expect("an answer")
            .into_parts();
        let bytes = body.collect().await.expect("a whole answer").to_bytes();
        task.abort();
        Answer {
            code: parts.status.as_u16(),
            headers: parts.headers,
            bytes,
        }
    }

    async fn get(&self, identity: Option<&Identity>, token: Option<&str>, path: &str) -> Answer {
        let mut request = common::request("GET", path, &Value::Null);
        request
            .headers_mut()
            .insert("host", "localhost".parse().expect("a host"));
        if let Some(token) = token {
            request.headers_mut().insert(
                "authorization",
                format!("Bearer {token}").parse().expect("a token"),
            );
        }
        self.send(identity, request).await
    }

    fn identity(&self, name: &str, groups: &[&str]) -> Identity {
        let day = std::time::Duration::from_secs(86_400);
        let profile = Profile::client(Subject::new(name, groups), day);
        self.server
            .pki
            .ca
            .issue(&profile, jiff::Timestamp::now())
            .expect("a certificate")
    }
}

/// What a server shows and whom it believes, with these certificates.
fn credentials(ca: &CertificateAuthority, trusted: &str) -> Credentials {
    let day = std::time::Duration::from_secs(86_400);
    let names = SubjectAltNames::new(Vec::new(), vec![[127, 0, 0, 1].into()]);
    let tls = |profile: Profile| {
        let identity = ca.issue(&profile, jiff::Timestamp::now()).expect("a certificate");
        TlsIdentity {
            cert_pem: identity.cert_pem,
            key_pem: identity.key_pem,
        }
    };
    Credentials {
        tls: tls(Profile::server(Subject::new("kube-apiserver", &[]), names, day)),
        client_ca_pem: trusted.to_owned(),
        kubelet_client: tls(Profile::client(
            Subject::new("kube-apiserver-kubelet-client", &[]),
            day,
        )),
    }
}

async fn code(sender: &mut hyper::client::conn::http1::SendRequest<Full<Bytes>>) -> u16 {
    let mut request = common::request("GET", "/api/v1/namespaces", &Value::Null);
    request
        .headers_mut()
        .insert("host", "localhost".parse().expect("a host"));
    let answer = sender.send_request(request).await.expect("an answer");
    let code = answer.status().as_u16();
    answer.into_body().collect().await.expect("a whole answer");
    code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_authorities_are_replaced_under_open_connections() {
    let listening = listen().await;
    let old = listening.server.pki.ca.clone();
    let admin = listening.server.pki.admin.identity.clone();
    let (mut before, first) = listening.open(Some(&admin)).await;
    assert_eq!(code(&mut before).await, 200);

    // Another key for the authority: who knows only the old one believes the server, and is believed.
    let new = old
        .succeeded(std::time::Duration::from_secs(86_400), jiff::Timestamp::now())
        .expect("an authority");
    listening
        .server
        .api
        .renew(&credentials(&new, new.cert_pem()))
        .expect("good certificates");
    assert_eq!(code(&mut before).await, 200, "the connection goes on");
    let (mut after, second) = listening.open(Some(&admin)).await;
    assert_ne!(first, second, "another certificate is shown");
    assert_eq!(code(&mut after).await, 200);

    // The old authority is not believed any more, also on connections that are there.
    let own = knode_pki::Certificate::from_pem(new.cert_pem()).expect("PEM");
    assert_eq!(own.public_key_hash(), new.public_key_hash());
    let end = new.cert_pem().find(old.cert_pem()).expect("both are in it");
    let mut only_new = credentials(&new, &new.cert_pem()[..end]);
    listening.server.api.renew(&only_new).expect("good certificates");
    assert_eq!((code(&mut before).await, code(&mut after).await), (401, 401));

    // What cannot be used changes nothing.
    only_new.client_ca_pem = "garbage".into();
    assert!(listening.server.api.renew(&only_new).is_err());
    let (mut nobody, _) = listening.open(None).await;
    assert_eq!(code(&mut nobody).await, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ends_is_nobodys_on_an_open_connection() {
    let listening = listen().await;
    let second = std::time::Duration::from_secs(2);
    let profile = Profile::client(Subject::new("short", &["system:masters"]), second);
    let ca = &listening.server.pki.ca;
    let identity = ca.issue(&profile, jiff::Timestamp::now()).expect("a certificate");
    let (mut open, _) = listening.open(Some(&identity)).await;
    assert_eq!(code(&mut open).await, 200);
    let ends = knode_pki::Certificate::from_pem(&identity.cert_pem)
        .expect("PEM")
        .not_after;
    while jiff::Timestamp::now() < ends {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(code(&mut open).await, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_join_is_as_told_and_a_start_with_less_takes_bindings_away() {
    let names = async |server: &Server| {
        let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
        let list = server.admin("GET", path, &Value::Null).await.json();
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let name = |item: Value| item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut names: Vec<String> = items.into_iter().map(name).collect();
        names.retain(|name| name.starts_with("knode:"));
        names
    };
    let server = Server::start().await;
    assert_eq!(names(&server).await.len(), 4);
    let mut config = common::config(&server.pki);
    config.node_bindings = NodeBindings::Ask;
    let ask = ApiServer::start(config, server.store.clone())
        .await
        .expect("a server");
    let server = Server { api: ask, ..server };
    let asking = names(&server).await;
    assert_eq!(asking, ["knode:kubelet-api-admin", "knode:kubelet-bootstrap"]);
    let nothing = Server::start_with(|config| config.node_bindings = NodeBindings::Nothing).await;
    assert_eq!(names(&nothing).await, ["knode:kubelet-api-admin"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_tokens_are_identities_and_nobody_else_gets_in() {
    let listening = listen().await;
    let open = listening.get(None, None, "/healthz").await;
    assert_eq!((open.code, open.text().as_str()), (200, "ok"));
    assert_eq!(listening.get(None, None, "/version").await.code, 200);
    for path in ["/api/v1/namespaces", "/metrics", "/api", "/openapi/v3"] {
        assert_eq!(listening.get(None, None, path).await.code, 403, "{path}");
    }
    assert_eq!(
        listening
            .get(None, Some("wrong"), "/api/v1/namespaces")
            .await
            .code,
        401
    );
    let admin = listening.server.pki.admin.identity.clone();
    assert_eq!(
        listening.get(Some(&admin), None, "/api/v1/namespaces").await.code,
        200
    );
    let somebody = listening.identity("somebody", &[]);
    let refused = listening.get(Some(&somebody), None, "/api/v1/namespaces").await;
    let wanted = "namespaces is forbidden: User \"somebody\" cannot list resource \"namespaces\" in API group \"\" \
                  at the cluster scope";
    assert_eq!(
        (refused.code, refused.json()["message"].as_str()),
        (403, Some(wanted))
    );
    assert_eq!(
        listening.get(Some(&somebody), None, "/api").await.code,
        200,
        "discovery is for all who are known"
    );
    let taken = ApiServer::bind(listening.address)
        .await
        .expect_err("the port is taken");
    assert!(
        taken
            .to_string()
            .contains(&format!("process {} (", std::process::id())),
        "{taken}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bootstrap_tokens_open_the_door_for_new_nodes_until_they_expire() {
    let listening = listen().await;
    let token = BootstrapToken::generate();
    let secret = |expiration: &str| {
        json!({"metadata": {"name": token.secret_name()}, "type": "bootstrap.kubernetes.io/token",
            "stringData": {"token-id": token.id(), "token-secret": token.secret(), "expiration": expiration,
                "usage-bootstrap-authentication": "true"}})
    };
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    listening
        .server
        .create(secrets, secret("2999-01-01T00:00:00Z"))
        .await;
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let text = token.to_string();
    assert_eq!(listening.get(None, Some(&text), requests).await.code, 200);
    assert_eq!(listening.get(None, Some(&text), "/api/v1/nodes").await.code, 403);
    let path = format!("{secrets}/{}", token.secret_name());
    let late = json!({"stringData": {"expiration": "2001-01-01T00:00:00Z"}});
    assert_eq!(listening.server.admin("PATCH", &path, &late).await.code, 200);
    assert_eq!(listening.get(None, Some(&text), requests).await.code, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_service_accounts_live_as_long_as_what_they_are_bound_to() {
    let listening = listen().await;
    let server = &listening.server;
    server.namespace("ns").await;
    let pods = "/api/v1/namespaces/ns/pods";
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pod = server.create(pods, pod).await;
    let reference = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": pod["metadata"]["uid"]});
    let request = json!({"spec": {"boundObjectRef": reference, "expirationSeconds": 3607}});
    let token = server
        .create("/api/v1/namespaces/ns/serviceaccounts/default/token", request)
        .await;
    let token = token["status"]["token"].as_str().expect("a token").to_owned();
    let refused = listening.get(None, Some(&token), pods).await;
    let message = refused.json()["message"].as_str().unwrap_or_default().to_owned();
    assert!(
        message.contains("User \"system:serviceaccount:ns:default\""),
        "{message}"
    );
    let role = json!({"metadata": {"name": "r"}, "rules": [{"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]}]});
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/ns";
    server.create(&format!("{rbac}/roles"), role).await;
    let binding = json!({"metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "ns"}]});
    server.create(&format!("{rbac}/rolebindings"), binding).await;
    assert_eq!(listening.get(None, Some(&token), pods).await.code, 200);
    let review = json!({"spec": {"token": token}});
    let review = server
        .create("/apis/authentication.k8s.io/v1/tokenreviews", review)
        .await;
    assert_eq!(review["status"]["authenticated"], true, "{review}");
    assert_eq!(
        review["status"]["user"]["username"],
        "system:serviceaccount:ns:default"
    );
    server.admin("DELETE", &format!("{pods}/p"), &Value::Null).await;
    assert_eq!(
        listening.get(None, Some(&token), pods).await.code,
        401,
        "the pod is gone"
    );
}

#[tokio::test]
async fn rights_can_be_given_by_those_only_who_have_them() {
    let server = Server::start().await;
    server.namespace("ns").await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/ns";
    let editor = UserInfo::new("editor", ["editors"]);
    let binding = json!({"metadata": {"name": "admins"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "editor"}]});
    server.create(&format!("{rbac}/rolebindings"), binding).await;
    let role = |name: &str, resource: &str| json!({"metadata": {"name": name}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}]});
    let roles = format!("{rbac}/roles");
    let given = server
        .send(&editor, common::request("POST", &roles, &role("ok", "pods")))
        .await;
    assert_eq!(given.code, 201, "{}", given.text());
    let refused = server
        .send(&editor, common::request("POST", &roles, &role("no", "nodes")))
        .await;
    let message = refused.json()["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!(refused.code, 403, "{message}");
    let wanted = "{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\"]}";
    assert!(message.ends_with(wanted), "{message}");
    let escalate = json!({"metadata": {"name": "all"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "editor"}]});
    let path = format!("{rbac}/rolebindings");
    let refused = server
        .send(&editor, common::request("POST", &path, &escalate))
        .await;
    assert_eq!(refused.code, 403, "{}", refused.text());
}

#[tokio::test]
async fn impersonation_needs_a_right() {
    let server = Server::start().await;
    let ask = |user: &str| {
        let mut request = common::request("GET", "/api/v1/namespaces", &Value::Null);
        request
            .headers_mut()
            .insert("impersonate-user", user.parse().expect("a name"));
        request
    };
    let refused = server.send(&common::admin(), ask("nobody")).await;
    assert!(
        refused.text().contains("User \\\"nobody\\\" cannot list"),
        "{}",
        refused.text()
    );
    let refused = server
        .send(&UserInfo::new("me", [] as [&str; 0]), ask("admin"))
        .await;
    let wanted =
        "users \\\"admin\\\" is forbidden: User \\\"me\\\" cannot impersonate resource \\\"users\\\"";
    assert!(refused.text().contains(wanted), "{}", refused.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_server_ends_watches() {
    let mut listening = listen().await;
    let admin = listening.server.pki.admin.identity.clone();
    let end = listening.end.take();
    let task = std::mem::replace(&mut listening.task, tokio::spawn(async {}));
    let path = "/api/v1/namespaces?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let watching = listening.get(Some(&admin), None, path);
    tokio::pin!(watching);
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut watching).await;
    assert!(early.is_err(), "a watch doesn't end by itself");
    drop(end);
    let both = futures::future::join(watching, task);
    let (seen, task) = tokio::time::timeout(std::time::Duration::from_secs(10), both)
        .await
        .expect("they end");
    task.expect("the server ends well");
    assert!(
        seen.text().contains("k8s.io/initial-events-end"),
        "{}",
        seen.text()
    );
}

/// A pod on node `n`, its uid.
async fn pod_on_node(server: &Server, volumes: Value) -> Value {
    server.namespace("ns").await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "volumes": volumes,
        "automountServiceAccountToken": false, "containers": [{"name": "c", "image": "i"}]}});
    server.create("/api/v1/namespaces/ns/pods", pod).await["metadata"]["uid"].clone()
}

/// What a node is answered that asks for the pod's token.
async fn token_for(server: &Server, uid: &Value, audiences: Value) -> common::Answer {
    let reference = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid});
    let request = json!({"spec": {"boundObjectRef": reference, "audiences": audiences}});
    let path = "/api/v1/namespaces/ns/serviceaccounts/default/token";
    server
        .send(&common::node("n"), common::request("POST", path, &request))
        .await
}

#[tokio::test]
async fn a_node_gets_tokens_for_audiences_of_volumes_and_those_that_it_is_allowed() {
    let server = Server::start().await;
    let driver = json!({"metadata": {"name": "d.io"}, "spec": {"tokenRequests": [{"audience": "drivers"}]}});
    server.create("/apis/storage.k8s.io/v1/csidrivers", driver).await;
    let uid = pod_on_node(
        &server,
        json!([{"name": "a", "csi": {"driver": "d.io"}},
            {"name": "b", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "vault"}}]}}]),
    )
    .await;
    for audience in ["drivers", "vault"] {
        let answer = token_for(&server, &uid, json!([audience])).await;
        assert_eq!(answer.code, 201, "{}", answer.text());
    }
    for (audiences, why) in [
        (
            json!(["registry"]),
            "audience \"registry\" not found in pod spec volume, \"system:node:n\" is not authorized",
        ),
        (json!([]), "audience \"\" not found"),
        (
            json!(["drivers", "vault"]),
            "node may only request 0 or 1 audiences",
        ),
    ] {
        let answer = token_for(&server, &uid, audiences).await;
        assert_eq!(answer.code, 403, "{}", answer.text());
        assert!(
            answer.text().contains(&why.replace('"', "\\\"")),
            "{}",
            answer.text()
        );
    }
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": {"name": "r"}, "rules": [{"verbs": ["request-serviceaccounts-token-audience"],
        "apiGroups": [""], "resources": ["registry"]}]});
    server.create(&format!("{rbac}/clusterroles"), role).await;
    let binding = json!({"metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}]});
    server
        .create(&format!("{rbac}/clusterrolebindings"), binding)
        .await;
    let answer = token_for(&server, &uid, json!(["registry"])).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
}

#[tokio::test]
async fn a_node_reads_the_service_accounts_of_its_pods() {
    let server = Server::start().await;
    pod_on_node(&server, json!([])).await;
    let path = "/api/v1/namespaces/ns/serviceaccounts";
    let own = format!("{path}/default");
    for (node, path, code) in [
        ("n", own.as_str(), 200),
        ("m", own.as_str(), 403),
        ("n", path, 403),
    ] {
        let answer = server
            .send(&common::node(node), common::request("GET", path, &Value::Null))
            .await;
        assert_eq!(answer.code, code, "{node} {path}: {}", answer.text());
    }
}

#[tokio::test]
async fn trust_bundles_of_a_signer_are_written_by_those_who_attest_for_it() {
    let server = Server::start().await;
    let bundles = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles";
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rules = json!([
        {"verbs": ["*"], "apiGroups": ["certificates.k8s.io"], "resources": ["clustertrustbundles"]},
        {"verbs": ["attest"], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"],
            "resourceNames": ["mine.io/one", "all.io/*"]}]);
    let role = json!({"metadata": {"name": "r"}, "rules": rules});
    server.create(&format!("{rbac}/clusterroles"), role).await;
    let binding = json!({"metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "signer"}]});
    server
        .create(&format!("{rbac}/clusterrolebindings"), binding)
        .await;
    let signer = UserInfo::new("signer", [""; 0]);
    let authority = CertificateAuthority::create("x", Timestamp::now()).unwrap();
    let text = authority.cert_pem();
    for (signer_name, code) in [
        ("mine.io/one", 201),
        ("all.io/any", 201),
        ("mine.io/two", 403),
        ("", 201),
    ] {
        let name = match signer_name {
            "" => "plain".to_owned(),
            signer => format!("{}:a", signer.replace('/', ":")),
        };
        let bundle =
            json!({"metadata": {"name": name}, "spec": {"signerName": signer_name, "trustBundle": text}});
        let answer = server
            .send(&signer, common::request("POST", bundles, &bundle))
            .await;
        assert_eq!(answer.code, code, "{signer_name}: {}", answer.text());
        if code == 403 {
            assert!(
                answer
                    .text()
                    .contains("user not permitted to attest for signerName"),
                "{}",
                answer.text()
            );
            server.create(bundles, bundle).await;
            // Owners may change all the same; what it says may not.
            let path = format!("{bundles}/{name}");
            for (change, code) in [
                (json!({"metadata": {"finalizers": ["a.io/b"]}}), 200),
                (json!({"metadata": {"labels": {"a": "b"}}}), 403),
            ] {
                let answer = server
                    .send(&signer, common::request("PATCH", &path, &change))
                    .await;
                assert_eq!(answer.code, code, "{}", answer.text());
            }
        }
    }
    let node = common::node("n");
    let listed = server
        .send(
            &node,
            common::request(
                "GET",
                &format!("{bundles}?fieldSelector=spec.signerName%3Dall.io/any"),
                &Value::Null,
            ),
        )
        .await;
    assert_eq!(
        listed.json()["items"].as_array().map(Vec::len),
        Some(1),
        "{}",
        listed.text()
    );
    let path = format!("{bundles}/plain");
    assert_eq!(
        server
            .send(&node, common::request("DELETE", &path, &Value::Null))
            .await
            .code,
        403
    );
    let wrong = json!({"metadata": {"name": "no"}, "spec": {"trustBundle": "none"}});
    let answer = server.admin("POST", bundles, &wrong).await;
    assert_eq!(answer.code, 422, "{}", answer.text());
}
