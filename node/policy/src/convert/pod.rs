use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::objects::{Container, Port};
use super::{PodObject, labels};
use crate::model::{ContainerPort, Pod, Protocol};

/// What the model keeps of a pod; `None` for one that is on the host's network or has ended. A pod that is being
/// deleted counts until it has ended: it still talks.
pub fn pod(object: &PodObject, node_name: &str) -> Option<Pod> {
    let (meta, spec, status) = (&object.metadata, &object.spec, &object.status);
    let has_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if spec.host_network == Some(true) || has_ended {
        return None;
    }
    let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let all: BTreeSet<IpAddr> = listed
        .chain(status.pod_ip.as_deref())
        .filter_map(|ip| ip.parse().ok())
        .collect();
    // Init containers have ended when others start, but for those that go on beside them.
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().flatten().chain(sidecars);
    Some(Pod {
        labels: Arc::new(labels(meta.labels.as_ref())),
        ips: all.into_iter().collect(),
        ports: containers.flat_map(named_ports).collect(),
        local: spec.node_name.as_deref() == Some(node_name),
        created: meta
            .creation_timestamp
            .as_ref()
            .map(|time| time.0.as_second())
            .unwrap_or_default(),
    })
}

fn named_ports(container: &Container) -> impl Iterator<Item = ContainerPort> + '_ {
    container.ports.iter().flatten().filter_map(named_port)
}

fn named_port(port: &Port) -> Option<ContainerPort> {
    let name = port.name.as_deref().filter(|name| !name.is_empty())?;
    Some(ContainerPort {
        name: name.into(),
        protocol: Protocol::from_name(port.protocol.as_deref())?,
        port: u16::try_from(port.container_port).ok().filter(|port| *port > 0)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn converted(spec: serde_json::Value, status: serde_json::Value) -> Option<Pod> {
        let object = json!({
            "metadata": {"name": "p", "namespace": "a", "labels": {"app": "web"}, "creationTimestamp": "1970-01-01T00:01:00Z",
                         "deletionTimestamp": "1970-01-01T00:02:00Z", "managedFields": [{"manager": "x"}]},
            "spec": spec, "status": status
        });
        pod(&serde_json::from_value(object).expect("a pod"), "node1")
    }

    #[test]
    fn a_pod_keeps_what_decides_about_packets() {
        let spec = json!({
            "nodeName": "node1",
            "containers": [{"ports": [{"name": "http", "containerPort": 80}, {"containerPort": 81},
                                      {"name": "dns", "containerPort": 53, "protocol": "UDP"}]}],
            "initContainers": [{"ports": [{"name": "once", "containerPort": 1}]},
                               {"restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 9000, "protocol": "SCTP"}]}]
        });
        let ips = json!([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]);
        let pod = converted(
            spec,
            json!({"phase": "Running", "podIP": "10.0.0.1", "podIPs": ips}),
        )
        .expect("counted");
        assert_eq!(
            pod.ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.0.1", "fd00::1"]
        );
        let ports: Vec<_> = pod.ports.iter().map(|p| (&*p.name, p.protocol, p.port)).collect();
        let expected = [
            ("http", Protocol::Tcp, 80),
            ("dns", Protocol::Udp, 53),
            ("side", Protocol::Sctp, 9000),
        ];
        assert_eq!(ports, expected);
        assert_eq!(
            (pod.local, pod.created, pod.labels.get("app")),
            (true, 60, Some("web"))
        );
    }

    #[test]
    fn who_has_no_address_of_its_own_or_has_ended_does_not_count() {
        let running = json!({"phase": "Running", "podIP": "10.0.0.1"});
        assert!(converted(json!({"nodeName": "node2"}), running.clone()).is_some_and(|pod| !pod.local));
        assert_eq!(converted(json!({"hostNetwork": true}), running), None);
        for phase in ["Succeeded", "Failed"] {
            assert_eq!(
                converted(json!({}), json!({"phase": phase, "podIP": "10.0.0.1"})),
                None
            );
        }
        let waiting = converted(json!({}), json!({"phase": "Pending"}));
        assert!(
            waiting.is_some_and(|pod| pod.ips.is_empty()),
            "it may be told of later"
        );
    }
}
