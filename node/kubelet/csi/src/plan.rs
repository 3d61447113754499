//! What is decided without asking anybody. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use knode_volumes::DriverVolume;
use serde_json::Value;

use crate::client::Abilities;
use crate::layout::VolumeData;
use crate::v1::VolumeCapability;
use crate::v1::volume_capability::access_mode::Mode;
use crate::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};

/// What a driver's CSIDriver object says, with upstream's defaults where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DriverRules {
    pub attach: bool,
    pub pod_info: bool,
    pub republish: bool,
    pub group_policy: String,
    /// Audience and life of each token in seconds.
    pub tokens: Vec<(String, i64)>,
    pub tokens_in_secrets: bool,
    pub modes: Vec<String>,
}

impl DriverRules {
    pub(crate) fn of(driver: Option<&Value>) -> Self {
        let spec = driver.map_or(&Value::Null, |driver| &driver["spec"]);
        let flag = |field: &str, default| spec[field].as_bool().unwrap_or(default);
        let list = |field: &str| spec[field].as_array().cloned().unwrap_or_default();
        let token = |one: Value| {
            let audience = one["audience"].as_str().unwrap_or_default().to_owned();
            (audience, one["expirationSeconds"].as_i64().unwrap_or(3600))
        };
        let modes: Vec<String> = list("volumeLifecycleModes")
            .iter()
            .filter_map(|mode| mode.as_str().map(ToOwned::to_owned))
            .collect();
        Self {
            attach: flag("attachRequired", true),
            pod_info: flag("podInfoOnMount", false),
            republish: flag("requiresRepublish", false),
            group_policy: spec["fsGroupPolicy"]
                .as_str()
                .unwrap_or("ReadWriteOnceWithFSType")
                .to_owned(),
            tokens: list("tokenRequests").into_iter().map(token).collect(),
            tokens_in_secrets: flag("serviceAccountTokenInSecrets", false),
            modes: match modes.is_empty() {
                true => vec!["Persistent".to_owned()],
                false => modes,
            },
        }
    }

    /// Why the driver cannot be used in this way.
    pub(crate) fn refusal(&self, volume: &DriverVolume) -> Option<String> {
        let mode = if volume.persistent {
            "Persistent"
        } else {
            "Ephemeral"
        };
        let allowed = self.modes.iter().any(|one| one == mode);
        (!allowed).then(|| {
            format!(
                "volume mode {mode:?} not supported by driver {} (only supports {:?})",
                volume.driver, self.modes
            )
        })
    }

    /// The group that files are given to, unless the driver does it itself.
    pub(crate) fn group(&self, volume: &DriverVolume, group: Option<u32>) -> Option<u32> {
        let owned = match self.group_policy.as_str() {
            "None" => false,
            "File" => true,
            _ => !volume.fs_type.is_empty() && volume.access_modes == ["ReadWriteOnce"],
        };
        group.filter(|_| owned && !volume.read_only && !volume.block)
    }
}

/// How the volume is to be used, as drivers are told.
pub(crate) fn capability(volume: &DriverVolume, can: Abilities, group: Option<u32>) -> VolumeCapability {
    let mode = match volume.access_modes.first().map(String::as_str) {
        Some("ReadOnlyMany") => Mode::MultiNodeReaderOnly,
        Some("ReadWriteMany") => Mode::MultiNodeMultiWriter,
        Some("ReadWriteOncePod") if can.many_writers => Mode::SingleNodeSingleWriter,
        Some("ReadWriteOnce") if can.many_writers => Mode::SingleNodeMultiWriter,
        _ => Mode::SingleNodeWriter,
    };
    let access = match volume.block {
        true => AccessType::Block(BlockVolume {}),
        false => AccessType::Mount(MountVolume {
            fs_type: volume.fs_type.clone(),
            mount_flags: volume.mount_options.clone(),
            volume_mount_group: group
                .filter(|_| can.mount_group)
                .map(|group| group.to_string())
                .unwrap_or_default(),
        }),
    };
    VolumeCapability {
        access_mode: Some(AccessMode { mode: mode as i32 }),
        access_type: Some(access),
    }
}

/// What the driver is told of the pod.
pub(crate) fn pod_info(pod: &Pod, ephemeral: bool) -> BTreeMap<String, String> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let account = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.clone());
    [
        ("pod.name", text(&pod.metadata.name)),
        ("pod.namespace", text(&pod.metadata.namespace)),
        ("pod.uid", text(&pod.metadata.uid)),
        ("serviceAccount.name", text(&account)),
        ("ephemeral", ephemeral.to_string()),
    ]
    .map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), value))
    .into()
}

/// The staged volumes that no pod uses.
pub(crate) fn unused<P>(staged: Vec<(P, VolumeData)>, used: &[VolumeData]) -> Vec<(P, VolumeData)> {
    let is_unused = |(_, data): &(P, VolumeData)| !used.iter().any(|other| other.same_volume(data));
    staged.into_iter().filter(is_unused).collect()
}

/// Names of the attached volumes among these, as a node's status has them.
pub(crate) fn in_use(all: &[VolumeData]) -> BTreeSet<String> {
    let attached = all.iter().filter(|data| !data.attachment_id.is_empty());
    attached
        .map(|data| format!("kubernetes.io/csi/{}^{}", data.driver_name, data.volume_handle))
        .collect()
}

#[cfg(test)]
mod tests;
