//! Where the parts of a pod lie on disk (upstream: `pkg/kubelet/kubelet_getters.go`).

use std::path::{Path, PathBuf};

/// Paths below the kubelet's root directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPaths {
    root: PathBuf,
}

impl PodPaths {
    /// Paths below `root` (upstream's default: `/var/lib/kubelet`).
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The kubelet's root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `pods`, which holds one directory for each pod's uid.
    pub fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// `pods/<uid>`
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.pods().join(uid)
    }

    /// `pods/<uid>/volumes`
    pub fn volumes(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("volumes")
    }

    /// `pods/<uid>/volumes/<plugin>/<name>`, the slash of the plugin's name written as `~`.
    pub fn volume(&self, uid: &str, plugin: &str, name: &str) -> PathBuf {
        self.volumes(uid).join(plugin.replace('/', "~")).join(name)
    }

    /// `plugins/kubernetes.io/local-volume/mounts/<name>`, where the disk of a PersistentVolume is mounted for all pods.
    pub fn disk(&self, name: &str) -> PathBuf {
        self.root
            .join("plugins/kubernetes.io/local-volume/mounts")
            .join(name)
    }

    /// `pods/<uid>/volume-subpaths`
    pub fn subpaths(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("volume-subpaths")
    }

    /// `pods/<uid>/etc-hosts`
    pub fn etc_hosts(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("etc-hosts")
    }

    /// `pods/<uid>/containers/<container>`, which holds its termination messages.
    pub fn container(&self, uid: &str, container: &str) -> PathBuf {
        self.pod(uid).join("containers").join(container)
    }
}
