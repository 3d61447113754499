//! An API server that knows one cluster and watches, over plain HTTP; it makes the objects as it sends them.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::objects::{Cluster, service_object, slice_object, slices};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Service,
    Slice,
    Node,
}

impl Kind {
    fn of(path: &str) -> Self {
        match path.rsplit('/').next() {
            Some("services") => Self::Service,
            Some("endpointslices") => Self::Slice,
            _ => Self::Node,
        }
    }
}

/// Who watches what.
type Watcher = (Kind, UnboundedSender<String>);

/// The server; clones are the same one.
#[derive(Clone)]
pub struct Server {
    cluster: Cluster,
    watchers: Arc<Mutex<Vec<Watcher>>>,
}

impl Server {
    /// Serves a cluster on a port of its own, in the current runtime.
    pub async fn start(cluster: Cluster) -> (Self, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listen");
        let address = listener.local_addr().expect("an address");
        let server = Self {
            cluster,
            watchers: Arc::default(),
        };
        tokio::spawn(server.clone().accept(listener));
        (server, address)
    }

    /// Tells the watchers that an object was added, changed or deleted.
    pub fn tell(&self, kind: Kind, event: &str, mut object: Value) {
        object["metadata"]["resourceVersion"] = "2".into();
        let text = line(event, &object);
        let mut watchers = self.watchers.lock().expect("lock");
        watchers.retain(|(of, watcher)| *of != kind || watcher.unbounded_send(text.clone()).is_ok());
        assert!(watchers.iter().any(|(of, _)| *of == kind), "nobody watches");
    }

    async fn accept(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let server = self.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let server = server.clone();
                    async move { Ok::<_, Infallible>(server.answer(request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                // It breaks when the proxy ends.
                let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        if request.method() != Method::GET {
            // An Event: it comes back as it came.
            let body = request.into_body().collect().await;
            let body = body.expect("a body").to_bytes();
            return response(StatusCode::CREATED, Full::new(body).boxed_unsync());
        }
        let kind = Kind::of(&path);
        let initial: Vec<Line> = match kind {
            Kind::Service => vec![self.services(), bookmark("v1", "Service")],
            Kind::Slice => vec![self.slices(), bookmark("discovery.k8s.io/v1", "EndpointSlice")],
            Kind::Node => vec![bookmark("v1", "Node")],
        };
        let (sender, changes) = unbounded();
        self.watchers.lock().expect("lock").push((kind, sender));
        let lines = stream::iter(initial.into_iter().flatten()).chain(changes);
        let frames = lines.map(|text| Ok(Frame::data(Bytes::from(text))));
        response(StatusCode::OK, StreamBody::new(frames).boxed_unsync())
    }

    fn services(&self) -> Line {
        let numbers = 0..self.cluster.services;
        Box::new(numbers.map(|number| line("ADDED", &service_object(number))))
    }

    fn slices(&self) -> Line {
        let cluster = self.cluster;
        let all = (0..cluster.services)
            .flat_map(move |number| slices(cluster.endpoints).map(move |endpoints| (number, endpoints)));
        Box::new(all.map(|(number, endpoints)| line("ADDED", &slice_object(number, endpoints))))
    }
}

/// Lines that are made when they are wanted.
type Line = Box<dyn Iterator<Item = String> + Send>;

fn line(event: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": event, "object": object}))
}

fn bookmark(version: &str, kind: &str) -> Line {
    let object = json!({"apiVersion": version, "kind": kind, "metadata": {
        "resourceVersion": "1", "annotations": {"k8s.io/initial-events-end": "true"}
    }});
    Box::new(std::iter::once(line("BOOKMARK", &object)))
}

fn response(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}
