//! The files that describe CDI devices.

use std::fs;
use std::path::Path;

use knode_cri::ContainerConfig;

use crate::spec::SpecError;
use crate::spec::cdi::{CdiSpec, ContainerEdits, resolve, wanted};

/// Where they are, in rising precedence.
const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// The changes that the CDI devices of a configuration stand for. The files are read anew every time, because
/// plugins write them when they like.
///
/// # Errors
/// [`SpecError::Cdi`] names the devices that no file describes.
pub(super) fn edits(config: &ContainerConfig) -> Result<Vec<ContainerEdits>, SpecError> {
    let names = wanted(config);
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let directories: Vec<Vec<CdiSpec>> = DIRECTORIES.iter().map(|path| load(Path::new(path))).collect();
    resolve(&names, &directories)
}

/// The readable files of a directory; a broken one must not take the others along.
fn load(directory: &Path) -> Vec<CdiSpec> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut specs = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let known = path.extension().and_then(|end| end.to_str());
        if !matches!(known, Some("json" | "yaml")) {
            continue;
        }
        match read(&path) {
            Ok(spec) => specs.push(spec),
            Err(error) => tracing::warn!(path = %path.display(), error, "a CDI file cannot be read"),
        }
    }
    specs
}

fn read(path: &Path) -> Result<CdiSpec, String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err("not a file of a description's size".into());
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    // JSON is YAML too.
    serde_norway::from_str(&text).map_err(|error| error.to_string())
}
