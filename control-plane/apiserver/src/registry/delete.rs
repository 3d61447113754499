//! Deletions: at once, after a grace period, or when the finalizers are done.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use knode_api::field::FieldError;
use knode_api::status::{GroupResource, Status};
use knode_kinds::Grace;
use knode_store::Expect;
use serde_json::{Value, json};

use super::body::read_options;
use super::list::{self, Listed};
use super::render::{self, Source, view};
use super::write::{self, Refused};
use super::{Ask, meta};
use crate::admission::{self, Operation};
use crate::cache::Object;
use crate::clock::now;
use crate::core::Core;
use crate::http::{Failure, Outcome, json};
use crate::request::{DeleteOptions, ListOptions, Propagation};

/// Attempts against others who write the object.
const ATTEMPTS: usize = 10;
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// What became of an object that was to be deleted.
pub(crate) struct Doomed {
    /// Its last state as the answer has it.
    pub object: Value,
    /// Whether it is gone; else it waits for its finalizers or its grace period.
    pub gone: bool,
}

/// The answer to a DELETE of one object.
pub(crate) async fn delete(core: &Arc<Core>, ask: &mut Ask, body: &Bytes) -> Outcome {
    let options = options(ask, body)?;
    render::shape(ask)?;
    let doomed = delete_object(core, ask, &options).await?;
    let uid = meta::text(&doomed.object, "uid").to_owned();
    if ask.kind.strategy.delete_returns_object() || !doomed.gone {
        return render::object(ask, StatusCode::OK, Source::Fresh(doomed.object));
    }
    Ok(json(
        StatusCode::OK,
        &Status::deleted(ask.kind.group, ask.kind.plural, &ask.info.name, &uid),
    ))
}

fn options(ask: &Ask, body: &Bytes) -> Result<DeleteOptions, Failure> {
    match read_options(&ask.headers, body)? {
        Some(value) => DeleteOptions::from_body(&value),
        None => DeleteOptions::from_query(&ask.query),
    }
}

/// Deletes the object that the request names.
pub(crate) async fn delete_object(
    core: &Arc<Core>,
    ask: &mut Ask,
    options: &DeleteOptions,
) -> Result<Doomed, Failure> {
    let key = ask.key();
    for _ in 0..ATTEMPTS {
        let kept = core
            .current(ask.kind, &key)
            .await?
            .ok_or_else(|| ask.not_found())?;
        let old = view(ask.kind, &kept);
        check_preconditions(ask, options, &old)?;
        admission::check(core, ask, Operation::Delete, None, Some(&old))?;
        match attempt(core, ask, &kept, &old, options).await {
            Err(Refused::Raced) => {}
            Err(Refused::Failed(failure)) => return Err(failure),
            Ok(doomed) => return Ok(doomed),
        }
    }
    Err(Status::modified(ask.resource(), &ask.info.name).into())
}

fn check_preconditions(ask: &Ask, options: &DeleteOptions, old: &Value) -> Result<(), Failure> {
    let conflict = |why: String| -> Failure {
        Status::conflict(
            GroupResource::new(ask.kind.group, ask.kind.kind),
            &ask.info.name,
            &why,
        )
        .into()
    };
    let (uid, version) = (meta::text(old, "uid"), meta::text(old, "resourceVersion"));
    match (&options.uid, &options.resource_version) {
        (Some(wanted), _) if wanted != uid => Err(conflict(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might \
             have been deleted and then recreated"
        ))),
        (_, Some(wanted)) if wanted != version => Err(conflict(format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record \
             ({version}). The object might have been modified"
        ))),
        _ => Ok(()),
    }
}

async fn attempt(
    core: &Arc<Core>,
    ask: &Ask,
    kept: &Arc<Object>,
    old: &Value,
    options: &DeleteOptions,
) -> Result<Doomed, Refused> {
    let grace = ask
        .kind
        .strategy
        .delete_grace(old, options.grace_period)
        .map_err(|error| {
            let error = FieldError::invalid(
                "gracePeriodSeconds",
                error.0,
                "must be greater than or equal to 0",
            );
            Refused::Failed(ask.invalid(&ask.info.name, &[error]))
        })?;
    let mut new = old.clone();
    settle_finalizers(&mut new, options.propagation);
    mark(ask, &mut new, old, grace);
    let waits = grace != Grace::Immediate || has_finalizers(ask, &new);
    if options.dry_run {
        return Ok(Doomed {
            object: if waits { new } else { old.clone() },
            gone: !waits,
        });
    }
    if !waits {
        let deleted = write::delete(core, ask.kind, kept).await?;
        core.allocators.release(ask.kind, old);
        new["metadata"]["resourceVersion"] = deleted.revision.to_string().into();
        return Ok(Doomed {
            object: new,
            gone: true,
        });
    }
    if new == *old {
        return Ok(Doomed {
            object: new,
            gone: false,
        });
    }
    let marked = write::put(core, ask.kind, &kept.key, new, Expect::Revision(kept.revision)).await?;
    Ok(Doomed {
        object: view(ask.kind, &marked),
        gone: false,
    })
}

fn has_finalizers(ask: &Ask, object: &Value) -> bool {
    let some = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
    some(&object["metadata"]["finalizers"])
        || (ask.kind.plural == "namespaces" && some(&object["spec"]["finalizers"]))
}

/// The finalizers by which the garbage collector knows what to do with dependents.
fn settle_finalizers(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let list = object["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mut list: Vec<Value> = list
        .into_iter()
        .filter(|f| f != FOREGROUND && f != ORPHAN)
        .collect();
    match propagation {
        Propagation::Foreground => list.push(FOREGROUND.into()),
        Propagation::Orphan => list.push(ORPHAN.into()),
        Propagation::Background => {}
    }
    if list.is_empty() {
        meta::metadata(object).remove("finalizers");
    } else {
        meta::metadata(object).insert("finalizers".to_owned(), list.into());
    }
}

/// Marks the object as one that is being deleted. A second deletion can only shorten the grace period.
fn mark(ask: &Ask, object: &mut Value, old: &Value, grace: Grace) {
    let seconds = match grace {
        Grace::Immediate => 0,
        Grace::Graceful { seconds } => seconds,
    };
    let graceful_kind = grace != Grace::Immediate || ask.kind.plural == "pods";
    let before = &old["metadata"];
    let already = before["deletionTimestamp"].is_string();
    if already && before["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) <= seconds {
        return;
    }
    if !graceful_kind && !has_finalizers(ask, object) {
        return;
    }
    let end = match already {
        false => now() + jiff::SignedDuration::from_secs(seconds),
        true => shortened(before, seconds),
    };
    let metadata = meta::metadata(object);
    metadata.insert(
        "deletionTimestamp".to_owned(),
        knode_api::time::rfc3339(end).into(),
    );
    metadata.insert("deletionGracePeriodSeconds".to_owned(), seconds.into());
    if let Some(generation) = before["generation"].as_i64().filter(|g| *g > 0 && !already) {
        metadata.insert("generation".to_owned(), (generation + 1).into());
    }
    if ask.kind.plural == "namespaces" {
        metadata.remove("deletionGracePeriodSeconds");
        object["status"]["phase"] = json!("Terminating");
    }
}

/// The time at which a running grace period ends that is to be shorter.
fn shortened(before: &Value, seconds: i64) -> jiff::Timestamp {
    let old = before["deletionTimestamp"]
        .as_str()
        .and_then(|text| knode_api::time::parse(text).ok());
    let cut = before["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) - seconds;
    match old {
        Some(old) => old - jiff::SignedDuration::from_secs(cut),
        None => now(),
    }
}

/// The answer to a DELETE of a collection: the objects that were deleted.
pub(crate) async fn delete_collection(core: &Arc<Core>, ask: &mut Ask, body: &Bytes) -> Outcome {
    let (form, shape) = render::shape(ask)?;
    let options = options(ask, body)?;
    let list_options = ListOptions::parse(&ask.query, false)?;
    let filter = list::filter(ask, &list_options)?;
    let listed = list::find(core, &filter, &list_options).await?;
    let mut deleted = Vec::with_capacity(listed.objects.len());
    for object in &listed.objects {
        ask.info.name = object.name().to_owned();
        ask.info.namespace = object.namespace().to_owned();
        match delete_object(core, ask, &options).await {
            Ok(_) => deleted.push(object.clone()),
            Err(failure) if failure.code == 404 => {}
            Err(failure) => return Err(failure),
        }
    }
    let listed = Listed {
        objects: deleted,
        revision: listed.revision,
        continue_token: None,
        remaining: None,
    };
    list::encode(ask, form, shape, &listed)
}
