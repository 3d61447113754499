//! What can go wrong.

use std::path::PathBuf;

use crate::model::Revision;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation of the store failed. Nothing of a failed write is kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The file or its directory can't be opened or made.
    #[error("cannot open the store {}", path.display())]
    Open {
        /// The store's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::sync::Arc<std::io::Error>,
    },
    /// Another process has the store open.
    #[error("the store {} is in use by {holder}", path.display())]
    InUse {
        /// The store's file.
        path: PathBuf,
        /// The process that has it, as `name (pid n)`, as far as it can be told.
        holder: String,
    },
    /// The file isn't a store, or is damaged.
    #[error("the store {} is damaged: {detail}", path.display())]
    Corrupt {
        /// The store's file.
        path: PathBuf,
        /// What SQLite found.
        detail: String,
    },
    /// The file was written by another program or a newer version of this one.
    #[error("the store {} has format {found}, this program knows format {known}", path.display())]
    Format {
        /// The store's file.
        path: PathBuf,
        /// The format found.
        found: i64,
        /// The format this program writes.
        known: i64,
    },
    /// The disk has no room for the write.
    #[error("no space left on the disk of the store {}", path.display())]
    Full {
        /// The store's file.
        path: PathBuf,
    },
    /// The condition of a write doesn't hold.
    #[error("the last write of {key} has revision {actual:?}")]
    Conflict {
        /// The key.
        key: String,
        /// Revision of its last write; `None` if it isn't there.
        actual: Option<Revision>,
    },
    /// The revision asked for is compacted away.
    #[error("revision {requested} is compacted, the oldest is {oldest}")]
    Compacted {
        /// The revision asked for.
        requested: Revision,
        /// The oldest that can be asked for.
        oldest: Revision,
    },
    /// The revision asked for is yet to come.
    #[error("revision {requested} is in the future, the latest is {latest}")]
    Future {
        /// The revision asked for.
        requested: Revision,
        /// The latest.
        latest: Revision,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// SQLite refused.
    #[error("cannot {operation}")]
    Sqlite {
        /// What was being done.
        operation: &'static str,
        /// Why.
        #[source]
        source: std::sync::Arc<rusqlite::Error>,
    },
}

/// Turns SQLite's errors about one file into [`Error`]s.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub path: PathBuf,
}

impl Context {
    /// For `map_err`: names the operation and sorts out full disks, damage and locks.
    pub fn of(&self, operation: &'static str) -> impl Fn(rusqlite::Error) -> Error + '_ {
        move |error| self.classify(operation, error)
    }

    fn classify(&self, operation: &'static str, error: rusqlite::Error) -> Error {
        use rusqlite::ErrorCode;
        let path = self.path.clone();
        match error.sqlite_error() {
            Some(e) if e.code == ErrorCode::DiskFull || is_out_of_space(e.extended_code) => {
                Error::Full { path }
            }
            Some(e) if matches!(e.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Error::Corrupt {
                    path,
                    detail: error.to_string(),
                }
            }
            Some(e) if matches!(e.code, ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                let holder = crate::lock::holder_of(&self.path);
                Error::InUse { path, holder }
            }
            _ => Error::Sqlite {
                operation,
                source: error.into(),
            },
        }
    }
}

/// Growing the shared-memory index of the log fails so when the disk is full.
fn is_out_of_space(extended_code: i32) -> bool {
    extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
}
