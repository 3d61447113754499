//! OpenAPI v3 documents, made of the schema table: what `kubectl apply`, `create` and `explain` look at.
//! They are made anew for each request, because they are big and seldom asked for.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use knode_api::schema::{Container, Field, Scalar, Shape, TypeId, schema};
use knode_kinds::Kind;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{group_versions, kinds_of};
use crate::http::{Body, json as reply, not_found_page, plain};

const TITLE: &str = "Kubernetes";
const VERSION: &str = "v1.36.2";

/// Documents change with the program only.
fn hash(path: &str) -> String {
    let digest = Sha256::digest(format!("{path} {}", env!("CARGO_PKG_VERSION")));
    digest.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

/// `/openapi/v3`: where the documents are.
pub(crate) fn index(headers: &HeaderMap) -> Response<Body> {
    let paths: Map<String, Value> = group_versions()
        .into_iter()
        .map(|(group, version)| {
            let path = path_of(group, version);
            let url = format!("/openapi/v3/{path}?hash={}", hash(&path));
            (path, json!({"serverRelativeURL": url}))
        })
        .collect();
    tagged(headers, "", || json!({"paths": paths}))
}

/// `/openapi/v3/PATH`.
pub(crate) fn document(headers: &HeaderMap, path: &str) -> Response<Body> {
    let found = group_versions()
        .into_iter()
        .find(|(group, version)| path_of(group, version) == path);
    match found {
        Some((group, version)) => tagged(headers, path, || build(&kinds_of(group, version))),
        None => not_found_page(),
    }
}

/// Answers 304 to those who have the document already.
fn tagged(headers: &HeaderMap, path: &str, make: impl FnOnce() -> Value) -> Response<Body> {
    let tag = format!("\"{}\"", hash(path));
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v == tag);
    let mut response = if known {
        let mut response = Response::new(Body::full(""));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        reply(StatusCode::OK, &make())
    };
    if let Ok(value) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

/// `/openapi/v2`: a document without paths and schemas. Old kubectl insists on one, in gnostic's protobuf
/// form, and asks version 3 for what it needs.
pub(crate) fn v2(headers: &HeaderMap) -> Response<Body> {
    const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    if accept.contains("proto-openapi.spec.v2") {
        return plain(StatusCode::OK, PROTOBUF, v2_protobuf());
    }
    let info = json!({"title": TITLE, "version": VERSION});
    reply(
        StatusCode::OK,
        &json!({"swagger": "2.0", "info": info, "paths": {}}),
    )
}

/// `openapi.v2.Document` with `swagger` (1) and `info` (2), which has `title` (1) and `version` (2).
fn v2_protobuf() -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| -> Vec<u8> {
        let length = u8::try_from(bytes.len()).unwrap_or(0);
        [&[number << 3 | 2, length], bytes].concat()
    };
    let info = [field(1, TITLE.as_bytes()), field(2, VERSION.as_bytes())].concat();
    [field(1, b"2.0"), field(2, &info)].concat()
}

fn build(kinds: &[&'static Kind]) -> Value {
    let mut paths = Map::new();
    let mut types = BTreeSet::new();
    for kind in kinds {
        let Some(ty) = kind.schema() else { continue };
        collect(ty, &mut types);
        add_paths(kind, ty, &mut paths);
    }
    let roots: BTreeMap<&str, &Kind> = kinds
        .iter()
        .filter_map(|kind| Some((schema().name(kind.schema()?), *kind)))
        .collect();
    let schemas: Map<String, Value> = types
        .iter()
        .map(|name| (reference_name(name), type_schema(name, roots.get(name).copied())))
        .collect();
    json!({"openapi": "3.0.0", "info": {"title": TITLE, "version": VERSION},
        "paths": paths, "components": {"schemas": schemas}})
}

/// All types that a type needs, by name.
fn collect(ty: TypeId, types: &mut BTreeSet<&'static str>) {
    if !types.insert(schema().name(ty)) {
        return;
    }
    for field in schema().fields(ty) {
        if let Shape::Message(inner) = field.shape {
            collect(inner, types);
        }
    }
}

fn reference_name(name: &str) -> String {
    match name.strip_prefix("meta.") {
        Some(rest) => format!("io.k8s.apimachinery.pkg.apis.meta.{rest}"),
        None => format!("io.k8s.api.{name}"),
    }
}

fn type_schema(name: &str, kind: Option<&Kind>) -> Value {
    let Some(ty) = schema().named(name) else {
        return json!({"type": "object"});
    };
    let properties: Map<String, Value> = schema()
        .fields(ty)
        .iter()
        .map(|field| (field.name.to_owned(), field_schema(field)))
        .collect();
    let mut value = json!({"type": "object", "properties": properties});
    if let Some(kind) = kind {
        value["x-kubernetes-group-version-kind"] = json!([gvk(kind)]);
    }
    value
}

fn gvk(kind: &Kind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

fn field_schema(field: &Field) -> Value {
    let one = match field.shape {
        Shape::Scalar(scalar) => scalar_schema(scalar),
        Shape::Message(ty) => reference(ty),
    };
    let mut value = match field.container {
        Container::Single => match field.shape {
            Shape::Message(_) => json!({"allOf": [one]}),
            Shape::Scalar(_) => one,
        },
        Container::List => json!({"type": "array", "items": one}),
        Container::Map => json!({"type": "object", "additionalProperties": one}),
    };
    let merge = schema().merge(field);
    let strategies: Vec<&str> = [(merge.merge, "merge"), (merge.retain_keys, "retainKeys")]
        .into_iter()
        .filter_map(|(set, name)| set.then_some(name))
        .collect();
    if !strategies.is_empty() {
        value["x-kubernetes-patch-strategy"] = strategies.join(",").into();
    }
    if let Some(key) = merge.key {
        value["x-kubernetes-patch-merge-key"] = key.into();
    }
    value
}

fn reference(ty: TypeId) -> Value {
    json!({"$ref": format!("#/components/schemas/{}", reference_name(schema().name(ty)))})
}

fn scalar_schema(scalar: Scalar) -> Value {
    match scalar {
        Scalar::String | Scalar::Quantity | Scalar::Duration => json!({"type": "string"}),
        Scalar::Bool => json!({"type": "boolean"}),
        Scalar::Int32 => json!({"type": "integer", "format": "int32"}),
        Scalar::Int64 => json!({"type": "integer", "format": "int64"}),
        Scalar::Double => json!({"type": "number", "format": "double"}),
        Scalar::Bytes => json!({"type": "string", "format": "byte"}),
        Scalar::IntOrString => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        Scalar::Time | Scalar::MicroTime => json!({"type": "string", "format": "date-time"}),
        Scalar::RawExtension | Scalar::FieldsV1 => json!({"type": "object"}),
        Scalar::Json => json!({}),
        Scalar::StringList => json!({"type": "array", "items": {"type": "string"}}),
    }
}

fn add_paths(kind: &Kind, ty: TypeId, paths: &mut Map<String, Value>) {
    let base = match kind.group {
        "" => format!("/api/{}", kind.version),
        group => format!("/apis/{group}/{}", kind.version),
    };
    let collection = if kind.namespaced {
        format!("{base}/namespaces/{{namespace}}/{}", kind.plural)
    } else {
        format!("{base}/{}", kind.plural)
    };
    let object = format!("{collection}/{{name}}");
    let mut on_collection = Map::new();
    let mut on_object = Map::new();
    for (verb, method) in [("list", "get"), ("create", "post")] {
        if kind.has_verb(verb) {
            on_collection.insert(method.to_owned(), operation(kind, ty, verb));
        }
    }
    for (verb, method) in [
        ("get", "get"),
        ("update", "put"),
        ("patch", "patch"),
        ("delete", "delete"),
    ] {
        if kind.has_verb(verb) {
            on_object.insert(method.to_owned(), operation(kind, ty, verb));
        }
    }
    paths.insert(collection, on_collection.into());
    if !on_object.is_empty() {
        paths.insert(object, on_object.into());
    }
}

fn operation(kind: &Kind, ty: TypeId, verb: &str) -> Value {
    let action = match verb {
        "create" => "post",
        "update" => "put",
        other => other,
    };
    let mut value = json!({"x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk(kind),
        "responses": {"200": {"description": "OK",
            "content": {"application/json": {"schema": reference(ty)}}}}});
    if matches!(verb, "create" | "update" | "patch") {
        let names = ["dryRun", "fieldManager", "fieldValidation"];
        value["parameters"] = names
            .iter()
            .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}))
            .collect();
        value["requestBody"] = json!({"content": body_types(verb, ty)});
    }
    value
}

fn body_types(verb: &str, ty: TypeId) -> Value {
    let patches = [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
    ];
    let (types, schema): (&[&str], Value) = match verb {
        "patch" => (&patches, json!({"type": "object"})),
        _ => (&["*/*"], reference(ty)),
    };
    types
        .iter()
        .map(|name| ((*name).to_owned(), json!({"schema": schema})))
        .collect::<Map<_, _>>()
        .into()
}
