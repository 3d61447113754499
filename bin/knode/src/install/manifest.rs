//! What an installation has made: what `knode uninstall` takes away, and nothing else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::apply::below;

/// The record, in the order of making.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The units, `knode.service` or `knode-server.service`.
    pub units: Vec<String>,
    /// The data directories.
    pub data: Vec<PathBuf>,
    made: Vec<Made>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    path: PathBuf,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    directory: bool,
}

/// Why the record could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not a record of `knode install`")]
    Parse {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("write the record of what was installed")]
    Write(#[from] knode_pki::Error),
}

impl Manifest {
    /// The record in `path`, if there is one.
    pub fn load(path: &Path) -> Result<Option<Self>, ManifestError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(ManifestError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|source| ManifestError::Parse {
            path: path.to_owned(),
            source,
        })
    }

    /// Keeps the record.
    pub fn save(&self, path: &Path) -> Result<(), ManifestError> {
        let text = serde_json::to_vec_pretty(self).map_err(|source| ManifestError::Parse {
            path: path.to_owned(),
            source,
        })?;
        Ok(knode_pki::files::write_atomic(path, &text, 0o644)?)
    }

    /// Whether an installation has made this.
    pub fn has(&self, path: &Path) -> bool {
        self.made.iter().any(|made| made.path == path)
    }

    /// Notes what was made; once.
    pub fn add(&mut self, path: &Path, directory: bool) {
        if !self.has(path) {
            self.made.push(Made {
                path: path.to_owned(),
                directory,
            });
        }
    }

    /// Removes everything noted below `root`, last first; directories only if they are empty. Returns what could not
    /// be removed, and why.
    pub fn remove(&self, root: &Path) -> Vec<String> {
        let mut left = Vec::new();
        for made in self.made.iter().rev() {
            let path = below(root, &made.path);
            let removed = if made.directory {
                fs::remove_dir(&path)
            } else {
                fs::remove_file(&path)
            };
            match removed {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) if made.directory && e.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    left.push(format!("{} stays: there are others' files in it", path.display()));
                }
                Err(e) => left.push(format!("remove {}: {e}", path.display())),
            }
        }
        left
    }
}
