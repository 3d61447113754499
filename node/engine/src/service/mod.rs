//! The CRI services in front of the engine.

mod filter;
mod images;
mod info;
mod runtime;
