//! Mounts of a container: volumes, hosts file, termination message.

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod, VolumeDevice, VolumeMount};
use knode_cri as cri;

use super::context::{Context, FieldSource};
use super::files;
use super::image::Mounted;
use crate::env::{Environment, expand};
use crate::error::ConfigError;
use crate::pod::PodExt;
use crate::spec::container::{propagation, recursive_read_only};
use crate::spec::hosts;

const HOSTS: &str = "/etc/hosts";

/// All mounts, in upstream's order.
pub(super) fn mounts(
    context: &Context,
    pod: &Pod,
    container: &Container,
    source: &FieldSource,
    environment: &Environment,
    images: &Mounted,
) -> Result<Vec<cri::Mount>, ConfigError> {
    let labels = context.config.modules.selinux;
    let mut all = Vec::new();
    let mut own_hosts = false;
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        own_hosts |= mount.mount_path == HOSTS;
        all.push(match images.get(&mount.name) {
            Some(image) => image_mount(mount, image, environment),
            None => volume(context, pod, container, mount, index, environment)?,
        });
    }
    let uid = pod.uid();
    let has_address = pod.host_network() || !source.pod_ips().is_empty();
    if has_address && !own_hosts {
        let path = context.volumes.paths().etc_hosts(uid);
        let host_file = match pod.host_network() {
            true => std::fs::read_to_string(HOSTS).unwrap_or_default(),
            false => String::new(),
        };
        let text = hosts::file(pod, source.pod_ips(), &context.dns.domain, &host_file);
        files::write_if_new(&path, &text).map_err(|source| ConfigError::File {
            path: path.clone(),
            source,
        })?;
        all.push(plain(HOSTS, &path, labels));
    }
    let message_path = container
        .termination_message_path
        .as_deref()
        .unwrap_or("/dev/termination-log");
    if !message_path.is_empty() {
        let directory = context.volumes.paths().container(uid, &container.name);
        let path = files::message_file(&directory).map_err(|source| ConfigError::File {
            path: directory.clone(),
            source,
        })?;
        all.push(plain(message_path, &path, labels));
    }
    Ok(all)
}

/// Volumes that the container uses as devices.
pub(super) fn devices(
    context: &Context,
    pod: &Pod,
    container: &Container,
) -> Result<Vec<cri::Device>, ConfigError> {
    let wanted = container.volume_devices.iter().flatten();
    let device = |one: &VolumeDevice| {
        let missing = || ConfigError::NoVolume {
            volume: one.name.clone(),
            container: container.name.clone(),
        };
        let (path, read_only) = context.volumes.device(pod, &one.name).ok_or_else(missing)?;
        Ok(cri::Device {
            container_path: one.device_path.clone(),
            host_path: path.to_string_lossy().into_owned(),
            permissions: if read_only { "r" } else { "mrw" }.to_owned(),
        })
    };
    wanted.map(device).collect()
}

fn plain(container_path: &str, host_path: &Path, selinux_relabel: bool) -> cri::Mount {
    cri::Mount {
        container_path: container_path.to_owned(),
        host_path: host_path.to_string_lossy().into_owned(),
        selinux_relabel,
        ..cri::Mount::default()
    }
}

/// The runtime mounts an image itself, always read-only.
fn image_mount(mount: &VolumeMount, image: &cri::ImageSpec, environment: &Environment) -> cri::Mount {
    cri::Mount {
        container_path: absolute(&mount.mount_path),
        image: Some(image.clone()),
        image_sub_path: sub_path(mount, environment).unwrap_or_default(),
        readonly: true,
        ..cri::Mount::default()
    }
}

/// The part of a volume that is mounted, `None` for all of it.
fn sub_path(mount: &VolumeMount, environment: &Environment) -> Option<String> {
    let expanded = mount
        .sub_path_expr
        .as_deref()
        .filter(|text| !text.is_empty())
        .map(|text| expand(text, environment));
    expanded
        .or_else(|| mount.sub_path.clone())
        .filter(|path| !path.is_empty())
}

fn absolute(path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    }
}

fn volume(
    context: &Context,
    pod: &Pod,
    container: &Container,
    mount: &VolumeMount,
    index: usize,
    environment: &Environment,
) -> Result<cri::Mount, ConfigError> {
    let missing = || ConfigError::NoVolume {
        volume: mount.name.clone(),
        container: container.name.clone(),
    };
    let (directory, always_read_only) = context.volumes.host_path(pod, &mount.name).ok_or_else(missing)?;
    let host_path = match sub_path(mount, environment).as_deref() {
        None => directory,
        Some(sub_path) => {
            let bound = context
                .volumes
                .sub_path(pod, &mount.name, sub_path, &container.name, index);
            bound.map_err(|source| ConfigError::SubPath {
                volume: mount.name.clone(),
                container: container.name.clone(),
                source,
            })?
        }
    };
    Ok(cri::Mount {
        container_path: absolute(&mount.mount_path),
        host_path: host_path.to_string_lossy().into_owned(),
        readonly: mount.read_only.unwrap_or(false) || always_read_only,
        propagation: propagation(container, mount)?,
        recursive_read_only: recursive_read_only(mount, context.features.recursive_read_only)?,
        selinux_relabel: context.config.modules.selinux && context.volumes.is_pods_own(pod, &mount.name),
        ..cri::Mount::default()
    })
}
