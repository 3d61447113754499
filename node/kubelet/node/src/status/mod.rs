//! The node's status: pressure, conditions, what changed, and when it is reported.

mod conditions;
mod patch;
mod pressure;
mod report;
#[cfg(test)]
mod tests;

pub use conditions::Conditions;
pub(crate) use conditions::transition_event;
pub use patch::status_patch;
pub use pressure::{Pressure, PressureState};
pub(crate) use report::{Report, ReportPlan};
