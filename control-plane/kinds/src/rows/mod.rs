//! The rows of the kind table.
pub mod meta;

use crate::kind::Kind;

/// Every kind, grouped as discovery lists them.
pub(crate) static ALL: &[&Kind] = &[];
