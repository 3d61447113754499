//! Users of their own for pods with `hostUsers: false` (upstream: `pkg/kubelet/userns`): each has a range of the node's
//! users, which no other pod has, and keeps it for its life.

mod ranges;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use knode_cri as cri;
use serde::{Deserialize, Serialize};

use self::ranges::{LENGTH, Ranges};
use crate::error::ConfigError;

/// The file in the pod's directory that says which range it has, in upstream's form.
const FILE: &str = "userns";

/// Gives ranges to pods, and remembers them in the pods' directories.
#[derive(Debug)]
pub(crate) struct Users {
    pods: PathBuf,
    ranges: Mutex<Ranges>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    uid_mappings: Vec<Mapping>,
    gid_mappings: Vec<Mapping>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_id: u32,
    container_id: u32,
    length: u32,
}

impl Users {
    /// Takes up the ranges that the pods in the directory `pods` have from before.
    pub(crate) fn open(pods: PathBuf) -> Self {
        let mut ranges = Ranges::default();
        let entries = std::fs::read_dir(&pods).into_iter().flatten().flatten();
        for entry in entries {
            let uid = entry.file_name().to_string_lossy().into_owned();
            match read(&entry.path().join(FILE)) {
                Ok(Some(first)) => ranges.take(&uid, first),
                Ok(None) => {}
                Err(error) => tracing::warn!(uid, %error, "cannot read which users a pod has"),
            }
        }
        Self {
            pods,
            ranges: Mutex::new(ranges),
        }
    }

    /// The pod's range, given to it now if it has none.
    ///
    /// # Errors
    /// [`ConfigError::File`] if it cannot be remembered, [`ConfigError::Unsupported`] if there is none left.
    pub(crate) fn of(&self, uid: &str) -> Result<cri::UserNamespace, ConfigError> {
        let mut ranges = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, is_new) = ranges
            .give(uid)
            .ok_or(ConfigError::Unsupported("more pods with users of their own"))?;
        if is_new {
            let path = self.pods.join(uid).join(FILE);
            if let Err(source) = write(&path, first) {
                ranges.release(uid);
                return Err(ConfigError::File { path, source });
            }
        }
        let mapping = cri::IdMapping {
            host_id: first,
            container_id: 0,
            length: LENGTH,
        };
        Ok(cri::UserNamespace {
            mode: cri::NamespaceMode::Pod as i32,
            uids: vec![mapping],
            gids: vec![mapping],
        })
    }

    /// The pod is gone, with its directory.
    pub(crate) fn release(&self, uid: &str) {
        let mut ranges = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        ranges.release(uid);
    }
}

fn read(path: &Path) -> io::Result<Option<u32>> {
    let text = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let record: Record = serde_json::from_slice(&text)?;
    Ok(record.uid_mappings.first().map(|mapping| mapping.host_id))
}

fn write(path: &Path, first: u32) -> io::Result<()> {
    let mapping = Mapping {
        host_id: first,
        container_id: 0,
        length: LENGTH,
    };
    let record = Record {
        uid_mappings: vec![mapping.clone()],
        gid_mappings: vec![mapping],
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, serde_json::to_vec(&record)?)?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_keeps_its_users_over_a_restart() {
        let pods = std::env::temp_dir().join(format!("knode-users-{}", std::process::id()));
        let users = Users::open(pods.clone());
        let (a, b) = (users.of("a").unwrap(), users.of("b").unwrap());
        assert_eq!(a.uids[0].host_id, 65536);
        assert_eq!((b.uids[0].host_id, b.gids[0].length), (131_072, 65536));
        assert_eq!(users.of("a").unwrap(), a);
        let again = Users::open(pods.clone());
        assert_eq!(again.of("b").unwrap(), b);
        again.release("a");
        assert_eq!(again.of("c").unwrap().uids[0].host_id, 65536);
        std::fs::remove_dir_all(&pods).unwrap();
    }
}
