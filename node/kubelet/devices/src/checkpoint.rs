//! What is remembered across restarts, in the form of upstream's `kubelet_internal_checkpoint`
//! (`pkg/kubelet/cm/devicemanager/checkpoint`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use knode_api::hash::fnv1a_32;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::table::Held;
use crate::v1beta1::ContainerAllocateResponse;

/// Stands for a device that is near to no NUMA node.
const ANYWHERE: i64 = -1;

/// The checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// It cannot be written.
    #[error("writing {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// It is not JSON of this form.
    #[error("{} is not a checkpoint of devices", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Its checksum is not that of its content.
    #[error("{} is corrupt: its checksum is {found}, of its content it is {computed}", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u32,
        /// What it should say.
        computed: u32,
    },
}

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remembered {
    /// Who has what.
    pub held: Vec<Held>,
    /// Healthy devices by resource.
    pub registered: BTreeMap<String, Vec<String>>,
}

#[derive(Serialize, Deserialize)]
struct File {
    #[serde(rename = "Data")]
    data: Data,
    #[serde(rename = "Checksum")]
    checksum: u32,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    pod_device_entries: Option<Vec<Entry>>,
    registered_devices: Option<BTreeMap<String, Option<Vec<String>>>>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(rename = "PodUID")]
    pod: String,
    #[serde(rename = "ContainerName")]
    container: String,
    #[serde(rename = "ResourceName")]
    resource: String,
    /// By NUMA node.
    #[serde(rename = "DeviceIDs")]
    devices: Option<BTreeMap<i64, Option<Vec<String>>>>,
    /// The plugin's answer as a protobuf message, in base64.
    #[serde(rename = "AllocResp")]
    response: Option<String>,
}

/// The file.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    path: PathBuf,
}

impl Checkpoint {
    /// At `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was written last; none if nothing ever was.
    ///
    /// # Errors
    /// [`CheckpointError`]. What was remembered is lost then.
    pub fn read(&self) -> Result<Option<Remembered>, CheckpointError> {
        let path = || self.path.clone();
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CheckpointError::Read { path: path(), source }),
        };
        let read = serde_json::from_slice::<File>(&text);
        let file = read.map_err(|source| CheckpointError::Form { path: path(), source })?;
        let computed = file.data.checksum();
        if computed != file.checksum {
            return Err(CheckpointError::Checksum {
                path: path(),
                found: file.checksum,
                computed,
            });
        }
        let entries = file.data.pod_device_entries.into_iter().flatten();
        let registered = file.data.registered_devices.into_iter().flatten();
        Ok(Some(Remembered {
            held: entries.filter_map(Entry::held).collect(),
            registered: registered
                .map(|(name, devices)| (name, devices.unwrap_or_default()))
                .collect(),
        }))
    }

    /// Replaces what was written before.
    ///
    /// # Errors
    /// [`CheckpointError::Write`]; what was written before is still there.
    pub fn write(&self, remembered: &Remembered) -> Result<(), CheckpointError> {
        let registered = remembered.registered.iter();
        let data = Data {
            pod_device_entries: Some(remembered.held.iter().map(Entry::of).collect()),
            registered_devices: Some(
                registered
                    .map(|(name, devices)| (name.clone(), Some(devices.clone())))
                    .collect(),
            ),
        };
        let checksum = data.checksum();
        let written = serde_json::to_vec(&File { data, checksum })
            .map_err(io::Error::from)
            .and_then(|text| replace(&self.path, &text));
        written.map_err(|source| CheckpointError::Write {
            path: self.path.clone(),
            source,
        })
    }
}

/// Writes beside the file and puts that in its place, so that nobody sees half of it.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.new"));
    {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        io::Write::write_all(&mut file, text)?;
        file.sync_all()?;
    }
    fs::rename(&beside, path)
}

impl Entry {
    fn of(held: &Held) -> Self {
        let mut devices: BTreeMap<i64, Option<Vec<String>>> = BTreeMap::new();
        let mut add = |node: i64, id: &String| {
            let all = devices.entry(node).or_default();
            all.get_or_insert_default().push(id.clone());
        };
        for (id, nodes) in &held.devices {
            match nodes.is_empty() {
                true => add(ANYWHERE, id),
                false => nodes.iter().for_each(|node| add(*node, id)),
            }
        }
        Self {
            pod: held.pod.clone(),
            container: held.container.clone(),
            resource: held.resource.clone(),
            devices: Some(devices),
            response: Some(STANDARD.encode(held.response.encode_to_vec())),
        }
    }

    /// Nothing if the answer cannot be read: the plugin is asked again then.
    fn held(self) -> Option<Held> {
        let mut devices: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
        for (node, ids) in self.devices.into_iter().flatten() {
            for id in ids.into_iter().flatten() {
                let nodes = devices.entry(id).or_default();
                if node != ANYWHERE {
                    nodes.insert(node);
                }
            }
        }
        let bytes = STANDARD.decode(self.response.unwrap_or_default()).ok()?;
        Some(Held {
            pod: self.pod,
            container: self.container,
            resource: self.resource,
            devices,
            response: ContainerAllocateResponse::decode(bytes.as_slice()).ok()?,
        })
    }
}

impl Data {
    /// The hash of the text that upstream's deep printer makes of the structure.
    fn checksum(&self) -> u32 {
        fnv1a_32(self.printed().as_bytes())
    }

    fn printed(&self) -> String {
        let mut text =
            String::from("(checkpoint.checkpointData){PodDeviceEntries:([]checkpoint.PodDevicesEntry)");
        list(&mut text, self.pod_device_entries.as_deref(), Entry::print);
        text.push_str(" RegisteredDevices:(map[string][]string)");
        let registered = self.registered_devices.as_ref();
        map(&mut text, registered, |text, name| text.push_str(name));
        text.push('}');
        text
    }
}

impl Entry {
    fn print(&self, text: &mut String) {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "{{PodUID:(string){} ContainerName:(string){} ResourceName:(string){} \
             DeviceIDs:(checkpoint.DevicesPerNUMA)",
            self.pod, self.container, self.resource
        );
        map(text, self.devices.as_ref(), |text, node| {
            let _ = write!(text, "{node}");
        });
        text.push_str(" AllocResp:([]uint8)");
        let bytes = self.response.as_ref().map(|one| STANDARD.decode(one));
        let bytes = bytes.map(Result::unwrap_or_default);
        list(text, bytes.as_deref(), |byte, text| {
            let _ = write!(text, "{byte}");
        });
        text.push('}');
    }
}

fn list<T>(text: &mut String, all: Option<&[T]>, print: impl Fn(&T, &mut String)) {
    let Some(all) = all else {
        text.push_str("<nil>");
        return;
    };
    text.push('[');
    for (place, one) in all.iter().enumerate() {
        if place > 0 {
            text.push(' ');
        }
        print(one, text);
    }
    text.push(']');
}

fn map<K>(
    text: &mut String,
    all: Option<&BTreeMap<K, Option<Vec<String>>>>,
    print: impl Fn(&mut String, &K),
) {
    let Some(all) = all else {
        text.push_str("<nil>");
        return;
    };
    text.push_str("map[");
    for (place, (key, values)) in all.iter().enumerate() {
        if place > 0 {
            text.push(' ');
        }
        print(text, key);
        text.push(':');
        list(text, values.as_deref(), |one, text| text.push_str(one));
    }
    text.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Remembered {
        let response = ContainerAllocateResponse {
            envs: [("A".to_owned(), "1".to_owned())].into(),
            ..ContainerAllocateResponse::default()
        };
        let held = |container: &str, devices: &[(&str, &[i64])]| Held {
            pod: "uid".to_owned(),
            container: container.to_owned(),
            resource: "example.com/a".to_owned(),
            devices: devices
                .iter()
                .map(|(id, nodes)| ((*id).to_owned(), nodes.iter().copied().collect()))
                .collect(),
            response: response.clone(),
        };
        Remembered {
            held: vec![
                held("one", &[("d1", &[]), ("d2", &[0, 1])]),
                held("two", &[("d3", &[1])]),
            ],
            registered: [("example.com/a".to_owned(), vec!["d1".to_owned(), "d2".to_owned()])].into(),
        }
    }

    #[test]
    fn the_text_under_the_checksum_is_upstreams() {
        let data: Data = serde_json::from_str(
            r#"{"PodDeviceEntries": [{"PodUID": "u", "ContainerName": "c", "ResourceName": "r",
                "DeviceIDs": {"-1": ["a", "b"], "0": ["c"]}, "AllocResp": "Cgk="}],
                "RegisteredDevices": {"r": ["a"], "s": null}}"#,
        )
        .unwrap();
        assert_eq!(
            data.printed(),
            "(checkpoint.checkpointData){PodDeviceEntries:([]checkpoint.PodDevicesEntry)[{PodUID:(string)u \
             ContainerName:(string)c ResourceName:(string)r DeviceIDs:(checkpoint.DevicesPerNUMA)map[-1:[a b] 0:[c]] \
             AllocResp:([]uint8)[10 9]}] RegisteredDevices:(map[string][]string)map[r:[a] s:<nil>]}"
        );
    }

    #[test]
    fn what_is_written_is_read_and_damage_is_seen() {
        let path = std::env::temp_dir().join(format!("devices-checkpoint-{}", std::process::id()));
        let checkpoint = Checkpoint::new(&path);
        assert!(checkpoint.read().unwrap().is_none());
        checkpoint.write(&sample()).unwrap();
        assert_eq!(checkpoint.read().unwrap(), Some(sample()));
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.contains(r#""DeviceIDs":{"-1":["d1"],"0":["d2"],"1":["d2"]}"#),
            "{text}"
        );
        fs::write(&path, text.replace("d3", "d4")).unwrap();
        assert!(matches!(checkpoint.read(), Err(CheckpointError::Checksum { .. })));
        fs::remove_file(&path).unwrap();
    }
}
