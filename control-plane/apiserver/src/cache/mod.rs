//! What the store holds, in memory: one table per storage name, fed by one watch on the store. Lists and
//! watches are answered from it; the store's file is read only for the past, and for kinds whose objects expire.

mod filter;
mod index;
mod object;
mod table;
mod whole;

#[cfg(test)]
mod tests;

pub(crate) use filter::Filter;
pub(crate) use object::{Object, Stamp};
pub(crate) use table::{Event, Past, Table};
pub(crate) use whole::{Cache, storage_key};
