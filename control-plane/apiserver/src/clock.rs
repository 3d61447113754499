//! The time of day, asked in one place.

use jiff::Timestamp;

/// Now.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// Now, as objects write it: whole seconds.
pub(crate) fn stamp() -> String {
    knode_api::time::rfc3339(now())
}
