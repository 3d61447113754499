//! Logs of containers, streamed from the kubelet.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use knode_api::field::FieldError;
use knode_api::status::{Cause, Details, GroupResource, Status};

use super::container;
use crate::core::Core;
use crate::http::{Body, Failure, Outcome, Query};
use crate::kubelet::Target;
use crate::registry::Ask;

/// As much of a kubelet's error is passed on.
const MAX_ERROR: usize = 2048;
/// Options that go to the kubelet as they are.
const OPTIONS: [&str; 8] = [
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "tailLines",
    "limitBytes",
    "stream",
];

/// The answer to a GET of a log.
pub(super) async fn log(core: &Arc<Core>, ask: &Ask) -> Outcome {
    let pod = container::pod(core, ask).await?;
    check(ask)?;
    let name = container::container(ask, &pod)?;
    let node = container::node(&pod);
    if node.is_empty() {
        let mut response = Response::new(Body::full(Bytes::new()));
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let target = Target::of_node(core, node)?;
    let (namespace, pod_name) = (&ask.info.namespace, &ask.info.name);
    let path = format!(
        "/containerLogs/{namespace}/{pod_name}/{name}{}",
        options(&ask.query)
    );
    let response = core.kubelets.get(&target, &path).await?;
    if response.status() != StatusCode::OK {
        return Err(refused(ask, response).await);
    }
    let mut answer = Response::new(Body::wrap(response.into_body()));
    let plain = http::HeaderValue::from_static("text/plain");
    answer.headers_mut().insert(header::CONTENT_TYPE, plain);
    Ok(answer)
}

fn check(ask: &Ask) -> Result<(), Failure> {
    let mut errors = Vec::new();
    let mut at_least = |field: &'static str, least: i64, why: &str| {
        if let Some(number) = ask.query.get(field).and_then(|text| text.parse::<i64>().ok())
            && number < least
        {
            errors.push(FieldError::invalid(field, number, why));
        }
    };
    at_least("tailLines", 0, "must be greater than or equal to 0");
    at_least("limitBytes", 1, "must be greater than 0");
    at_least("sinceSeconds", 1, "must be greater than 0");
    if ask.query.get("sinceSeconds").is_some() && ask.query.get("sinceTime").is_some() {
        errors.push(FieldError::forbidden(
            "",
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(GroupResource::new("", "PodLogOptions"), &ask.info.name, &errors).into())
}

fn options(query: &Query) -> String {
    let given = OPTIONS
        .iter()
        .filter_map(|name| Some(format!("{name}={}", encode(query.get(name)?))));
    let text = given.collect::<Vec<_>>().join("&");
    if text.is_empty() { text } else { format!("?{text}") }
}

/// Writes a value of a query.
pub(super) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|b| {
            if plain(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

/// A kubelet's refusal in upstream's words (`GenericHttpResponseChecker`).
async fn refused(ask: &Ask, response: Response<Incoming>) -> Failure {
    let code = response.status();
    let text = match Limited::new(response.into_body(), MAX_ERROR).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => error.to_string(),
    };
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text).into(),
        StatusCode::INTERNAL_SERVER_ERROR => Status::internal(text).into(),
        other => generic(ask, other, text).into(),
    }
}

fn generic(ask: &Ask, code: StatusCode, text: String) -> Status {
    let resource = ask.info.resource_path();
    let (reason, message) = match code {
        StatusCode::NOT_FOUND => ("NotFound", "the server could not find the requested resource"),
        StatusCode::FORBIDDEN => (
            "Forbidden",
            "the server does not allow access to the requested resource",
        ),
        StatusCode::UNAUTHORIZED => (
            "Unauthorized",
            "the server has asked for the client to provide credentials",
        ),
        _ => ("", "an error on the server"),
    };
    let mut status = Status::internal("");
    status.code = code.as_u16();
    status.reason = reason;
    status.message = format!("{message} ( {resource} {})", ask.info.name);
    let cause = Cause {
        reason: "UnexpectedServerResponse".into(),
        message: text,
        field: String::new(),
    };
    status.details = Some(Details {
        name: ask.info.name.clone(),
        kind: resource,
        causes: vec![cause],
        ..Details::default()
    });
    status
}
