//! The handle.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::changes::Changes;
use crate::error::{Context, Error, Result};
use crate::lock;
use crate::model::{Change, Entry, Expect, Page, Range, Revision, Value};
use crate::reader::Reader;
use crate::schema;
use crate::watch::Watch;
use crate::writer::{Command, Write, Writer};

/// At most this many writes wait; more callers wait for their turn.
const QUEUE: usize = 512;

/// An open store. Clones share it. When the last clone and the last watch are gone, it is closed.
#[derive(Clone)]
pub struct Store {
    commands: mpsc::Sender<Command>,
    pub(crate) history: History,
}

/// The part that watches need: they don't keep the writer alive.
#[derive(Clone)]
pub(crate) struct History {
    pub reader: Arc<Reader>,
    pub changes: Arc<Changes>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the file, or makes it, with the directories above it.
    ///
    /// # Errors
    /// [`Error::InUse`] names the process that has it open; [`Error::Corrupt`] and [`Error::Format`] say that
    /// the file isn't a whole store of this format; [`Error::Open`] and [`Error::Full`] that it can't be made.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let context = Context { path: path.into() };
        tokio::task::spawn_blocking(move || Self::open_blocking(context))
            .await
            .map_err(|_| Error::Closed)?
    }

    fn open_blocking(context: Context) -> Result<Self> {
        schema::prepare_directory(&context.path)?;
        let lock = lock::acquire(&context.path)?;
        let (connection, limits) = schema::open_writer(&context)?;
        let changes = Arc::new(Changes::new(limits));
        let reader = Arc::new(Reader::open(context.clone())?);
        let (commands, queue) = mpsc::channel(QUEUE);
        let spawn_error = {
            let path = context.path.clone();
            move |source: std::io::Error| Error::Open {
                path,
                source: source.into(),
            }
        };
        let writer = Writer {
            connection,
            context,
            changes: changes.clone(),
            _lock: lock,
        };
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(spawn_error)?;
        Ok(Self {
            commands,
            history: History { reader, changes },
        })
    }

    /// Writes a key under a condition. Returns when the write is on the disk.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the condition doesn't hold; [`Error::Full`] if there is no space. Dropping the
    /// future doesn't take a queued write back.
    pub async fn put(
        &self,
        key: impl Into<String>,
        value: impl Into<Value>,
        expect: Expect,
    ) -> Result<Arc<Change>> {
        self.write(key.into(), Some(value.into()), expect).await
    }

    /// Deletes a key under a condition. Returns when the deletion is on the disk.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the condition doesn't hold or the key isn't there.
    pub async fn delete(&self, key: impl Into<String>, expect: Expect) -> Result<Arc<Change>> {
        self.write(key.into(), None, expect).await
    }

    async fn write(&self, key: String, value: Option<Value>, expect: Expect) -> Result<Arc<Change>> {
        let (done, result) = oneshot::channel();
        let write = Write {
            key,
            value,
            expect,
            done,
        };
        self.commands
            .send(Command::Write(write))
            .await
            .map_err(|_| Error::Closed)?;
        result.await.map_err(|_| Error::Closed)?
    }

    /// The last write's revision.
    pub fn revision(&self) -> Revision {
        self.history.changes.limits().latest
    }

    /// The oldest revision that can be read and watched from.
    pub fn oldest(&self) -> Revision {
        self.history.changes.limits().oldest
    }

    /// The state of a key, the latest or that at a revision.
    ///
    /// # Errors
    /// [`Error::Compacted`] and [`Error::Future`] for revisions outside of the history.
    pub async fn get(&self, key: impl Into<String>, revision: Option<Revision>) -> Result<Option<Entry>> {
        let (key, revision) = (key.into(), self.resolve(revision)?);
        self.read(move |reader| {
            let entry = reader.get(&key, revision)?;
            reader.ensure_kept(revision)?;
            Ok(entry)
        })
        .await
    }

    /// What the write with this revision wrote; `None` if it deleted or if nothing needs it any more.
    ///
    /// # Errors
    /// Only those of reading the file.
    pub async fn at(&self, revision: Revision) -> Result<Option<Entry>> {
        self.read(move |reader| reader.at(revision)).await
    }

    /// Keys with a prefix, in their order, at one revision.
    ///
    /// # Errors
    /// [`Error::Compacted`] and [`Error::Future`] for revisions outside of the history.
    pub async fn range(&self, range: Range) -> Result<Page> {
        let revision = self.resolve(range.revision)?;
        self.read(move |reader| {
            let page = reader.range(&range, revision)?;
            // Asked for afterwards, because a compaction may have run meanwhile.
            reader.ensure_kept(revision)?;
            Ok(page)
        })
        .await
    }

    /// Every change of keys with the prefix after a revision, those of the past first.
    pub fn watch(&self, prefix: impl Into<String>, after: Revision) -> Watch {
        Watch::new(self.history.clone(), prefix.into(), after)
    }

    /// Forgets what only revisions before this one need. Returns when that is done; writes go on meanwhile.
    /// The last write is always kept.
    ///
    /// # Errors
    /// Those of writing; what was compacted until then stays so.
    pub async fn compact(&self, revision: Revision) -> Result<()> {
        let (done, result) = oneshot::channel();
        self.commands
            .send(Command::Compact(revision, done))
            .await
            .map_err(|_| Error::Closed)?;
        // A second compaction takes over a first one that runs.
        result.await.unwrap_or(Ok(()))
    }

    /// Closes the file: writes queued before are done, later ones fail with [`Error::Closed`].
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.commands.send(Command::Close(done)).await.is_ok() {
            // The writer is gone in either case.
            let _ = closed.await;
        }
    }

    fn resolve(&self, revision: Option<Revision>) -> Result<Revision> {
        let latest = self.revision();
        match revision {
            Some(requested) if requested > latest => Err(Error::Future { requested, latest }),
            Some(requested) => Ok(requested),
            None => Ok(latest),
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let reader = self.history.reader.clone();
        tokio::task::spawn_blocking(move || read(&reader))
            .await
            .map_err(|_| Error::Closed)?
    }
}
