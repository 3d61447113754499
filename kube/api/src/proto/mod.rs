//! Kubernetes' protobuf (`application/vnd.kubernetes.protobuf`), driven by the schema table. The value side is
//! the canonical JSON form: fields that upstream holds by value are always on the wire, pointers only when set.
mod read;
mod scalar;
mod wire;
mod write;

use serde_json::Value;

use crate::decode::TypeMeta;
use crate::schema::{TypeId, schema};
use wire::{Reader, Writer};

/// The media type of objects.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The media type of watch streams.
pub const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";
/// What an object starts with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// Why bytes are no object, or an object has no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtoError {
    /// Bytes that do not begin with [`MAGIC`].
    #[error("provided data does not appear to be a protobuf message, expected prefix {MAGIC:?}")]
    Magic,
    /// Bytes that end within a value.
    #[error("unexpected EOF")]
    Truncated,
    /// A value that its field cannot hold.
    #[error("invalid value of {ty}.{field}: {why}")]
    Field {
        /// The type's name.
        ty: &'static str,
        /// The field's JSON name.
        field: &'static str,
        /// What does not fit.
        why: String,
    },
    /// A kind that this program does not know.
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    UnknownKind {
        /// Group and version, as the envelope names them.
        api_version: String,
        /// The kind.
        kind: String,
    },
    /// An envelope whose content is compressed or otherwise encoded.
    #[error("content encoding {0:?} of a protobuf message is not supported")]
    Encoding(String),
    /// A field that exists in JSON alone.
    #[error("{ty}.{field} has no protobuf form")]
    Unsupported {
        /// The type's name.
        ty: &'static str,
        /// The field's JSON name.
        field: &'static str,
    },
    /// A wire type that protobuf 3 has not, or not for this field.
    #[error("invalid protobuf wire type {0}")]
    WireType(u32),
}

/// `runtime.Unknown`: the envelope of an object.
#[derive(Default)]
struct Envelope<'a> {
    meta: TypeMeta,
    raw: &'a [u8],
}

fn envelope(bytes: &[u8]) -> Result<Envelope<'_>, ProtoError> {
    let body = bytes.strip_prefix(&MAGIC).ok_or(ProtoError::Magic)?;
    let mut out = Envelope::default();
    let mut reader = Reader::new(body);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => out.meta = type_meta_of(value.bytes()?)?,
            2 => out.raw = value.bytes()?,
            3 if !value.bytes()?.is_empty() => {
                return Err(ProtoError::Encoding(
                    String::from_utf8_lossy(value.bytes()?).into_owned(),
                ));
            }
            _ => {}
        }
    }
    Ok(out)
}

fn type_meta_of(bytes: &[u8]) -> Result<TypeMeta, ProtoError> {
    let mut meta = TypeMeta::default();
    let mut reader = Reader::new(bytes);
    while let Some((number, value)) = reader.field()? {
        let text = String::from_utf8_lossy(value.bytes()?).into_owned();
        match number {
            1 => meta.api_version = text,
            2 => meta.kind = text,
            _ => {}
        }
    }
    Ok(meta)
}

fn type_of(meta: &TypeMeta) -> Result<TypeId, ProtoError> {
    schema()
        .api_version(&meta.api_version, &meta.kind)
        .ok_or_else(|| ProtoError::UnknownKind {
            api_version: meta.api_version.clone(),
            kind: meta.kind.clone(),
        })
}

/// `apiVersion` and `kind` in the envelope.
///
/// # Errors
/// [`ProtoError::Magic`], [`ProtoError::Truncated`].
pub fn type_meta(bytes: &[u8]) -> Result<TypeMeta, ProtoError> {
    envelope(bytes).map(|e| e.meta)
}

/// Reads an object; `default` gives the kind where the envelope names none.
/// The value is canonical: it need not go through [`crate::decode::value`].
///
/// # Errors
/// See [`ProtoError`].
pub fn decode(bytes: &[u8], default: Option<&TypeMeta>) -> Result<Value, ProtoError> {
    let envelope = envelope(bytes)?;
    let meta = match default {
        Some(default) if envelope.meta.kind.is_empty() => default,
        _ => &envelope.meta,
    };
    let ty = type_of(meta)?;
    let mut object = read::message(envelope.raw, ty)?;
    if object.get("items").is_some_and(Value::is_null) {
        // The wire does not tell an empty list from none; lists of objects always have one.
        object.insert("items".into(), Value::Array(Vec::new()));
    }
    object.insert("kind".into(), meta.kind.as_str().into());
    if !meta.api_version.is_empty() {
        object.insert("apiVersion".into(), meta.api_version.as_str().into());
    }
    Ok(Value::Object(object))
}

/// Writes an object by its own `apiVersion` and `kind`.
///
/// # Errors
/// See [`ProtoError`].
pub fn encode(object: &Value) -> Result<Vec<u8>, ProtoError> {
    let text = |key: &str| {
        object
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_string()
    };
    let meta = TypeMeta {
        api_version: text("apiVersion"),
        kind: text("kind"),
    };
    let ty = type_of(&meta)?;
    let mut out = Writer::with_capacity(1024);
    out.extend(&MAGIC);
    out.message(1, |w| {
        w.bytes(1, meta.api_version.as_bytes());
        w.bytes(2, meta.kind.as_bytes());
        Ok(())
    })?;
    out.message(2, |w| write::message(w, object, ty))?;
    out.bytes(3, b"");
    out.bytes(4, b"");
    Ok(out.into_bytes())
}

/// One frame of a watch stream: length prefix and `WatchEvent` around the object's bytes.
///
/// # Errors
/// See [`ProtoError`].
pub fn encode_watch_event(event_type: &str, object: &Value) -> Result<Vec<u8>, ProtoError> {
    watch_frame(event_type, &encode(object)?)
}

/// As [`encode_watch_event`], of an object that is already encoded.
///
/// # Errors
/// [`ProtoError::Truncated`] for more than 4 GiB.
pub fn watch_frame(event_type: &str, object: &[u8]) -> Result<Vec<u8>, ProtoError> {
    let mut event = Writer::with_capacity(object.len() + event_type.len() + 16);
    event.bytes(1, event_type.as_bytes());
    event.message(2, |w| {
        w.bytes(1, object);
        Ok(())
    })?;
    let event = event.into_bytes();
    let length = u32::try_from(event.len()).map_err(|_| ProtoError::Truncated)?;
    let mut frame = Vec::with_capacity(event.len() + 4);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&event);
    Ok(frame)
}

#[cfg(test)]
mod tests;
