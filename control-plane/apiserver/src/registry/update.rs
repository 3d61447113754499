//! Replacing objects, and whatever else ends in a changed object.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use knode_api::field::FieldError;
use knode_api::status::Status;
use knode_store::Expect;
use serde_json::Value;

use super::body::read_write;
use super::create::create_object;
use super::render::{self, Source, view};
use super::write::{self, Refused};
use super::{Ask, meta};
use crate::admission::{self, Operation};
use crate::cache::{Object, Stamp};
use crate::clock::now;
use crate::core::Core;
use crate::http::{Failure, Outcome};
use crate::request::WriteOptions;

/// Attempts of a change that doesn't name the version it is about.
const ATTEMPTS: usize = 10;

/// How the new state follows from the old one.
pub(crate) trait Change: Send {
    /// The new state. Called anew with a newer old state when somebody else was quicker.
    fn apply(&mut self, ask: &mut Ask, old: &Value) -> Result<Value, Failure>;
}

/// A PUT: the new state as it was sent.
struct Replace(Value);

impl Change for Replace {
    fn apply(&mut self, _ask: &mut Ask, _old: &Value) -> Result<Value, Failure> {
        Ok(self.0.clone())
    }
}

/// The answer to a PUT.
pub(crate) async fn update(core: &Arc<Core>, ask: &mut Ask, body: &Bytes) -> Outcome {
    let (options, object) = read_write(ask, body, "UpdateOptions")?;
    check_name(ask, &object)?;
    let missing = core.current(ask.kind, &ask.key()).await?.is_none();
    if missing && ask.subresource.is_none() && ask.kind.strategy.allow_create_on_update() {
        return create_by_update(core, ask, object, &options).await;
    }
    let changed = change_object(core, ask, &options, &mut Replace(object)).await?;
    render::object(ask, StatusCode::OK, changed)
}

async fn create_by_update(
    core: &Arc<Core>,
    ask: &mut Ask,
    mut object: Value,
    options: &WriteOptions,
) -> Outcome {
    if !meta::text(&object, "resourceVersion").is_empty() || !meta::text(&object, "uid").is_empty() {
        return Err(ask.not_found());
    }
    meta::metadata(&mut object).insert("name".to_owned(), ask.info.name.as_str().into());
    let created = create_object(core, ask, object, options).await?;
    render::object(ask, StatusCode::CREATED, created)
}

fn check_name(ask: &Ask, object: &Value) -> Result<(), Failure> {
    let given = meta::text(object, "name");
    let wanted = ask.info.name.as_str();
    if given != wanted {
        let why = match given {
            "" => "name must be provided".to_owned(),
            _ => format!("the name of the object ({given}) does not match the name on the URL ({wanted})"),
        };
        return Err(Status::bad_request(why).into());
    }
    Ok(())
}

/// Changes the object that the request names, again and again until nobody else is quicker.
pub(crate) async fn change_object(
    core: &Arc<Core>,
    ask: &mut Ask,
    options: &WriteOptions,
    change: &mut dyn Change,
) -> Result<Source, Failure> {
    let key = ask.key();
    for _ in 0..ATTEMPTS {
        let old = core
            .current(ask.kind, &key)
            .await?
            .ok_or_else(|| ask.not_found())?;
        let warnings = ask.warnings.len();
        match attempt(core, ask, &old, options, change).await {
            Err(Refused::Raced) => ask.warnings.truncate(warnings),
            Err(Refused::Failed(failure)) => return Err(failure),
            Ok(source) => return Ok(source),
        }
    }
    Err(Status::modified(ask.resource(), &ask.info.name).into())
}

async fn attempt(
    core: &Arc<Core>,
    ask: &mut Ask,
    kept: &Arc<Object>,
    options: &WriteOptions,
    change: &mut dyn Change,
) -> Result<Source, Refused> {
    let old = view(ask.kind, kept);
    let new = change.apply(ask, &old).map_err(Refused::Failed)?;
    let mut new = prepare(core, ask, new, &old).map_err(Refused::Failed)?;
    let claim = core
        .allocators
        .claim_change(ask.kind, &mut new, &old, options.dry_run);
    let claim = claim.map_err(|errors| Refused::Failed(ask.invalid(&ask.info.name, &errors)))?;
    if options.dry_run {
        return Ok(Source::Fresh(new));
    }
    if meta::is_released(ask.kind, &new) && !meta::is_released(ask.kind, &old) {
        write::delete(core, ask.kind, kept).await?;
        core.allocators.release(ask.kind, &old);
        return Ok(Source::Fresh(new));
    }
    let mut stored = ask.kind.strategy.stored_form(new.clone());
    if Stamp::new(&mut stored).equals(kept) {
        return Ok(Source::Kept(kept.clone()));
    }
    let changed = write::put(core, ask.kind, &kept.key, new, Expect::Revision(kept.revision)).await?;
    claim.keep();
    Ok(Source::Kept(changed))
}

/// Everything between the wish and the write.
fn prepare(core: &Arc<Core>, ask: &mut Ask, mut new: Value, old: &Value) -> Result<Value, Failure> {
    meta::settle_namespace(ask, &mut new)?;
    check_preconditions(ask, &new, old)?;
    meta::keep_system_fields(&mut new, old);
    let strategy = ask.kind.strategy;
    strategy.default(&mut new);
    let errors = match ask.subresource.map(|s| s.name) {
        None => {
            admission::before_update(ask, &mut new);
            strategy.prepare_for_update(&mut new, old);
            core.allocators
                .settle(ask.kind, &mut new, old)
                .map_err(|errors| ask.invalid(&ask.info.name, &errors))?;
            let mut errors = knode_kinds::rows::meta::validate_update(ask.kind, &new, old);
            errors.extend(strategy.validate_update(&new, old));
            errors
        }
        Some("status") => {
            strategy.prepare_for_status_update(&mut new, old);
            strategy.stamp(&mut new, old, now());
            let mut errors = knode_kinds::rows::meta::validate_update(ask.kind, &new, old);
            errors.extend(strategy.validate_status_update(&new, old));
            errors
        }
        // Made by the server itself.
        Some("binding") => Vec::new(),
        Some(subresource) => {
            strategy.prepare_for_subresource_update(subresource, &mut new, old);
            strategy.stamp(&mut new, old, now());
            strategy.validate_subresource_update(subresource, &new, old)
        }
    };
    if !errors.is_empty() {
        return Err(ask.invalid(&ask.info.name, &errors));
    }
    admission::check(core, ask, Operation::Update, Some(&new), Some(old))?;
    if ask.subresource.is_none() {
        ask.warnings.extend(strategy.warnings(&new));
    }
    Ok(new)
}

fn check_preconditions(ask: &Ask, new: &Value, old: &Value) -> Result<(), Failure> {
    let (uid, old_uid) = (meta::text(new, "uid"), meta::text(old, "uid"));
    if !uid.is_empty() && uid != old_uid {
        let key = crate::cache::storage_key(ask.kind.plural, &ask.key());
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: \
             Precondition failed: UID in precondition: {uid}, UID in object meta: {old_uid}"
        );
        return Err(Status::conflict(ask.resource(), &ask.info.name, &why).into());
    }
    let version = meta::text(new, "resourceVersion");
    if matches!(version, "" | "0") {
        if ask.kind.strategy.allow_unconditional_update() {
            return Ok(());
        }
        let error = FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
        return Err(ask.invalid(&ask.info.name, &[error]));
    }
    if version != meta::text(old, "resourceVersion") {
        return Err(Status::modified(ask.resource(), &ask.info.name).into());
    }
    Ok(())
}
