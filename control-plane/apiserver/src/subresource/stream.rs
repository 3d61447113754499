//! Requests that become connections: exec, attach, port forwarding; and whatever is asked of a kubelet.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use knode_api::status::Status;

use super::log::encode;
use super::{Stream, container};
use crate::core::Core;
use crate::http::{Body, Failure, Outcome, RequestBody};
use crate::kubelet::Target;
use crate::registry::Ask;

/// Headers that are about the way to this server and not about the request.
const HOP: [HeaderName; 5] = [
    header::HOST,
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::ACCEPT_ENCODING,
];

/// Tunnels an exec, attach or port forwarding to the pod's kubelet.
pub(super) async fn tunnel(core: &Arc<Core>, ask: &Ask, stream: Stream) -> Outcome {
    let pod = container::pod(core, ask).await?;
    let (namespace, name) = (&ask.info.namespace, &ask.info.name);
    let path = match ask.info.subresource.as_str() {
        "portforward" => format!(
            "/portForward/{namespace}/{name}{}",
            query(ask, &["port", "ports"])
        ),
        verb => {
            let container = container::container(ask, &pod)?;
            format!("/{verb}/{namespace}/{name}/{container}{}", exec_query(ask)?)
        }
    };
    let node = container::node(&pod);
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")).into());
    }
    let target = Target::of_node(core, node)?;
    upgrade(core, ask, &target, &path, stream).await
}

/// The kubelet's names of the options of exec and attach.
fn exec_query(ask: &Ask) -> Result<String, Failure> {
    let mut parts: Vec<String> = ask
        .query
        .all("command")
        .map(|word| format!("command={}", encode(word)))
        .collect();
    if ask.info.subresource == "exec" && parts.is_empty() {
        return Err(Status::bad_request("you must specify at least one command for the container").into());
    }
    let streams = [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ];
    let wanted: Vec<_> = streams.iter().filter(|(ours, _)| ask.query.flag(ours)).collect();
    if !wanted.iter().any(|(ours, _)| *ours != "tty") {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr").into());
    }
    parts.extend(wanted.iter().map(|(_, theirs)| format!("{theirs}=1")));
    Ok(format!("?{}", parts.join("&")))
}

fn query(ask: &Ask, names: &[&str]) -> String {
    let parts: Vec<String> = names
        .iter()
        .flat_map(|name| {
            ask.query
                .all(name)
                .map(move |value| format!("{name}={}", encode(value)))
        })
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!("?{}", parts.join("&"))
    }
}

/// Sends the request on as it is. If the kubelet changes protocols, so does this server, and bytes go both ways.
async fn upgrade(core: &Arc<Core>, ask: &Ask, target: &Target, path: &str, mut stream: Stream) -> Outcome {
    let Some(client) = stream.extensions.remove::<OnUpgrade>() else {
        return Err(Status::bad_request("Upgrade request required").into());
    };
    if !ask.headers.contains_key(header::UPGRADE) {
        return Err(Status::bad_request("Upgrade request required").into());
    }
    let mut request = Request::new(Body::full(""));
    *request.method_mut() = stream.method;
    *request.headers_mut() = passed_on(&ask.headers);
    let mut response = core.kubelets.send(target, path, request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response.map(Body::wrap));
    }
    let kubelet = hyper::upgrade::on(&mut response);
    let mut closing = core.closing.subscribe();
    tokio::spawn(async move {
        let (client, kubelet) = match tokio::try_join!(client, kubelet) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "a tunnel didn't come about"),
        };
        let (mut client, mut kubelet) = (TokioIo::new(client), TokioIo::new(kubelet));
        tokio::select! {
            ended = tokio::io::copy_bidirectional(&mut client, &mut kubelet) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a tunnel broke");
                }
            }
            _ = closing.wait_for(|closing| *closing) => {}
        }
    });
    let mut answer = Response::new(Body::full(""));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = response.headers().clone();
    Ok(answer)
}

fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    HOP.iter().for_each(|name| drop(headers.remove(name)));
    headers
}

/// Whatever is asked of a node's kubelet.
pub(super) async fn node_proxy(core: &Arc<Core>, ask: &Ask, stream: Stream, body: RequestBody) -> Outcome {
    let target = Target::of_node(core, &ask.info.name)?;
    let query = if stream.raw_query.is_empty() {
        String::new()
    } else {
        format!("?{}", stream.raw_query)
    };
    let path = format!("/{}{query}", ask.info.rest);
    if ask.headers.contains_key(header::UPGRADE) {
        return upgrade(core, ask, &target, &path, stream).await;
    }
    let mut request = Request::new(Body::of_request(body));
    *request.method_mut() = stream.method;
    *request.headers_mut() = passed_on(&ask.headers);
    request.headers_mut().remove(header::CONNECTION);
    let response = core.kubelets.send(&target, &path, request).await?;
    let mut response = response.map(Body::wrap);
    response.headers_mut().remove(header::CONNECTION);
    response.headers_mut().remove(header::TRANSFER_ENCODING);
    Ok(response)
}
