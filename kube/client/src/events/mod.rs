//! Events: what happened to an object, for people to read.

mod correlator;
mod recorder;

pub use correlator::{Correlator, EventAction, EventKind, EventSource};
pub use recorder::EventRecorder;
