//! The Node object: what it says about this machine, and getting it to the API server.

mod object;
mod register;
mod runtime;
#[cfg(test)]
mod tests;

pub use object::initial_node;
pub(crate) use object::status_of;
pub(crate) use register::register;
pub use runtime::RuntimeInfo;
pub(crate) use runtime::RuntimeWatch;
