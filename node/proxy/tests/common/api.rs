//! An API server that knows watches: current objects, a bookmark, then changes as they are made.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;
use hyper::body::Frame;
use knode_client::Client;
use serde_json::{Value, json};

type Body = BoxBody<Bytes, Infallible>;

#[derive(Default)]
struct State {
    version: u64,
    /// Plural of the resource and name to object.
    objects: BTreeMap<(String, String), Value>,
    events: Vec<String>,
    watchers: Vec<(String, UnboundedSender<String>)>,
}

/// Holds objects and tells watchers of them.
#[derive(Clone, Default)]
pub struct Api(Arc<Mutex<State>>);

impl Api {
    /// A client whose requests come here.
    pub fn client(&self) -> Client {
        let api = self.clone();
        knode_client::from_service(tower::service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move {
                if *request.method() == http::Method::POST {
                    return Ok::<_, Infallible>(api.created(request).await);
                }
                Ok(api.answer(request.uri()))
            }
        }))
    }

    /// Creates or changes an object in namespace `a`.
    pub fn set(&self, resource: &str, name: &str, mut object: Value) {
        let mut state = self.0.lock().expect("lock");
        state.version += 1;
        object["metadata"]["name"] = name.into();
        object["metadata"]["namespace"] = "a".into();
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        let old = state
            .objects
            .insert((resource.to_owned(), name.to_owned()), object.clone());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        state.tell(resource, &json!({"type": kind, "object": object}));
    }

    /// Deletes an object.
    pub fn delete(&self, resource: &str, name: &str) {
        let mut state = self.0.lock().expect("lock");
        state.version += 1;
        let mut object = state
            .objects
            .remove(&(resource.to_owned(), name.to_owned()))
            .expect("it is there");
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        state.tell(resource, &json!({"type": "DELETED", "object": object}));
    }

    /// The reasons of the events that came.
    pub fn event_reasons(&self) -> Vec<String> {
        self.0.lock().expect("lock").events.clone()
    }

    async fn created(&self, request: Request<kube::client::Body>) -> Response<Body> {
        use http_body_util::BodyExt;
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        let object: Value = serde_json::from_slice(&body).expect("an object");
        let reason = object["reason"].as_str().unwrap_or_default().to_owned();
        self.0.lock().expect("lock").events.push(reason);
        let mut response = Response::new(BoxBody::new(http_body_util::Full::new(body)));
        *response.status_mut() = StatusCode::CREATED;
        response
    }

    fn answer(&self, uri: &http::Uri) -> Response<Body> {
        let resource = uri.path().rsplit('/').next().unwrap_or_default().to_owned();
        let query = uri.query().unwrap_or_default();
        assert!(query.contains("watch=true"), "only watches are expected: {uri}");
        let (sender, receiver) = unbounded();
        let mut state = self.0.lock().expect("lock");
        let mut lines = Vec::new();
        if query.contains("sendInitialEvents=true") {
            let of_resource = state.objects.iter().filter(|((of, _), _)| *of == resource);
            lines.extend(of_resource.map(|(_, object)| line(&json!({"type": "ADDED", "object": object}))));
            lines.push(line(&bookmark(&resource, state.version)));
        }
        state.watchers.push((resource, sender));
        let frames = stream::iter(lines)
            .chain(receiver)
            .map(|line| Ok(Frame::data(Bytes::from(line))));
        let mut response = Response::new(BoxBody::new(StreamBody::new(frames)));
        *response.status_mut() = StatusCode::OK;
        response
    }
}

impl State {
    fn tell(&mut self, resource: &str, event: &Value) {
        self.watchers
            .retain(|(of, watcher)| of != resource || watcher.unbounded_send(line(event)).is_ok());
    }
}

fn line(event: &Value) -> String {
    format!("{event}\n")
}

fn bookmark(resource: &str, version: u64) -> Value {
    let (group, kind) = match resource {
        "services" => ("v1", "Service"),
        "nodes" => ("v1", "Node"),
        _ => ("discovery.k8s.io/v1", "EndpointSlice"),
    };
    json!({"type": "BOOKMARK", "object": {"apiVersion": group, "kind": kind, "metadata": {
        "resourceVersion": version.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}
    }}})
}
