//! The kind table: names, scope, defaulting, validation, table columns; one small strategy a kind. Pure.
pub mod admission;
mod cells;
mod grace;
mod kind;
pub mod rows;
mod strategy;
pub mod table;
mod value;

pub use grace::{Grace, GraceError};
pub use kind::{Kind, SelectableField, Storage, Subresource, find, find_kind, kinds};
pub use strategy::{Plain, Strategy};
