//! The image store: what images are here, and the directories that hold them.

mod commit;
mod layout;
mod open;
pub(crate) mod remove;
mod state;
#[cfg(test)]
pub(crate) mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use knode_linux::sync::Lock;

pub(crate) use commit::{LayerPlan, NewImage, NewLayer, SourceLayer};
pub(crate) use layout::Layout;
pub(crate) use state::{ImageRecord, LayerRecord, SnapshotRecord, State};

use crate::durable::TempPath;
use crate::error::{Error, Result};
use crate::image::{Image, Usage};
use crate::pull::{PullTable, Pulls};
use crate::registry::Registries;
use crate::snapshot::Snapshots;

/// Where the store is and how registries are reached.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The store's own directory; made if absent. It must be on a file system that overlayfs can use.
    pub root: PathBuf,
    /// How registries are reached.
    pub registries: Registries,
}

/// Images, their layers and the snapshots made of them. Cheap to clone; all clones are one store.
///
/// Methods that are not `async` do file work of at most milliseconds, but for [`ImageStore::open`],
/// [`ImageStore::remove`] and [`Snapshots::remove`], which may delete big trees.
#[derive(Debug, Clone)]
pub struct ImageStore {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub layout: Layout,
    pub registries: Registries,
    /// Pulls under way, by what they are for.
    pub joined: PullTable,
    /// Pulls under way, for those who look on.
    pub pulls: Pulls,
    state: Mutex<State>,
    next_temporary: AtomicU64,
    /// Locked while the store is open.
    _lock: Lock,
}

/// What the image file system holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsUsage {
    /// A directory on that file system.
    pub mountpoint: PathBuf,
    /// What the layers take.
    pub usage: Usage,
}

impl ImageStore {
    /// Opens the store, makes it if there is none, and removes what a crash left half-made.
    ///
    /// # Errors
    /// [`Error::InUse`] when another process has it open, [`Error::Format`] for one of another version,
    /// [`Error::Io`] for what the file system refuses.
    pub fn open(config: StoreConfig) -> Result<Self> {
        Ok(Self {
            inner: Arc::new(open::open(config)?),
        })
    }

    /// Every image, by id.
    pub fn list(&self) -> Vec<Image> {
        self.inner
            .state()
            .images
            .values()
            .map(|record| record.image.clone())
            .collect()
    }

    /// The image that `reference` names: short name, tag, digest, id or the start of an id.
    pub fn status(&self, reference: &str) -> Option<Image> {
        self.inner
            .state()
            .find(reference)
            .map(|record| record.image.clone())
    }

    /// The image's configuration blob as its builder wrote it.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`], [`Error::Io`].
    pub fn config_blob(&self, reference: &str) -> Result<Vec<u8>> {
        let image = self
            .status(reference)
            .ok_or_else(|| Error::ImageNotFound(reference.to_owned()))?;
        let path = self.inner.layout.blob(&image.id);
        crate::error::IoContext::at(std::fs::read(&path), "read", &path)
    }

    /// Removes the image that `reference` names. A tag or digest of several takes only that name away; the last
    /// name, or the id, takes the image with every name. What is not there is no error. Layers of running
    /// snapshots stay until those are removed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self, reference: &str) -> Result<()> {
        remove::remove(&self.inner, reference)
    }

    /// Keeps an image from (or opens it to) garbage collection by the kubelet.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`], [`Error::Io`].
    pub fn set_pinned(&self, reference: &str, pinned: bool) -> Result<()> {
        commit::set_pinned(&self.inner, reference, pinned)
    }

    /// What images take on disk.
    pub fn fs_usage(&self) -> FsUsage {
        FsUsage {
            mountpoint: self.root().to_owned(),
            usage: self.inner.state().layer_usage(),
        }
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        self.inner.layout.root()
    }

    /// The writable root file systems made of images.
    pub fn snapshots(&self) -> Snapshots {
        Snapshots::new(self.inner.clone())
    }
}

impl Inner {
    /// The records. Changing them goes with changing the disk, under this one lock.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Records change only after the disk did, so a panic elsewhere leaves them usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh name in `tmp`; nothing is made yet.
    pub(crate) fn temporary(&self) -> TempPath {
        TempPath::new(self.layout.tmp().join(self.next_number().to_string()))
    }

    /// A fresh name for a snapshot's directory that goes. It stays beside the others, whose directory may be a mount
    /// of its own that nothing can be moved out of; no key begins with a dot.
    pub(crate) fn removed_snapshot(&self) -> TempPath {
        let name = format!(".removed-{}", self.next_number());
        TempPath::new(self.layout.snapshot_dir(&name))
    }

    fn next_number(&self) -> u64 {
        self.next_temporary.fetch_add(1, Ordering::Relaxed)
    }
}
