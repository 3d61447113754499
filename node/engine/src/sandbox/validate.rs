//! What a sandbox configuration may ask for.

use knode_cri::{NamespaceMode, PodSandboxConfig, PodSandboxMetadata};

use crate::error::{EngineError, Result};

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
    let users = options.userns_options.clone().unwrap_or_default();
    if users.mode() == NamespaceMode::Pod && !(users.uids.is_empty() && users.gids.is_empty()) {
        return Err(EngineError::Unsupported("a user namespace of the pod".into()));
    }
    let own_network = options.network() != NamespaceMode::Node;
    let own_ipc = options.ipc() != NamespaceMode::Node;
    for name in linux.sysctls.keys() {
        check_sysctl(name, own_network, own_ipc)?;
    }
    Ok(metadata)
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
