//! Where the store keeps what.

use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// Paths below the store's directory. Names are short because overlayfs options are.
///
/// ```text
/// format              version of this layout
/// lock                held while the store is open
/// blobs/sha256/HEX    configurations and manifests
/// images/HEX.json     one record an image
/// layers/N.json       one record a layer; l/N is its tree, valid only with a record
/// snapshots/KEY.json  one record a snapshot; s/KEY has its directories
/// imported.json       archives already imported
/// tmp/                what is being made; emptied at start
/// ```
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

/// The content of the format file.
pub(crate) const FORMAT: &str = "1";

impl Layout {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Every directory that must exist.
    pub(crate) fn directories(&self) -> [PathBuf; 8] {
        [
            "blobs/sha256",
            "images",
            "layers",
            "l",
            "snapshots",
            "s",
            "tmp",
            "empty",
        ]
        .map(|name| self.root.join(name))
    }

    pub(crate) fn format(&self) -> PathBuf {
        self.root.join("format")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn imported(&self) -> PathBuf {
        self.root.join("imported.json")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub(crate) fn image(&self, id: &Digest) -> PathBuf {
        self.images().join(format!("{}.json", id.hex()))
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn layer(&self, number: u32) -> PathBuf {
        self.layers().join(format!("{number}.json"))
    }

    pub(crate) fn trees(&self) -> PathBuf {
        self.root.join("l")
    }

    pub(crate) fn tree(&self, number: u32) -> PathBuf {
        self.trees().join(number.to_string())
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(crate) fn snapshot(&self, key: &str) -> PathBuf {
        self.snapshots().join(format!("{key}.json"))
    }

    pub(crate) fn snapshot_dirs(&self) -> PathBuf {
        self.root.join("s")
    }

    pub(crate) fn snapshot_dir(&self, key: &str) -> PathBuf {
        self.snapshot_dirs().join(key)
    }
}
