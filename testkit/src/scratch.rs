//! Temporary directories.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory of its own under the system's temporary directory, removed with all in it when dropped; what is
/// still mounted below is unmounted first.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes one. `name` is part of its name, for people who look.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("knode-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        let path = path.canonicalize().unwrap_or(path);
        Self { path }
    }

    /// Its path, absolute and without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mounts = knode_linux::overlay::mount_points_below(&self.path).unwrap_or_default();
        for point in mounts.iter().rev() {
            if let Err(error) = knode_linux::overlay::unmount_all(point) {
                eprintln!("scratch: cannot unmount {}: {error}", point.display());
            }
        }
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("scratch: cannot remove {}: {error}", self.path.display());
        }
    }
}
