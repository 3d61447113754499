//! The one thread that writes: it takes what is queued, and commits it in one transaction.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

use crate::changes::Changes;
use crate::error::{Context, Error, Result};
use crate::model::{Change, Expect, Revision, Value};

/// At most this many writes go into one transaction.
const MAX_BATCH: usize = 256;
/// Compaction looks at this many revisions in one transaction, so that writes don't wait for it.
const COMPACTION_STEP: u64 = 512;

/// One write that waits.
pub(crate) struct Write {
    pub key: String,
    /// `None` deletes.
    pub value: Option<Value>,
    pub expect: Expect,
    pub done: oneshot::Sender<Result<Arc<Change>>>,
}

pub(crate) enum Command {
    Write(Write),
    /// Forget what is needed only for revisions before this one.
    Compact(Revision, oneshot::Sender<Result<()>>),
    Close(oneshot::Sender<()>),
}

pub(crate) struct Writer {
    pub connection: Connection,
    pub context: Context,
    pub changes: Arc<Changes>,
    /// Held for as long as the file is open.
    pub _lock: knode_linux::sync::Lock,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.changes.close();
    }
}

/// A compaction under way.
struct Compaction {
    target: Revision,
    done: oneshot::Sender<Result<()>>,
}

impl Writer {
    /// Works until the store is closed or nobody can send any more.
    pub fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut compaction: Option<Compaction> = None;
        let mut held: Option<Command> = None;
        loop {
            let next = match (held.take(), &compaction) {
                (Some(command), _) => Some(command),
                // Between the steps of a compaction only what is queued already.
                (None, Some(_)) => commands.try_recv().ok(),
                (None, None) => match commands.blocking_recv() {
                    Some(command) => Some(command),
                    None => return,
                },
            };
            match next {
                Some(Command::Write(first)) => held = self.write_queued(first, &mut commands),
                Some(Command::Compact(target, done)) => compaction = Some(Compaction { target, done }),
                Some(Command::Close(done)) => {
                    drop(self);
                    // The caller may have given up waiting.
                    let _ = done.send(());
                    return;
                }
                None => compaction = compaction.and_then(|c| self.compact_step(c)),
            }
        }
    }

    /// Commits a write together with those queued behind it. Returns a queued command of another sort.
    fn write_queued(&mut self, first: Write, commands: &mut mpsc::Receiver<Command>) -> Option<Command> {
        let mut batch = vec![first];
        let mut other = None;
        while batch.len() < MAX_BATCH && other.is_none() {
            match commands.try_recv() {
                Ok(Command::Write(write)) => batch.push(write),
                Ok(command) => other = Some(command),
                Err(_) => break,
            }
        }
        match self.commit(&batch) {
            Ok(results) => self.acknowledge(batch, results),
            // One write that can't be done, for example for want of space, must not fail the others.
            Err(_) if batch.len() > 1 => batch.into_iter().for_each(|write| self.write_alone(write)),
            Err(error) => self.acknowledge(batch, vec![Err(error)]),
        }
        other
    }

    fn write_alone(&mut self, write: Write) {
        let batch = vec![write];
        let results = self.commit(&batch).unwrap_or_else(|error| vec![Err(error)]);
        self.acknowledge(batch, results);
    }

    /// Publishes before it answers: who has the answer finds the change in the watches' memory.
    fn acknowledge(&self, batch: Vec<Write>, results: Vec<Result<Arc<Change>>>) {
        self.changes.publish(results.iter().flatten().cloned().collect());
        for (write, result) in batch.into_iter().zip(results) {
            // The caller may have given up waiting.
            let _ = write.done.send(result);
        }
    }

    /// One transaction. An error means that nothing of it is kept.
    fn commit(&mut self, batch: &[Write]) -> Result<Vec<Result<Arc<Change>>>> {
        let mut latest = self.changes.limits().latest;
        let failed = self.context.of("write to the store");
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&failed)?;
        let mut results = Vec::with_capacity(batch.len());
        for write in batch {
            let result = apply(&transaction, write, latest + 1).map_err(&failed)?;
            latest += u64::from(result.is_ok());
            results.push(result);
        }
        if results.iter().any(|r| r.is_ok()) {
            transaction.commit().map_err(&failed)?;
        }
        Ok(results)
    }

    fn compact_step(&mut self, compaction: Compaction) -> Option<Compaction> {
        let limits = self.changes.limits();
        // The last write stays, so that the counter can be read from it.
        let target = compaction.target.min(limits.latest.saturating_sub(1));
        if target <= limits.oldest {
            // The caller may have given up waiting.
            let _ = compaction.done.send(Ok(()));
            return None;
        }
        let upto = target.min(limits.oldest + COMPACTION_STEP);
        match self.compact(limits.oldest, upto) {
            Ok(()) => {
                self.changes.compacted(upto);
                Some(compaction)
            }
            Err(error) => {
                // The caller may have given up waiting.
                let _ = compaction.done.send(Err(error));
                None
            }
        }
    }

    /// Deletes what writes after `from` and up to `upto` have replaced, and their deletions.
    fn compact(&mut self, from: Revision, upto: Revision) -> Result<()> {
        let failed = self.context.of("compact the store");
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&failed)?;
        transaction
            .execute(
                "DELETE FROM write WHERE revision IN
                 (SELECT previous FROM write WHERE revision > ?1 AND revision <= ?2)",
                params![from, upto],
            )
            .map_err(&failed)?;
        transaction
            .execute(
                "DELETE FROM write WHERE revision > ?1 AND revision <= ?2 AND value IS NULL",
                params![from, upto],
            )
            .map_err(&failed)?;
        transaction
            .execute("UPDATE oldest SET revision = ?1", params![upto])
            .map_err(&failed)?;
        transaction.commit().map_err(&failed)
    }
}

/// The last write of a key, deletions included.
struct Last {
    revision: Revision,
    created: Revision,
    deleted: bool,
}

/// The inner error is a condition that doesn't hold.
fn apply(
    connection: &Connection,
    write: &Write,
    revision: Revision,
) -> rusqlite::Result<Result<Arc<Change>>> {
    let last = last_write(connection, &write.key)?.filter(|last| !last.deleted);
    let actual = last.as_ref().map(|last| last.revision);
    let deletes_nothing = write.value.is_none() && last.is_none();
    if !write.expect.holds(actual) || deletes_nothing {
        return Ok(Err(Error::Conflict {
            key: write.key.clone(),
            actual,
        }));
    }
    let change = Change {
        revision,
        key: write.key.clone(),
        value: write.value.as_ref().map(|value| value.resolve(revision)),
        created: last.map_or(revision, |last| last.created),
        previous: actual,
    };
    connection
        .prepare_cached(
            "INSERT INTO write (revision, key, created, previous, value) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            change.revision,
            change.key,
            change.created,
            change.previous,
            change.value.as_deref()
        ])?;
    Ok(Ok(Arc::new(change)))
}

fn last_write(connection: &Connection, key: &str) -> rusqlite::Result<Option<Last>> {
    connection
        .prepare_cached(
            "SELECT revision, created, value IS NULL FROM write WHERE key = ?1 ORDER BY revision DESC LIMIT 1",
        )?
        .query_row(params![key], |row| {
            Ok(Last { revision: row.get(0)?, created: row.get(1)?, deleted: row.get(2)? })
        })
        .optional()
}
