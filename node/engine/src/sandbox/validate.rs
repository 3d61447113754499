//! What a sandbox configuration may ask for.

use std::net::IpAddr;
use std::path::{Component, Path};

use knode_cri::{NamespaceMode, PodSandboxConfig, PodSandboxMetadata, PortMapping};
use knode_dbus::systemd;

use crate::config::CgroupDriver;
use crate::error::{EngineError, Result};
use crate::spec::cgroup::{self, Parent};
use crate::spec::{Machine, idmap};

/// Longest host name, as of `sethostname(2)`.
const MAX_HOSTNAME: usize = 64;

/// Checks a configuration; gives its metadata.
///
/// # Errors
/// [`EngineError::Invalid`] and [`EngineError::Unsupported`] name the field.
pub(crate) fn validate(config: &PodSandboxConfig) -> Result<PodSandboxMetadata> {
    let metadata = config
        .metadata
        .clone()
        .ok_or_else(|| invalid("sandbox config must include metadata"))?;
    if metadata.name.is_empty() || metadata.namespace.is_empty() || metadata.uid.is_empty() {
        return Err(invalid(
            "sandbox metadata must have a name, a namespace and a uid",
        ));
    }
    let linux = config.linux.clone().unwrap_or_default();
    let context = linux.security_context.unwrap_or_default();
    let options = context.namespace_options.unwrap_or_default();
    let own_network = options.network() != NamespaceMode::Node;
    let own_ipc = options.ipc() != NamespaceMode::Node;
    let users = idmap::of_pod(options.userns_options.as_ref()).map_err(|error| invalid(error.to_string()))?;
    if users.is_some() && !(own_network && own_ipc && options.pid() != NamespaceMode::Node) {
        return Err(invalid(
            "a pod with users of its own cannot use the host's namespaces",
        ));
    }
    check_files(config)?;
    config.port_mappings.iter().try_for_each(check_port)?;
    cgroup::parent(&linux.cgroup_parent).map_err(|error| invalid(error.to_string()))?;
    for name in linux.sysctls.keys() {
        check_sysctl(name, own_network, own_ipc)?;
    }
    Ok(metadata)
}

/// Users of the pod's own, where the kernel has them.
pub(super) fn check_users(config: &PodSandboxConfig, machine: &Machine) -> Result<()> {
    let linux = config.linux.as_ref();
    let context = linux.and_then(|linux| linux.security_context.as_ref());
    let options = context.and_then(|context| context.namespace_options.as_ref());
    let users = idmap::of_pod(options.and_then(|options| options.userns_options.as_ref()));
    let asked = users.map_err(|error| invalid(error.to_string()))?.is_some();
    if asked && !machine.user_namespaces {
        let text =
            "user namespaces are not supported: they need Linux 6.3, which maps the users of files in memory";
        return Err(invalid(text));
    }
    Ok(())
}

/// Host name, resolver and log directory, which end up in files and paths.
fn check_files(config: &PodSandboxConfig) -> Result<()> {
    let control = |text: &String| text.contains(|c: char| c.is_control());
    if config.hostname.len() > MAX_HOSTNAME || control(&config.hostname) {
        return Err(invalid(format!(
            "hostname must have at most {MAX_HOSTNAME} plain characters"
        )));
    }
    let dns = config.dns_config.clone().unwrap_or_default();
    let words = dns.servers.iter().chain(&dns.searches).chain(&dns.options);
    if words.into_iter().any(control) {
        return Err(invalid("dns_config has a control character"));
    }
    let logs = Path::new(&config.log_directory);
    let leads_up = logs.components().any(|part| part == Component::ParentDir);
    if !config.log_directory.is_empty() && (!logs.is_absolute() || leads_up || control(&config.log_directory))
    {
        return Err(invalid(
            "log_directory must be an absolute path that does not lead upwards",
        ));
    }
    Ok(())
}

fn check_port(mapping: &PortMapping) -> Result<()> {
    let port = |port: i32| u16::try_from(port).is_ok();
    if !port(mapping.host_port) || !port(mapping.container_port) || mapping.container_port == 0 {
        return Err(invalid(format!(
            "port mapping {} to {}: not a port",
            mapping.host_port, mapping.container_port
        )));
    }
    if !mapping.host_ip.is_empty() && mapping.host_ip.parse::<IpAddr>().is_err() {
        return Err(invalid(format!(
            "port mapping {} to {}: host_ip is no address",
            mapping.host_port, mapping.container_port
        )));
    }
    Ok(())
}

/// A slice needs an engine that is told to ask systemd, and a systemd to ask.
///
/// # Errors
/// [`EngineError::Invalid`].
pub(crate) fn check_slice(config: &PodSandboxConfig, driver: CgroupDriver, systemd: &Path) -> Result<()> {
    let linux = config.linux.as_ref();
    let given = linux.map_or("", |linux| linux.cgroup_parent.as_str());
    match (cgroup::parent(given), driver) {
        (Ok(Parent::Path(_)), _) => Ok(()),
        (Err(error), _) => Err(invalid(error.to_string())),
        (Ok(Parent::Slice { unit, .. }), CgroupDriver::Cgroupfs) => Err(invalid(format!(
            "cgroup_parent {unit:?} is a slice, and the engine's cgroup driver is cgroupfs"
        ))),
        (Ok(Parent::Slice { .. }), CgroupDriver::Systemd) if systemd::listens(systemd) => Ok(()),
        (Ok(Parent::Slice { unit, .. }), CgroupDriver::Systemd) => Err(invalid(format!(
            "cgroup_parent {unit:?} is a slice, and no systemd runs here ({} is missing)",
            systemd.display()
        ))),
    }
}

fn invalid(message: impl Into<String>) -> EngineError {
    EngineError::Invalid(message.into())
}

/// Only parameters that belong to a namespace of the pod can be set for it.
fn check_sysctl(name: &str, own_network: bool, own_ipc: bool) -> Result<()> {
    let ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."]
        .iter()
        .any(|start| name.starts_with(start));
    let network = name.starts_with("net.");
    let plain = !name.contains("..") && !name.contains('/');
    match (network, ipc) {
        _ if !plain => Err(invalid(format!(
            "sysctl {name:?} is no name of a kernel parameter"
        ))),
        (true, _) if own_network => Ok(()),
        (_, true) if own_ipc => Ok(()),
        (true, _) => Err(invalid(format!(
            "sysctl {name:?} is not allowed in the host's network namespace"
        ))),
        (_, true) => Err(invalid(format!(
            "sysctl {name:?} is not allowed in the host's IPC namespace"
        ))),
        _ => Err(invalid(format!(
            "sysctl {name:?} is not in a separate kernel namespace"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use knode_cri::LinuxPodSandboxConfig;

    fn config() -> PodSandboxConfig {
        let metadata = PodSandboxMetadata {
            name: "p".into(),
            namespace: "n".into(),
            uid: "u".into(),
            attempt: 0,
        };
        PodSandboxConfig {
            metadata: Some(metadata),
            ..Default::default()
        }
    }

    #[test]
    fn a_configuration_without_linux_is_fine() {
        assert_eq!(validate(&config()).unwrap().name, "p");
    }

    #[test]
    fn metadata_is_checked() {
        assert!(matches!(
            validate(&PodSandboxConfig::default()),
            Err(EngineError::Invalid(_))
        ));
    }

    fn refused(change: impl FnOnce(&mut PodSandboxConfig)) -> String {
        let mut config = config();
        change(&mut config);
        match validate(&config) {
            Err(error) => error.to_string(),
            Ok(_) => "accepted".into(),
        }
    }

    #[test]
    fn what_ends_up_in_files_and_paths_is_plain() {
        assert!(refused(|config| config.hostname = "x".repeat(65)).contains("hostname"));
        assert!(refused(|config| config.log_directory = "/var/../etc".into()).contains("log_directory"));
        assert!(refused(|config| config.log_directory = "logs".into()).contains("log_directory"));
        assert!(
            refused(|config| {
                config.dns_config = Some(knode_cri::DnsConfig {
                    servers: vec!["1.1.1.1\noptions evil".into()],
                    ..Default::default()
                });
            })
            .contains("dns_config")
        );
    }

    #[test]
    fn ports_are_ports() {
        let with = |container_port, host_port, host_ip: &str| {
            refused(|config| {
                config.port_mappings = vec![PortMapping {
                    container_port,
                    host_port,
                    host_ip: host_ip.into(),
                    ..Default::default()
                }];
            })
        };
        assert_eq!(with(80, 0, ""), "accepted");
        assert_eq!(with(80, 8080, "127.0.0.1"), "accepted");
        for (container, host, ip) in [
            (0, 1, ""),
            (-1, 1, ""),
            (70_000, 1, ""),
            (80, -1, ""),
            (80, 1, "x"),
        ] {
            assert!(
                with(container, host, ip).contains("port mapping"),
                "{container} {host} {ip}"
            );
        }
    }

    #[test]
    fn a_slice_needs_a_systemd() {
        let refused = |parent: &str, driver, socket: &str| {
            let mut config = config();
            config.linux.get_or_insert_default().cgroup_parent = parent.into();
            let checked = check_slice(&config, driver, Path::new(socket));
            checked.err().map(|error| error.to_string())
        };
        let (slice, missing) = ("kubepods-pod1.slice", "/nonexistent/private");
        let said = refused(slice, CgroupDriver::Cgroupfs, "/proc/self/exe").unwrap();
        assert!(said.contains(slice) && said.contains("cgroupfs"), "{said}");
        let said = refused(slice, CgroupDriver::Systemd, missing).unwrap();
        assert!(said.contains(slice) && said.contains(missing), "{said}");
        assert_eq!(refused(slice, CgroupDriver::Systemd, "/proc/self/exe"), None);
        assert_eq!(refused("/pods/1", CgroupDriver::Systemd, missing), None);
    }

    #[test]
    fn a_parent_does_not_lead_elsewhere() {
        let linux = LinuxPodSandboxConfig {
            cgroup_parent: "/a/../b".into(),
            ..Default::default()
        };
        assert!(refused(|config| config.linux = Some(linux)).contains("leads upwards"));
    }

    #[test]
    fn sysctls_must_belong_to_the_pod() {
        let with = |name: &str| {
            let mut config = config();
            let sysctls = [(name.to_string(), "1".to_string())].into();
            config.linux = Some(LinuxPodSandboxConfig {
                sysctls,
                ..Default::default()
            });
            validate(&config).map(|_| ())
        };
        assert!(with("net.ipv4.ip_forward").is_ok());
        assert!(with("kernel.shmmax").is_ok());
        for name in ["vm.swappiness", "kernel.panic", "net.ipv4/../../kernel"] {
            assert!(with(name).is_err(), "{name}");
        }
    }
}
