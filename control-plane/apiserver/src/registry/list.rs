//! Lists, whole or in pages.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use knode_api::status::Status;
use knode_kinds::table;
use knode_store::{Range, Revision};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Ask;
use super::render::{self, Shape, view};
use crate::cache::{Filter, Object, Table, storage_key};
use crate::clock::now;
use crate::core::Core;
use crate::http::{Failure, Form, Outcome, json_bytes};
use crate::request::{ListOptions, Match};

/// How long a list waits for a revision that is yet to come.
const PATIENCE: Duration = Duration::from_secs(3);
/// Objects read from the store's history at a time.
const HISTORY_PAGE: usize = 256;

/// Upstream's continue token (`k8s.io/apiserver/pkg/storage/continue.go`).
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// A page of a list.
pub(crate) struct Listed {
    pub objects: Vec<Arc<Object>>,
    pub revision: Revision,
    pub continue_token: Option<String>,
    pub remaining: Option<usize>,
}

/// Where a list begins and at which revision.
struct Plan {
    revision: At,
    start: Option<String>,
    limit: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Latest,
    Cached,
    Exactly(Revision),
}

/// The answer to a list.
pub(crate) async fn list(core: &Core, ask: &Ask) -> Outcome {
    let (form, shape) = render::shape(ask)?;
    let options = ListOptions::parse(&ask.query, false)?;
    let filter = filter(ask, &options)?;
    let listed = find(core, &filter, &options).await?;
    encode(ask, form, shape, &listed)
}

/// What the request's path and selectors are about.
pub(crate) fn filter(ask: &Ask, options: &ListOptions) -> Result<Filter, Failure> {
    options
        .fields
        .check(|field| ask.kind.knows_field(field))
        .map_err(|e| Status::bad_request(e.0))?;
    Ok(Filter {
        kind: ask.kind,
        namespace: ask.info.namespace.clone(),
        // Watches by an old path name their object there.
        name: if ask.info.named_by_path {
            ask.info.name.clone()
        } else {
            String::new()
        },
        labels: options.labels.clone(),
        fields: options.fields.clone(),
    })
}

/// The objects of a list.
pub(crate) async fn find(core: &Core, filter: &Filter, options: &ListOptions) -> Result<Listed, Failure> {
    let table = core.table(filter.kind)?;
    let plan = plan(core, options).await?;
    let prefix = filter.prefix();
    let key = |start: &str| format!("{prefix}{}", start.trim_start_matches('/'));
    let start = plan.start.as_deref().map(key);
    let wanted = plan
        .limit
        .checked_add(1)
        .filter(|_| plan.limit > 0)
        .unwrap_or(usize::MAX);
    let (revision, is_past) = match plan.revision {
        At::Exactly(revision) => (revision, table.latest() > revision),
        At::Latest | At::Cached => (core.cache.progress(), false),
    };
    let mut objects = if is_past || table.is_indexed() {
        let found = stored(core, &table, filter, start.as_deref(), wanted, revision).await;
        found.map_err(|failure| expired(failure, options))?
    } else {
        table.list_from(filter, start.as_deref(), wanted)
    };
    let more = plan.limit > 0 && objects.len() > plan.limit;
    objects.truncate(if more { plan.limit } else { usize::MAX });
    let continue_token = match objects.last() {
        Some(last) if more => Some(token(revision, filter, &last.key)),
        _ => None,
    };
    let remaining = match objects.last() {
        Some(last) if more && filter.is_unselective() => Some(table.count_after(&prefix, &last.key)),
        _ => None,
    };
    Ok(Listed {
        objects,
        revision,
        continue_token,
        remaining,
    })
}

async fn plan(core: &Core, options: &ListOptions) -> Result<Plan, Failure> {
    if let Some(text) = &options.continue_token {
        let token = read_token(text)?;
        let revision = match u64::try_from(token.rv) {
            Ok(revision) => {
                reach(core, revision).await?;
                At::Exactly(revision)
            }
            // The remainder of a list whose revision is gone.
            Err(_) => At::Latest,
        };
        core.settle().await?;
        return Ok(Plan {
            revision,
            start: Some(token.start),
            limit: options.limit,
        });
    }
    let at = |revision, limit| Plan {
        revision,
        start: None,
        limit,
    };
    match (options.resource_version, options.matching) {
        (None, _) => {
            core.settle().await?;
            Ok(at(At::Latest, options.limit))
        }
        (Some(0), _) => Ok(at(At::Cached, 0)),
        (Some(revision), matching) => {
            reach(core, revision).await?;
            let exact = matching == Match::Exact || (matching == Match::Unset && options.limit > 0);
            Ok(at(
                if exact { At::Exactly(revision) } else { At::Cached },
                options.limit,
            ))
        }
    }
}

async fn reach(core: &Core, revision: Revision) -> Result<(), Failure> {
    if core.cache.reach(revision, PATIENCE).await {
        return Ok(());
    }
    Err(Status::too_large_resource_version(revision, core.cache.progress()).into())
}

fn read_token(text: &str) -> Result<Token, Failure> {
    let invalid = |why: &str| -> Failure {
        Status::bad_request(format!(
            "invalid continue token: continue key is not valid: {why}"
        ))
        .into()
    };
    let bytes = URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|_| invalid(&format!("illegal base64 data in {text:?}")))?;
    let token: Token =
        serde_json::from_slice(&bytes).map_err(|error| invalid(&json_complaint(&bytes, &error)))?;
    match (token.v.as_str(), token.rv, token.start.is_empty()) {
        (TOKEN_VERSION, 0, _) => Err(invalid(
            "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
        )),
        (TOKEN_VERSION, _, true) => Err(invalid("encoded start key empty (version meta.k8s.io/v1)")),
        (TOKEN_VERSION, _, _) => Ok(token),
        (other, _, _) => Err(invalid(&format!(
            "server does not recognize this encoded version {other:?}"
        ))),
    }
}

/// Go's words for a text that doesn't begin as JSON does.
fn json_complaint(bytes: &[u8], error: &serde_json::Error) -> String {
    match String::from_utf8_lossy(bytes).chars().next() {
        Some(first) if !first.is_ascii_whitespace() && first != '{' => {
            format!("invalid character '{first}' looking for beginning of value")
        }
        _ => error.to_string(),
    }
}

fn token(revision: Revision, filter: &Filter, last: &str) -> String {
    let below = last.strip_prefix(filter.prefix().as_str()).unwrap_or(last);
    encode_token(i64::try_from(revision).unwrap_or(i64::MAX), format!("/{below}\0"))
}

fn encode_token(rv: i64, start: String) -> String {
    let token = Token {
        v: TOKEN_VERSION.to_owned(),
        rv,
        start,
    };
    // Two texts and a number always have a JSON form.
    URL_SAFE_NO_PAD.encode(serde_json::to_string(&token).unwrap_or_default())
}

/// All objects that match together with the revision at which they are so, for a watch that begins with them.
pub(crate) async fn present(
    core: &Core,
    table: &Table,
    filter: &Filter,
) -> Result<(Vec<Arc<Object>>, Revision), Failure> {
    if !table.is_indexed() {
        return Ok(table.snapshot(filter, || core.cache.progress()));
    }
    // The watch goes on with what the table takes in after this.
    let revision = core.cache.progress();
    let objects = stored(core, table, filter, None, usize::MAX, revision).await?;
    Ok((objects, revision))
}

/// The state at a revision, from the store.
async fn stored(
    core: &Core,
    table: &Table,
    filter: &Filter,
    start: Option<&str>,
    wanted: usize,
    revision: Revision,
) -> Result<Vec<Arc<Object>>, Failure> {
    let storage = core.storage(filter.kind)?;
    let root = storage_key(storage, "");
    // Keys are compared by `>`: what stands right before the start.
    let after = start.map(|start| format!("{root}{}", start.strip_suffix('\0').unwrap_or(start)));
    let prefix = format!("{root}{}", filter.prefix());
    let mut range = Range {
        prefix,
        after,
        limit: HISTORY_PAGE,
        revision: Some(revision),
    };
    let mut found = Vec::new();
    loop {
        let page = core
            .store
            .range(range.clone())
            .await
            .map_err(|error| core.store_failure(error))?;
        for entry in &page.entries {
            let key = entry.key.strip_prefix(&root).unwrap_or(&entry.key);
            let object = Object::new(table.kind, key, entry.revision, entry.value.clone())
                .map_err(Status::internal)?;
            if filter.matches(&object) {
                found.push(Arc::new(object));
            }
        }
        match page.entries.last() {
            Some(last) if page.more && found.len() < wanted => range.after = Some(last.key.clone()),
            _ => break,
        }
    }
    found.truncate(wanted);
    Ok(found)
}

/// Upstream's words for a page whose revision is gone.
fn expired(failure: Failure, options: &ListOptions) -> Failure {
    match (&options.continue_token, failure.code) {
        (Some(_), 410) => Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a \
             new list without the continue parameter, or use the continue token in this response to retrieve \
             the remainder of the results. Continuing with the provided token results in an inconsistent list \
             - objects that were created, modified, or deleted between the time the first chunk was returned \
             and now may show up in the list.",
        )
        .into(),
        (None, 410) => Status::expired("The resourceVersion for the provided list is too old.").into(),
        _ => failure,
    }
}

/// For an expired continue token: the token that goes on without consistency.
pub(crate) fn inconsistent_token(query: &crate::http::Query) -> Option<String> {
    let token = read_token(query.get("continue")?).ok()?;
    Some(encode_token(-1, token.start.trim_start_matches('/').to_owned()))
}

fn list_metadata(listed: &Listed) -> Value {
    let mut metadata = json!({"resourceVersion": listed.revision.to_string()});
    if let Some(token) = &listed.continue_token {
        metadata["continue"] = token.as_str().into();
    }
    if let Some(remaining) = listed.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    metadata
}

/// Writes a list in the settled form and shape.
pub(crate) fn encode(ask: &Ask, form: Form, shape: Shape, listed: &Listed) -> Outcome {
    let metadata = list_metadata(listed);
    if (form, shape) == (Form::Json, Shape::Object) {
        return Ok(json_bytes(
            StatusCode::OK,
            encode_kept(ask, &metadata, &listed.objects),
        ));
    }
    let values = listed.objects.iter().map(|object| view(ask.kind, object));
    let value = match shape {
        Shape::Object => json!({"kind": ask.kind.list_kind, "apiVersion": ask.kind.api_version(),
            "metadata": metadata, "items": values.collect::<Vec<_>>()}),
        Shape::Metadata => {
            let items: Vec<Value> = values.map(|value| render::metadata_of(&value)).collect();
            json!({"kind": "PartialObjectMetadataList", "apiVersion": render::META_VERSION,
                "metadata": metadata, "items": items})
        }
        Shape::Table(include) => {
            let now = now();
            let rows = values
                .map(|value| table::row(ask.kind, &value, include, now))
                .collect();
            table::table(ask.kind, metadata, rows, true)
        }
    };
    render::write(StatusCode::OK, form, value)
}

/// Joins the objects as they are kept, without their kinds, as upstream's lists have them.
fn encode_kept(ask: &Ask, metadata: &Value, objects: &[Arc<Object>]) -> Vec<u8> {
    let prefix = render::kept_prefix(ask.kind);
    let size: usize = objects.iter().map(|object| object.json.len() + 1).sum();
    let mut out = Vec::with_capacity(size + 256);
    let (kind, version) = (ask.kind.list_kind, ask.kind.api_version());
    out.extend_from_slice(
        format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":[")
            .as_bytes(),
    );
    for (index, object) in objects.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match object.json.strip_prefix(prefix.as_bytes()) {
            Some(rest) => {
                out.push(b'{');
                out.extend_from_slice(rest);
            }
            None => out.extend_from_slice(&knode_api::encode::object(&view(ask.kind, object))),
        }
    }
    out.extend_from_slice(b"]}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::{encode_token, read_token};

    #[test]
    fn tokens_are_upstreams() {
        let token = encode_token(1150, "/w1\0".to_owned());
        assert_eq!(
            token,
            "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MTE1MCwic3RhcnQiOiIvdzFcdTAwMDAifQ"
        );
        assert_eq!(read_token(&token).unwrap().start, "/w1\0");
        let message = read_token("abc").unwrap_err().message;
        let wanted = "invalid continue token: continue key is not valid: invalid character 'i' looking for \
                      beginning of value";
        assert_eq!(message, wanted);
    }
}
