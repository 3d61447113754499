//! The root file system of a container with users of its own.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::engine::Core;
use crate::entry::stage::{FILE, Overlay, Stage};
use crate::error::{EngineError, FileContext, Result};
use crate::spec::idmap::IdMaps;
use crate::state::{ContainerRecord, write_atomic};

impl Core {
    /// Leaves word for the creator what to prepare, and unmounts what it will mount itself.
    pub(super) fn stage(&self, record: &ContainerRecord, users: &Path, maps: &IdMaps) -> Result<()> {
        let snapshots = self.config.images.snapshots();
        let base = self.config.images.root().to_path_buf();
        let mounts = fs::read_to_string("/proc/self/mountinfo").file("reading", "/proc/self/mountinfo")?;
        let mut overlays = Vec::new();
        for key in std::iter::once(&record.id).chain(&record.image_mounts) {
            let missing = || EngineError::Invalid(format!("snapshot {key} is not mounted"));
            let snapshot = snapshots.get(key).ok_or_else(missing)?;
            let mut overlay = overlay(&mounts, &snapshot.rootfs).ok_or_else(missing)?;
            overlay.context = record.file_label().map(str::to_owned);
            snapshots.unmount(key)?;
            if !overlay.upper.as_os_str().is_empty() {
                let upper = base.join(&overlay.upper);
                give(&upper, maps).file("giving to the pod's users", upper)?;
            }
            overlays.push(overlay);
        }
        let stage = Stage {
            users: users.to_path_buf(),
            base,
            overlays,
        };
        let path = self.layout.container(&record.id).join(FILE);
        let text = serde_json::to_vec(&stage)
            .map_err(io::Error::from)
            .file("encoding", &path)?;
        write_atomic(&path, &text)
    }
}

/// What the overlay mounted at `path` is made of, as the kernel tells.
fn overlay(mountinfo: &str, path: &Path) -> Option<Overlay> {
    let line = mountinfo.lines().rev().find(|line| {
        let target = line.split(' ').nth(4).unwrap_or_default();
        Path::new(&target.replace("\\040", " ")) == path
    })?;
    let options = line.split(" - overlay ").nth(1)?.split(' ').nth(1)?;
    let option = |name: &str| {
        let value = options.split(',').find_map(|option| option.strip_prefix(name))?;
        value.strip_prefix('=')
    };
    Some(Overlay {
        path: path.to_path_buf(),
        lower: option("lowerdir")?.split(':').map(PathBuf::from).collect(),
        upper: option("upperdir").unwrap_or_default().into(),
        work: option("workdir").unwrap_or_default().into(),
        context: None,
    })
}

/// What was written before the pod's users came belongs to them from now on.
fn give(path: &Path, maps: &IdMaps) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let unmapped = || io::Error::other("an owner is outside of the pod's users");
    let uid = maps.uids.to_host(metadata.uid()).ok_or_else(unmapped)?;
    let gid = maps.gids.to_host(metadata.gid()).ok_or_else(unmapped)?;
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), maps)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_the_layers() {
        let table = "36 25 0:31 / /s/c\\040x/rootfs rw,relatime shared:1 - overlay overlay \
                     rw,lowerdir=l/2:l/1,upperdir=s/c/fs,workdir=s/c/work,index=off\n";
        let found = overlay(table, Path::new("/s/c x/rootfs")).unwrap();
        assert_eq!(found.lower, [PathBuf::from("l/2"), "l/1".into()]);
        assert_eq!((found.upper, found.work), ("s/c/fs".into(), "s/c/work".into()));
        assert_eq!(overlay(table, Path::new("/s/other")), None);
        let image = "36 25 0:31 / /s/i/rootfs ro - overlay overlay ro,lowerdir=l/2:l/1,index=off\n";
        let found = overlay(image, Path::new("/s/i/rootfs")).unwrap();
        assert_eq!(found.upper, PathBuf::new(), "nothing is written to an image");
    }
}
