//! What lies below an object.

mod binding;
mod container;
mod eviction;
mod log;
mod stream;
mod token;

use std::sync::Arc;

use http::StatusCode;
use knode_api::status::Status;

use crate::core::Core;
use crate::http::{Outcome, RequestBody, read_body};
use crate::registry::{Ask, Source, patch, render_object, update};
use crate::request::Verb;

/// What a tunnel needs beside the request's path.
pub(crate) struct Stream {
    pub extensions: http::Extensions,
    pub method: http::Method,
    pub raw_query: String,
}

/// Answers a request for a subresource.
pub(crate) async fn dispatch(core: &Arc<Core>, ask: &mut Ask, body: RequestBody, stream: Stream) -> Outcome {
    let Some(subresource) = ask.subresource else {
        return Err(Status::no_such_resource().into());
    };
    if !ask.info.named_by_path || !subresource.verbs.contains(&ask.info.verb.name()) {
        return Err(Status::method_not_allowed().into());
    }
    match (ask.kind.plural, subresource.name, ask.info.verb) {
        ("pods", "binding", _) => binding::bind(core, ask, &read_body(body).await?).await,
        ("pods", "eviction", _) => eviction::evict(core, ask, &read_body(body).await?).await,
        ("pods", "log", _) => log::log(core, ask).await,
        ("pods", "exec" | "attach" | "portforward", _) => stream::tunnel(core, ask, stream).await,
        ("nodes", "proxy", _) => stream::node_proxy(core, ask, stream, body).await,
        ("pods" | "services", "proxy", _) => Err(unsupported(ask)),
        ("serviceaccounts", "token", _) => token::request(core, ask, &read_body(body).await?).await,
        (_, "scale", _) => Err(unsupported(ask)),
        (_, _, Verb::Get) => {
            let object = core
                .current(ask.kind, &ask.key())
                .await?
                .ok_or_else(|| ask.not_found())?;
            render_object(ask, StatusCode::OK, Source::Kept(object))
        }
        (_, _, Verb::Update) => update(core, ask, &read_body(body).await?).await,
        (_, _, Verb::Patch) => patch(core, ask, &read_body(body).await?).await,
        _ => Err(Status::method_not_allowed().into()),
    }
}

/// 501 for what this server doesn't do.
fn unsupported(ask: &Ask) -> crate::http::Failure {
    let mut status = Status::internal("");
    status.code = 501;
    status.reason = "NotImplemented";
    status.message = format!("{} is not supported by this server", ask.info.resource_path());
    status.details = None;
    status.into()
}
