//! The files in which assignments outlive the kubelet (upstream: `pkg/kubelet/checkpointmanager`).

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A state file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum StateError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}: checkpoint is corrupted", path.display())]
    Corrupt { path: PathBuf },
    #[error(
        "configured policy {configured:?} differs from state checkpoint policy {found:?}, please drain this node and delete the state file {} before restarting the kubelet",
        path.display()
    )]
    Policy {
        path: PathBuf,
        configured: String,
        found: String,
    },
    #[error("{}: {problem}, please drain this node and delete the file", path.display())]
    Invalid { path: PathBuf, problem: String },
}

/// FNV-1a of 32 bits, upstream's sum over the printed object.
pub(crate) fn sum(printed: &str) -> u64 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    u64::from(printed.bytes().fold(0x811c_9dc5, step))
}

/// Reads a file; none if there is none. The policy must be the one that is configured.
pub(crate) fn load(path: &Path, policy: &str) -> Result<Option<Value>, StateError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            let path = path.to_owned();
            return Err(StateError::Read { path, source });
        }
    };
    let corrupt = || StateError::Corrupt {
        path: path.to_owned(),
    };
    let value: Value = serde_json::from_slice(&text).map_err(|_| corrupt())?;
    let found = value["policyName"].as_str().ok_or_else(corrupt)?;
    if found != policy {
        return Err(StateError::Policy {
            path: path.to_owned(),
            configured: policy.to_owned(),
            found: found.to_owned(),
        });
    }
    Ok(Some(value))
}

/// Puts the file in the place of the one that is there.
pub(crate) fn store(path: &Path, text: &str) -> Result<(), StateError> {
    let beside = path.with_extension("new");
    let write = || {
        let mut file = fs::File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        fs::rename(&beside, path)
    };
    write().map_err(|source| StateError::Write {
        path: path.to_owned(),
        source,
    })
}

/// A map as upstream's printer writes it: `map[a:1 b:2]`.
pub(crate) fn printed_map<K: std::fmt::Display>(entries: impl Iterator<Item = (K, String)>) -> String {
    let entries: Vec<String> = entries.map(|(key, value)| format!("{key}:{value}")).collect();
    format!("map[{}]", entries.join(" "))
}
