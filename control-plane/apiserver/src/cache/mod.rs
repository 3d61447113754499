//! What the store holds, in memory: one table per storage name, fed by one watch on the store. Lists and
//! watches are answered from it; the store's file is read only for the past.

mod filter;
mod object;
mod table;
mod whole;

pub(crate) use filter::Filter;
pub(crate) use object::{Object, Stamp};
pub(crate) use table::{Event, Past, Table};
pub(crate) use whole::{Cache, storage_key};
