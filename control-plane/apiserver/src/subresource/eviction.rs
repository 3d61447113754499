//! Evicting a pod: a deletion that asks first. There are no disruption budgets in this server yet, so nothing
//! refuses.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use knode_api::status::Status;

use super::binding::success;
use crate::core::Core;
use crate::http::{Outcome, json};
use crate::registry::{Ask, Doomed, Wanted, delete_object, read_typed};
use crate::request::{DeleteOptions, WriteOptions};

/// The answer to a POST of an Eviction.
pub(super) async fn evict(core: &Arc<Core>, ask: &mut Ask, body: &Bytes) -> Outcome {
    let options = WriteOptions::parse(&ask.query, "CreateOptions")?;
    let wanted = Wanted {
        group: "policy",
        version: "v1",
        kind: "Eviction",
    };
    let eviction = read_typed(
        &ask.headers,
        body,
        wanted,
        options.field_validation,
        &mut ask.warnings,
    )?;
    let given = eviction["metadata"]["name"].as_str().unwrap_or_default();
    if !given.is_empty() && given != ask.info.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object").into());
    }
    let mut deletion = DeleteOptions::from_body(&eviction["deleteOptions"])?;
    deletion.dry_run |= options.dry_run;
    let Doomed { .. } = delete_object(core, ask, &deletion).await?;
    Ok(json(StatusCode::CREATED, &success(201)))
}
