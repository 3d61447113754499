//! The kind table: names, scope, defaulting, validation, table columns; one small strategy a kind. Pure.
pub mod admission;
mod cells;
mod defaults;
mod grace;
pub mod ip_families;
mod kind;
pub mod qos;
pub mod rows;
mod strategies;
mod strategy;
pub mod table;
mod validation;
mod value;

pub use grace::{Grace, GraceError};
pub use kind::{Kind, SelectableField, Storage, Subresource, find, find_kind, kinds};
pub use strategy::{Expiry, Plain, Strategy};
