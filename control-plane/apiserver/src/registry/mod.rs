//! The verbs over any kind of the table.

mod ask;
mod body;
mod create;
mod delete;
mod dispatch;
mod get;
mod list;
mod meta;
mod patch;
mod render;
mod update;
mod watch;
mod write;

pub(crate) use ask::{Ask, key};
pub(crate) use body::{Wanted, read_own, read_typed};
pub(crate) use delete::{Doomed, delete_object};
pub(crate) use dispatch::{Sent, dispatch};
pub(crate) use list::inconsistent_token;
pub(crate) use meta::new_uid;
pub(crate) use patch::patch;
pub(crate) use render::{Source, object as render_object, view};
pub(crate) use update::{Change, change_object, update};
