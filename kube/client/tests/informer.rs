//! Cache and watch over a service in the same process that keeps objects, versions and watchers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use k8s_openapi::api::core::v1::ConfigMap;
use knode_client::{Api, Cache, Change, Delta, WatchConfig, from_service, watch};
use kube::client::Body as KubeBody;
use serde_json::{Value, json};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(20);

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;
type Shared = Arc<Mutex<Server>>;

/// ConfigMaps in one namespace, with the watch semantics of an API server.
#[derive(Default)]
struct Server {
    version: u64,
    objects: BTreeMap<String, Value>,
    watchers: Vec<mpsc::UnboundedSender<Bytes>>,
    refuse_streaming: bool,
    requests: Vec<String>,
}

impl Server {
    fn put(&mut self, name: &str, data: &str) {
        self.version += 1;
        let kind = if self.objects.contains_key(name) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": name, "namespace": "ns", "uid": name, "resourceVersion": self.version.to_string(),
                "managedFields": [{"manager": "test"}],
            },
            "data": {"v": data},
        });
        self.objects.insert(name.to_owned(), object.clone());
        self.send(kind, &object);
    }

    fn delete(&mut self, name: &str) {
        self.version += 1;
        let mut object = self.objects.remove(name).expect("there");
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.send("DELETED", &object);
    }

    fn send(&mut self, kind: &str, object: &Value) {
        let line = line(kind, object);
        self.watchers.retain(|watcher| watcher.send(line.clone()).is_ok());
    }

    fn answer(&mut self, query: &str) -> Answer {
        self.requests.push(query.to_owned());
        let initial = query.contains("sendInitialEvents=true");
        if initial && self.refuse_streaming {
            let refusal = status(422, "Invalid", "sendInitialEvents: Forbidden");
            return full(StatusCode::UNPROCESSABLE_ENTITY, &refusal);
        }
        if !query.contains("watch=true") {
            let list = json!({
                "apiVersion": "v1", "kind": "ConfigMapList",
                "metadata": {"resourceVersion": self.version.to_string()},
                "items": self.objects.values().collect::<Vec<_>>(),
            });
            return full(StatusCode::OK, &list);
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        if initial {
            self.send_initial(&sender);
        }
        self.watchers.push(sender);
        let frames = futures::stream::unfold(receiver, |mut receiver| async {
            receiver
                .recv()
                .await
                .map(|bytes| (Ok(http_body::Frame::data(bytes)), receiver))
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }

    fn send_initial(&self, watcher: &mpsc::UnboundedSender<Bytes>) {
        for object in self.objects.values() {
            watcher.send(line("ADDED", object)).unwrap();
        }
        let bookmark = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "resourceVersion": self.version.to_string(),
                "annotations": {"k8s.io/initial-events-end": "true"},
            },
        });
        watcher.send(line("BOOKMARK", &bookmark)).unwrap();
    }
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": message,
    })
}

fn line(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({"type": kind, "object": object})))
}

fn full(status: StatusCode, value: &Value) -> Answer {
    let body = Full::new(Bytes::from(value.to_string()))
        .map_err(|never| match never {})
        .boxed_unsync();
    Response::builder().status(status).body(body).unwrap()
}

fn api(server: &Shared) -> Api<ConfigMap> {
    let server = server.clone();
    let client = from_service(tower::service_fn(move |request: Request<KubeBody>| {
        let answer = server
            .lock()
            .unwrap()
            .answer(request.uri().query().unwrap_or_default());
        async move { Ok::<_, io::Error>(answer) }
    }));
    Api::namespaced(client, "ns")
}

async fn next(subscription: &mut mpsc::UnboundedReceiver<Delta<ConfigMap>>) -> (&'static str, String) {
    let delta = tokio::time::timeout(PATIENCE, subscription.recv())
        .await
        .expect("a delta comes")
        .unwrap();
    let kind = match &delta {
        Delta::Applied { old: None, .. } => "new",
        Delta::Applied { .. } => "changed",
        Delta::Deleted(_) => "gone",
    };
    (kind, delta.key().name)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect(what);
}

#[tokio::test]
async fn the_cache_follows_the_server() {
    let server = Shared::default();
    server.lock().unwrap().put("a", "1");
    let cache = Cache::start(api(&server), WatchConfig::default());
    tokio::time::timeout(PATIENCE, cache.wait_synced())
        .await
        .expect("the first list comes");
    assert_eq!(cache.len(), 1);
    assert!(cache.get("ns", "a").unwrap().metadata.managed_fields.is_none());
    let mut deltas = cache.subscribe();
    assert_eq!(next(&mut deltas).await, ("new", "a".to_owned()));
    server.lock().unwrap().put("b", "1");
    assert_eq!(next(&mut deltas).await, ("new", "b".to_owned()));
    server.lock().unwrap().put("a", "2");
    assert_eq!(next(&mut deltas).await, ("changed", "a".to_owned()));
    assert_eq!(cache.get("ns", "a").unwrap().data.as_ref().unwrap()["v"], "2");
    server.lock().unwrap().delete("a");
    assert_eq!(next(&mut deltas).await, ("gone", "a".to_owned()));
    assert!(cache.get("ns", "a").is_none());
    assert_eq!(cache.list_namespace("ns").len(), 1);
    assert!(cache.list_namespace("n").is_empty());
    let requests = server.lock().unwrap().requests.clone();
    assert_eq!(requests.len(), 1, "one streaming list is all: {requests:?}");
}

#[tokio::test]
async fn a_broken_watch_goes_on_where_it_was() {
    let server = Shared::default();
    server.lock().unwrap().put("a", "1");
    let cache = Cache::start(api(&server), WatchConfig::default());
    cache.wait_synced().await;
    let mut deltas = cache.subscribe();
    assert_eq!(next(&mut deltas).await, ("new", "a".to_owned()));
    server.lock().unwrap().watchers.clear();
    until("the watch is resumed", || {
        !server.lock().unwrap().watchers.is_empty()
    })
    .await;
    let second = server.lock().unwrap().requests[1].clone();
    assert!(second.contains("resourceVersion=1"), "{second}");
    server.lock().unwrap().put("a", "2");
    assert_eq!(next(&mut deltas).await, ("changed", "a".to_owned()));
}

#[tokio::test]
async fn an_expired_watch_starts_over_and_tells_only_what_differs() {
    let server = Shared::default();
    server.lock().unwrap().put("a", "1");
    server.lock().unwrap().put("b", "1");
    let cache = Cache::start(api(&server), WatchConfig::default());
    cache.wait_synced().await;
    let mut deltas = cache.subscribe();
    assert_eq!(next(&mut deltas).await, ("new", "a".to_owned()));
    assert_eq!(next(&mut deltas).await, ("new", "b".to_owned()));
    {
        let mut server = server.lock().unwrap();
        let watchers = std::mem::take(&mut server.watchers);
        server.put("c", "1");
        server.delete("a");
        let gone = line("ERROR", &status(410, "Expired", "too old resource version"));
        watchers
            .iter()
            .for_each(|watcher| watcher.send(gone.clone()).unwrap());
    }
    let mut told = vec![next(&mut deltas).await, next(&mut deltas).await];
    told.sort();
    assert_eq!(told, [("gone", "a".to_owned()), ("new", "c".to_owned())]);
    assert!(deltas.try_recv().is_err());
}

#[tokio::test]
async fn a_server_without_streaming_lists_is_listed() {
    let server = Shared::default();
    server.lock().unwrap().refuse_streaming = true;
    server.lock().unwrap().put("a", "1");
    let mut changes = watch(api(&server), WatchConfig::fields("metadata.name=a"));
    let refused = tokio::time::timeout(PATIENCE, changes.next())
        .await
        .unwrap()
        .unwrap();
    assert!(refused.is_err());
    let listed = tokio::time::timeout(PATIENCE, changes.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(
        matches!(&listed, Change::Restarted(list) if list.len() == 1),
        "{listed:?}"
    );
    let following = tokio::spawn(async move { changes.next().await });
    until("it is watched", || !server.lock().unwrap().watchers.is_empty()).await;
    server.lock().unwrap().put("a", "2");
    let change = tokio::time::timeout(PATIENCE, following)
        .await
        .unwrap()
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(matches!(change, Change::Applied(_)));
    let requests = server.lock().unwrap().requests.clone();
    assert!(
        requests
            .iter()
            .all(|query| query.contains("fieldSelector=metadata.name%3Da")),
        "{requests:?}"
    );
}
