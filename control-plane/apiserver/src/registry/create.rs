//! Creating objects.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use knode_api::status::Status;
use knode_store::Expect;
use serde_json::Value;

use super::body::read_write;
use super::render::{self, Source};
use super::write::{self, Refused};
use super::{Ask, ask, meta};
use crate::admission::{self, Operation};
use crate::cache::Object;
use crate::clock::now;
use crate::core::Core;
use crate::http::{Failure, Outcome};
use crate::request::WriteOptions;

/// Names that are drawn before a creation with generateName gives up.
const ATTEMPTS: usize = 8;

/// The answer to a POST on a collection.
pub(crate) async fn create(core: &Arc<Core>, ask: &mut Ask, body: &Bytes) -> Outcome {
    let (options, object) = read_write(ask, body, "CreateOptions")?;
    let created = create_object(core, ask, object, &options).await?;
    render::object(ask, StatusCode::CREATED, created)
}

/// Creates an object that is decoded already.
pub(crate) async fn create_object(
    core: &Arc<Core>,
    ask: &mut Ask,
    mut object: Value,
    options: &WriteOptions,
) -> Result<Source, Failure> {
    meta::settle_namespace(ask, &mut object)?;
    if !meta::text(&object, "resourceVersion").is_empty() {
        return Err(version_on_create());
    }
    meta::begin(&mut object);
    let mut attempts = 0;
    loop {
        let mut draft = object.clone();
        let generated = meta::settle_name(&mut draft);
        match attempt(core, ask, draft, options).await {
            Err(Refused::Raced) if generated && attempts < ATTEMPTS => attempts += 1,
            Err(Refused::Raced) => {
                let name = meta::text(&object, "name");
                return Err(Status::already_exists(ask.resource(), name).into());
            }
            Err(Refused::Failed(failure)) => return Err(failure),
            Ok(source) => return Ok(source),
        }
    }
}

async fn attempt(
    core: &Arc<Core>,
    ask: &mut Ask,
    mut object: Value,
    options: &WriteOptions,
) -> Result<Source, Refused> {
    let strategy = ask.kind.strategy;
    strategy.default(&mut object);
    admission::before_create(core, ask, &mut object)
        .await
        .map_err(Refused::Failed)?;
    strategy.prepare_for_create(&mut object);
    strategy.stamp(&mut object, &Value::Null, now());
    let name = meta::text(&object, "name").to_owned();
    core.allocators
        .settle(ask.kind, &mut object, &Value::Null)
        .map_err(|errors| Refused::Failed(ask.invalid(&name, &errors)))?;
    let mut errors = knode_kinds::rows::meta::validate(ask.kind, &object);
    errors.extend(strategy.validate(&object));
    if !errors.is_empty() {
        return Err(Refused::Failed(ask.invalid(&name, &errors)));
    }
    admission::check(core, ask, Operation::Create, Some(&object), None).map_err(Refused::Failed)?;
    ask.warnings.extend(strategy.warnings(&object));
    let key = ask::key(ask.kind, &ask.info.namespace, &name);
    let claim = core
        .allocators
        .claim_new(ask.kind, &mut object, options.dry_run)
        .map_err(|e| Refused::Failed(ask.invalid(&name, &e)))?;
    if options.dry_run {
        return dry(core, ask, &key, object).await;
    }
    let created: Arc<Object> = write::put(core, ask.kind, &key, object, Expect::Absent).await?;
    claim.keep();
    Ok(Source::Kept(created))
}

/// What a creation would answer.
async fn dry(core: &Core, ask: &Ask, key: &str, object: Value) -> Result<Source, Refused> {
    match core.current(ask.kind, key).await.map_err(Refused::Failed)? {
        Some(_) => Err(Refused::Raced),
        None => Ok(Source::Fresh(object)),
    }
}

fn version_on_create() -> Failure {
    let message = "resourceVersion should not be set on objects to be created";
    let mut status = Status::internal("");
    status.message = message.to_owned();
    status.reason = "";
    status.details = None;
    status.into()
}
