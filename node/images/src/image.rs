//! What an image is to its users.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// One image of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// `sha256:<hex>`: the digest of the image's configuration.
    pub id: Digest,
    /// References with a tag, in normal form, sorted; exactly those it was pulled or imported by.
    pub repo_tags: Vec<String>,
    /// References with a digest, in normal form, sorted.
    pub repo_digests: Vec<String>,
    /// Bytes of configuration, manifest and layers as transferred.
    pub size: u64,
    /// Never removed by garbage collection.
    pub pinned: bool,
    /// How to run it.
    pub config: ImageConfig,
    /// Digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<Digest>,
}

/// The part of an image's configuration that says how to run it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `user`, `uid`, `user:group`, `uid:gid` or empty.
    #[serde(deserialize_with = "null_default")]
    pub user: String,
    /// `NAME=value` pairs.
    #[serde(deserialize_with = "null_default")]
    pub env: Vec<String>,
    /// Words that `cmd` or the container's arguments are appended to.
    #[serde(deserialize_with = "null_default")]
    pub entrypoint: Vec<String>,
    /// Default arguments.
    #[serde(deserialize_with = "null_default")]
    pub cmd: Vec<String>,
    /// Working directory, empty for `/`.
    #[serde(deserialize_with = "null_default")]
    pub working_dir: String,
    /// Signal that stops it, such as `SIGQUIT` or `3`; empty for `SIGTERM`.
    #[serde(deserialize_with = "null_default")]
    pub stop_signal: String,
    /// Paths meant to be volumes.
    #[serde(deserialize_with = "null_default")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    /// Ports such as `80/tcp`.
    #[serde(deserialize_with = "null_default")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    /// Labels.
    #[serde(deserialize_with = "null_default")]
    pub labels: BTreeMap<String, String>,
}

/// Docker writes `null` for what is empty.
fn null_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// The whole configuration blob, as far as the store needs it.
#[derive(Debug, Deserialize)]
pub(crate) struct ConfigBlob {
    #[serde(default, deserialize_with = "null_default")]
    pub config: ImageConfig,
    pub rootfs: RootFs,
}

/// The list of layers in a configuration blob.
#[derive(Debug, Deserialize)]
pub(crate) struct RootFs {
    #[serde(default, deserialize_with = "null_default")]
    pub diff_ids: Vec<Digest>,
}

/// Bytes and inodes that something takes on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Allocated bytes.
    pub bytes: u64,
    /// Files, directories and links.
    pub inodes: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.inodes += other.inodes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_nulls_and_missing_fields_are_empty() {
        let text = r#"{"config":{"Env":null,"Cmd":["a"],"Volumes":{"/data":{}},"Labels":null},"rootfs":{"diff_ids":null}}"#;
        let blob: ConfigBlob = serde_json::from_str(text).unwrap();
        assert_eq!(blob.config.cmd, ["a"]);
        assert!(blob.config.env.is_empty() && blob.rootfs.diff_ids.is_empty());
        assert_eq!(blob.config.volumes.keys().collect::<Vec<_>>(), ["/data"]);
    }
}
