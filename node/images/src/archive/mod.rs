//! Images from files and into files: OCI layouts and `docker save` archives, plain or compressed.

mod directory;
mod docker;
mod error;
mod export;
mod file;
mod import;
mod oci;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use directory::DirectoryReport;
pub use error::ArchiveError;

use crate::error::{Error, Result};
use crate::image::Image;
use crate::store::ImageStore;

impl ImageStore {
    /// Imports every image of an archive (`.tar`, or compressed by gzip or zstd), for this machine's platform.
    /// Images that the archive does not name are kept by id.
    ///
    /// # Errors
    /// [`Error::Import`], naming the file and what is wrong with it; nothing of the archive is then left but images
    /// that came before the broken one in it.
    pub async fn import_archive(&self, path: &Path) -> Result<Vec<Image>> {
        let (inner, path) = (self.inner.clone(), path.to_owned());
        let task = tokio::task::spawn_blocking(move || {
            import::import(&inner, &path).map_err(|source| Error::Import {
                path,
                source: Box::new(source),
            })
        });
        task.await.map_err(|_| Error::TaskLost("import"))?
    }

    /// Writes images to a new archive that is an OCI layout and a `docker save` archive at once, with the tags by which
    /// they are named here. Layers are kept as trees, not as they were transferred, so that the archive has them anew,
    /// uncompressed: the images in it run alike and have other digests and ids.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`], [`Error::Io`]; there is then no archive.
    pub async fn export_archive(&self, references: &[String], path: &Path) -> Result<()> {
        let (inner, references, path) = (self.inner.clone(), references.to_vec(), path.to_owned());
        let task = tokio::task::spawn_blocking(move || export::export(&inner, &references, &path));
        task.await.map_err(|_| Error::TaskLost("export"))?
    }

    /// Imports every archive in a directory that was not imported before or has changed since (by size and
    /// modification time), or whose images are gone. Goes on after a broken archive. An absent directory is empty.
    ///
    /// # Errors
    /// [`Error::Io`] when the directory cannot be read; archives report their own in the answer.
    pub async fn import_dir(&self, directory: &Path) -> Result<Vec<DirectoryReport>> {
        let (inner, directory) = (self.inner.clone(), directory.to_owned());
        let task = tokio::task::spawn_blocking(move || directory::import(&inner, &directory));
        task.await.map_err(|_| Error::TaskLost("import"))?
    }
}

/// Images that an archive describes, in the form common to both kinds.
#[derive(Debug)]
pub(crate) struct Described {
    /// References to give it, as the archive has them.
    pub names: Vec<String>,
    pub config: Vec<u8>,
    pub manifests: Vec<Vec<u8>>,
    /// Digest of the manifest or index that the archive names, where it is one.
    pub top: Option<crate::digest::Digest>,
    pub layers: Vec<Member>,
}

/// A layer's place in the archive.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub name: PathBuf,
    /// The blob's digest, where the archive promises one.
    pub digest: Option<crate::digest::Digest>,
}
