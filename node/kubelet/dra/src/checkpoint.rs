//! What is remembered across restarts, in the form of upstream's `dra_manager_state`
//! (`pkg/kubelet/cm/dra/state/checkpoint.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::ClaimsError;

/// A device that a driver made ready.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceState {
    /// The pool that it is of.
    pub pool_name: String,
    /// Its name in there.
    pub device_name: String,
    /// The requests that it is for; all, if none is named.
    #[serde(deserialize_with = "or_default")]
    pub request_names: Vec<String>,
    /// Names of CDI devices.
    #[serde(rename = "CDIDeviceIDs", deserialize_with = "or_default")]
    pub cdi_device_ids: Vec<String>,
}

/// A claim that was made ready, or is about to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimState {
    /// Its uid.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Uids of the pods that use it here.
    pub pods: BTreeSet<String>,
    /// Devices by driver.
    pub drivers: BTreeMap<String, Vec<DeviceState>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    data: String,
    checksum: u32,
}

#[derive(Serialize, Deserialize)]
struct Data {
    kind: String,
    #[serde(rename = "apiVersion")]
    version: String,
    #[serde(rename = "Entries", deserialize_with = "or_default")]
    entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "ClaimUID")]
    uid: String,
    claim_name: String,
    namespace: String,
    /// A set: its members are keys of empty objects.
    #[serde(rename = "PodUIDs")]
    pods: Map<String, Value>,
    driver_state: BTreeMap<String, Driver>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Driver {
    #[serde(deserialize_with = "or_default")]
    devices: Vec<DeviceState>,
}

/// Lists without members are null.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

pub(crate) struct Checkpoint(pub(crate) PathBuf);

impl Checkpoint {
    /// What was written last.
    ///
    /// # Errors
    /// [`ClaimsError::Read`], also where the checksum is wrong.
    pub(crate) fn read(&self) -> Result<Vec<ClaimState>, ClaimsError> {
        match read(&self.0) {
            Ok(entries) => Ok(entries.into_iter().map(ClaimState::from).collect()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(ClaimsError::Read {
                path: self.0.clone(),
                source,
            }),
        }
    }

    /// Replaces what was written before.
    ///
    /// # Errors
    /// [`ClaimsError::Write`].
    pub(crate) fn write<'a>(&self, claims: impl Iterator<Item = &'a ClaimState>) -> Result<(), ClaimsError> {
        let written = write(&self.0, claims.map(Entry::from).collect());
        written.map_err(|source| ClaimsError::Write {
            path: self.0.clone(),
            source,
        })
    }
}

fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let file: File = serde_json::from_slice(&fs::read(path)?)?;
    if checksum(&file.data) != file.checksum {
        return Err(io::Error::new(ErrorKind::InvalidData, "the checksum is wrong"));
    }
    Ok(serde_json::from_str::<Data>(&file.data)?.entries)
}

fn write(path: &Path, entries: Vec<Entry>) -> io::Result<()> {
    let data = serde_json::to_string(&Data {
        kind: "DRACheckpoint".to_owned(),
        version: "checkpoint.dra.kubelet.k8s.io/v1".to_owned(),
        entries,
    })?;
    let checksum = checksum(&data);
    let text = serde_json::to_vec(&File { data, checksum })?;
    let beside = path.with_extension("new");
    fs::write(&beside, text)?;
    fs::File::open(&beside)?.sync_all()?;
    fs::rename(&beside, path)
}

/// CRC-32 of IEEE 802.3.
fn checksum(data: &str) -> u32 {
    let mut sum = flate2::Crc::new();
    sum.update(data.as_bytes());
    sum.sum()
}

impl From<&ClaimState> for Entry {
    fn from(claim: &ClaimState) -> Self {
        let member = |uid: &String| (uid.clone(), Value::Object(Map::new()));
        let driver = |(name, devices): (&String, &Vec<DeviceState>)| {
            let devices = devices.clone();
            (name.clone(), Driver { devices })
        };
        Self {
            uid: claim.uid.clone(),
            claim_name: claim.name.clone(),
            namespace: claim.namespace.clone(),
            pods: claim.pods.iter().map(member).collect(),
            driver_state: claim.drivers.iter().map(driver).collect(),
        }
    }
}

impl From<Entry> for ClaimState {
    fn from(entry: Entry) -> Self {
        let drivers = entry.driver_state.into_iter();
        Self {
            uid: entry.uid,
            name: entry.claim_name,
            namespace: entry.namespace,
            pods: entry.pods.into_iter().map(|(uid, _)| uid).collect(),
            drivers: drivers.map(|(name, driver)| (name, driver.devices)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_is_seen() {
        let path = std::env::temp_dir().join(format!("dra-checkpoint-{}", std::process::id()));
        let checkpoint = Checkpoint(path.clone());
        assert_eq!(checkpoint.read().unwrap(), []);
        let device = DeviceState {
            pool_name: "pool".to_owned(),
            device_name: "one".to_owned(),
            request_names: vec!["r".to_owned()],
            cdi_device_ids: vec!["example.com/class=one".to_owned()],
        };
        let claim = ClaimState {
            uid: "cu".to_owned(),
            name: "claim".to_owned(),
            namespace: "default".to_owned(),
            pods: ["u".to_owned()].into(),
            drivers: [("driver.example.com".to_owned(), vec![device])].into(),
        };
        checkpoint.write([&claim].into_iter()).unwrap();
        assert_eq!(checkpoint.read().unwrap(), [claim]);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#"\"PodUIDs\":{\"u\":{}}"#), "{text}");
        fs::write(&path, text.replace("claim\\\"", "clain\\\"")).unwrap();
        assert!(checkpoint.read().is_err());
        fs::remove_file(&path).unwrap();
        assert_eq!(checksum("123456789"), 0xcbf4_3926, "the usual check of this sum");
    }
}
