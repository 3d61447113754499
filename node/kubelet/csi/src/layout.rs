//! Where things lie, and what is written beside them (upstream: `pkg/volume/csi/csi_util.go`).

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const FILE: &str = "vol_data.json";

/// What upstream's kubelets write beside a volume, to know it again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct VolumeData {
    #[serde(rename = "attachmentID", skip_serializing_if = "String::is_empty")]
    pub attachment_id: String,
    pub driver_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_name: String,
    /// Name of the volume in its specification: the PersistentVolume's, or the inline one's in the pod.
    #[serde(rename = "specVolID", skip_serializing_if = "String::is_empty")]
    pub spec_name: String,
    pub volume_handle: String,
    /// `Persistent` or `Ephemeral`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_lifecycle_mode: String,
}

impl VolumeData {
    /// What stands in a directory; none if there is nothing, or nothing whole.
    pub(crate) fn read(directory: &Path) -> Option<Self> {
        let text = fs::read(directory.join(FILE)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Writes it at once and whole.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        let fresh = directory.join(".vol_data.json.new");
        fs::write(&fresh, text)?;
        fs::rename(fresh, directory.join(FILE))
    }

    /// Takes it away; fine if it is not there.
    pub(crate) fn remove(directory: &Path) -> io::Result<()> {
        gone(fs::remove_file(directory.join(FILE)))
    }

    pub(crate) fn same_volume(&self, other: &Self) -> bool {
        self.driver_name == other.driver_name && self.volume_handle == other.volume_handle
    }
}

/// What is not there needs no removal.
pub(crate) fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Text as the hexadecimal SHA-256 of it.
pub(crate) fn digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest
        .iter()
        .fold(String::new(), |all, byte| format!("{all}{byte:02x}"))
}

/// Directories below the kubelet's root.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub root: PathBuf,
}

impl Layout {
    fn plugin(&self) -> PathBuf {
        self.root.join("plugins/kubernetes.io/csi")
    }

    /// The directory of a volume of a driver, with the data file in it.
    pub(crate) fn staged(&self, data: &VolumeData) -> PathBuf {
        self.plugin()
            .join(&data.driver_name)
            .join(digest(&data.volume_handle))
    }

    /// Where the volume is staged.
    pub(crate) fn staging(&self, data: &VolumeData, block: bool) -> PathBuf {
        match block {
            true => self.plugin().join("volumeDevices/staging").join(&data.spec_name),
            false => self.staged(data).join("globalmount"),
        }
    }

    /// Where a block volume's data file lies.
    pub(crate) fn device_data(&self, data: &VolumeData) -> PathBuf {
        self.plugin()
            .join("volumeDevices")
            .join(&data.spec_name)
            .join("data")
    }

    /// Where a block volume is published for a pod.
    pub(crate) fn device(&self, spec_name: &str, uid: &str) -> PathBuf {
        self.plugin()
            .join("volumeDevices/publish")
            .join(spec_name)
            .join(uid)
    }

    /// The directory of all volumes of drivers that a pod has.
    pub(crate) fn pod(&self, uid: &str, block: bool) -> PathBuf {
        let kind = if block { "volumeDevices" } else { "volumes" };
        self.root
            .join("pods")
            .join(uid)
            .join(kind)
            .join("kubernetes.io~csi")
    }

    /// Every staged volume with its directory.
    pub(crate) fn all_staged(&self, driver: &str) -> Vec<(PathBuf, VolumeData)> {
        with_data(entries(&self.plugin().join(driver)))
    }

    /// Every staged block volume of a driver with its directory.
    pub(crate) fn all_staged_devices(&self, driver: &str) -> Vec<(PathBuf, VolumeData)> {
        let all = entries(&self.plugin().join("volumeDevices"));
        let mut found = with_data(all.into_iter().map(|one| one.join("data")).collect());
        found.retain(|(_, data)| data.driver_name == driver);
        found
    }

    /// What a pod has of drivers: directory and data.
    pub(crate) fn of_pod(&self, uid: &str, block: bool) -> Vec<(PathBuf, VolumeData)> {
        with_data(entries(&self.pod(uid, block)))
    }

    /// What pods have of drivers, and what is staged.
    pub(crate) fn everything(&self) -> Vec<VolumeData> {
        let mut all = self.of_all_pods();
        for driver in entries(&self.plugin()) {
            let staged = with_data(entries(&driver));
            let devices = with_data(entries(&driver).into_iter().map(|one| one.join("data")).collect());
            all.extend(staged.into_iter().chain(devices).map(|(_, data)| data));
        }
        all
    }

    /// What all pods have of drivers.
    pub(crate) fn of_all_pods(&self) -> Vec<VolumeData> {
        let pods = entries(&self.root.join("pods"));
        let uids = pods.iter().filter_map(|pod| pod.file_name()?.to_str());
        uids.flat_map(|uid| {
            let mut all = self.of_pod(uid, false);
            all.extend(self.of_pod(uid, true));
            all.into_iter().map(|(_, data)| data)
        })
        .collect()
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn with_data(directories: Vec<PathBuf>) -> Vec<(PathBuf, VolumeData)> {
    let read = |path: PathBuf| VolumeData::read(&path).map(|data| (path, data));
    directories.into_iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_upstreams() {
        let layout = Layout { root: "/k".into() };
        let data = VolumeData {
            driver_name: "d".into(),
            volume_handle: "h".into(),
            spec_name: "pv".into(),
            ..VolumeData::default()
        };
        let sha = "aaa9402664f1a41f40ebbc52c9993eb66aeb366602958fdfaa283b71e64db123";
        assert_eq!(
            layout.staging(&data, false),
            Path::new("/k/plugins/kubernetes.io/csi/d")
                .join(sha)
                .join("globalmount")
        );
        assert_eq!(
            layout.staging(&data, true),
            Path::new("/k/plugins/kubernetes.io/csi/volumeDevices/staging/pv")
        );
        assert_eq!(
            layout.pod("u", false),
            Path::new("/k/pods/u/volumes/kubernetes.io~csi")
        );
    }

    #[test]
    fn data_is_read_as_upstream_writes_it() {
        let directory = tempfile::tempdir().unwrap();
        let text = r#"{"attachmentID":"csi-1","driverName":"d","nodeName":"n","specVolID":"pv","volumeHandle":"h",
            "volumeLifecycleMode":"Persistent","seLinuxMountContext":"x"}"#;
        fs::write(directory.path().join(FILE), text).unwrap();
        let data = VolumeData::read(directory.path()).unwrap();
        assert_eq!(
            (data.spec_name.as_str(), data.attachment_id.as_str()),
            ("pv", "csi-1")
        );
        data.write(directory.path()).unwrap();
        assert_eq!(VolumeData::read(directory.path()), Some(data));
        VolumeData::remove(directory.path()).unwrap();
        assert_eq!(VolumeData::read(directory.path()), None);
    }
}
