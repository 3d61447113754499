//! Objects in answers.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use knode_api::status::Status;
use knode_api::{encode, proto};
use knode_kinds::Kind;
use knode_kinds::table::{self, IncludeObject};
use serde_json::{Value, json};

use super::Ask;
use crate::cache::Object;
use crate::clock::now;
use crate::http::{Accepted, Body, Failure, Form, Outcome, accepted, json_bytes, plain};

/// The object of an answer.
pub(crate) enum Source {
    /// As it is kept.
    Kept(Arc<Object>),
    /// Made for this answer.
    Fresh(Value),
}

/// What objects are turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Object,
    Table(IncludeObject),
    Metadata,
}

const META_GROUP: &str = "meta.k8s.io";
pub(crate) const META_VERSION: &str = "meta.k8s.io/v1";

/// The representation that a request about objects asks for.
pub(crate) fn shape(ask: &Ask) -> Result<(Form, Shape), Failure> {
    let known = |kind: &str, group: &str, version: &str| {
        let kinds = ["Table", "PartialObjectMetadata", "PartialObjectMetadataList"];
        group == META_GROUP && version == "v1" && kinds.contains(&kind)
    };
    let Accepted { form, convert } = accepted(&ask.headers, true, known)?;
    let shape = match convert.as_ref().map(|(kind, _, _)| kind.as_str()) {
        None => Shape::Object,
        Some("Table") => Shape::Table(include(ask)?),
        Some(_) => Shape::Metadata,
    };
    Ok((form, shape))
}

fn include(ask: &Ask) -> Result<IncludeObject, Failure> {
    match ask.query.text("includeObject") {
        "" | "Metadata" => Ok(IncludeObject::Metadata),
        "None" => Ok(IncludeObject::None),
        "Object" => Ok(IncludeObject::Object),
        other => {
            let known = ["Metadata", "None", "Object"];
            let error = knode_api::field::FieldError::not_supported("includeObject", other, &known);
            Err(crate::request::invalid_options("TableOptions", &[error]))
        }
    }
}

/// The kind's own form of what is kept.
pub(crate) fn view(kind: &Kind, object: &Object) -> Value {
    kind.strategy.served_form(object.value())
}

/// Whether what is kept is in the kind's own form.
pub(crate) fn is_kept_form(kind: &Kind, object: &Object) -> bool {
    object.json.starts_with(kept_prefix(kind).as_bytes())
}

/// What the JSON of a kept object begins with.
pub(crate) fn kept_prefix(kind: &Kind) -> String {
    format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",",
        kind.kind,
        kind.api_version()
    )
}

/// Answers with one object.
pub(crate) fn object(ask: &Ask, code: StatusCode, source: Source) -> Outcome {
    let (form, shape) = shape(ask)?;
    if let (Form::Json, Shape::Object, Source::Kept(object)) = (form, shape, &source)
        && is_kept_form(ask.kind, object)
    {
        return Ok(json_bytes(code, object.json.clone()));
    }
    let value = match source {
        Source::Kept(object) => view(ask.kind, &object),
        Source::Fresh(value) => value,
    };
    write(code, form, shaped(ask.kind, shape, value))
}

/// One object in its shape.
pub(crate) fn shaped(kind: &Kind, shape: Shape, value: Value) -> Value {
    match shape {
        Shape::Object => value,
        Shape::Metadata => metadata_of(&value),
        Shape::Table(include) => {
            let version = json!({"resourceVersion": value["metadata"]["resourceVersion"]});
            table::table(
                kind,
                version,
                vec![table::row(kind, &value, include, now())],
                true,
            )
        }
    }
}

/// The object as PartialObjectMetadata.
pub(crate) fn metadata_of(value: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": META_VERSION, "metadata": value["metadata"]})
}

/// Answers with a value in the settled form.
pub(crate) fn write(code: StatusCode, form: Form, value: Value) -> Outcome {
    Ok(match form {
        Form::Json => json_bytes(code, encode::object(&value)),
        Form::Yaml => {
            let text = serde_norway::to_string(&value).map_err(Status::internal)?;
            plain(code, form.content_type(), text)
        }
        Form::Protobuf => protobuf(code, &value)?,
    })
}

fn protobuf(code: StatusCode, value: &Value) -> Result<Response<Body>, Failure> {
    match proto::encode(value) {
        Ok(bytes) => Ok(plain(code, Form::Protobuf.content_type(), Bytes::from(bytes))),
        Err(error) => {
            tracing::debug!(%error, "no protobuf form of an answer");
            Err(Status::not_acceptable(&["application/json", "application/yaml"]).into())
        }
    }
}
