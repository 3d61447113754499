//! The files (upstream: `fs_pullrecords.go`), in upstream's places: `image_manager/pulling` and `image_manager/pulled`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::record::{PullIntent, PulledRecord, Record};

const PREFIX: &str = "sha256-";
const TEMPORARY: &str = ".tmp";

/// A file that cannot be used, or a directory.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The kernel's answer.
    #[error("cannot {call} {path}", path = path.display())]
    Io {
        /// What was to be done.
        call: &'static str,
        /// With what.
        path: PathBuf,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// What is in a file is no record.
    #[error("{path} holds no record of a pull", path = path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kubelet ends.
    #[error("the writing of a pull's record was given up")]
    Lost,
}

/// Both directories. All calls block.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pulling: PathBuf,
    pulled: PathBuf,
}

/// What was in a directory: what could be read, and the names of the files that could not.
pub(super) type Found<R> = (Vec<R>, Vec<String>);

impl Store {
    /// Makes what is missing below the kubelet's `root`.
    pub(super) fn open(root: &Path) -> Result<Self, RecordsError> {
        let dir = root.join("image_manager");
        let store = Self {
            pulling: dir.join("pulling"),
            pulled: dir.join("pulled"),
        };
        for dir in [&store.pulling, &store.pulled] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(at("create", dir))?;
        }
        Ok(store)
    }

    pub(super) fn intents(&self) -> Result<Found<PullIntent>, RecordsError> {
        read_all(&self.pulling)
    }

    pub(super) fn records(&self) -> Result<Found<PulledRecord>, RecordsError> {
        read_all(&self.pulled)
    }

    pub(super) fn write_intent(&self, image: &str) -> Result<(), RecordsError> {
        write(&self.pulling.join(file_name(image)), &PullIntent::new(image))
    }

    pub(super) fn write_record(&self, record: &PulledRecord) -> Result<(), RecordsError> {
        write(&self.pulled.join(file_name(&record.image_ref)), record)
    }

    pub(super) fn remove_intent(&self, image: &str) -> Result<(), RecordsError> {
        remove(&self.pulling.join(file_name(image)))
    }

    pub(super) fn remove_record(&self, image_ref: &str) -> Result<(), RecordsError> {
        remove(&self.pulled.join(file_name(image_ref)))
    }
}

/// The name of the file about `key`: an image's name, or an id.
pub(super) fn file_name(key: &str) -> String {
    let digest = Sha256::digest(key);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{PREFIX}{hex}")
}

fn at(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordsError {
    let path = path.to_owned();
    move |source| RecordsError::Io { call, path, source }
}

fn read_all<R: Record>(dir: &Path) -> Result<Found<R>, RecordsError> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(dir).map_err(at("list", dir))? {
        let entry = entry.map_err(at("list", dir))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(PREFIX) || name.ends_with(TEMPORARY) {
            continue;
        }
        match read(&entry.path()) {
            Ok(record) => good.push(record),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a record of a pull cannot be read"
                );
                bad.push(name);
            }
        }
    }
    Ok((good, bad))
}

fn read<R: Record>(path: &Path) -> Result<R, RecordsError> {
    let text = fs::read(path).map_err(at("read", path))?;
    R::read(&text).map_err(|source| RecordsError::Form {
        path: path.to_owned(),
        source: source.into(),
    })
}

/// Whole or not at all, also after a power cut: an image without a record counts as everybody's.
fn write(path: &Path, record: &impl Record) -> Result<(), RecordsError> {
    let form = |source: serde_json::Error| RecordsError::Form {
        path: path.to_owned(),
        source: source.into(),
    };
    let text = serde_json::to_vec(record).map_err(form)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(TEMPORARY);
    let beside = PathBuf::from(beside);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&beside).map_err(at("open", &beside))?;
    file.write_all(&text).map_err(at("write", &beside))?;
    file.sync_all().map_err(at("sync", &beside))?;
    fs::rename(&beside, path).map_err(at("rename to", path))?;
    sync(path)
}

fn remove(path: &Path) -> Result<(), RecordsError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The directory that `path` is in, to the disk.
fn sync(path: &Path) -> Result<(), RecordsError> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(at("sync", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_upstreams_names() {
        // The name that upstream gives to the file about this image in its own tests.
        assert_eq!(
            file_name("testimageref"),
            "sha256-b3c0cc4278800b03a308ceb2611161430df571ca733122f0a40ac8b9792a9064"
        );
    }
}
