//! Sandboxes and containers as they are written down.

use std::net::IpAddr;
use std::path::PathBuf;

use knode_cri::{ContainerConfig, NamespaceMode, NamespaceOption, PodSandboxConfig};
use serde::{Deserialize, Serialize};

use crate::runtime::OciProgram;
use crate::shim::protocol::Exit;
use crate::spec::cgroup::{self, Parent};
use crate::spec::idmap::{self, IdMaps};
use crate::spec::selinux::Labels;
use crate::spec::user::ResolvedUser;

/// A sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// Id.
    pub id: String,
    /// Configuration as it was given.
    pub config: PodSandboxConfig,
    /// Runtime handler as it was given.
    pub runtime_handler: String,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Host name inside.
    pub hostname: String,
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// Its network, namespaces and shim are up.
    pub ready: bool,
    /// Its resources have not all been given back.
    pub held: bool,
    /// Its SELinux labels, `None` where nothing is labelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// It was made whole; a crash before that undoes it.
    #[serde(default = "whole")]
    pub made: bool,
    /// Boot in which it was made.
    pub boot_id: String,
}

impl SandboxRecord {
    /// Namespace options; without any everything is the pod's, as CRI has it.
    pub fn namespace_options(&self) -> NamespaceOption {
        let linux = self.config.linux.as_ref();
        let context = linux.and_then(|linux| linux.security_context.as_ref());
        let options = context.and_then(|context| context.namespace_options.clone());
        options.unwrap_or_default()
    }

    /// It uses the host's network.
    pub fn host_network(&self) -> bool {
        self.namespace_options().network() == NamespaceMode::Node
    }

    /// It uses the host's process numbers.
    pub fn host_pid(&self) -> bool {
        self.namespace_options().pid() == NamespaceMode::Node
    }

    /// It uses the host's IPC.
    pub fn host_ipc(&self) -> bool {
        self.namespace_options().ipc() == NamespaceMode::Node
    }

    /// Parent control group of its containers, `/knode` if none is named.
    pub fn cgroup_parent(&self) -> PathBuf {
        self.parent().path().to_path_buf()
    }

    /// Control group of one of its containers.
    pub fn cgroup_of(&self, container: &str) -> PathBuf {
        self.parent().container(container)
    }

    fn parent(&self) -> Parent {
        let linux = self.config.linux.as_ref();
        let given = linux.map_or("", |linux| linux.cgroup_parent.as_str());
        // It was checked before there was a record.
        cgroup::parent(given).unwrap_or_else(|_| Parent::Path(cgroup::DEFAULT_PARENT.into()))
    }

    /// The slice that is its parent control group, `None` if that is a path.
    pub fn slice(&self) -> Option<String> {
        match self.parent() {
            Parent::Path(_) => None,
            Parent::Slice { unit, .. } => Some(unit),
        }
    }

    /// Users of its own, `None` for the host's.
    pub fn users(&self) -> Option<IdMaps> {
        let options = self.namespace_options().userns_options;
        // They were checked before there was a record.
        idmap::of_pod(options.as_ref()).ok().flatten()
    }
}

/// Records of versions that did not say it are of whole objects.
fn whole() -> bool {
    true
}

/// That a container was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// First process.
    pub pid: i32,
    /// Nanoseconds since the epoch.
    pub at: i64,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Exit code.
    pub code: i32,
    /// Nanoseconds since the epoch, 0 when nobody saw it.
    pub at: i64,
    /// One word.
    pub reason: String,
    /// For a person.
    pub message: String,
}

impl From<Exit> for Ended {
    fn from(exit: Exit) -> Self {
        let reason = if exit.oom_killed && exit.code != 0 {
            "OOMKilled"
        } else if exit.code == 0 {
            "Completed"
        } else {
            "Error"
        };
        Self {
            code: exit.code,
            at: exit.finished_at,
            reason: reason.into(),
            message: String::new(),
        }
    }
}

/// A container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Id.
    pub id: String,
    /// Its sandbox.
    pub sandbox_id: String,
    /// Configuration as it was given, resources as last updated.
    pub config: ContainerConfig,
    /// Id of its image.
    pub image_id: String,
    /// A name of its image, the id if it has none.
    pub image_name: String,
    /// A name with a digest under which its image was pulled, the id if there is none.
    #[serde(default)]
    pub image_ref: String,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Log file.
    pub log_path: PathBuf,
    /// Who it runs as.
    pub user: ResolvedUser,
    /// Signal that stops it.
    pub stop_signal: i32,
    /// Its control group.
    pub cgroup: PathBuf,
    /// Snapshots of images that it mounts, besides its own root.
    pub image_mounts: Vec<String>,
    /// Its SELinux labels, `None` where nothing is labelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// It was made whole; a crash before that undoes it.
    #[serde(default = "whole")]
    pub made: bool,
    /// Its processes are filtered by seccomp.
    pub filtered: bool,
    /// The OCI runtime that makes it, `None` for the linked-in one.
    #[serde(default)]
    pub program: Option<OciProgram>,
    /// That it was started.
    pub started: Option<Started>,
    /// How it ended.
    pub ended: Option<Ended>,
    /// Boot in which it was made.
    pub boot_id: String,
}

impl ContainerRecord {
    /// The SELinux label of its files.
    pub fn file_label(&self) -> Option<&str> {
        self.labels.as_ref().map(|labels| labels.file.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_without_a_word_of_it_are_of_whole_objects() {
        let record = SandboxRecord {
            id: "s".into(),
            config: Default::default(),
            runtime_handler: String::new(),
            created_at: 1,
            hostname: String::new(),
            ips: vec![],
            ready: true,
            held: true,
            labels: None,
            made: false,
            boot_id: String::new(),
        };
        let mut text = serde_json::to_value(&record).unwrap();
        text.as_object_mut().unwrap().remove("made");
        let read: SandboxRecord = serde_json::from_value(text).unwrap();
        assert!(read.made);
    }

    #[test]
    fn reasons_are_those_of_upstream() {
        let of = |code, oom_killed| {
            Ended::from(Exit {
                code,
                finished_at: 1,
                oom_killed,
            })
            .reason
        };
        assert_eq!(of(0, false), "Completed");
        assert_eq!(of(3, false), "Error");
        assert_eq!(of(137, true), "OOMKilled");
        // A child was killed and the container coped.
        assert_eq!(of(0, true), "Completed");
    }
}
