//! Where everything lies on disk: the only place that decides paths.

use std::path::{Path, PathBuf};

use knode_api::hash::fnv1a_32;

/// The data directory that a machine's first node uses.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/knode";

/// Directories and files of one knode on this machine.
///
/// With the default data directory the node's files lie where upstream's programs keep them
/// (`/var/lib/kubelet`, `/var/log/pods`, `/run/flannel`), so that log collectors, CSI drivers and CNI
/// plugins find them. With any other data directory everything lies below that one, so that several
/// nodes can share a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    data: PathBuf,
    shared: bool,
    kubelet: KubeletPlaces,
}

/// Where a kubelet's own flags want its files; none for the usual place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeletPlaces {
    /// `--root-dir`.
    pub root: Option<PathBuf>,
    /// `--cert-dir`.
    pub certificates: Option<PathBuf>,
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
}

impl Layout {
    /// The layout below `data_dir`.
    pub fn new(data_dir: &Path) -> Self {
        let shared = data_dir == Path::new(DEFAULT_DATA_DIR);
        Self {
            data: data_dir.to_owned(),
            shared,
            kubelet: KubeletPlaces::default(),
        }
    }

    /// The same with the kubelet's files elsewhere.
    pub fn with_kubelet(self, kubelet: KubeletPlaces) -> Self {
        Self { kubelet, ..self }
    }

    fn upstream_or(&self, upstream: &str, own: &str) -> PathBuf {
        if self.shared {
            PathBuf::from(upstream)
        } else {
            self.data.join(own)
        }
    }

    /// The data directory itself.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// Held locked by the daemon that owns this data directory; contains its process id.
    pub fn lock_file(&self) -> PathBuf {
        self.data.join("knode.lock")
    }

    /// What the daemon was started with, for `knode down`, `verify` and the next start.
    pub fn state_file(&self) -> PathBuf {
        self.data.join("cluster.json")
    }

    /// The daemon's log when it was started in the background.
    pub fn log_file(&self) -> PathBuf {
        self.data.join("knode.log")
    }

    /// Socket on which the daemon takes `knode engine import` and the like.
    pub fn control_socket(&self) -> PathBuf {
        self.data.join("knode.sock")
    }

    /// Certificates and keys of the control plane.
    pub fn pki_dir(&self) -> PathBuf {
        self.data.join("pki")
    }

    /// The API server's store.
    pub fn store_file(&self) -> PathBuf {
        self.data.join("server/store.db")
    }

    /// The bootstrap kubeconfig that the control plane makes for its own node.
    pub fn bootstrap_kubeconfig(&self) -> PathBuf {
        self.data.join("bootstrap.kubeconfig")
    }

    /// Images, snapshots and container records.
    pub fn engine_dir(&self) -> PathBuf {
        self.data.join("engine")
    }

    /// Sockets, namespaces and shim state; does not outlive a reboot.
    pub fn engine_run_dir(&self) -> PathBuf {
        self.upstream_or("/run/knode", "run/engine")
    }

    /// OCI runtimes and the like, if there is such a file.
    pub fn engine_config(&self) -> PathBuf {
        self.upstream_or("/etc/knode/engine.yaml", "engine.yaml")
    }

    /// What a kubelet has told the engine alone of its pods' addresses.
    pub fn pod_subnet_file(&self) -> PathBuf {
        self.data.join("pod-subnet")
    }

    /// CRI v1 socket.
    pub fn cri_socket(&self) -> PathBuf {
        self.engine_run_dir().join("engine.sock")
    }

    /// Archives that are imported at start.
    pub fn images_dir(&self) -> PathBuf {
        self.data.join("images")
    }

    /// Addresses handed out to pods.
    pub fn podnet_dir(&self) -> PathBuf {
        self.data.join("podnet")
    }

    /// Where network configurations (CNI) are looked for, unless told otherwise.
    pub fn cni_conf_dir(&self) -> PathBuf {
        self.upstream_or("/etc/cni/net.d", "cni/net.d")
    }

    /// What pods were attached to other plugins' networks with. Not upstream's `/var/lib/cni`: an engine takes what is
    /// recorded there for its own, and detaches what it does not know.
    pub fn cni_cache_dir(&self) -> PathBuf {
        self.data.join("cni")
    }

    /// Where the cluster's DNS was found last.
    pub fn cluster_dns_file(&self) -> PathBuf {
        self.data.join("cluster-dns")
    }

    /// The kubelet's root directory.
    pub fn kubelet_dir(&self) -> PathBuf {
        let named = self.kubelet.root.clone();
        named.unwrap_or_else(|| self.upstream_or("/var/lib/kubelet", "kubelet"))
    }

    /// The kubelet's certificates (upstream's `--cert-dir`).
    pub fn cert_dir(&self) -> PathBuf {
        let named = self.kubelet.certificates.clone();
        named.unwrap_or_else(|| self.kubelet_dir().join("pki"))
    }

    /// The kubeconfig that bootstrapping writes.
    pub fn kubelet_kubeconfig(&self) -> PathBuf {
        let named = self.kubelet.kubeconfig.clone();
        named.unwrap_or_else(|| self.kubelet_dir().join("kubeconfig"))
    }

    /// Logs of containers, by pod.
    pub fn pod_logs_dir(&self) -> PathBuf {
        self.upstream_or("/var/log/pods", "log/pods")
    }

    /// Links to the logs, flat.
    pub fn container_logs_dir(&self) -> PathBuf {
        self.upstream_or("/var/log/containers", "log/containers")
    }

    /// flannel's subnet file.
    pub fn subnet_file(&self) -> PathBuf {
        self.upstream_or("/run/flannel/subnet.env", "run/flannel/subnet.env")
    }

    /// Root of the pods' cgroups: upstream's `/kubepods` on the machine's first node, else one below a
    /// group named after the data directory.
    pub fn cgroup_root(&self) -> String {
        if self.shared {
            "/".into()
        } else {
            format!(
                "/knode-{:08x}",
                fnv1a_32(self.data.as_os_str().as_encoded_bytes())
            )
        }
    }

    /// Everything that `knode down --purge` removes, innermost last.
    pub fn purge(&self) -> Vec<PathBuf> {
        let outside = [
            self.kubelet_dir(),
            self.pod_logs_dir(),
            self.container_logs_dir(),
            self.engine_run_dir(),
        ];
        let mut all: Vec<_> = outside
            .into_iter()
            .filter(|p| !p.starts_with(&self.data))
            .collect();
        all.extend(
            self.subnet_file()
                .parent()
                .filter(|p| !p.starts_with(&self.data))
                .map(Path::to_owned),
        );
        all.push(self.data.clone());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_node_uses_upstream_places() {
        let l = Layout::new(Path::new(DEFAULT_DATA_DIR));
        assert_eq!(l.kubelet_dir(), Path::new("/var/lib/kubelet"));
        assert_eq!(l.subnet_file(), Path::new("/run/flannel/subnet.env"));
        assert_eq!(l.cni_conf_dir(), Path::new("/etc/cni/net.d"));
        assert_eq!(l.cgroup_root(), "/");
    }

    #[test]
    fn another_node_stays_below_its_directory() {
        let l = Layout::new(Path::new("/srv/a"));
        for p in [
            l.kubelet_dir(),
            l.pod_logs_dir(),
            l.subnet_file(),
            l.engine_run_dir(),
            l.container_logs_dir(),
            l.cni_conf_dir(),
            l.cni_cache_dir(),
        ] {
            assert!(p.starts_with("/srv/a"), "{p:?}");
        }
        assert_ne!(l.cgroup_root(), Layout::new(Path::new("/srv/b")).cgroup_root());
        assert_eq!(l.purge(), vec![PathBuf::from("/srv/a")]);
    }
}
