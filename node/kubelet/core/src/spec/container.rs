//! Configuration of a container (upstream: `kuberuntime/kuberuntime_container.go`).

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use knode_cri as cri;

use super::security::{self, ImageUser};
use super::{labels, resources};
use crate::env::{Environment, expand};
use crate::error::ConfigError;

/// What a container's configuration takes from outside the pod's object.
#[derive(Debug)]
pub struct ContainerInputs<'a> {
    /// Counts the container's restarts from 0.
    pub attempt: u32,
    /// Id of the image.
    pub image_id: String,
    /// The user that the image names.
    pub image_user: Option<ImageUser>,
    /// Its environment, in order.
    pub env: &'a Environment,
    /// Its mounts.
    pub mounts: Vec<cri::Mount>,
    /// The node's memory in bytes.
    pub node_memory: i64,
    /// Where seccomp profiles of the node lie.
    pub seccomp_root: &'a str,
    /// The container whose processes it sees, for those that do not just see their own.
    pub target_id: Option<String>,
}

/// The configuration.
///
/// # Errors
/// What the container asks for and must not or cannot have.
pub fn config(
    pod: &Pod,
    container: &Container,
    inputs: ContainerInputs<'_>,
) -> Result<cri::ContainerConfig, ConfigError> {
    let expanded = |words: &Option<Vec<String>>| {
        words
            .iter()
            .flatten()
            .map(|word| expand(word, inputs.env))
            .collect::<Vec<_>>()
    };
    let envs = inputs.env.iter().map(|(key, value)| cri::KeyValue {
        key: key.clone(),
        value: value.clone(),
    });
    let mut security =
        security::of_container(pod, container, inputs.image_user.as_ref(), inputs.seccomp_root)?;
    if let Some(target) = inputs.target_id {
        let namespaces = security.namespace_options.get_or_insert_default();
        namespaces.pid = cri::NamespaceMode::Target as i32;
        namespaces.target_id = target;
    }
    Ok(cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata {
            name: container.name.clone(),
            attempt: inputs.attempt,
        }),
        image: Some(cri::ImageSpec {
            image: inputs.image_id,
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..cri::ImageSpec::default()
        }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: envs.collect(),
        mounts: inputs.mounts,
        labels: labels::of_container(pod, container),
        annotations: labels::container_annotations(pod, container, inputs.attempt),
        log_path: format!("{}/{}.log", container.name, inputs.attempt),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        stop_signal: stop_signal(container),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(resources::of_container(pod, container, inputs.node_memory)),
            security_context: Some(security),
        }),
        ..cri::ContainerConfig::default()
    })
}

fn stop_signal(container: &Container) -> i32 {
    let name = container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    let signal =
        name.and_then(|name| cri::Signal::from_str_name(&name.replace('+', "PLUS").replace('-', "MINUS")));
    signal.unwrap_or(cri::Signal::RuntimeDefault) as i32
}

/// Whether everything below a mount is to be read-only too (upstream: `resolveRecursiveReadOnly`).
///
/// # Errors
/// Where that contradicts the mount, or the runtime cannot do it.
pub fn recursive_read_only(mount: &VolumeMount, supported: bool) -> Result<bool, ConfigError> {
    let mode = mount.recursive_read_only.as_deref();
    if matches!(mode, None | Some("Disabled")) {
        return Ok(false);
    }
    let wrong = |why: &'static str| ConfigError::RecursiveReadOnly {
        volume: mount.name.clone(),
        why,
    };
    if mount.read_only != Some(true) {
        return Err(wrong("but it is not read-only"));
    }
    if !matches!(mount.mount_propagation.as_deref(), None | Some("None")) {
        return Err(wrong("but it is not compatible with its propagation"));
    }
    match mode {
        Some("IfPossible") => Ok(supported),
        Some("Enabled") if supported => Ok(true),
        Some("Enabled") => Err(wrong("but it is not supported by the runtime")),
        _ => Err(wrong("in a mode that is not known")),
    }
}

/// How mounts that appear later on one side show on the other.
///
/// # Errors
/// For words that the API does not have, and `Bidirectional` without privilege.
pub fn propagation(container: &Container, mount: &VolumeMount) -> Result<i32, ConfigError> {
    let privileged = container
        .security_context
        .as_ref()
        .and_then(|context| context.privileged)
        .unwrap_or(false);
    match mount.mount_propagation.as_deref() {
        None | Some("None") => Ok(cri::MountPropagation::PropagationPrivate as i32),
        Some("HostToContainer") => Ok(cri::MountPropagation::PropagationHostToContainer as i32),
        Some("Bidirectional") if privileged => Ok(cri::MountPropagation::PropagationBidirectional as i32),
        Some(_) => Err(ConfigError::Unsupported(
            "Bidirectional mount propagation without privilege",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recursion_needs_a_mount_and_a_runtime_that_can() {
        let mount = |mode: &str, read_only, propagation: Option<&str>| VolumeMount {
            name: "v".to_owned(),
            recursive_read_only: Some(mode.to_owned()),
            read_only: Some(read_only),
            mount_propagation: propagation.map(str::to_owned),
            ..VolumeMount::default()
        };
        let of = |mount: VolumeMount, supported| {
            recursive_read_only(&mount, supported).map_err(|error| error.to_string())
        };
        assert_eq!(of(VolumeMount::default(), true), Ok(false));
        assert_eq!(of(mount("Disabled", true, None), true), Ok(false));
        assert_eq!(of(mount("IfPossible", true, None), false), Ok(false));
        assert_eq!(of(mount("IfPossible", true, Some("None")), true), Ok(true));
        assert_eq!(of(mount("Enabled", true, None), true), Ok(true));
        let refused = |mount, supported| of(mount, supported).unwrap_err();
        assert!(refused(mount("Enabled", true, None), false).contains("not supported by the runtime"));
        assert!(refused(mount("Enabled", false, None), true).contains("not read-only"));
        assert!(refused(mount("IfPossible", true, Some("HostToContainer")), true).contains("propagation"));
    }
}
