//! The whole scheduler against an API server that keeps pods and nodes, and answers as a real one.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Objects of one kind and who watches them.
#[derive(Default)]
struct Store {
    objects: Vec<Value>,
    watchers: Vec<UnboundedSender<Value>>,
}

#[derive(Default)]
struct Server {
    version: u64,
    nodes: Store,
    pods: Store,
    /// Claims and volumes: there are none.
    others: Store,
    /// Everything that was written: method, path, body.
    writes: Vec<(String, String, Value)>,
    /// Bindings to refuse before the next is taken.
    refusals: usize,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Server>>);

impl Fake {
    fn client(&self) -> Client {
        let fake = self.clone();
        knode_client::from_service(tower::service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move { Ok::<_, Infallible>(fake.answer(request).await) }
        }))
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let (path, mut server) = (parts.uri.path().to_owned(), self.0.lock().unwrap());
        if parts.method == Method::GET {
            return server.watch(&path);
        }
        server
            .writes
            .push((parts.method.to_string(), path.clone(), body.clone()));
        let names: Vec<&str> = path.split('/').collect();
        match names.as_slice() {
            [.., "pods", name, "binding"] => server.bind(name, &body),
            [.., "pods", name, "status"] => server.patch(name, &body),
            _ => answer(StatusCode::CREATED, &body),
        }
    }

    fn put(&self, kind: &str, object: Value) {
        self.0.lock().unwrap().put(kind, object, "ADDED");
    }

    fn delete_pod(&self, name: &str) {
        let mut server = self.0.lock().unwrap();
        let at = server
            .pods
            .objects
            .iter()
            .position(|pod| pod["metadata"]["name"] == name)
            .unwrap();
        let pod = server.pods.objects.remove(at);
        server.pods.tell("DELETED", &pod);
    }

    fn written(&self, ending: &str) -> Vec<Value> {
        let server = self.0.lock().unwrap();
        let wanted = server.writes.iter().filter(|(_, path, _)| path.ends_with(ending));
        wanted.map(|(_, _, body)| body.clone()).collect()
    }

    async fn wait<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let seen = || self.0.lock().unwrap().writes.clone();
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "waited for {what}; written so far: {:#?}",
                seen()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn node_of(&self, pod: &str) -> String {
        let name = |fake: &Self| {
            let server = fake.0.lock().unwrap();
            let pod = server
                .pods
                .objects
                .iter()
                .find(|object| object["metadata"]["name"] == pod)?;
            pod["spec"]["nodeName"].as_str().map(str::to_owned)
        };
        self.wait(&format!("the node of {pod}"), name).await
    }
}

impl Store {
    fn tell(&mut self, kind: &str, object: &Value) {
        let event = json!({"type": kind, "object": object});
        self.watchers
            .retain(|watcher| watcher.unbounded_send(event.clone()).is_ok());
    }
}

impl Server {
    fn put(&mut self, kind: &str, mut object: Value, event: &str) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let store = if kind == "nodes" {
            &mut self.nodes
        } else {
            &mut self.pods
        };
        store
            .objects
            .retain(|other| other["metadata"]["name"] != object["metadata"]["name"]);
        store.objects.push(object.clone());
        store.tell(event, &object);
    }

    fn watch(&mut self, path: &str) -> Answer {
        let (kind, store) = match path.rsplit('/').next() {
            Some("nodes") => ("Node", &mut self.nodes),
            Some("pods") => ("Pod", &mut self.pods),
            _ => ("Other", &mut self.others),
        };
        let (sender, receiver): (_, UnboundedReceiver<Value>) = unbounded();
        for object in &store.objects {
            sender
                .unbounded_send(json!({"type": "ADDED", "object": object}))
                .unwrap();
        }
        let bookmark = json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": kind, "metadata": {
            "resourceVersion": self.version.to_string(), "annotations": {"k8s.io/initial-events-end": "true"},
        }, "spec": {"containers": []}}});
        sender.unbounded_send(bookmark).unwrap();
        store.watchers.push(sender);
        let lines = receiver.map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n")))));
        Response::new(BodyExt::boxed_unsync(StreamBody::new(lines)))
    }

    fn bind(&mut self, name: &str, binding: &Value) -> Answer {
        if self.refusals > 0 {
            self.refusals -= 1;
            return status(StatusCode::INTERNAL_SERVER_ERROR);
        }
        let Some(mut pod) = self
            .pods
            .objects
            .iter()
            .find(|pod| pod["metadata"]["name"] == name)
            .cloned()
        else {
            return status(StatusCode::NOT_FOUND);
        };
        if pod["spec"]["nodeName"].is_string() || pod["metadata"]["uid"] != binding["metadata"]["uid"] {
            return status(StatusCode::CONFLICT);
        }
        pod["spec"]["nodeName"] = binding["target"]["name"].clone();
        self.put("pods", pod, "MODIFIED");
        status(StatusCode::CREATED)
    }

    /// Enough of a strategic merge for one condition.
    fn patch(&mut self, name: &str, patch: &Value) -> Answer {
        let found = self
            .pods
            .objects
            .iter()
            .find(|pod| pod["metadata"]["name"] == name)
            .cloned();
        let Some(mut pod) = found else {
            return status(StatusCode::NOT_FOUND);
        };
        let change = patch["status"]["conditions"][0].as_object().unwrap();
        let mut condition = pod["status"]["conditions"]
            .get(0)
            .cloned()
            .unwrap_or_else(|| json!({}));
        for (field, value) in change {
            condition[field] = value.clone();
        }
        pod["status"]["conditions"] = json!([condition]);
        self.put("pods", pod.clone(), "MODIFIED");
        answer(StatusCode::OK, &pod)
    }
}

fn answer(code: StatusCode, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string()));
    Response::builder()
        .status(code)
        .body(BodyExt::boxed_unsync(body))
        .unwrap()
}

fn status(code: StatusCode) -> Answer {
    let outcome = if code.is_success() { "Success" } else { "Failure" };
    let body = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": outcome, "code": code.as_u16(),
        "message": code.canonical_reason(), "reason": code.canonical_reason(),
    });
    answer(code, &body)
}

fn node(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"}},
    })
}

fn pod(name: &str, cpu: &str) -> Value {
    let container = json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "generation": 1},
        "spec": {"containers": [container]}, "status": {"phase": "Pending", "conditions": []},
    })
}

/// Runs the scheduler while `test` does something to the server.
async fn with_scheduler(fake: &Fake, test: impl Future<Output = ()>) {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let scheduler = run(fake.client(), async {
        // Dropping the sender means the same.
        let _ = stopped.await;
    });
    let scheduler = tokio::spawn(scheduler);
    test.await;
    drop(stop);
    tokio::time::timeout(Duration::from_secs(5), scheduler)
        .await
        .expect("it ends when told to")
        .unwrap();
}

#[tokio::test]
async fn pods_are_bound_as_soon_as_they_appear() {
    let fake = Fake::default();
    fake.put("nodes", node("n1"));
    fake.put("pods", pod("early", "100m"));
    with_scheduler(&fake, async {
        assert_eq!(fake.node_of("early").await, "n1");
        for number in 0..15 {
            fake.put("pods", pod(&format!("p{number}"), "100m"));
        }
        for number in 0..15 {
            assert_eq!(fake.node_of(&format!("p{number}")).await, "n1");
        }
        let events = fake
            .wait("the events", |fake| {
                Some(fake.written("/events")).filter(|all| all.len() == 16)
            })
            .await;
        assert_eq!(events[0]["note"], "Successfully assigned ns/early to n1");
        assert_eq!(
            (&events[0]["reason"], &events[0]["action"]),
            (&json!("Scheduled"), &json!("Binding"))
        );
        let binding = &fake.written("/early/binding")[0];
        assert_eq!(binding["metadata"]["uid"], "uid-early");
        assert_eq!(binding["target"], json!({"kind": "Node", "name": "n1"}));
    })
    .await;
}

#[tokio::test]
async fn a_pod_without_room_says_so_and_is_bound_when_there_is() {
    let fake = Fake::default();
    fake.put("nodes", node("n1"));
    with_scheduler(&fake, async {
        fake.put("pods", pod("big", "1500m"));
        fake.node_of("big").await;
        fake.put("pods", pod("later", "1"));
        let patch = fake
            .wait("the condition", |fake| fake.written("/later/status").pop())
            .await;
        let condition = &patch["status"]["conditions"][0];
        assert_eq!(
            (&condition["reason"], &condition["status"]),
            (&json!("Unschedulable"), &json!("False"))
        );
        let message = condition["message"].as_str().unwrap().to_owned();
        assert!(
            message.starts_with("0/1 nodes are available: 1 Insufficient cpu. "),
            "{message}"
        );
        let warned = |fake: &Fake| {
            fake.written("/events")
                .into_iter()
                .find(|event| event["reason"] == "FailedScheduling")
        };
        assert_eq!(fake.wait("the event", warned).await["note"], message);
        fake.delete_pod("big");
        assert_eq!(fake.node_of("later").await, "n1");
        assert_eq!(fake.written("/later/status").len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_new_node_and_an_opened_gate_are_noticed() {
    let fake = Fake::default();
    let mut gated = pod("gated", "1");
    gated["spec"]["schedulingGates"] = json!([{"name": "g"}]);
    fake.put("pods", gated);
    fake.put("pods", pod("p", "1"));
    with_scheduler(&fake, async {
        let patch = fake
            .wait("the condition", |fake| fake.written("/p/status").pop())
            .await;
        assert_eq!(
            patch["status"]["conditions"][0]["message"],
            "no nodes available to schedule pods"
        );
        fake.put("nodes", node("n1"));
        assert_eq!(fake.node_of("p").await, "n1");
        assert_eq!(fake.written("/gated/status").len(), 0);
        let mut open = pod("gated", "1");
        open["metadata"]["generation"] = 2.into();
        fake.0.lock().unwrap().put("pods", open, "MODIFIED");
        assert_eq!(fake.node_of("gated").await, "n1");
    })
    .await;
}

#[tokio::test]
async fn a_failed_binding_gives_the_room_back_and_is_tried_again() {
    let fake = Fake::default();
    fake.put("nodes", node("n1"));
    fake.0.lock().unwrap().refusals = 1;
    with_scheduler(&fake, async {
        fake.put("pods", pod("unlucky", "2"));
        assert_eq!(fake.node_of("unlucky").await, "n1");
        assert_eq!(fake.written("/unlucky/binding").len(), 2);
    })
    .await;
}
