//! The entry points that this program is executed anew for.
//!
//! `main` calls [`dispatch`] before anything else: these processes must stay small and single-threaded.

pub mod args;
mod create;
mod executor;
mod join;
mod pod;
mod report;
pub(crate) mod stage;
mod tenant;
pub(crate) mod users;

use std::ffi::OsString;

use args::Entry;

/// Runs an entry point if `arguments` (without the program's name) names one; gives its exit code.
pub fn dispatch(arguments: impl IntoIterator<Item = OsString>) -> Option<i32> {
    let entry = args::parse(arguments)?;
    let result = match entry {
        Ok(Entry::Shim(shim)) => crate::shim::run(&shim),
        Ok(Entry::PodInit(users)) => pod::init(users.as_deref()),
        Ok(Entry::Users(settings)) => users::hold(&settings),
        Ok(Entry::PodWait) => pod::wait(),
        Ok(Entry::Create(create)) => {
            create::run(create);
            Ok(())
        }
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
