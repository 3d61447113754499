//! Reads: the state at a revision, and the history.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::error::{Context, Error, Result};
use crate::model::{Change, Entry, Page, Range, Revision};
use crate::schema;

/// At most this many changes are read from the file at a time.
const HISTORY_BATCH: usize = 128;

/// A second connection, that never waits for the writer.
pub(crate) struct Reader {
    connection: Mutex<Connection>,
    context: Context,
}

impl Reader {
    pub fn open(context: Context) -> Result<Self> {
        Ok(Self {
            connection: Mutex::new(schema::open_reader(&context)?),
            context,
        })
    }

    fn with<T>(
        &self,
        operation: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        // The connection holds no state that a panic between statements could spoil.
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        read(&connection).map_err(self.context.of(operation))
    }

    /// The state of one key at a revision.
    pub fn get(&self, key: &str, revision: Revision) -> Result<Option<Entry>> {
        self.with("read a key", |connection| {
            connection
                .prepare_cached(
                    "SELECT key, value, created, revision FROM write
                     WHERE key = ?1 AND revision <= ?2 ORDER BY revision DESC LIMIT 1",
                )?
                .query_row(params![key, revision], live_entry)
                .optional()
                .map(Option::flatten)
        })
    }

    /// What the write with this revision wrote; `None` if it was a deletion or is compacted.
    pub fn at(&self, revision: Revision) -> Result<Option<Entry>> {
        self.with("read a revision", |connection| {
            connection
                .prepare_cached("SELECT key, value, created, revision FROM write WHERE revision = ?1")?
                .query_row(params![revision], live_entry)
                .optional()
                .map(Option::flatten)
        })
    }

    /// Keys with a prefix at a revision.
    pub fn range(&self, range: &Range, revision: Revision) -> Result<Page> {
        let limit = if range.limit == 0 {
            i64::MAX
        } else {
            range.limit as i64 + 1
        };
        let after = range.after.as_deref().unwrap_or("");
        let end = prefix_end(&range.prefix);
        let mut entries = self.with("read a range", |connection| {
            connection
                .prepare_cached(
                    "SELECT w.key, w.value, w.created, w.revision
                     FROM (SELECT key, max(revision) AS revision FROM write
                           WHERE key >= ?1 AND key < ?2 AND key > ?3 AND revision <= ?4 GROUP BY key) AS last
                     CROSS JOIN write AS w ON w.revision = last.revision
                     WHERE w.value IS NOT NULL ORDER BY last.key LIMIT ?5",
                )?
                .query_map(params![range.prefix, end, after, revision, limit], entry)?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let more = range.limit > 0 && entries.len() > range.limit;
        if more {
            entries.truncate(range.limit);
        }
        Ok(Page {
            revision,
            entries,
            more,
        })
    }

    /// Changes of keys with a prefix, after one revision and up to another, oldest first. The second value is
    /// the revision up to which nothing is missing.
    pub fn history(
        &self,
        prefix: &str,
        after: Revision,
        upto: Revision,
    ) -> Result<(Vec<Arc<Change>>, Revision)> {
        let changes = self.with("read the history", |connection| {
            connection
                .prepare_cached(
                    "SELECT revision, key, value, created, previous FROM write
                     WHERE revision > ?1 AND revision <= ?2 AND key >= ?3 AND key < ?4
                     ORDER BY revision LIMIT ?5",
                )?
                .query_map(
                    params![after, upto, prefix, prefix_end(prefix), HISTORY_BATCH as i64],
                    change,
                )?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let reached = match changes.last() {
            Some(last) if changes.len() == HISTORY_BATCH => last.revision,
            _ => upto,
        };
        Ok((changes, reached))
    }

    /// The compaction limit as it is in the file.
    pub fn oldest(&self) -> Result<Revision> {
        self.with("read the compaction limit", |connection| {
            connection
                .prepare_cached("SELECT revision FROM oldest")?
                .query_row([], |row| row.get(0))
        })
    }

    /// Fails if a state or history that begins at the revision is no longer whole.
    pub fn ensure_kept(&self, requested: Revision) -> Result<()> {
        match self.oldest()? {
            oldest if requested < oldest => Err(Error::Compacted { requested, oldest }),
            _ => Ok(()),
        }
    }
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let value: Vec<u8> = row.get(1)?;
    Ok(Entry {
        key: row.get(0)?,
        value: value.into(),
        created: row.get(2)?,
        revision: row.get(3)?,
    })
}

fn live_entry(row: &Row<'_>) -> rusqlite::Result<Option<Entry>> {
    match row.get_ref(1)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => entry(row).map(Some),
    }
}

fn change(row: &Row<'_>) -> rusqlite::Result<Arc<Change>> {
    Ok(Arc::new(Change {
        revision: row.get(0)?,
        key: row.get(1)?,
        value: row.get::<_, Option<Vec<u8>>>(2)?.map(Bytes::from),
        created: row.get(3)?,
        previous: row.get(4)?,
    }))
}

/// The first text after all texts with the prefix. Keys are compared byte by byte.
fn prefix_end(prefix: &str) -> String {
    let mut end = prefix.to_owned();
    end.push(char::MAX);
    end
}
