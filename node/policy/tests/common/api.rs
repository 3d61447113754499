//! An API server that knows watches: current objects, a bookmark, then changes as they are made.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use knode_client::Client;
use serde_json::{Value, json};

type Body = BoxBody<Bytes, Infallible>;

#[derive(Default)]
struct State {
    version: u64,
    /// Plural of the resource, namespace and name to object.
    objects: BTreeMap<(String, String, String), Value>,
    watchers: Vec<Watch>,
    /// Resources that may not be read.
    forbidden: Vec<String>,
}

struct Watch {
    resource: String,
    /// The node whose pods are asked for.
    node: Option<String>,
    sender: UnboundedSender<String>,
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
            async move { Ok::<_, Infallible>(api.answer(request.uri())) }
        }))
    }

    /// Creates or changes an object, by `namespace/name` or name.
    pub fn set(&self, resource: &str, name: &str, mut object: Value) {
        let mut state = self.0.lock().expect("lock");
        state.version += 1;
        let key = key(resource, name);
        object["metadata"]["name"] = key.2.clone().into();
        if !key.1.is_empty() {
            object["metadata"]["namespace"] = key.1.clone().into();
        }
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        let old = state.objects.insert(key, object.clone());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        state.tell(resource, kind, &object);
    }

    /// Deletes an object.
    pub fn delete(&self, resource: &str, name: &str) {
        let mut state = self.0.lock().expect("lock");
        state.version += 1;
        let mut object = state.objects.remove(&key(resource, name)).expect("it is there");
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        state.tell(resource, "DELETED", &object);
    }

    /// Refuses to show a resource, or shows it again.
    pub fn forbid(&self, resource: &str, is_forbidden: bool) {
        let mut state = self.0.lock().expect("lock");
        state.forbidden.retain(|other| other != resource);
        if is_forbidden {
            state.forbidden.push(resource.to_owned());
        }
    }

    /// What is watched at the moment: resources, those of one node with its name.
    pub fn watched(&self) -> Vec<String> {
        let mut state = self.0.lock().expect("lock");
        state.watchers.retain(|watch| !watch.sender.is_closed());
        let name = |watch: &Watch| match &watch.node {
            Some(node) => format!("{} of {node}", watch.resource),
            None => watch.resource.clone(),
        };
        let mut all: Vec<String> = state.watchers.iter().map(name).collect();
        all.sort();
        all
    }

    fn answer(&self, uri: &http::Uri) -> Response<Body> {
        let resource = uri.path().rsplit('/').next().unwrap_or_default().to_owned();
        let query = uri.query().unwrap_or_default();
        assert!(query.contains("watch=true"), "only watches are expected: {uri}");
        let node = query
            .split('&')
            .find_map(|part| part.strip_prefix("fieldSelector=spec.nodeName%3D"))
            .map(str::to_owned);
        let (sender, receiver) = unbounded();
        let mut state = self.0.lock().expect("lock");
        if state.forbidden.contains(&resource) {
            return forbidden(&resource);
        }
        let watch = Watch {
            resource,
            node,
            sender,
        };
        let mut lines = Vec::new();
        if query.contains("sendInitialEvents=true") {
            let known = state.objects.iter();
            let wanted = known.filter(|((of, ..), object)| watch.wants(of, object));
            lines.extend(wanted.map(|(_, object)| line("ADDED", object)));
            lines.push(bookmark(&watch.resource, state.version));
        }
        state.watchers.push(watch);
        let frames = stream::iter(lines)
            .chain(receiver)
            .map(|line| Ok(Frame::data(Bytes::from(line))));
        Response::new(BoxBody::new(StreamBody::new(frames)))
    }
}

fn key(resource: &str, name: &str) -> (String, String, String) {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    (resource.to_owned(), namespace.to_owned(), name.to_owned())
}

fn forbidden(resource: &str) -> Response<Body> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403,
                        "message": format!("{resource} is forbidden")});
    let mut response = Response::new(BoxBody::new(Full::new(Bytes::from(status.to_string()))));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}

impl Watch {
    fn wants(&self, resource: &str, object: &Value) -> bool {
        let node = |node: &String| object["spec"]["nodeName"] == **node;
        resource == self.resource && self.node.as_ref().is_none_or(node)
    }
}

impl State {
    fn tell(&mut self, resource: &str, kind: &str, object: &Value) {
        self.watchers.retain(|watch| {
            !watch.wants(resource, object) || watch.sender.unbounded_send(line(kind, object)).is_ok()
        });
    }
}

fn line(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

fn bookmark(resource: &str, version: u64) -> String {
    let (group, kind) = match resource {
        "pods" => ("v1", "Pod"),
        "namespaces" => ("v1", "Namespace"),
        _ => ("networking.k8s.io/v1", "NetworkPolicy"),
    };
    let metadata =
        json!({"resourceVersion": version.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}});
    line(
        "BOOKMARK",
        &json!({"apiVersion": group, "kind": kind, "metadata": metadata}),
    )
}
