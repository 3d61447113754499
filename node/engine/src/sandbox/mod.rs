//! Sandboxes: namespaces, files and the shim of a pod.

mod files;
mod namespaces;
mod run;
mod stop;
mod update;
mod users;
pub(crate) mod validate;

use std::sync::{Arc, Mutex, PoisonError};

use knode_cri::{
    LinuxPodSandboxStatus, Namespace, PodIp, PodSandbox, PodSandboxMetadata, PodSandboxNetworkStatus,
    PodSandboxState, PodSandboxStatus,
};

use crate::container::rate::Rate;
use crate::error::{EngineError, Result};
use crate::link::ShimLink;
use crate::net::{Dns, NetRequest, PortMapping, Protocol};
use crate::spec::SandboxFiles;
use crate::state::{Layout, SandboxRecord};

pub(crate) use files::own_hostname;
pub(crate) use namespaces::paths as namespace_paths;
pub(crate) use stop::unseen_end;

/// A sandbox of the engine.
pub(crate) struct Sandbox {
    pub(crate) id: String,
    record: Mutex<SandboxRecord>,
    link: Mutex<Option<Arc<ShimLink>>>,
    /// Held while the sandbox is being stopped or removed.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// Of its processor time.
    pub(crate) rate: Rate,
}

impl Sandbox {
    pub(crate) fn new(record: SandboxRecord, link: Option<ShimLink>) -> Self {
        Self {
            id: record.id.clone(),
            record: Mutex::new(record),
            link: Mutex::new(link.map(Arc::new)),
            changing: tokio::sync::Mutex::new(()),
            rate: Rate::default(),
        }
    }

    /// A copy of the record.
    pub(crate) fn record(&self) -> SandboxRecord {
        self.with(|record| record.clone())
    }

    /// Reads from the record.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&SandboxRecord) -> T) -> T {
        read(&self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the record; gives a copy to write down.
    pub(crate) fn change(&self, change: impl FnOnce(&mut SandboxRecord)) -> SandboxRecord {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut record);
        record.clone()
    }

    /// The connection to the shim.
    ///
    /// # Errors
    /// [`EngineError::ShimGone`].
    pub(crate) fn link(&self) -> Result<Arc<ShimLink>> {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner).clone();
        link.ok_or_else(|| EngineError::ShimGone {
            sandbox: self.id.clone(),
        })
    }

    pub(crate) fn set_link(&self, link: Option<ShimLink>) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = link.map(Arc::new);
    }

    /// It is up: containers can be made in it.
    pub(crate) fn is_ready(&self) -> bool {
        self.with(|record| record.ready)
    }

    pub(crate) fn to_cri(&self) -> PodSandbox {
        self.with(|record| PodSandbox {
            id: record.id.clone(),
            metadata: record.config.metadata.clone(),
            state: state(record) as i32,
            created_at: record.created_at,
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
            runtime_handler: record.runtime_handler.clone(),
        })
    }

    pub(crate) fn status(&self) -> PodSandboxStatus {
        self.with(|record| PodSandboxStatus {
            id: record.id.clone(),
            metadata: record.config.metadata.clone(),
            state: state(record) as i32,
            created_at: record.created_at,
            network: Some(network_status(record)),
            linux: Some(LinuxPodSandboxStatus {
                namespaces: Some(Namespace {
                    options: Some(record.namespace_options()),
                }),
            }),
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
            runtime_handler: record.runtime_handler.clone(),
        })
    }
}

fn state(record: &SandboxRecord) -> PodSandboxState {
    if record.ready {
        PodSandboxState::SandboxReady
    } else {
        PodSandboxState::SandboxNotready
    }
}

fn network_status(record: &SandboxRecord) -> PodSandboxNetworkStatus {
    let mut ips = record.ips.iter().map(|ip| ip.to_string());
    PodSandboxNetworkStatus {
        ip: ips.next().unwrap_or_default(),
        additional_ips: ips.map(|ip| PodIp { ip }).collect(),
    }
}

/// Name under which no two sandboxes may exist.
pub(crate) fn unique_name(metadata: &PodSandboxMetadata) -> String {
    format!(
        "{}_{}_{}_{}",
        metadata.name, metadata.namespace, metadata.uid, metadata.attempt
    )
}

/// Files of a sandbox as its containers mount them.
pub(crate) fn files_of(layout: &Layout, record: &SandboxRecord) -> SandboxFiles {
    let directory = layout.sandbox(&record.id);
    let shm = if record.host_ipc() {
        "/dev/shm".into()
    } else {
        layout.shm(&record.id)
    };
    SandboxFiles {
        resolv_conf: directory.join("resolv.conf"),
        hostname: directory.join("hostname"),
        hosts: directory.join("hosts"),
        shm,
    }
}

/// What the pod network is asked for this sandbox.
pub(crate) fn net_request(layout: &Layout, record: &SandboxRecord) -> NetRequest {
    let metadata = record.config.metadata.clone().unwrap_or_default();
    let mappings = record.config.port_mappings.iter().filter_map(port_mapping);
    NetRequest {
        sandbox_id: record.id.clone(),
        netns: layout.namespaces(&record.id).join("net"),
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        port_mappings: mappings.collect(),
        annotations: record.config.annotations.clone().into_iter().collect(),
        dns: record.config.dns_config.clone().map(|dns| Dns {
            servers: dns.servers,
            searches: dns.searches,
            options: dns.options,
        }),
        cgroup_parent: record.cgroup_parent(),
    }
}

/// Ports without a host port say only what listens in the pod.
fn port_mapping(given: &knode_cri::PortMapping) -> Option<PortMapping> {
    let protocol = match given.protocol() {
        knode_cri::Protocol::Tcp => Protocol::Tcp,
        knode_cri::Protocol::Udp => Protocol::Udp,
        knode_cri::Protocol::Sctp => Protocol::Sctp,
    };
    Some(PortMapping {
        protocol,
        container_port: u16::try_from(given.container_port).ok()?,
        host_port: u16::try_from(given.host_port).ok().filter(|port| *port != 0)?,
        host_ip: given.host_ip.parse().ok(),
    })
}
