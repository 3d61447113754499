//! Recordings of upstream's answers and writes (`data/recordings`), and what a running cluster must show beside them.

pub mod compare;
pub mod events;
mod fixture;
pub mod merge;
mod names;
pub mod normal;
mod session;
pub mod states;
mod watching;

pub use fixture::{Recorded, fixture, in_apiserver};
pub use names::Names;
pub use normal::paths;
pub use session::{Answer, Session, User};
pub use watching::Watching;
