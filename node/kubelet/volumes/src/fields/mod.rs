//! Fields and resources of a pod as text, for downward API volumes and environment variables
//! (upstream: `pkg/fieldpath`, `pkg/api/v1/resource`). Pure.

mod amount;

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::api::core::v1::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

pub(crate) use amount::bytes;
use amount::{Amount, ceil_div};

/// A field or resource that cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The path is not one that may be used here.
    #[error("unsupported fieldPath: {0}")]
    Path(String),
    /// The resource is not one that may be used here.
    #[error("unsupported container resource: {0}")]
    Resource(String),
    /// The container does not exist in the pod.
    #[error("container {0} not found")]
    Container(String),
    /// A quantity that cannot be read.
    #[error("quantity \"{0}\" cannot be parsed")]
    Quantity(String),
}

/// What fields are taken from: the pod and what the kubelet knows about it before the API does.
#[derive(Debug, Clone, Copy)]
pub struct PodFields<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Addresses of the pod.
    pub pod_ips: &'a [String],
    /// Addresses of the node.
    pub host_ips: &'a [String],
    /// What the node offers, for limits that a container does not set.
    pub allocatable: &'a BTreeMap<String, Quantity>,
}

impl PodFields<'_> {
    /// The text of a `fieldRef`.
    ///
    /// # Errors
    /// [`FieldError::Path`] for a path that does not exist.
    pub fn field(&self, selector: &ObjectFieldSelector) -> Result<String, FieldError> {
        let path = selector.field_path.as_str();
        let meta = &self.pod.metadata;
        let spec = self.pod.spec.as_ref();
        let text = match path {
            "metadata.name" => meta.name.clone(),
            "metadata.namespace" => meta.namespace.clone(),
            "metadata.uid" => meta.uid.clone(),
            "metadata.labels" => Some(format_map(meta.labels.as_ref())),
            "metadata.annotations" => Some(format_map(meta.annotations.as_ref())),
            "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
            "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
            "spec.host" => spec.and_then(|spec| spec.node_name.clone()),
            "status.podIP" => self.pod_ips.first().cloned(),
            "status.podIPs" => Some(self.pod_ips.join(",")),
            "status.hostIP" => self.host_ips.first().cloned(),
            "status.hostIPs" => Some(self.host_ips.join(",")),
            other => return self.subscript(other),
        };
        Ok(text.unwrap_or_default())
    }

    /// `metadata.labels['key']` and `metadata.annotations['key']`.
    fn subscript(&self, path: &str) -> Result<String, FieldError> {
        let unknown = || FieldError::Path(path.to_owned());
        let (map, rest) = if let Some(rest) = path.strip_prefix("metadata.labels['") {
            (&self.pod.metadata.labels, rest)
        } else if let Some(rest) = path.strip_prefix("metadata.annotations['") {
            (&self.pod.metadata.annotations, rest)
        } else {
            return Err(unknown());
        };
        let key = rest.strip_suffix("']").ok_or_else(unknown)?;
        Ok(map
            .as_ref()
            .and_then(|map| map.get(key))
            .cloned()
            .unwrap_or_default())
    }

    /// The number of a `resourceFieldRef`, which may name another container than `container`.
    ///
    /// # Errors
    /// When container or resource do not exist.
    pub fn resource(&self, selector: &ResourceFieldSelector, container: &str) -> Result<String, FieldError> {
        let name = selector
            .container_name
            .as_deref()
            .filter(|name| !name.is_empty())
            .unwrap_or(container);
        let spec = self.pod.spec.as_ref();
        let all = spec
            .iter()
            .flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
        let found = all.into_iter().find(|one| one.name == name);
        let found = found.ok_or_else(|| FieldError::Container(name.to_owned()))?;
        resource_value(
            found,
            &selector.resource,
            selector.divisor.as_ref(),
            self.allocatable,
        )
    }
}

/// A container's request or limit in units of `divisor`, rounded up; limits that are not set are those of
/// the node.
///
/// # Errors
/// [`FieldError::Resource`] for names other than `{limits,requests}.{cpu,memory,ephemeral-storage}` and
/// huge pages, [`FieldError::Quantity`] for quantities that cannot be read.
pub fn resource_value(
    container: &Container,
    resource: &str,
    divisor: Option<&Quantity>,
    allocatable: &BTreeMap<String, Quantity>,
) -> Result<String, FieldError> {
    let unknown = || FieldError::Resource(resource.to_owned());
    let (list, name) = resource.split_once('.').ok_or_else(unknown)?;
    if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !name.starts_with("hugepages-") {
        return Err(unknown());
    }
    let resources = container.resources.as_ref();
    let set = match list {
        "limits" => resources
            .and_then(|all| all.limits.as_ref()?.get(name))
            .or_else(|| allocatable.get(name)),
        "requests" => resources.and_then(|all| all.requests.as_ref()?.get(name)),
        _ => return Err(unknown()),
    };
    let amount = set.map_or(Ok(Amount::ZERO), |quantity| Amount::parse(&quantity.0))?;
    let unit = match divisor.map(|quantity| Amount::parse(&quantity.0)).transpose()? {
        Some(unit) if unit != Amount::ZERO => unit,
        _ => Amount::ONE,
    };
    Ok(ceil_div(amount, unit).to_string())
}

/// A map as upstream's `fieldpath.FormatMap` writes it: sorted, `key="quoted value"`, one on a line.
pub fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", quoted(value)))
        .collect();
    lines.join("\n")
}

/// Go's `%q`.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            other if (other as u32) < 0x20 || other == '\u{7f}' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\x{:02x}", other as u32);
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
