//! Nodes behind the API: list, watch and patch, with state.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use knode_client::Client;
use serde_json::{Value, json};

type Body = UnsyncBoxBody<Bytes, Infallible>;

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Value>,
    version: u64,
    watchers: Vec<mpsc::UnboundedSender<Value>>,
    patched: Vec<String>,
    refuse: bool,
}

/// The server; clones are the same.
#[derive(Clone, Default)]
pub struct Server {
    state: Arc<Mutex<State>>,
}

impl Server {
    pub fn new(nodes: impl IntoIterator<Item = Value>) -> Self {
        let server = Self::default();
        nodes.into_iter().for_each(|node| server.put(node));
        server
    }

    pub fn client(&self) -> Client {
        let server = self.clone();
        knode_client::from_service(tower::service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        }))
    }

    pub fn put(&self, node: Value) {
        let mut state = self.state.lock().unwrap();
        let kind = if state.nodes.contains_key(&name(&node)) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        state.store(kind, node);
    }

    pub fn delete(&self, name: &str) {
        let mut state = self.state.lock().unwrap();
        let node = state.nodes.remove(name).unwrap();
        state.tell("DELETED", &node);
    }

    pub fn annotate(&self, name: &str, key: &str, value: &str) {
        let mut node = self.node(name);
        node["metadata"]["annotations"][key] = value.into();
        self.put(node);
    }

    pub fn node(&self, name: &str) -> Value {
        self.state.lock().unwrap().nodes[name].clone()
    }

    pub fn patched(&self) -> Vec<String> {
        self.state.lock().unwrap().patched.clone()
    }

    pub fn refuse_patches(&self) {
        self.state.lock().unwrap().refuse = true;
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let (path, query) = (
            parts.uri.path().to_owned(),
            parts.uri.query().unwrap_or_default().to_owned(),
        );
        if parts.method == Method::PATCH {
            let patch = body.collect().await.unwrap().to_bytes();
            return self.patch(&path, &serde_json::from_slice(&patch).unwrap());
        }
        assert_eq!((parts.method, path.as_str()), (Method::GET, "/api/v1/nodes"));
        if query.contains("watch=true") {
            self.watch(&query)
        } else {
            self.list()
        }
    }

    fn list(&self) -> Response<Body> {
        let state = self.state.lock().unwrap();
        let items: Vec<_> = state.nodes.values().collect();
        let metadata = json!({ "resourceVersion": state.version.to_string() });
        reply(
            StatusCode::OK,
            &json!({ "apiVersion": "v1", "kind": "NodeList", "metadata": metadata, "items": items }),
        )
    }

    fn watch(&self, query: &str) -> Response<Body> {
        let mut state = self.state.lock().unwrap();
        let (sender, receiver) = mpsc::unbounded();
        if query.contains("sendInitialEvents=true") {
            for node in state.nodes.values() {
                sender
                    .unbounded_send(json!({ "type": "ADDED", "object": node }))
                    .unwrap();
            }
            let metadata = json!({
                "resourceVersion": state.version.to_string(),
                "annotations": { "k8s.io/initial-events-end": "true" },
            });
            let end = json!({ "apiVersion": "v1", "kind": "Node", "metadata": metadata });
            sender
                .unbounded_send(json!({ "type": "BOOKMARK", "object": end }))
                .unwrap();
        }
        state.watchers.push(sender);
        let lines = receiver.map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n")))));
        Response::new(StreamBody::new(lines).boxed_unsync())
    }

    fn patch(&self, path: &str, patch: &Value) -> Response<Body> {
        let mut state = self.state.lock().unwrap();
        state.patched.push(path.to_owned());
        let name = path
            .trim_start_matches("/api/v1/nodes/")
            .trim_end_matches("/status")
            .to_owned();
        let Some(mut node) = state.nodes.get(&name).cloned().filter(|_| !state.refuse) else {
            let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "message": "no", "code": 403 });
            return reply(StatusCode::FORBIDDEN, &status);
        };
        json_patch::merge(&mut node, patch);
        let node = state.store("MODIFIED", node);
        reply(StatusCode::OK, &node)
    }
}

impl State {
    fn store(&mut self, kind: &str, mut node: Value) -> Value {
        self.version += 1;
        node["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.nodes.insert(name(&node), node.clone());
        self.tell(kind, &node);
        node
    }

    fn tell(&mut self, kind: &str, node: &Value) {
        let event = json!({ "type": kind, "object": node });
        self.watchers
            .retain(|watcher| watcher.unbounded_send(event.clone()).is_ok());
    }
}

fn name(node: &Value) -> String {
    node["metadata"]["name"].as_str().unwrap().to_owned()
}

fn reply(status: StatusCode, value: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(value.to_string())).boxed_unsync();
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}
