//! Kubernetes' protobuf (`application/vnd.kubernetes.protobuf`), driven by the schema table.
use serde_json::Value;

use crate::decode::TypeMeta;

/// The media type of objects.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The media type of watch streams.
pub const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";
/// What an object starts with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// Why bytes are no object, or an object has no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtoError {
    #[error("provided data does not appear to be a protobuf message, expected prefix {MAGIC:?}")]
    Magic,
    #[error("protobuf message ends early")]
    Truncated,
    #[error("invalid protobuf field {number} of {ty}")]
    Field { ty: &'static str, number: u32 },
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    UnknownKind { api_version: String, kind: String },
    #[error("content encoding {0:?} of a protobuf message is not supported")]
    Encoding(String),
    #[error("{ty}.{field} has no protobuf form")]
    Unsupported { ty: &'static str, field: &'static str },
}

/// `apiVersion` and `kind` in the envelope.
///
/// # Errors
/// [`ProtoError::Magic`], [`ProtoError::Truncated`].
pub fn type_meta(_bytes: &[u8]) -> Result<TypeMeta, ProtoError> {
    Err(ProtoError::Magic)
}

/// Reads an object; `default` gives the kind where the envelope names none.
/// The value is canonical: it need not go through [`crate::decode::value`].
///
/// # Errors
/// See [`ProtoError`].
pub fn decode(_bytes: &[u8], _default: Option<&TypeMeta>) -> Result<Value, ProtoError> {
    Err(ProtoError::Magic)
}

/// Writes an object by its own `apiVersion` and `kind`.
///
/// # Errors
/// See [`ProtoError`].
pub fn encode(_object: &Value) -> Result<Vec<u8>, ProtoError> {
    Err(ProtoError::Magic)
}

/// One frame of a watch stream: length prefix and `WatchEvent` around the object's bytes.
///
/// # Errors
/// See [`ProtoError`].
pub fn encode_watch_event(_event_type: &str, _object: &Value) -> Result<Vec<u8>, ProtoError> {
    Err(ProtoError::Magic)
}
