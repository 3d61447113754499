//! HTTP pieces that know nothing of objects: bodies, queries, media types, answers.

mod accept;
mod body;
mod query;
mod reply;

pub(crate) use accept::{Accepted, Form, accepted};
pub use body::{Body, BoxError};
pub(crate) use body::{RequestBody, read_body};
pub(crate) use query::{Query, percent_decode};
pub(crate) use reply::{Failure, Outcome, failure, json, json_bytes, not_found_page, plain};
