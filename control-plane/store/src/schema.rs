//! The file: tables, settings, opening and checking.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::error::{Context, Error, Result};
use crate::model::Revision;

/// Marks the file as a store of ours ("knod").
const APPLICATION_ID: i64 = 0x6b6e_6f64;
const FORMAT: i64 = 1;

/// One row a write; a row without value is a deletion. `previous` is the row that this one replaced.
/// `oldest` is the one row with the compaction limit.
const TABLES: &str = "
    CREATE TABLE write (
        revision INTEGER PRIMARY KEY,
        key      TEXT NOT NULL,
        created  INTEGER NOT NULL,
        previous INTEGER,
        value    BLOB
    );
    CREATE UNIQUE INDEX write_by_key ON write (key, revision);
    CREATE TABLE oldest (revision INTEGER NOT NULL);
    INSERT INTO oldest VALUES (0);
";

/// Where the history stands when the file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The compaction limit.
    pub oldest: Revision,
    /// The last write.
    pub latest: Revision,
    /// Nothing comes any more.
    pub closed: bool,
}

/// Opens the file for writing, makes the tables if it is new, and checks it if it isn't.
pub(crate) fn open_writer(context: &Context) -> Result<(Connection, Limits)> {
    let path = &context.path;
    let connection = Connection::open(path).map_err(context.of("open the store"))?;
    settle(&connection, 2048, context)?;
    match format(&connection, context)? {
        (0, 0) => create(&connection, context)?,
        (APPLICATION_ID, FORMAT) => check(&connection, context)?,
        (_, found) => {
            return Err(Error::Format {
                path: path.clone(),
                found,
                known: FORMAT,
            });
        }
    }
    let limits = limits(&connection, context)?;
    Ok((connection, limits))
}

/// Opens the file for reading beside the writer.
pub(crate) fn open_reader(context: &Context) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(&context.path, flags).map_err(context.of("open the store"))?;
    settle(&connection, 1024, context)?;
    connection
        .pragma_update(None, "query_only", true)
        .map_err(context.of("configure the store"))?;
    Ok(connection)
}

/// Makes the directories above the file, and the file, for the owner alone.
pub(crate) fn prepare_directory(path: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let error = |source: std::io::Error| Error::Open {
        path: path.to_owned(),
        source: source.into(),
    };
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(error)?;
    }
    // Made here, because SQLite would leave the mode of a new file to the umask.
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(error)?;
    Ok(())
}

/// Write-ahead log, flushed at each commit; `cache` KiB of pages.
fn settle(connection: &Connection, cache: i64, context: &Context) -> Result<()> {
    let set = |name: &str, value: &dyn rusqlite::ToSql| {
        connection
            .pragma_update(None, name, value)
            .map_err(context.of("configure the store"))
    };
    connection
        .busy_timeout(Duration::from_secs(2))
        .map_err(context.of("configure the store"))?;
    set("journal_mode", &"wal")?;
    set("synchronous", &"full")?;
    set("cache_size", &-cache)?;
    set("journal_size_limit", &(4 << 20))?;
    set("wal_autocheckpoint", &500)?;
    set("temp_store", &"memory")
}

fn format(connection: &Connection, context: &Context) -> Result<(i64, i64)> {
    let read = |name: &str| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .map_err(context.of("read the store's format"))
    };
    Ok((read("application_id")?, read("user_version")?))
}

/// All in one transaction: a crash leaves either an empty file or a whole one.
fn create(connection: &Connection, context: &Context) -> Result<()> {
    let script = format!(
        "BEGIN; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; COMMIT;"
    );
    connection
        .execute_batch(&script)
        .map_err(context.of("create the store's tables"))
}

fn check(connection: &Connection, context: &Context) -> Result<()> {
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(context.of("check the store"))?;
    match verdict.as_str() {
        "ok" => Ok(()),
        _ => Err(Error::Corrupt {
            path: context.path.clone(),
            detail: verdict,
        }),
    }
}

fn limits(connection: &Connection, context: &Context) -> Result<Limits> {
    connection
        .query_row(
            "SELECT (SELECT revision FROM oldest), coalesce((SELECT max(revision) FROM write), 0)",
            [],
            |row| {
                Ok(Limits {
                    oldest: row.get(0)?,
                    latest: row.get(1)?,
                    closed: false,
                })
            },
        )
        .map_err(context.of("read the store's revision"))
}
