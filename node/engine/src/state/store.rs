//! Records as files: there whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{FileContext, Result, chain};
use crate::shim::protocol::Exit;

const RECORD: &str = "record.json";

/// Writes a record into the directory of its object. It does not wait for the disk: what a power cut takes
/// with it is not running any more, and what is left of it is cleared away.
pub(crate) fn write_record<T: Serialize>(directory: &Path, record: &T) -> Result<()> {
    let path = directory.join(RECORD);
    let text = serde_json::to_vec(record)
        .map_err(io::Error::from)
        .file("encoding", &path)?;
    write_atomic(&path, &text)
}

/// Replaces a file.
pub(crate) fn write_atomic(path: &Path, text: &[u8]) -> Result<()> {
    let partial = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        fs::File::create(&partial)?.write_all(text)?;
        fs::rename(&partial, path)
    };
    write().file("writing", path)
}

/// Reads the records of all objects below `directory`. The second list names objects without a readable
/// record.
pub(crate) fn load_all<T: DeserializeOwned>(directory: &Path) -> Result<(Vec<T>, Vec<String>)> {
    let mut records = Vec::new();
    let mut broken = Vec::new();
    for entry in fs::read_dir(directory).file("listing", directory)? {
        let entry = entry.file("listing", directory)?;
        let path = entry.path().join(RECORD);
        let read = fs::read(&path).and_then(|text| Ok(serde_json::from_slice(&text)?));
        match read {
            Ok(record) => records.push(record),
            Err(error) => {
                tracing::warn!(path = %path.display(), error = chain(&error), "a record is lost");
                broken.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
    }
    Ok((records, broken))
}

/// Reads how a container ended, `None` if nobody recorded it.
pub(crate) fn read_exit(path: &Path) -> Option<Exit> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Removes a directory with all in it; one that is not there is no error.
pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).file("removing", path),
        _ => Ok(()),
    }
}
