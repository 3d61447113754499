//! Configuration of a pod's sandbox (upstream: `kuberuntime/kuberuntime_sandbox.go`).

use std::path::Path;

use k8s_openapi::api::core::v1::{ContainerPort, Pod};
use knode_cri as cri;

use super::dns::{ClusterDns, Resolver, resolver};
use super::{hosts, labels, resources, security};
use crate::error::ConfigError;
use crate::pod::PodExt;

/// What a sandbox's configuration takes from the node.
#[derive(Debug, Clone)]
pub struct SandboxNode<'a> {
    /// Where the logs of all pods lie.
    pub pod_logs_dir: &'a Path,
    /// The cluster's name service.
    pub dns: &'a ClusterDns,
    /// The node's own resolver.
    pub host_resolver: &'a Resolver,
    /// The kubelet's cgroup root.
    pub cgroup_root: &'a str,
    /// When this node first saw the pod.
    pub seen: &'a str,
}

/// Directory of the pod's logs.
pub fn log_directory(pod_logs_dir: &Path, pod: &Pod) -> std::path::PathBuf {
    pod_logs_dir.join(format!("{}_{}_{}", pod.ns(), pod.pod_name(), pod.uid()))
}

/// The configuration.
///
/// # Errors
/// What the pod asks for and is not implemented.
pub fn config(pod: &Pod, attempt: u32, node: &SandboxNode<'_>) -> Result<cri::PodSandboxConfig, ConfigError> {
    let hostname = match pod.host_network() {
        true => String::new(),
        false => sandbox_hostname(pod, &node.dns.domain)?,
    };
    let sysctls = pod
        .spec()
        .and_then(|spec| spec.security_context.as_ref()?.sysctls.as_ref());
    let sysctls = sysctls
        .into_iter()
        .flatten()
        .map(|one| (one.name.clone(), one.value.clone()));
    let (own, overhead) = resources::of_sandbox(pod);
    Ok(cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: pod.pod_name().to_owned(),
            uid: pod.uid().to_owned(),
            namespace: pod.ns().to_owned(),
            attempt,
        }),
        hostname,
        log_directory: log_directory(node.pod_logs_dir, pod)
            .to_string_lossy()
            .into_owned(),
        dns_config: Some(resolver(pod, node.dns, node.host_resolver).into()),
        port_mappings: port_mappings(pod),
        labels: labels::of_sandbox(pod),
        annotations: labels::sandbox_annotations(pod, node.seen),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: resources::cgroup_parent(node.cgroup_root, pod),
            security_context: Some(security::of_sandbox(pod)?),
            sysctls: sysctls.collect(),
            overhead: Some(overhead),
            resources: Some(own),
        }),
    })
}

/// What the kernel takes as a host name, in characters.
const LONGEST_HOSTNAME: usize = 64;

fn sandbox_hostname(pod: &Pod, domain: &str) -> Result<String, ConfigError> {
    let (host, full) = hosts::names(pod, domain);
    let wants_full = pod
        .spec()
        .and_then(|spec| spec.set_hostname_as_fqdn)
        .unwrap_or(false);
    match (wants_full, full) {
        (true, Some(full)) if full.len() > LONGEST_HOSTNAME => Err(ConfigError::LongHostname(full)),
        (true, Some(full)) => Ok(full),
        _ => Ok(host),
    }
}

/// All ports, those without a host port too, as upstream does.
fn port_mappings(pod: &Pod) -> Vec<cri::PortMapping> {
    let mapping = |port: &ContainerPort| {
        let protocol = match port.protocol.as_deref() {
            Some("UDP") => cri::Protocol::Udp,
            Some("SCTP") => cri::Protocol::Sctp,
            _ => cri::Protocol::Tcp,
        };
        cri::PortMapping {
            protocol: protocol as i32,
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or(0),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        }
    };
    let ports = pod
        .all_containers()
        .flat_map(|(_, container)| container.ports.iter().flatten());
    ports.map(mapping).collect()
}
