//! Objects in the bodies of requests.

use bytes::Bytes;
use http::{HeaderMap, header};
use knode_api::decode::{self, DecodeError, TypeMeta};
use knode_api::proto;
use knode_api::schema::schema;
use knode_api::status::Status;
use serde_json::Value;

use super::{Ask, render};
use crate::http::Failure;
use crate::request::{FieldValidation, WriteOptions};

/// Upstream's place of the registration of types, which it prints.
const SCHEME: &str = "pkg/api/legacyscheme/scheme.go:30";
const MEDIA_TYPES: [&str; 3] = ["application/json", "application/yaml", proto::MEDIA_TYPE];

/// The kind that a body must have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
}

impl Wanted<'_> {
    fn api_version(self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Failure> {
    let text = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    match text.split(';').next().unwrap_or_default().trim() {
        "" | "application/json" => Ok(Encoding::Json),
        "application/yaml" => Ok(Encoding::Yaml),
        proto::MEDIA_TYPE => Ok(Encoding::Protobuf),
        _ => Err(Status::unsupported_body(&MEDIA_TYPES).into()),
    }
}

/// How every POST and PUT begins: its options (`kind` is theirs), the form of its answer, and the object in its body.
pub(crate) fn read_write(ask: &mut Ask, body: &Bytes, kind: &str) -> Result<(WriteOptions, Value), Failure> {
    let options = WriteOptions::parse(&ask.query, kind)?;
    render::shape(ask)?;
    let object = read_own(ask, body, options.field_validation)?;
    Ok((options, object))
}

/// Reads an object of the kind that the request is about.
pub(crate) fn read_own(ask: &mut Ask, body: &Bytes, validation: FieldValidation) -> Result<Value, Failure> {
    let wanted = Wanted {
        group: ask.kind.group,
        version: ask.kind.version,
        kind: ask.kind.kind,
    };
    read_typed(&ask.headers, body, wanted, validation, &mut ask.warnings)
}

/// Reads the object in a body. What strict decoding objects to goes to `warnings`, or fails the request.
pub(crate) fn read_typed(
    headers: &HeaderMap,
    bytes: &Bytes,
    wanted: Wanted<'_>,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Failure> {
    let encoding = encoding(headers)?;
    let found = type_meta(encoding, bytes).map_err(|error| unrecognized(wanted, &error, bytes))?;
    check_kind(&found, wanted)?;
    let handled = |error: &dyn std::fmt::Display| -> Failure {
        let version = if found.api_version.is_empty() {
            wanted.version
        } else {
            version_of(&found.api_version)
        };
        cannot_be_handled(wanted.kind, version, wanted, error)
    };
    let Some(ty) = schema().kind(wanted.group, wanted.version, wanted.kind) else {
        return Err(Status::internal(format!("no schema for {}", wanted.kind)).into());
    };
    let (mut value, strict) = match encoding {
        Encoding::Json => decode::json(bytes, ty)
            .map(|d| (d.value, d.strict))
            .map_err(|e| handled(&e))?,
        Encoding::Yaml => decode::yaml(bytes, ty)
            .map(|d| (d.value, d.strict))
            .map_err(|e| handled(&e))?,
        Encoding::Protobuf => {
            let default = TypeMeta {
                api_version: wanted.api_version(),
                kind: wanted.kind.to_owned(),
            };
            (
                proto::decode(bytes, Some(&default)).map_err(|e| handled(&e))?,
                Vec::new(),
            )
        }
    };
    if !strict.is_empty() {
        match validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => warnings.extend(strict),
            FieldValidation::Strict => return Err(handled(&decode::strict_error(&strict))),
        }
    }
    if !value.is_object() {
        return Err(unrecognized(wanted, &"not an object", bytes));
    }
    value["kind"] = wanted.kind.into();
    value["apiVersion"] = wanted.api_version().into();
    Ok(value)
}

fn type_meta(encoding: Encoding, bytes: &Bytes) -> Result<TypeMeta, String> {
    let text = |error: DecodeError| error.to_string();
    match encoding {
        Encoding::Json => decode::type_meta(bytes).map_err(text),
        Encoding::Yaml => decode::yaml_type_meta(bytes).map_err(text),
        Encoding::Protobuf => proto::type_meta(bytes).map_err(|error| error.to_string()),
    }
}

fn check_kind(found: &TypeMeta, wanted: Wanted<'_>) -> Result<(), Failure> {
    let same_kind = found.kind.is_empty() || found.kind == wanted.kind;
    let same_version = found.api_version.is_empty() || found.api_version == wanted.api_version();
    if same_kind && same_version {
        return Ok(());
    }
    let api_version = if found.api_version.is_empty() {
        wanted.api_version()
    } else {
        found.api_version.clone()
    };
    let kind = if found.kind.is_empty() {
        wanted.kind
    } else {
        &found.kind
    };
    let version = version_of(&api_version);
    let why = match schema().api_version(&api_version, kind) {
        None => format!("no kind {kind:?} is registered for version {api_version:?} in scheme {SCHEME:?}"),
        Some(_) => format!(
            "converting ({version}.{kind}) to ({}.{}): unknown conversion",
            short_group(wanted.group),
            wanted.kind
        ),
    };
    Err(cannot_be_handled(kind, version, wanted, &why))
}

fn cannot_be_handled(kind: &str, version: &str, wanted: Wanted<'_>, why: &dyn std::fmt::Display) -> Failure {
    let wanted = wanted.kind;
    Status::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {wanted}: {why}"
    ))
    .into()
}

fn unrecognized(wanted: Wanted<'_>, why: &dyn std::fmt::Display, bytes: &Bytes) -> Failure {
    let summary = summary(bytes);
    let kind = wanted.kind;
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): {why} ({summary})"
    ))
    .into()
}

fn version_of(api_version: &str) -> &str {
    api_version
        .rsplit_once('/')
        .map_or(api_version, |(_, version)| version)
}

/// Upstream's package of a group's internal types.
fn short_group(group: &str) -> &str {
    match group.split('.').next() {
        None | Some("") => "core",
        Some(short) => short,
    }
}

/// The beginning of a body for an error (`summarizeData` of the endpoints' handlers).
fn summary(bytes: &[u8]) -> String {
    const MAX: usize = 30;
    let cut = &bytes[..bytes.len().min(MAX)];
    let rest = if bytes.len() > MAX { " ..." } else { "" };
    match bytes.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{rest}", String::from_utf8_lossy(cut)),
        Some(_) => {
            let hex: String = cut.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{hex}{rest}")
        }
    }
}

/// Options of a deletion in a body, as JSON, YAML or protobuf; `None` for an empty body.
pub(crate) fn read_options(headers: &HeaderMap, bytes: &Bytes) -> Result<Option<Value>, Failure> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let value = match encoding(headers)? {
        Encoding::Json => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
        Encoding::Yaml => serde_norway::from_slice(bytes).map_err(|error| error.to_string()),
        Encoding::Protobuf => {
            let default = TypeMeta {
                api_version: "v1".to_owned(),
                kind: "DeleteOptions".to_owned(),
            };
            proto::decode(bytes, Some(&default)).map_err(|error| error.to_string())
        }
    };
    value.map(Some).map_err(|error| Status::bad_request(error).into())
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn a_body_is_summed_up_as_upstream_does() {
        assert_eq!(summary(b""), "<empty>");
        assert_eq!(summary(b"{hello"), "{hello");
        assert_eq!(summary(b"hi"), "6869");
        assert_eq!(summary(&[b'{'; 31]), format!("{} ...", "{".repeat(30)));
    }
}
