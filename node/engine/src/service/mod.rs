//! The CRI services in front of the engine.

mod filter;
mod images;
mod runtime;
