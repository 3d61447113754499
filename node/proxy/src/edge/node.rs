//! What the proxy reads of its Node; pure.

use std::net::IpAddr;

use ipnet::IpNet;

use super::config::ProxyOptions;
use super::objects::NodeObject;
use crate::table::{Locality, TableConfig};

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// The taint by which the cluster autoscaler announces a node's end.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// This node, as far as the proxy is concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NodeInfo {
    pub zone: Option<String>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    /// The first internal address of each family.
    pub primary: Vec<IpAddr>,
    /// Whether load balancers may send new connections here.
    pub eligible: bool,
}

impl NodeInfo {
    pub fn of(node: &NodeObject) -> Self {
        let labels = node.metadata.labels.as_ref();
        let listed = node.spec.pod_cidrs.as_deref().unwrap_or_default();
        let cidrs = listed.iter().chain(node.spec.pod_cidr.iter());
        let mut pod_cidrs: Vec<IpNet> = cidrs.filter_map(|cidr| cidr.parse().ok()).collect();
        pod_cidrs.sort_unstable();
        pod_cidrs.dedup();
        let tainted = node
            .spec
            .taints
            .iter()
            .flatten()
            .any(|taint| taint.key == TO_BE_DELETED);
        Self {
            zone: labels.and_then(|labels| labels.get(ZONE_LABEL)).cloned(),
            pod_cidrs,
            primary: primary(node),
            eligible: !tainted && node.metadata.deletion_timestamp.is_none(),
        }
    }

    /// The tables' configuration with what the node adds to it.
    pub fn complete(&self, mut table: TableConfig, options: &ProxyOptions) -> TableConfig {
        if options.locality_from_node {
            table.locality = Locality::Cidrs(self.pod_cidrs.clone());
        }
        if options.node_ports_on_primary {
            table
                .node_port_addresses
                .extend(self.primary.iter().copied().map(IpNet::from));
        }
        table
    }
}

fn primary(node: &NodeObject) -> Vec<IpAddr> {
    let addresses = node.status.addresses.iter().flatten();
    let internal: Vec<IpAddr> = addresses
        .filter(|address| address.kind == "InternalIP")
        .filter_map(|address| address.address.parse().ok())
        .collect();
    let first = |v4: bool| internal.iter().find(|ip| ip.is_ipv4() == v4).copied();
    [first(true), first(false)].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_tells_zone_networks_addresses_and_whether_it_stays() {
        let mut json = serde_json::json!({
            "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z1"}},
            "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd01::/64"]},
            "status": {"addresses": [
                {"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "192.0.2.1"},
                {"type": "InternalIP", "address": "192.0.2.2"}, {"type": "InternalIP", "address": "2001:db8::1"}
            ]}
        });
        let info =
            |json: &serde_json::Value| NodeInfo::of(&serde_json::from_value(json.clone()).expect("a node"));
        let seen = info(&json);
        assert_eq!((seen.zone.as_deref(), seen.eligible), (Some("z1"), true));
        let options = ProxyOptions {
            locality_from_node: true,
            node_ports_on_primary: true,
            ..ProxyOptions::default()
        };
        let table = seen.complete(TableConfig::default(), &options);
        let nets = ["10.1.0.0/24", "fd01::/64"].map(|net| net.parse().expect("net"));
        assert_eq!(table.locality, Locality::Cidrs(nets.into()));
        let texts: Vec<String> = table
            .node_port_addresses
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(texts, ["192.0.2.1/32", "2001:db8::1/128"]);
        json["spec"]["taints"] = serde_json::json!([{"key": TO_BE_DELETED, "effect": "NoSchedule"}]);
        assert!(!info(&json).eligible, "the autoscaler takes it away");
        json["spec"]["taints"] = serde_json::json!([]);
        json["metadata"]["deletionTimestamp"] = "2026-11-22T10:00:00Z".into();
        assert!(!info(&json).eligible, "it is being deleted");
    }
}
