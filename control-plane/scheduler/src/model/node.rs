//! A node as the scheduler sees it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{self as core, Taint};

use super::Resources;

/// What scheduling needs to know of a node. Two that are equal are the same to every pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// It takes no new pods.
    pub unschedulable: bool,
    /// What its pods can have together.
    pub allocatable: Resources,
}

impl Node {
    /// Takes out of an API object what is needed.
    pub fn of(node: &core::Node) -> Self {
        let spec = node.spec.as_ref();
        let allocatable = node
            .status
            .as_ref()
            .and_then(|status| status.allocatable.as_ref());
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec.and_then(|spec| spec.taints.clone()).unwrap_or_default(),
            unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or_default(),
            allocatable: Resources::of(allocatable),
        }
    }
}
