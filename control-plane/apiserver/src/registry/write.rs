//! Writes to the store in the words of the API.

use std::sync::Arc;

use knode_api::status::Status;
use knode_kinds::Kind;
use knode_store::{Error, Expect};
use serde_json::Value;

use crate::cache::{Object, Stamp, storage_key};
use crate::core::Core;
use crate::http::Failure;

/// Why a write didn't happen.
pub(crate) enum Refused {
    /// The object was changed, made or deleted meanwhile.
    Raced,
    Failed(Failure),
}

/// Writes an object under a condition; the value is in the kind's own form.
pub(crate) async fn put(
    core: &Core,
    kind: &'static Kind,
    key: &str,
    value: Value,
    expect: Expect,
) -> Result<Arc<Object>, Refused> {
    let (storage, table) = parts(core, kind)?;
    let mut value = kind.strategy.stored_form(value);
    let stamp = Stamp::new(&mut value);
    let written = core.store.put(storage_key(storage, key), stamp, expect).await;
    let change = written.map_err(|error| refused(core, error))?;
    // What is asked next must see it; and what the cache has parsed needn't be parsed again.
    core.seen(change.revision).await;
    if let Some(object) = table.get(key).filter(|object| object.revision == change.revision) {
        return Ok(object);
    }
    let json = change.value.clone().unwrap_or_default();
    let object = Object::new(table.kind, key, change.revision, json);
    object
        .map(Arc::new)
        .map_err(|error| Refused::Failed(Status::internal(error).into()))
}

/// Deletes an object under a condition. Returns it with the deletion's revision.
pub(crate) async fn delete(
    core: &Core,
    kind: &'static Kind,
    object: &Object,
) -> Result<Arc<Object>, Refused> {
    let (storage, _) = parts(core, kind)?;
    let key = storage_key(storage, &object.key);
    let change = core
        .store
        .delete(key, Expect::Revision(object.revision))
        .await
        .map_err(|e| refused(core, e))?;
    core.seen(change.revision).await;
    Ok(Arc::new(object.restamped(change.revision)))
}

fn parts(core: &Core, kind: &Kind) -> Result<(&'static str, Arc<crate::cache::Table>), Refused> {
    let storage = core.storage(kind).map_err(Refused::Failed)?;
    Ok((storage, core.table(kind).map_err(Refused::Failed)?))
}

fn refused(core: &Core, error: Error) -> Refused {
    match error {
        Error::Conflict { .. } => Refused::Raced,
        other => Refused::Failed(core.store_failure(other)),
    }
}
