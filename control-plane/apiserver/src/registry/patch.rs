//! Patches.

use std::sync::Arc;

use bytes::Bytes;
use http::{StatusCode, header};
use knode_api::decode;
use knode_api::field::FieldError;
use knode_api::patch::{self, PatchError};
use knode_api::status::{GroupResource, Status};
use serde_json::Value;

use super::render;
use super::update::{Change, change_object};
use super::{Ask, meta};
use crate::core::Core;
use crate::http::{Failure, Outcome};
use crate::request::{FieldValidation, WriteOptions, invalid_options};

/// A patch that is read.
#[derive(Debug)]
enum Patch {
    Json(Bytes),
    Merge(Value),
    Strategic(Value),
}

struct Apply {
    patch: Patch,
    validation: FieldValidation,
}

/// The answer to a PATCH.
pub(crate) async fn patch(core: &Arc<Core>, ask: &mut Ask, body: &Bytes) -> Outcome {
    let patch = read(ask, body)?;
    let options = WriteOptions::parse(&ask.query, "PatchOptions")?;
    render::shape(ask)?;
    let mut apply = Apply {
        patch,
        validation: options.field_validation,
    };
    let changed = change_object(core, ask, &options, &mut apply).await?;
    render::object(ask, StatusCode::OK, changed)
}

fn read(ask: &Ask, body: &Bytes) -> Result<Patch, Failure> {
    let text = ask
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let value = || -> Result<Value, Failure> {
        serde_json::from_slice(body)
            .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")).into())
    };
    match text.split(';').next().unwrap_or_default().trim() {
        "application/json-patch+json" => Ok(Patch::Json(body.clone())),
        "application/merge-patch+json" => Ok(Patch::Merge(value()?)),
        "application/strategic-merge-patch+json" => Ok(Patch::Strategic(value()?)),
        "application/apply-patch+yaml" if ask.query.text("fieldManager").is_empty() => {
            let error = FieldError::required("fieldManager", "is required for apply patch");
            Err(invalid_options("PatchOptions", &[error]))
        }
        "application/apply-patch+yaml" => {
            let mut status = Status::unsupported_patch();
            status.message =
                "415: Unsupported Media Type: server-side apply is not supported by this server".into();
            Err(status.into())
        }
        _ => Err(Status::unsupported_patch().into()),
    }
}

impl Change for Apply {
    fn apply(&mut self, ask: &mut Ask, old: &Value) -> Result<Value, Failure> {
        let Some(ty) = ask.kind.schema() else {
            return Err(Status::internal(format!("no schema for {}", ask.kind.kind)).into());
        };
        let patched = match &self.patch {
            Patch::Json(bytes) => patch::json_patch(old.clone(), bytes).map_err(|e| self.failed(e))?,
            Patch::Merge(value) => {
                let mut new = old.clone();
                patch::merge_patch(&mut new, value);
                new
            }
            Patch::Strategic(value) => {
                patch::strategic_merge_patch(old.clone(), value.clone(), ty).map_err(|e| self.failed(e))?
            }
        };
        let decoded = match &self.patch {
            Patch::Strategic(_) => patch::restore(patched, ty).map_err(|error| self.failed(error))?,
            _ => decode::value(patched, ty).map_err(|error| self.invalid(&error.to_string()))?,
        };
        if !decoded.strict.is_empty() {
            match self.validation {
                FieldValidation::Ignore => {}
                FieldValidation::Warn => ask.warnings.extend(decoded.strict),
                FieldValidation::Strict => return Err(self.invalid(&decode::strict_error(&decoded.strict))),
            }
        }
        check_identity(ask, decoded.value, old)
    }
}

impl Apply {
    fn failed(&self, error: PatchError) -> Failure {
        match error {
            PatchError::Malformed(why) => Status::bad_request(why).into(),
            PatchError::Rejected => Status::rejected().into(),
            PatchError::Invalid(why) => self.invalid(&why),
        }
    }

    /// 422 on the field `patch`, which quotes the patch as Go prints it.
    fn invalid(&self, why: &str) -> Failure {
        let quoted = match &self.patch {
            Patch::Json(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Patch::Merge(value) | Patch::Strategic(value) => knode_api::goname::plain(value),
        };
        Status::invalid(
            GroupResource::new("", ""),
            "",
            &[FieldError::invalid("patch", quoted, why)],
        )
        .into()
    }
}

/// A patch can't make another object of it.
fn check_identity(ask: &Ask, mut new: Value, old: &Value) -> Result<Value, Failure> {
    let name = meta::text(&new, "name");
    if name != ask.info.name {
        let wanted = &ask.info.name;
        let why = format!("the name of the object ({name}) does not match the name on the URL ({wanted})");
        return Err(Status::bad_request(why).into());
    }
    if ["kind", "apiVersion"]
        .iter()
        .any(|field| new[*field] != old[*field])
    {
        new["kind"] = old["kind"].clone();
        new["apiVersion"] = old["apiVersion"].clone();
    }
    Ok(new)
}
