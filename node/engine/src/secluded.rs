//! Mounts of all pods, each in its own entry of a few directories, that each new container leaves behind but for its
//! own.

use std::path::{Path, PathBuf};

use knode_linux::seclude::Secluded;

use crate::shim::protocol::OwnMounts;
use crate::state::{ContainerRecord, Layout};

/// The secluded directories of an engine.
#[derive(Debug, Default)]
pub(crate) struct SecludedMounts {
    /// With an entry for each sandbox.
    sandboxes: Vec<Secluded>,
    /// With an entry for each container: their root file systems.
    roots: Option<Secluded>,
}

impl SecludedMounts {
    /// Secludes what can be. Without it containers start later, no more.
    pub(crate) fn establish(layout: &Layout, roots: &Path) -> Self {
        Self {
            sandboxes: layout
                .secluded()
                .iter()
                .filter_map(|path| establish(path))
                .collect(),
            roots: establish(roots),
        }
    }

    /// What this container leaves behind, and what it keeps of it. Who mounts a directory with root file systems of
    /// others, or images, keeps those of all.
    pub(crate) fn of(&self, container: &ContainerRecord) -> Vec<OwnMounts> {
        let mounts = &container.config.mounts;
        let roots = self.roots.iter().filter(|roots| {
            let sources = mounts.iter().map(|mount| Path::new(&mount.host_path));
            container.image_mounts.is_empty() && !reached(sources, &real(roots.directory()))
        });
        let of_sandbox = |secluded| own(secluded, &container.sandbox_id);
        let of_container = |secluded| own(secluded, &container.id);
        self.sandboxes
            .iter()
            .map(of_sandbox)
            .chain(roots.map(of_container))
            .collect()
    }
}

/// Whether something below `directory` can be seen through one of `sources`. Those of images are empty.
fn reached<'a>(mut sources: impl Iterator<Item = &'a Path>, directory: &Path) -> bool {
    sources.any(|source| {
        let source = real(source);
        source.is_absolute() && (directory.starts_with(&source) || source.starts_with(directory))
    })
}

/// Where a path leads; itself if there is nothing.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn own(secluded: &Secluded, name: &str) -> OwnMounts {
    OwnMounts {
        directory: secluded.directory().to_owned(),
        mount: secluded.mount(),
        name: name.to_owned(),
    }
}

fn establish(directory: &Path) -> Option<Secluded> {
    match Secluded::establish(directory) {
        Ok(secluded) => secluded,
        Err(error) => {
            tracing::warn!(directory = %directory.display(), %error, "containers see mounts of all pods");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_reached_from_above_and_from_within() {
        let reached = |source: &str| reached([Path::new(source)].into_iter(), Path::new("/nowhere/images/s"));
        for source in [
            "/",
            "/nowhere",
            "/nowhere/images/s",
            "/nowhere/images/s/other/rootfs",
        ] {
            assert!(reached(source), "{source}");
        }
        for source in ["", "/nowhere/images/sx", "/nowhere/images/l", "/etc"] {
            assert!(!reached(source), "{source}");
        }
    }
}
