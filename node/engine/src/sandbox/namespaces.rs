//! Namespaces of a sandbox, held without a process.

use std::fs;
use std::io;
use std::path::Path;

use knode_linux::namespace::{self, Kind};

use super::users;
use crate::entry::users::{Settings, set_sysctl};
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
        user: record.users().map(|_| directory.join(users::USER)),
        ..Default::default()
    }
}

/// Makes them, sets host name and kernel parameters, and brings up the loopback.
pub(super) fn make(layout: &Layout, record: &SandboxRecord, self_exe: &Path) -> Result<()> {
    let directory = layout.namespaces(&record.id);
    fs::create_dir_all(&directory).file("making", &directory)?;
    let settings = settings(record);
    let made = match record.users() {
        Some(maps) => users::make(self_exe, &directory, &maps, &settings),
        None => pin(&directory, &kinds(record), &settings),
    };
    made.map_err(|source| EngineError::Namespaces {
        sandbox: record.id.clone(),
        source,
    })
}

fn settings(record: &SandboxRecord) -> Settings {
    let linux = record.config.linux.as_ref();
    let sysctls = linux.map(|linux| linux.sysctls.clone()).unwrap_or_default();
    let wishes = NETWORK_DEFAULTS.iter();
    Settings {
        hostname: record.hostname.clone(),
        sysctls: sysctls.into_iter().collect(),
        wishes: wishes
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
    }
}

fn pin(directory: &Path, kinds: &[Kind], settings: &Settings) -> io::Result<()> {
    namespace::pin(directory, kinds, || {
        if kinds.contains(&Kind::Uts) {
            nix::unistd::sethostname(&settings.hostname)?;
        }
        if kinds.contains(&Kind::Net) {
            knode_linux::loopback::up()?;
            for (name, value) in &settings.wishes {
                if let Err(error) = set_sysctl(name, value) {
                    // Kernels without the parameter have no such restriction to lift.
                    tracing::debug!(name, %error, "a kernel parameter is not set");
                }
            }
        }
        settings
            .sysctls
            .iter()
            .try_for_each(|(name, value)| set_sysctl(name, value))
    })
}

/// Lets go of them.
pub(super) fn release(directory: &Path) -> Result<()> {
    let kinds = [Kind::Net, Kind::Ipc, Kind::Uts].map(Kind::name);
    for name in kinds.into_iter().chain([users::USER]) {
        let path = directory.join(name);
        namespace::unpin(&path).file("letting go of", &path)?;
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).file("removing", directory),
        _ => Ok(()),
    }
}
