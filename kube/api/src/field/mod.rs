//! Field paths and validation errors, as `k8s.io/apimachinery/pkg/util/validation/field` words them.
mod error;
mod path;

pub use error::{FieldError, FieldErrorKind, aggregate};
pub use path::Path;
