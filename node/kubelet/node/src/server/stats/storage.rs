//! What images, containers and their logs take of the disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use knode_cri::{FilesystemUsage, ImageFsInfoRequest, ImageService};
use knode_linux::filewatch::{self, FileSystemUsage};

use crate::eviction::disk_usage;

/// What is held, and of which file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct Held {
    pub(in crate::server) bytes: u64,
    pub(in crate::server) inodes: Option<u64>,
    pub(in crate::server) fs: Option<FileSystemUsage>,
}

impl Held {
    /// All that a file system holds.
    pub(in crate::server) fn whole(fs: FileSystemUsage) -> Self {
        Self {
            bytes: fs.used,
            inodes: Some(fs.inodes.saturating_sub(fs.inodes_free)),
            fs: Some(fs),
        }
    }
}

/// The runtime's file systems: of images, and of containers' own layers.
pub(super) async fn of_runtime(images: &dyn ImageService) -> (Option<Held>, Option<Held>) {
    let answer = match images.image_fs_info(ImageFsInfoRequest::default()).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%error, "the runtime tells nothing of its file systems");
            return (None, None);
        }
    };
    let images = answer.image_filesystems.into_iter().next().map(held);
    let containers = answer.container_filesystems.into_iter().next().map(held);
    (images, containers.or(images))
}

fn held(usage: FilesystemUsage) -> Held {
    let path = usage.fs_id.map(|id| PathBuf::from(id.mountpoint));
    Held {
        bytes: usage.used_bytes.map_or(0, |bytes| bytes.value),
        inodes: usage.inodes_used.map(|inodes| inodes.value),
        fs: path.and_then(|path| filewatch::file_system_usage(&path).ok()),
    }
}

/// A container's logs: its pod's directory, and its name.
pub(super) type Logs = (String, String);

/// What the logs of these containers hold.
pub(super) async fn of_logs(directory: &Path, containers: Vec<Logs>) -> HashMap<Logs, Held> {
    let directory = directory.to_owned();
    let measured = tokio::task::spawn_blocking(move || {
        let fs = filewatch::file_system_usage(&directory).ok();
        let of = |logs: Logs| {
            let (bytes, inodes) = disk_usage(&directory.join(&logs.0).join(&logs.1)).ok()?;
            let held = Held {
                bytes,
                inodes: Some(inodes),
                fs,
            };
            Some((logs, held))
        };
        containers.into_iter().filter_map(of).collect()
    });
    // What broke off is measured the next time.
    measured.await.unwrap_or_default()
}
