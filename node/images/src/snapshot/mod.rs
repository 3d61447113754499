//! Writable root file systems on the layers of an image.

mod mount;
#[cfg(test)]
mod real;
#[cfg(test)]
mod tests;
mod usage;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

use knode_linux::overlay;

use crate::durable;
use crate::error::{Error, IoContext, Result};
use crate::image::Usage;
use crate::store::{Inner, Layout, SnapshotRecord, remove};

pub use usage::directory_usage;

/// Where, in a snapshot's directory, the root file system is mounted.
pub(crate) const ROOTFS: &str = "rootfs";
const UPPER: &str = "fs";
const WORK: &str = "work";

/// The snapshots of a store. A snapshot is an overlay of an image's layers with a writable directory of its own,
/// under a key that the caller chooses (the container's id). Snapshots outlive the process, and keep their layers
/// when the image is removed.
///
/// Preparing does not wait for the disk: a power cut may take a new snapshot, never damage an image.
#[derive(Debug, Clone)]
pub struct Snapshots {
    inner: Arc<Inner>,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The caller's key.
    pub key: String,
    /// Id of the image that it is made of.
    pub image: String,
    /// Where it is, or will be, mounted.
    pub rootfs: PathBuf,
    /// Its writable layer.
    pub upper: PathBuf,
    /// It shows the image and takes no writes.
    pub read_only: bool,
    /// It is mounted in this mount namespace.
    pub mounted: bool,
}

impl Snapshots {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// Makes a snapshot of the image that `image` names. It is not mounted yet.
    ///
    /// # Errors
    /// [`Error::SnapshotKey`], [`Error::SnapshotExists`], [`Error::ImageNotFound`], [`Error::Io`].
    pub fn prepare(&self, image: &str, key: &str) -> Result<Snapshot> {
        self.make(image, key, false)
    }

    /// Makes a read-only snapshot, as image volumes are: it shows the image, and nothing can be written to it, not
    /// even by those who mount it again writable.
    ///
    /// # Errors
    /// As [`Snapshots::prepare`].
    pub fn prepare_view(&self, image: &str, key: &str) -> Result<Snapshot> {
        self.make(image, key, true)
    }

    fn make(&self, image: &str, key: &str, read_only: bool) -> Result<Snapshot> {
        check_key(key)?;
        let mut state = self.inner.state();
        if state.snapshots.contains_key(key) {
            return Err(Error::SnapshotExists(key.to_owned()));
        }
        let record = state
            .find(image)
            .ok_or_else(|| Error::ImageNotFound(image.to_owned()))?;
        let record = SnapshotRecord {
            key: key.to_owned(),
            image: record.image.id.clone(),
            layers: record.layers.clone(),
            read_only,
        };
        let layout = &self.inner.layout;
        if let Err(error) = make_directories(layout, key).and_then(|()| write_record(layout, &record)) {
            // The next start removes what cannot be removed now; the first error is the one to tell.
            if let Err(second) = durable::remove(&layout.snapshot_dir(key)) {
                tracing::warn!(
                    error = second.chain(),
                    "a half-made snapshot stays until the next start"
                );
            }
            return Err(error);
        }
        let snapshot = self.describe(&record, false);
        state.snapshots.insert(key.to_owned(), record);
        Ok(snapshot)
    }

    /// Mounts a snapshot, if it is not mounted yet, and tells where.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], [`Error::Io`] for what the kernel refuses.
    pub fn mount(&self, key: &str) -> Result<PathBuf> {
        self.mount_labelled(key, None)
    }

    /// Mounts a snapshot, if it is not mounted yet, so that all its files have this SELinux context, and tells where.
    ///
    /// # Errors
    /// As [`Snapshots::mount`].
    pub fn mount_labelled(&self, key: &str, context: Option<&str>) -> Result<PathBuf> {
        let (record, lower) = {
            let state = self.inner.state();
            let record = state.snapshots.get(key).cloned();
            let record = record.ok_or_else(|| Error::SnapshotNotFound(key.to_owned()))?;
            let lower = state.visible(&record.layers);
            (record, lower)
        };
        let snapshot = self.describe(&record, false);
        if is_mounted(&snapshot.rootfs)? {
            return Ok(snapshot.rootfs);
        }
        mount::mount(&self.inner.layout, &record, &lower, context)?;
        Ok(snapshot.rootfs)
    }

    /// Unmounts a snapshot and keeps what was written to it. One that is absent or not mounted is no error.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn unmount(&self, key: &str) -> Result<()> {
        check_key(key)?;
        let rootfs = self.inner.layout.snapshot_dir(key).join(ROOTFS);
        overlay::unmount_all(&rootfs).at("unmount", &rootfs)
    }

    /// Unmounts a snapshot and removes it with all that was written to it. An absent one is no error.
    ///
    /// # Errors
    /// [`Error::Io`]; the snapshot is then still listed, so that the caller can try again.
    pub fn remove(&self, key: &str) -> Result<()> {
        self.unmount(key)?;
        let layout = &self.inner.layout;
        let dir = layout.snapshot_dir(key);
        let doomed = self.inner.removed_snapshot();
        let mut state = self.inner.state();
        durable::remove(&layout.snapshot(key))?;
        match fs::rename(&dir, doomed.path()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other.at("move away", &dir)?,
        }
        state.snapshots.remove(key);
        let trees = remove::collect(&self.inner, &mut state)?;
        drop(state);
        drop((doomed, trees));
        Ok(())
    }

    /// The directory with all snapshots, each in an entry named by its key.
    pub fn directory(&self) -> PathBuf {
        self.inner.layout.snapshot_dirs()
    }

    /// The snapshot with this key.
    pub fn get(&self, key: &str) -> Option<Snapshot> {
        let record = self.inner.state().snapshots.get(key).cloned()?;
        let mounted = is_mounted(&self.inner.layout.snapshot_dir(key).join(ROOTFS)).unwrap_or(false);
        Some(self.describe(&record, mounted))
    }

    /// Every snapshot, of earlier processes too, by key.
    ///
    /// # Errors
    /// [`Error::Io`] when the mount table cannot be read.
    pub fn list(&self) -> Result<Vec<Snapshot>> {
        let mounts = mounts(&self.inner.layout)?;
        let records: Vec<_> = self.inner.state().snapshots.values().cloned().collect();
        let describe = |record: &SnapshotRecord| {
            let rootfs = self.inner.layout.snapshot_dir(&record.key).join(ROOTFS);
            self.describe(record, mounts.contains(&rootfs))
        };
        Ok(records.iter().map(describe).collect())
    }

    /// What was written to a snapshot. Walks its writable layer.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], [`Error::Io`].
    pub fn usage(&self, key: &str) -> Result<Usage> {
        if !self.inner.state().snapshots.contains_key(key) {
            return Err(Error::SnapshotNotFound(key.to_owned()));
        }
        let upper = self.inner.layout.snapshot_dir(key).join(UPPER);
        directory_usage(&upper).at("measure", &upper)
    }

    /// Unmounts and removes every snapshot. Goes on after errors and answers all of them.
    pub fn teardown(&self) -> Vec<Error> {
        let keys: Vec<String> = self.inner.state().snapshots.keys().cloned().collect();
        let mut errors: Vec<Error> = keys.iter().filter_map(|key| self.remove(key).err()).collect();
        errors.extend(unmount_rest(&self.inner.layout));
        errors
    }

    fn describe(&self, record: &SnapshotRecord, mounted: bool) -> Snapshot {
        let dir = self.inner.layout.snapshot_dir(&record.key);
        Snapshot {
            key: record.key.clone(),
            image: record.image.to_string(),
            rootfs: dir.join(ROOTFS),
            upper: dir.join(UPPER),
            read_only: record.read_only,
            mounted,
        }
    }
}

/// Unmounts everything below a store's directory, without opening the store: for taking a machine down when the
/// process that had it is gone. Goes on after errors and answers all of them.
pub fn teardown(root: &std::path::Path) -> Vec<Error> {
    unmount_rest(&Layout::new(root.to_owned()))
}

fn unmount_rest(layout: &Layout) -> Vec<Error> {
    let points = match mounts(layout) {
        Ok(points) => points,
        Err(error) => return vec![error],
    };
    let unmount = |point: &PathBuf| overlay::unmount_all(point).at("unmount", point).err();
    points.iter().rev().filter_map(unmount).collect()
}

fn mounts(layout: &Layout) -> Result<Vec<PathBuf>> {
    let dirs = layout.snapshot_dirs();
    overlay::mount_points_below(&dirs).at("list the mounts below", &dirs)
}

fn make_directories(layout: &Layout, key: &str) -> Result<()> {
    let dir = layout.snapshot_dir(key);
    for path in [dir.clone(), dir.join(UPPER), dir.join(WORK), dir.join(ROOTFS)] {
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&path)
            .at("make", &path)?;
    }
    Ok(())
}

fn write_record(layout: &Layout, record: &SnapshotRecord) -> Result<()> {
    let path = layout.snapshot(&record.key);
    durable::write_unsynced(&path, &durable::to_json(&path, record)?)
}

fn check_key(key: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let valid = !key.is_empty() && key.len() <= 200 && !key.starts_with('.') && key.bytes().all(plain);
    valid
        .then_some(())
        .ok_or_else(|| Error::SnapshotKey(key.to_owned()))
}

fn is_mounted(path: &std::path::Path) -> Result<bool> {
    overlay::is_mount_point(path).at("look at", path)
}
