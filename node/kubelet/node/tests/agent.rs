//! A node's life against an API server: registered, ready, renewed, deleted, asked.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use knode_client::{Access, Client, EventRecorder, EventSource, Material, SystemClock, connect};
use knode_kubelet_node::{
    Error, EvictionCause, GivenCertificate, ImageGcPolicy, NoDevices, NodeAgent, NodeConfig, NodeDeps,
    ShutdownConfig, ShutdownGrace, TlsOptions,
};
use knode_pki::kubeconfig::Kubeconfig;
use knode_pki::{CertificateAuthority, Profile, Subject, SubjectAltNames};
use kube::client::Body;
use serde_json::{Value, json};
use support::api::{Api, REQUESTS};
use support::logind::Logind;
use support::runtime::{FakeRuntime, OnePod};
use support::{PATIENCE, config, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const NODE: &str = "/api/v1/nodes/node1";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node1";
const CSINODE: &str = "/apis/storage.k8s.io/v1/csinodes/node1";

struct Bed {
    dir: tempfile::TempDir,
    api: Arc<Api>,
    runtime: Arc<FakeRuntime>,
    pods: Arc<OnePod>,
    listen: SocketAddr,
    _agent: NodeAgent,
}

/// A port that was free a moment ago.
fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn node_access(api: &Api) -> Access {
    let identity = api.identity("system:node:node1", &["system:nodes"]);
    Access {
        client_cert: Some(Material::Data(identity.cert_pem)),
        client_key: Some(Material::Data(identity.key_pem)),
        ..api.access()
    }
}

async fn start_with(network_ready: bool) -> Bed {
    start_changed(network_ready, |_, _| {}).await
}

async fn start_changed(network_ready: bool, change: impl FnOnce(&mut NodeConfig, &FakeRuntime)) -> Bed {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start().await;
    let log = dir.path().join("0.log");
    std::fs::write(
        &log,
        "2026-11-22T10:00:00Z stdout F one\n2026-11-22T10:00:01Z stdout F two\n",
    )
    .unwrap();
    let runtime = FakeRuntime::start(log.to_str().unwrap()).await;
    *runtime.network_ready.lock().unwrap() = network_ready;
    let access = node_access(&api);
    let listen = free_port();
    let mut config = NodeConfig {
        listen,
        ..config(dir.path())
    };
    change(&mut config, &runtime);
    Kubeconfig::for_access(&access).write(&config.kubeconfig).unwrap();
    let connected = connect(&access).unwrap();
    let clock = Arc::new(SystemClock::default());
    let source = EventSource {
        component: "kubelet".to_owned(),
        host: "node1".to_owned(),
    };
    let recorder = EventRecorder::start(connected.client.clone(), source, clock.clone());
    let pods = Arc::new(OnePod::default());
    let deps = NodeDeps {
        runtime: runtime.clone(),
        images: runtime.clone(),
        pods: pods.clone(),
        devices: Arc::new(NoDevices),
        recorder: Some(recorder),
        metrics: Arc::default(),
        clock,
    };
    let agent = NodeAgent::start(config, connected, deps).await.unwrap();
    Bed {
        dir,
        api,
        runtime,
        pods,
        listen,
        _agent: agent,
    }
}

fn ready(node: &Value) -> Value {
    let conditions = node["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    conditions
        .into_iter()
        .find(|condition| condition["type"] == "Ready")
        .unwrap_or_default()
}

async fn until_ready(api: &Api, status: &str) -> Value {
    until("the node's readiness", || {
        let node = api.get(NODE).unwrap_or_default();
        if ready(&node)["status"] == status {
            Ok(node)
        } else {
            Err(node)
        }
    })
    .await
}

#[tokio::test]
async fn the_node_registers_and_becomes_ready_as_recorded() {
    let bed = start_with(true).await;
    let node = until_ready(&bed.api, "True").await;
    let log = bed.api.log();
    let post = log
        .iter()
        .find(|request| request.method == "POST" && request.path == "/api/v1/nodes")
        .unwrap();
    assert_eq!(ready(&post.body)["message"], "CSINode is not yet initialized");
    assert_eq!(
        post.body["status"]["nodeInfo"]["containerRuntimeVersion"],
        "knode://0.1.0"
    );
    assert_eq!(ready(&node)["message"], "kubelet is posting ready status");
    let patches: Vec<_> = log
        .iter()
        .filter(|request| request.method == "PATCH" && request.path.ends_with("/status"))
        .collect();
    assert_eq!(patches[0].path, format!("{NODE}/status"));
    let status = patches[0].body["status"].as_object().unwrap();
    let fields: Vec<_> = status.keys().cloned().collect();
    assert_eq!(
        fields,
        ["$setElementOrder/conditions", "conditions"],
        "only what changed: {status:?}"
    );

    let uid = node["metadata"]["uid"].as_str().unwrap();
    let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "node1", "uid": uid}]);
    let csinode = log
        .iter()
        .find(|request| request.method == "POST" && request.path.ends_with("/csinodes"))
        .unwrap();
    assert_eq!(csinode.body["metadata"]["ownerReferences"], owner);
    assert!(bed.api.get(CSINODE).is_some());
    let lease = until("the lease", || bed.api.get(LEASE).ok_or(())).await;
    assert_eq!(lease["spec"]["holderIdentity"], "node1");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 40);
    assert_eq!(lease["metadata"]["ownerReferences"], owner);
    until("the events", || {
        let has = |reason: &str| {
            !bed.api
                .find("/api/v1/namespaces/default/events", reason)
                .is_empty()
        };
        let wanted = [
            "Starting",
            "NodeHasSufficientMemory",
            "NodeHasNoDiskPressure",
            "NodeHasSufficientPID",
            "NodeReady",
        ];
        let missing: Vec<_> = wanted.into_iter().filter(|reason| !has(reason)).collect();
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    })
    .await;
}

#[tokio::test]
async fn the_network_is_waited_for_and_the_runtime_learns_its_range() {
    let bed = start_with(false).await;
    let node = until("not ready for the network alone", || {
        let node = bed.api.get(NODE).unwrap_or_default();
        let message = ready(&node)["message"].as_str().unwrap_or_default().to_owned();
        let expected = "container runtime network not ready: NetworkReady=false \
                        reason:NetworkPluginNotReady message:no subnet yet";
        if message == expected {
            Ok(node)
        } else {
            Err(message)
        }
    })
    .await;
    let mut node = node;
    node["spec"] = json!({"podCIDR": "172.30.0.0/24", "podCIDRs": ["172.30.0.0/24"]});
    bed.api.put(NODE, node);
    until("the runtime knows the range", || {
        let known = bed.runtime.pod_cidr.lock().unwrap().clone();
        if known.as_deref() == Some("172.30.0.0/24") {
            Ok(())
        } else {
            Err(known)
        }
    })
    .await;
    *bed.runtime.network_ready.lock().unwrap() = true;
    until_ready(&bed.api, "True").await;
}

#[tokio::test]
async fn a_node_that_was_ready_stays_so_while_its_kubelet_begins() {
    let begun = std::time::Instant::now();
    let bed = start_with(true).await;
    until_ready(&bed.api, "True").await;
    *bed.runtime.network_ready.lock().unwrap() = false;
    bed._agent.wake();
    until_ready(&bed.api, "False").await;
    // Later is no fault, sooner would take the endpoints of its pods away.
    assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_deleted_node_comes_back() {
    let bed = start_with(true).await;
    let first = until_ready(&bed.api, "True").await;
    bed.api.delete(CSINODE);
    bed.api.delete(NODE);
    let second = until("the node again", || bed.api.get(NODE).ok_or(())).await;
    assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"]);
    until("its CSINode again", || bed.api.get(CSINODE).ok_or(())).await;
}

#[tokio::test]
async fn a_client_certificate_near_its_end_is_renewed_while_running() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start().await;
    let config = NodeConfig {
        listen: free_port(),
        ..config(dir.path())
    };
    let hour = std::time::Duration::from_secs(3600);
    let subject = knode_pki::Subject::new("system:node:node1", &["system:nodes"]);
    let issued = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(58);
    let old = api
        .ca
        .issue(&knode_pki::Profile::client(subject, hour), issued)
        .unwrap();
    let store = knode_kubelet_node::CertificateStore::new(&config.cert_dir, "kubelet-client");
    store.update(&old, issued).unwrap();
    let current = Material::File(store.current_path());
    let access = Access {
        client_cert: Some(current.clone()),
        client_key: Some(current),
        ..api.access()
    };
    Kubeconfig::for_access(&access).write(&config.kubeconfig).unwrap();
    let connected = connect(&access).unwrap();
    let identity = connected.identity.clone().unwrap();
    let runtime = FakeRuntime::start("").await;
    let deps = NodeDeps {
        runtime: runtime.clone(),
        images: runtime,
        pods: Arc::new(OnePod::default()),
        devices: Arc::new(NoDevices),
        recorder: None,
        metrics: Arc::default(),
        clock: Arc::new(SystemClock::default()),
    };
    let _agent = NodeAgent::start(config, connected, deps).await.unwrap();
    let request = until("the renewal", || {
        api.find(REQUESTS, "kube-apiserver-client-kubelet")
            .into_iter()
            .next()
            .ok_or(())
    })
    .await;
    assert_eq!(request["metadata"]["generateName"], "csr-");
    assert_eq!(request["spec"]["username"], "system:node:node1");
    api.sign(request["metadata"]["name"].as_str().unwrap());
    let before = knode_pki::Certificate::from_pem(&old.cert_pem).unwrap();
    until("the new certificate in use", || {
        let shown = identity.certificate().unwrap();
        if shown.not_after > before.not_after {
            Ok(())
        } else {
            Err(shown.not_after)
        }
    })
    .await;
    let stored = store.current().unwrap().unwrap();
    assert_ne!((&stored.cert_pem, &stored.key_pem), (&old.cert_pem, &old.key_pem));
    until("requests go on", || {
        let beats = api.get(LEASE);
        beats.ok_or(())
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_ended_while_running_is_asked_for_by_the_bootstrap_credential() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start().await;
    let config = NodeConfig {
        listen: free_port(),
        certificate_lifetime: Some(std::time::Duration::from_secs(900)),
        ..config(dir.path())
    };
    api.write_bootstrap(config.bootstrap_kubeconfig.as_ref().unwrap());
    let second = std::time::Duration::from_secs(1);
    let subject = knode_pki::Subject::new("system:node:node1", &["system:nodes"]);
    let now = jiff::Timestamp::now();
    // The API server was away until its end.
    let old = api
        .ca
        .issue(
            &knode_pki::Profile::client(subject, second),
            now - jiff::SignedDuration::from_mins(1),
        )
        .unwrap();
    let store = knode_kubelet_node::CertificateStore::new(&config.cert_dir, "kubelet-client");
    store.update(&old, now).unwrap();
    let current = Material::File(store.current_path());
    let access = Access {
        client_cert: Some(current.clone()),
        client_key: Some(current),
        ..api.access()
    };
    Kubeconfig::for_access(&access).write(&config.kubeconfig).unwrap();
    let runtime = FakeRuntime::start("").await;
    let deps = NodeDeps {
        runtime: runtime.clone(),
        images: runtime,
        pods: Arc::new(OnePod::default()),
        devices: Arc::new(NoDevices),
        recorder: None,
        metrics: Arc::default(),
        clock: Arc::new(SystemClock::default()),
    };
    let _agent = NodeAgent::start(config, connect(&access).unwrap(), deps)
        .await
        .unwrap();
    let request = until("the request", || {
        let found = api.find(REQUESTS, "kube-apiserver-client-kubelet");
        found.into_iter().next().ok_or(())
    })
    .await;
    assert_eq!(request["spec"]["username"], "system:bootstrap:abcdef");
    assert_eq!(request["spec"]["expirationSeconds"], 900);
    api.sign(request["metadata"]["name"].as_str().unwrap());
    until("the node's lease, by the new certificate", || {
        api.get(LEASE).ok_or(())
    })
    .await;
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start().await;
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = holder.local_addr().unwrap();
    let config = NodeConfig {
        listen,
        ..config(dir.path())
    };
    let runtime = FakeRuntime::start("").await;
    let deps = NodeDeps {
        runtime: runtime.clone(),
        images: runtime,
        pods: Arc::new(OnePod::default()),
        devices: Arc::new(NoDevices),
        recorder: None,
        metrics: Arc::default(),
        clock: Arc::new(SystemClock::default()),
    };
    let error = NodeAgent::start(config, connect(&node_access(&api)).unwrap(), deps)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::PortTaken { address, .. } if *address == listen),
        "{error}"
    );
    let process = format!("process {}", std::process::id());
    assert!(error.to_string().contains(&process), "{error}");
}

impl Bed {
    /// A client of the kubelet's API, once its serving certificate has been approved.
    async fn kubelet(&self, user: Option<&str>, token: Option<&str>) -> Client {
        let request = until("the serving request", || {
            let found = self.api.find(REQUESTS, "kubelet-serving");
            found.into_iter().next().ok_or(())
        })
        .await;
        if request.get("status").is_none() {
            assert_eq!(
                request["spec"]["usages"],
                json!(["digital signature", "server auth"])
            );
            assert_eq!(request["spec"]["username"], "system:node:node1");
            self.api.sign(request["metadata"]["name"].as_str().unwrap());
        }
        let identity = user.map(|user| self.api.identity(user, &["testers"]));
        let access = Access {
            server: format!("https://{}", self.listen),
            client_cert: identity
                .as_ref()
                .map(|identity| Material::Data(identity.cert_pem.clone())),
            client_key: identity.map(|identity| Material::Data(identity.key_pem)),
            token: token.map(|token| Material::Data(token.to_owned())),
            ..self.api.access()
        };
        let client = connect(&access).unwrap().client;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while let Err(error) = client
            .send(Request::get("/healthz").body(Body::empty()).unwrap())
            .await
        {
            assert!(
                tokio::time::Instant::now() < deadline,
                "the approved certificate is not shown: {error}"
            );
            tokio::task::yield_now().await;
        }
        client
    }
}

async fn get(client: &Client, path: &str) -> (StatusCode, String) {
    let answer = client
        .send(Request::get(path).body(Body::empty()).unwrap())
        .await
        .unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn log_files_are_not_served_where_they_are_switched_off() {
    let bed = start_changed(true, |config, _| config.system_logs = false).await;
    bed.api.allow("friend");
    let friend = bed.kubelet(Some("friend"), None).await;
    let refused = (
        StatusCode::METHOD_NOT_ALLOWED,
        "logs endpoint is disabled.\n".to_owned(),
    );
    assert_eq!(get(&friend, "/logs/").await, refused);
}

#[tokio::test]
async fn the_api_is_closed_to_all_but_those_who_may() {
    let bed = start_with(true).await;
    bed.api.allow("friend");
    let nobody = bed.kubelet(None, None).await;
    for path in [
        "/healthz",
        "/pods",
        "/containerLogs/ns/p/c",
        "/metrics",
        "/nonsense",
    ] {
        assert_eq!(
            get(&nobody, path).await,
            (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned()),
            "{path}"
        );
    }
    let bad = bed.kubelet(None, Some("bad")).await;
    assert_eq!(get(&bad, "/pods").await.0, StatusCode::UNAUTHORIZED);
    let robot = bed.kubelet(None, Some("good")).await;
    let refused = "Forbidden (user=robot, verb=get, resource=nodes, subresource(s)=[pods proxy])";
    assert_eq!(
        get(&robot, "/pods").await,
        (StatusCode::FORBIDDEN, refused.to_owned())
    );
    let friend = bed.kubelet(Some("friend"), None).await;
    let (status, pods) = get(&friend, "/pods").await;
    let pods: Value = serde_json::from_str(&pods).unwrap();
    assert_eq!((status, &pods["kind"]), (StatusCode::OK, &json!("PodList")));
    assert_eq!(pods["items"][0]["metadata"]["name"], "p");
    assert_eq!(get(&friend, "/healthz").await, (StatusCode::OK, "ok".to_owned()));
    assert_eq!(
        get(&friend, "/configz").await.1,
        "{\"kubeletconfig\":{\"kind\":\"KubeletConfiguration\"}}"
    );
    assert_eq!(get(&friend, "/statusz").await.0, StatusCode::OK);
    assert!(get(&friend, "/flagz").await.1.ends_with("\n\nport=10250\n"));
    assert_eq!(
        get(&friend, "/spec/").await,
        (StatusCode::NOT_FOUND, "404 page not found\n".to_owned())
    );
    std::fs::create_dir_all(bed.dir.path().join("log/pods")).unwrap();
    assert_eq!(
        get(&friend, "/logs/").await,
        (
            StatusCode::OK,
            "<pre>\n<a href=\"pods/\">pods/</a>\n</pre>\n".to_owned()
        )
    );
    assert!(
        get(&friend, "/metrics")
            .await
            .1
            .contains("kubelet_node_name{node=\"node1\"} 1")
    );
    // recordings: kubelet-authn
    let log = bed.api.log();
    let asked: Vec<_> = log
        .iter()
        .filter(|request| request.path.ends_with("/subjectaccessreviews"))
        .collect();
    let of_robot: Vec<_> = asked
        .iter()
        .filter(|request| request.body["spec"]["user"] == "robot")
        .collect();
    let attributes = |request: &&&support::api::Logged| request.body["spec"]["resourceAttributes"].clone();
    let expected = |subresource: &str| json!({"verb": "get", "version": "v1", "resource": "nodes", "subresource": subresource, "name": "node1"});
    // The first request of each client was for /healthz.
    let seen: Vec<_> = of_robot.iter().map(attributes).collect();
    assert_eq!(
        seen,
        [expected("healthz"), expected("proxy"), expected("pods")],
        "proxy is remembered"
    );
    let reviews = log
        .iter()
        .filter(|request| request.path.ends_with("/tokenreviews"));
    assert_eq!(
        reviews
            .filter(|request| request.body["spec"]["token"] == "good")
            .count(),
        1,
        "tokens are remembered"
    );
}

#[tokio::test]
async fn logs_are_served_and_followed_to_the_containers_end() {
    let bed = start_with(true).await;
    bed.api.allow("friend");
    let client = bed.kubelet(Some("friend"), None).await;
    assert_eq!(
        get(&client, "/containerLogs/ns/p/c").await,
        (StatusCode::OK, "one\ntwo\n".to_owned())
    );
    let stamped = "/containerLogs/ns/p/c?tailLines=1&timestamps=true";
    assert_eq!(
        get(&client, stamped).await.1,
        "2026-11-22T10:00:01.000000000Z two\n"
    );
    let expected = (StatusCode::NOT_FOUND, "pod \"x\" does not exist\n".to_owned());
    assert_eq!(get(&client, "/containerLogs/ns/x/c").await, expected);
    let expected = (
        StatusCode::NOT_FOUND,
        "container \"x\" not found in pod \"p\"\n".to_owned(),
    );
    assert_eq!(get(&client, "/containerLogs/ns/p/x").await, expected);
    let (status, message) = get(&client, "/containerLogs/ns/p/new").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        message,
        "container \"new\" in pod \"p\" is waiting to start: ContainerCreating"
    );
    assert_eq!(
        get(&client, "/containerLogs/ns/p/c?tailLines=-1").await.0,
        StatusCode::UNPROCESSABLE_ENTITY
    );

    let request = Request::get("/containerLogs/ns/p/c?follow=true")
        .body(Body::empty())
        .unwrap();
    let mut body = client.send(request).await.unwrap().into_body();
    assert_eq!(next_piece(&mut body).await, "one\ntwo\n");
    let mut log = std::fs::OpenOptions::new()
        .append(true)
        .open(bed.dir.path().join("0.log"))
        .unwrap();
    log.write_all(b"2026-11-22T10:00:02Z stderr F three\n").unwrap();
    assert_eq!(next_piece(&mut body).await, "three\n");
    bed.runtime.end_container();
    let rest = tokio::time::timeout(PATIENCE, body.collect())
        .await
        .expect("the stream ends")
        .unwrap();
    assert_eq!(rest.to_bytes(), Bytes::new());
}

async fn next_piece(body: &mut Body) -> String {
    let frame = tokio::time::timeout(PATIENCE, body.frame())
        .await
        .expect("a piece comes")
        .unwrap()
        .unwrap();
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn exec_is_tunnelled_byte_for_byte() {
    let bed = start_with(true).await;
    bed.api.allow("friend");
    let client = bed.kubelet(Some("friend"), None).await;
    let request = Request::post("/exec/ns/p/c?command=sh&command=-c&command=a%20b&input=1&output=1&error=1")
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1")
        .body(Body::empty())
        .unwrap();
    let answer = client.send(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(answer.headers()["upgrade"], "SPDY/3.1");
    let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    let sent: Vec<u8> = (0..200_000u32)
        .map(|number| u8::try_from(number % 251).unwrap())
        .collect();
    let (mut from, mut to) = tokio::io::split(&mut stream);
    let mut back = vec![0; sent.len()];
    let (wrote, read) = tokio::join!(to.write_all(&sent), from.read_exact(&mut back));
    wrote.unwrap();
    read.unwrap();
    assert!(back == sent, "what comes back is what was sent");
    let executed = bed.runtime.executed.lock().unwrap().clone();
    assert_eq!(executed[0].cmd, ["sh", "-c", "a b"]);
    assert_eq!(
        (
            executed[0].container_id.as_str(),
            executed[0].stdin,
            executed[0].stderr
        ),
        ("c1", true, true)
    );

    assert_eq!(get(&client, "/exec/ns/p/c").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(
        get(&client, "/exec/ns/x/c?output=1").await,
        (StatusCode::NOT_FOUND, "pod does not exist".to_owned())
    );
    let expected = (
        StatusCode::INTERNAL_SERVER_ERROR,
        "container not found (\"new\")".to_owned(),
    );
    assert_eq!(get(&client, "/exec/ns/p/new?output=1").await, expected);
}

/// Whether an Event of that reason has a message that begins like this.
async fn until_told(api: &Api, reason: &str, beginning: &str) {
    until("the event", || {
        let events = api.find("/api/v1/namespaces/default/events", reason);
        let told = events.iter().any(|event| {
            event["message"]
                .as_str()
                .is_some_and(|m| m.starts_with(beginning))
        });
        if told { Ok(()) } else { Err(events) }
    })
    .await;
}

#[tokio::test]
async fn a_node_short_of_memory_says_so_and_evicts() {
    let bed = start_changed(true, |config, _| {
        config.eviction = config.eviction.clone().hard("memory.available<100%").unwrap();
        config.eviction.interval = Duration::from_millis(20);
    })
    .await;
    let (uid, eviction) = until("the eviction", || {
        let evicted = bed.pods.evicted.lock().unwrap().clone();
        evicted.into_iter().next().ok_or(())
    })
    .await;
    assert_eq!(
        (uid.as_str(), eviction.grace, eviction.for_others),
        ("u", 1, true)
    );
    let text = "The node was low on resource: memory. Threshold quantity: ";
    assert!(eviction.message.starts_with(text), "{}", eviction.message);
    until_told(&bed.api, "EvictionThresholdMet", "Attempting to reclaim memory").await;
    let node = until_ready(&bed.api, "True").await;
    let conditions = node["status"]["conditions"].as_array().unwrap();
    let pressure = conditions
        .iter()
        .find(|one| one["type"] == "MemoryPressure")
        .unwrap();
    assert_eq!(pressure["status"], "True", "{pressure}");
}

#[tokio::test]
async fn unused_images_go_and_too_little_gain_is_told() {
    let bed = start_changed(true, |config, runtime| {
        *runtime.image_path.lock().unwrap() = Some(config.root_dir.display().to_string());
        config.image_gc = ImageGcPolicy {
            high: 1,
            low: 0,
            min_age: Duration::ZERO,
            max_age: Duration::ZERO,
            interval: Duration::from_millis(20),
        };
    })
    .await;
    let text = "Failed to garbage collect required amount of images. Attempted to free ";
    until_told(&bed.api, "FreeDiskSpaceFailed", text).await;
    let removed = bed.runtime.removed_images.lock().unwrap().clone();
    assert_eq!(removed, ["sha256:2"], "neither the used nor the pinned one goes");
    until("the pods' side hears which images are left", || {
        let told = bed.pods.images.lock().unwrap().clone();
        if told.iter().eq(["sha256:1", "sha256:3"]) {
            Ok(())
        } else {
            Err(told)
        }
    })
    .await;
}

/// logind waits until the pods have ended, and hears when it can go on.
#[tokio::test]
async fn a_shutdown_of_the_machine_waits_for_its_pods() {
    let directory = tempfile::tempdir().unwrap();
    let logind = Logind::start(directory.path()).await;
    let seconds = Duration::from_secs;
    let shutdown = ShutdownConfig {
        grace: ShutdownGrace::periods(seconds(30), seconds(10)).unwrap(),
        bus: logind.socket(),
        drop_in: logind.drop_in(),
    };
    let bed = start_changed(true, |config, _| config.shutdown = shutdown).await;
    logind.until_held(true).await;
    let drop_in = std::fs::read_to_string(logind.drop_in()).unwrap();
    assert!(drop_in.contains("InhibitDelayMaxSec=30"), "{drop_in}");
    until_ready(&bed.api, "True").await;
    assert_eq!(*bed.pods.evicted.lock().unwrap(), []);

    logind.shutdown(true);
    let node = until_ready(&bed.api, "False").await;
    assert_eq!(ready(&node)["message"], "node is shutting down");
    logind.until_held(false).await;
    let ended = bed.pods.evicted.lock().unwrap().clone();
    assert_eq!(ended.len(), 1, "{ended:?}");
    let (uid, how) = &ended[0];
    assert_eq!(
        (uid.as_str(), how.cause, how.grace),
        ("u", EvictionCause::Shutdown, 20)
    );
    assert_eq!(
        how.message,
        "Pod was terminated in response to imminent node shutdown."
    );

    // Called off: the next one is held up again.
    logind.shutdown(false);
    logind.until_held(true).await;
    until_ready(&bed.api, "True").await;
}

/// Connects to the kubelet's API with these versions of TLS; the suite that is spoken, or why none is.
async fn handshake(
    address: SocketAddr,
    ca: &CertificateAuthority,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Result<rustls::CipherSuite, String> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in knode_pki::pem_certificates(ca.cert_pem()).unwrap() {
        roots.add(certificate.into()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = rustls_pki_types::ServerName::from(address.ip());
    let stream = connector.connect(name, stream).await;
    let stream = stream.map_err(|error| error.to_string())?;
    Ok(stream.get_ref().1.negotiated_cipher_suite().unwrap().suite())
}

/// A new authority, and a serving certificate of it at `given`.
fn write_certificate(given: &GivenCertificate) -> CertificateAuthority {
    let now = jiff::Timestamp::now();
    let ca = CertificateAuthority::create("own", now).unwrap();
    let names = SubjectAltNames::new(Vec::new(), vec!["127.0.0.1".parse().unwrap()]);
    let profile = Profile::server(Subject::new("node1", &[]), names, Duration::from_secs(3600));
    let identity = ca.issue(&profile, now).unwrap();
    std::fs::write(&given.cert, identity.cert_pem).unwrap();
    std::fs::write(&given.key, identity.key_pem).unwrap();
    ca
}

#[tokio::test]
async fn a_given_certificate_is_served_as_asked_for_and_taken_up_when_it_is_replaced() {
    let suite = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    let mut first = None;
    let bed = start_changed(true, |config, _| {
        let given = GivenCertificate {
            cert: config.root_dir.join("tls.crt"),
            key: config.root_dir.join("tls.key"),
        };
        first = Some((write_certificate(&given), given.clone()));
        config.tls = TlsOptions {
            certificate: Some(given),
            cipher_suites: vec![suite.to_owned()],
            only_1_3: false,
        };
    })
    .await;
    let (first, given) = first.unwrap();
    let old = [&rustls::version::TLS12];
    let spoken = handshake(bed.listen, &first, &old).await;
    assert_eq!(spoken.unwrap().as_str(), Some(suite), "the only one of TLS 1.2");
    handshake(bed.listen, &first, rustls::DEFAULT_VERSIONS)
        .await
        .unwrap();
    assert!(bed.api.find(REQUESTS, "kubelet-serving").is_empty());

    // A certificate without its key is not taken.
    std::fs::write(&given.cert, "-----BEGIN").unwrap();
    handshake(bed.listen, &first, &old).await.unwrap();
    let second = write_certificate(&given);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match handshake(bed.listen, &second, &old).await {
            Ok(_) => break,
            Err(error) if tokio::time::Instant::now() > deadline => panic!("still the old one: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    handshake(bed.listen, &first, &old).await.unwrap_err();
}

#[tokio::test]
async fn tls_can_begin_at_1_3() {
    let mut ca = None;
    let bed = start_changed(true, |config, _| {
        let given = GivenCertificate {
            cert: config.root_dir.join("tls.crt"),
            key: config.root_dir.join("tls.key"),
        };
        ca = Some(write_certificate(&given));
        config.tls.certificate = Some(given);
        config.tls.only_1_3 = true;
    })
    .await;
    let ca = ca.unwrap();
    let error = handshake(bed.listen, &ca, &[&rustls::version::TLS12])
        .await
        .unwrap_err();
    assert!(error.contains("ProtocolVersion"), "{error}");
    handshake(bed.listen, &ca, &[&rustls::version::TLS13])
        .await
        .unwrap();
}
