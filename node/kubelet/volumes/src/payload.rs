//! The files of a content volume as a value, and how they are taken from config maps and secrets.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use crate::error::VolumeError;
use crate::plan::Items;

/// Files by path relative to the volume's root.
pub type Payload = BTreeMap<String, PayloadFile>;

/// One file.
#[derive(Clone, PartialEq, Eq)]
pub struct PayloadFile {
    /// Content.
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner, where it is not the kubelet's own user.
    pub owner: Option<u32>,
}

impl PayloadFile {
    /// A file of the kubelet's own user.
    pub fn new(data: impl Into<Vec<u8>>, mode: u32) -> Self {
        Self {
            data: data.into(),
            mode,
            owner: None,
        }
    }
}

impl std::fmt::Debug for PayloadFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PayloadFile")
            .field("bytes", &self.data.len())
            .field("mode", &format_args!("{:o}", self.mode))
            .finish()
    }
}

/// Files of a config map: `data` and `binaryData`.
pub(crate) fn of_config_map(map: &ConfigMap, items: &Items) -> Result<Payload, VolumeError> {
    let texts = map
        .data
        .iter()
        .flatten()
        .map(|(key, text)| (key.as_str(), text.as_bytes()));
    let bytes = map
        .binary_data
        .iter()
        .flatten()
        .map(|(key, ByteString(data))| (key.as_str(), data.as_slice()));
    select(texts.chain(bytes).collect(), items, "config")
}

/// Files of a secret.
pub(crate) fn of_secret(secret: &Secret, items: &Items) -> Result<Payload, VolumeError> {
    let data = secret
        .data
        .iter()
        .flatten()
        .map(|(key, ByteString(data))| (key.as_str(), data.as_slice()));
    select(data.collect(), items, "secret")
}

fn select(all: BTreeMap<&str, &[u8]>, items: &Items, kind: &'static str) -> Result<Payload, VolumeError> {
    if items.keys.is_empty() {
        let every = all
            .into_iter()
            .map(|(key, data)| (key.to_owned(), PayloadFile::new(data, items.default_mode)));
        return Ok(every.collect());
    }
    let mut payload = Payload::new();
    for item in &items.keys {
        match all.get(item.key.as_str()) {
            Some(data) => {
                let mode = item.mode.unwrap_or(items.default_mode);
                payload.insert(checked(&item.path)?.to_owned(), PayloadFile::new(*data, mode));
            }
            None if items.optional => {}
            None => {
                return Err(VolumeError::MissingKey {
                    kind,
                    key: item.key.clone(),
                });
            }
        }
    }
    Ok(payload)
}

/// Refuses paths that are absolute, empty or leave the volume, and names reserved for the atomic writer.
pub(crate) fn checked(path: &str) -> Result<&str, VolumeError> {
    let bad = path.is_empty()
        || path.starts_with('/')
        || path.starts_with("..")
        || path.split('/').any(|part| part == ".." || part.is_empty());
    match bad {
        true => Err(VolumeError::BadPath {
            path: path.to_owned(),
        }),
        false => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::KeyPath;

    fn map() -> ConfigMap {
        ConfigMap {
            data: Some(BTreeMap::from([
                ("a".to_owned(), "1".to_owned()),
                ("b".to_owned(), "2".to_owned()),
            ])),
            binary_data: Some(BTreeMap::from([("raw".to_owned(), ByteString(vec![0, 255]))])),
            ..ConfigMap::default()
        }
    }

    fn items(keys: Vec<KeyPath>, optional: bool) -> Items {
        Items {
            keys,
            default_mode: 0o644,
            optional,
        }
    }

    #[test]
    fn without_items_every_key_becomes_a_file() {
        let payload = of_config_map(&map(), &items(vec![], false)).unwrap();
        assert_eq!(payload.keys().collect::<Vec<_>>(), ["a", "b", "raw"]);
        assert_eq!(payload["raw"].data, [0, 255]);
    }

    #[test]
    fn items_rename_and_set_modes() {
        let keys = vec![KeyPath {
            key: "a".into(),
            path: "x/a".into(),
            mode: Some(0o400),
        }];
        let payload = of_config_map(&map(), &items(keys, false)).unwrap();
        assert_eq!(payload.len(), 1);
        assert_eq!(payload["x/a"], PayloadFile::new("1", 0o400));
    }

    #[test]
    fn a_missing_key_fails_unless_optional() {
        let keys = vec![KeyPath {
            key: "no".into(),
            path: "no".into(),
            mode: None,
        }];
        let error = of_config_map(&map(), &items(keys.clone(), false)).unwrap_err();
        assert_eq!(error.to_string(), "references non-existent config key: no");
        assert!(of_config_map(&map(), &items(keys, true)).unwrap().is_empty());
    }

    #[test]
    fn paths_cannot_leave_the_volume() {
        for path in ["", "/a", "..data", "a/../b", "a//b", "../x"] {
            assert!(checked(path).is_err(), "{path} was accepted");
        }
        for path in ["a", "a/b", "a..b", ".hidden"] {
            assert!(checked(path).is_ok(), "{path} was refused");
        }
    }
}
