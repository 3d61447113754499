//! Namespaces of a sandbox, held without a process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use knode_linux::namespace::{self, Kind};

use crate::error::{EngineError, FileContext, Result};
use crate::spec::Namespaces;
use crate::state::{Layout, SandboxRecord};

/// Kernel parameters that upstream runtimes give to every pod of its own network: pings and low ports need
/// no privilege there.
const NETWORK_DEFAULTS: &[(&str, &str)] = &[
    ("net.ipv4.ping_group_range", "0 2147483647"),
    ("net.ipv4.ip_unprivileged_port_start", "0"),
];

/// Which namespaces a sandbox has of its own.
pub(super) fn kinds(record: &SandboxRecord) -> Vec<Kind> {
    let mut kinds = Vec::new();
    if !record.host_network() {
        kinds.extend([Kind::Net, Kind::Uts]);
    }
    if !record.host_ipc() {
        kinds.push(Kind::Ipc);
    }
    kinds
}

/// Where a sandbox's namespaces are.
pub(crate) fn paths(layout: &Layout, record: &SandboxRecord) -> Namespaces {
    let kinds = kinds(record);
    let directory = layout.namespaces(&record.id);
    let path = |kind: Kind| kinds.contains(&kind).then(|| directory.join(kind.name()));
    Namespaces {
        net: path(Kind::Net),
        ipc: path(Kind::Ipc),
        uts: path(Kind::Uts),
        ..Default::default()
    }
}

/// Makes them, sets host name and kernel parameters, and brings up the loopback.
pub(super) fn make(layout: &Layout, record: &SandboxRecord) -> Result<()> {
    let directory = layout.namespaces(&record.id);
    fs::create_dir_all(&directory).file("making", &directory)?;
    let kinds = kinds(record);
    let inside = || -> io::Result<()> {
        if kinds.contains(&Kind::Uts) {
            nix::unistd::sethostname(&record.hostname)?;
        }
        if kinds.contains(&Kind::Net) {
            knode_linux::loopback::up()?;
            set_defaults();
        }
        let configured = record
            .config
            .linux
            .as_ref()
            .map(|linux| linux.sysctls.clone())
            .unwrap_or_default();
        configured
            .iter()
            .try_for_each(|(name, value)| set_sysctl(name, value))
    };
    namespace::pin(&directory, &kinds, inside).map_err(|source| EngineError::Namespaces {
        sandbox: record.id.clone(),
        source,
    })
}

fn set_defaults() {
    for (name, value) in NETWORK_DEFAULTS {
        if let Err(error) = set_sysctl(name, value) {
            // Kernels without the parameter have no such restriction to lift.
            tracing::debug!(name, %error, "a kernel parameter is not set");
        }
    }
}

fn set_sysctl(name: &str, value: &str) -> io::Result<()> {
    let path = PathBuf::from("/proc/sys").join(name.replace('.', "/"));
    let context = |error: io::Error| io::Error::new(error.kind(), format!("sysctl {name}={value}: {error}"));
    fs::write(path, value).map_err(context)
}

/// Lets go of them.
pub(super) fn release(directory: &Path) -> Result<()> {
    for kind in [Kind::Net, Kind::Ipc, Kind::Uts] {
        let path = directory.join(kind.name());
        namespace::unpin(&path).file("letting go of", &path)?;
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).file("removing", directory),
        _ => Ok(()),
    }
}
