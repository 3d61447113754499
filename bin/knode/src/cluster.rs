//! What a data directory remembers of its cluster: the choices that can't change, and what `down` and
//! `verify` must know.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::cli::ControlPlaneOptions;
use crate::dual::Dual;

/// What runs, or ran, from a data directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The control plane, if there is one here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_plane: Option<ControlPlane>,
    /// The node, if there is one here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlane {
    pub pod_cidr: Dual<IpNet>,
    pub service_cidr: Dual<IpNet>,
    pub listen: SocketAddr,
    pub kubeconfig: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub name: String,
    pub ip: Dual<IpAddr>,
}

/// Why the state could not be read, kept or agreed with.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} is not a knode state file; restore it or remove the data directory with `knode down --purge`"
    )]
    Parse {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("write {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error(
        "--{option} is {asked}, but the cluster in this data directory was made with {kept}; leave the option as it was, or make a new cluster after `knode down --purge`"
    )]
    Changed {
        option: &'static str,
        kept: String,
        asked: String,
    },
}

impl State {
    /// The state in `path`; an empty one where there is none yet.
    pub fn load(path: &Path) -> Result<Self, StateError> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| StateError::Parse {
                path: path.to_owned(),
                source,
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(StateError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Keeps the state, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), StateError> {
        let write = || {
            let temporary = path.with_extension("tmp");
            let file = std::fs::File::create(&temporary)?;
            serde_json::to_writer_pretty(&file, self)?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)
        };
        write().map_err(|source| StateError::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// Refuses options that would change what a cluster was made with.
    pub fn agree(&self, asked: &ControlPlaneOptions) -> Result<(), StateError> {
        let Some(kept) = &self.control_plane else {
            return Ok(());
        };
        let same = |option, kept: Dual<IpNet>, asked: Dual<IpNet>| {
            if kept == asked {
                return Ok(());
            }
            Err(StateError::Changed {
                option,
                kept: kept.to_string(),
                asked: asked.to_string(),
            })
        };
        same("pod-cidr", kept.pod_cidr, asked.pod_cidr)?;
        same("service-cidr", kept.service_cidr, asked.service_cidr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_a_round_and_refuses_another_range() {
        let path = std::env::temp_dir().join(format!("knode-state-{}.json", std::process::id()));
        assert_eq!(State::load(&path).unwrap(), State::default());
        let mut options = ControlPlaneOptions {
            pod_cidr: "172.30.0.0/16".parse().unwrap(),
            service_cidr: "10.254.0.0/16".parse().unwrap(),
            node_cidr_mask_size_ipv4: None,
            node_cidr_mask_size_ipv6: None,
            cluster_dns: None,
            node_port_range: crate::cli::PortRange { first: 1, last: 2 },
            listen: "0.0.0.0:6443".parse().unwrap(),
            write_kubeconfig: "/k".into(),
            certificates: crate::pki::CertificateOptions::default(),
        };
        let state = State {
            control_plane: Some(ControlPlane {
                pod_cidr: options.pod_cidr,
                service_cidr: options.service_cidr,
                listen: options.listen,
                kubeconfig: "/k".into(),
            }),
            node: None,
        };
        state.save(&path).unwrap();
        let back = State::load(&path).unwrap();
        assert_eq!(back, state);
        back.agree(&options).unwrap();
        options.pod_cidr = "10.1.0.0/16".parse().unwrap();
        let error = back.agree(&options).unwrap_err().to_string();
        assert!(
            error.contains("172.30.0.0/16") && error.contains("10.1.0.0/16"),
            "{error}"
        );
        std::fs::write(&path, "x").unwrap();
        assert!(matches!(State::load(&path), Err(StateError::Parse { .. })));
        std::fs::remove_file(&path).unwrap();
    }
}
