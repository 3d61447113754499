//! From a request for a resource to the verb.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Response, header};
use knode_api::status::Status;
use knode_kinds::{Kind, Storage};

use super::{Ask, create, delete, get, list, patch, update, watch};
use crate::core::Core;
use crate::http::{Body, Failure, Outcome, Query, RequestBody, not_found_page, read_body};
use crate::request::{RequestInfo, Verb};
use crate::subresource;
use crate::user::UserInfo;
use crate::virtuals;

/// What comes with a request beside its path.
pub(crate) struct Sent {
    pub headers: HeaderMap,
    pub query: Query,
    pub body: RequestBody,
    pub extensions: http::Extensions,
    pub method: http::Method,
    pub raw_query: String,
}

/// Answers a request for a resource. The sender may ask it: that was checked before.
pub(crate) async fn dispatch(core: &Arc<Core>, info: RequestInfo, user: UserInfo, sent: Sent) -> Outcome {
    let Some(kind) = knode_kinds::find(&info.group, &info.version, &info.resource) else {
        return unknown(&info);
    };
    check_scope(kind, &info)?;
    let subresource = match info.subresource.as_str() {
        "" => None,
        name => Some(kind.subresource(name).ok_or_else(Status::no_such_resource)?),
    };
    let Sent {
        headers,
        query,
        body,
        extensions,
        method,
        raw_query,
    } = sent;
    let mut ask = Ask {
        info,
        query,
        headers,
        user,
        kind,
        subresource,
        warnings: Vec::new(),
    };
    let mut response = match ask.subresource {
        None if kind.storage == Storage::Virtual => virtuals::create(core, &mut ask, body).await?,
        None => on_resource(core, &mut ask, body).await?,
        Some(_) => {
            let stream = subresource::Stream {
                extensions,
                method,
                raw_query,
            };
            subresource::dispatch(core, &mut ask, body, stream).await?
        }
    };
    add_warnings(&mut response, &ask.warnings);
    Ok(response)
}

fn unknown(info: &RequestInfo) -> Outcome {
    let known = knode_kinds::kinds()
        .iter()
        .any(|k| k.group == info.group && k.version == info.version);
    if known {
        Err(Status::no_such_resource().into())
    } else {
        Ok(not_found_page())
    }
}

/// Namespaced kinds are created, read and changed below a namespace, others never.
fn check_scope(kind: &Kind, info: &RequestInfo) -> Result<(), Failure> {
    let namespaced = !info.namespace.is_empty() && kind.plural != "namespaces";
    match (kind.namespaced, namespaced) {
        (false, true) => Err(Status::no_such_resource().into()),
        (true, false) if info.named_by_path => Err(Status::no_such_resource().into()),
        (true, false)
            if matches!(info.verb, Verb::Create | Verb::DeleteCollection)
                && kind.storage != Storage::Virtual =>
        {
            Err(Status::method_not_allowed().into())
        }
        _ => Ok(()),
    }
}

async fn on_resource(core: &Arc<Core>, ask: &mut Ask, body: RequestBody) -> Outcome {
    let named = ask.info.named_by_path;
    let fits = match ask.info.verb {
        Verb::Get | Verb::Update | Verb::Patch | Verb::Delete => named,
        Verb::List | Verb::Create | Verb::DeleteCollection => !named,
        Verb::Watch => true,
        Verb::Head | Verb::Options => false,
    };
    if !fits || !ask.kind.has_verb(ask.info.verb.name()) {
        return Err(Status::method_not_allowed().into());
    }
    match ask.info.verb {
        Verb::Get => get::get(core, ask).await,
        Verb::List => list::list(core, ask).await,
        Verb::Watch => watch::watch(core, ask).await,
        Verb::Create => create::create(core, ask, &read_body(body).await?).await,
        Verb::Update => update::update(core, ask, &read_body(body).await?).await,
        Verb::Patch => patch::patch(core, ask, &read_body(body).await?).await,
        Verb::Delete => delete::delete(core, ask, &read_body(body).await?).await,
        Verb::DeleteCollection => delete::delete_collection(core, ask, &read_body(body).await?).await,
        Verb::Head | Verb::Options => Err(Status::method_not_allowed().into()),
    }
}

/// Headers `Warning`, each text once (RFC 7234, as upstream writes them).
fn add_warnings(response: &mut Response<Body>, warnings: &[String]) {
    let mut seen: Vec<&str> = Vec::new();
    for warning in warnings {
        if seen.contains(&warning.as_str()) {
            continue;
        }
        seen.push(warning);
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        match HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            Ok(value) => drop(response.headers_mut().append(header::WARNING, value)),
            Err(error) => tracing::debug!(%error, "a warning that no header can carry"),
        }
    }
}
