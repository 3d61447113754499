//! The entry points that this program is executed anew for, and what a copy of the shim does to start a container.
//!
//! `main` calls [`dispatch`] before anything else: these processes must stay small and single-threaded.

pub mod args;
pub(crate) mod create;
mod enter;
mod executor;
pub(crate) mod pod;
mod report;
mod scope;
pub(crate) mod stage;
pub(crate) mod users;

use std::ffi::OsString;

use args::Entry;

/// Runs an entry point if `arguments` (without the program's name) names one; gives its exit code.
pub fn dispatch(arguments: impl IntoIterator<Item = OsString>) -> Option<i32> {
    let entry = args::parse(arguments)?;
    let result = match entry {
        Ok(Entry::Shim(shim)) => crate::shim::run(&shim),
        Ok(Entry::Users(settings)) => users::hold(&settings),
        Err(error) => {
            eprintln!("{error}");
            return Some(2);
        }
    };
    Some(match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    })
}
