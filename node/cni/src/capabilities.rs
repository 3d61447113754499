//! What a runtime can tell plugins that declare the capability (`CONVENTIONS.md`; go-cni `namespace_opts.go`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Map, Value, json};

/// A port of the host that leads into the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// Port on the host.
    pub host_port: u16,
    /// Port in the container.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// Address of the host; for all of them it is left out.
    #[serde(rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

/// How much may go in and out. 0 means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bandwidth {
    /// Into the container, bits a second.
    #[serde(skip_serializing_if = "is_zero")]
    pub ingress_rate: u64,
    /// Into the container at once, bits.
    #[serde(skip_serializing_if = "is_zero")]
    pub ingress_burst: u64,
    /// Out of the container, bits a second.
    #[serde(skip_serializing_if = "is_zero")]
    pub egress_rate: u64,
    /// Out of the container at once, bits.
    #[serde(skip_serializing_if = "is_zero")]
    pub egress_burst: u64,
}

/// The container's resolver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Domains that are searched.
    pub searches: Vec<String>,
    /// Options of `resolv.conf`.
    pub options: Vec<String>,
}

/// Everything that can be told. What is empty is not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `portMappings`
    pub port_mappings: Vec<PortMapping>,
    /// `bandwidth`
    pub bandwidth: Option<Bandwidth>,
    /// `ips`: the addresses that are wanted, with their prefix length.
    pub ips: Vec<String>,
    /// `mac`: the hardware address that is wanted.
    pub mac: Option<String>,
    /// `dns`
    pub dns: Option<Dns>,
    /// `cgroupPath`: the pod's control group.
    pub cgroup_path: Option<String>,
    /// `io.kubernetes.cri.pod-annotations`
    pub pod_annotations: BTreeMap<String, String>,
}

impl Capabilities {
    /// By the names under which plugins declare them.
    pub fn into_map(self) -> Map<String, Value> {
        let dns = self.dns.map(|dns| json!(dns));
        let all = [
            ("portMappings", some_list(&self.port_mappings)),
            ("bandwidth", self.bandwidth.map(|b| json!(b))),
            ("ips", some_list(&self.ips)),
            ("mac", self.mac.map(Value::from)),
            ("dns", dns),
            ("cgroupPath", self.cgroup_path.map(Value::from)),
            (
                "io.kubernetes.cri.pod-annotations",
                (!self.pod_annotations.is_empty()).then(|| json!(self.pod_annotations)),
            ),
        ];
        let told = all
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        told.collect()
    }
}

fn some_list<T: Serialize>(list: &[T]) -> Option<Value> {
    (!list.is_empty()).then(|| json!(list))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_told_under_their_conventional_names() {
        let all = Capabilities {
            port_mappings: vec![PortMapping {
                host_port: 8080,
                container_port: 80,
                protocol: "tcp",
                host_ip: "192.0.2.1".parse().ok(),
            }],
            bandwidth: Some(Bandwidth {
                ingress_rate: 1000,
                ingress_burst: 2000,
                ..Bandwidth::default()
            }),
            ips: vec!["10.1.2.3/24".to_owned()],
            mac: Some("02:00:00:00:00:01".to_owned()),
            dns: Some(Dns {
                servers: vec!["10.0.0.10".to_owned()],
                ..Dns::default()
            }),
            cgroup_path: Some("/kubepods/pod1".to_owned()),
            pod_annotations: [("a".to_owned(), "b".to_owned())].into(),
        };
        let expected = json!({
            "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.1"}],
            "bandwidth": {"ingressRate": 1000, "ingressBurst": 2000},
            "ips": ["10.1.2.3/24"],
            "mac": "02:00:00:00:00:01",
            "dns": {"servers": ["10.0.0.10"], "searches": [], "options": []},
            "cgroupPath": "/kubepods/pod1",
            "io.kubernetes.cri.pod-annotations": {"a": "b"},
        });
        assert_eq!(Value::Object(all.into_map()), expected);
        assert_eq!(Capabilities::default().into_map(), Map::new());
    }
}
