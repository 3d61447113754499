//! Reading one object.

use http::StatusCode;

use super::Ask;
use super::render::{self, Source};
use crate::core::Core;
use crate::http::Outcome;

/// The object that the request names, at its latest.
pub(crate) async fn get(core: &Core, ask: &Ask) -> Outcome {
    let object = core
        .current(ask.kind, &ask.key())
        .await?
        .ok_or_else(|| ask.not_found())?;
    render::object(ask, StatusCode::OK, Source::Kept(object))
}
