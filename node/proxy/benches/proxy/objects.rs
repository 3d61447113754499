//! The Services that everything is measured with, for the model, for the API and for upstream's layout alike.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::Range;

use knode_proxy::model::{
    Model, Name, Protocol, Service, ServicePort, Slice, SliceEndpoint, SlicePort, State,
};
use knode_proxy::table::{Locality, TableConfig};
use serde_json::{Value, json};

/// Endpoints of most Services.
pub const ENDPOINTS: u32 = 3;
/// The pod network, all of which lies on the loopback interface.
pub const PODS: &str = "10.244.0.0/16";
/// The port of the Services and that of their endpoints.
pub const PORT: u16 = 80;
pub const TARGET_PORT: u16 = 8080;
/// Endpoints of a slice at most.
const SLICE: u32 = 100;
/// So many Services have a node port.
const NODE_PORTS: u32 = 1000;

/// A number of Services with as many endpoints each.
#[derive(Debug, Clone, Copy)]
pub struct Cluster {
    pub services: u32,
    pub endpoints: u32,
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {}", self.services, self.endpoints)
    }
}

impl Cluster {
    /// Services with three endpoints each.
    pub fn many(services: u32) -> Self {
        Self {
            services,
            endpoints: ENDPOINTS,
        }
    }

    /// One Service with these.
    pub fn large(endpoints: u32) -> Self {
        Self {
            services: 1,
            endpoints,
        }
    }

    /// The Service in the middle.
    pub fn middle(&self) -> u32 {
        self.services / 2
    }

    /// The model of all of it.
    pub fn model(&self) -> Model {
        let mut model = Model::default();
        for number in 0..self.services {
            model.set_service(&name(number), Some(service(number)));
            for endpoints in slices(self.endpoints) {
                set_slice(&mut model, number, endpoints);
            }
        }
        model
    }
}

/// The table's configuration.
pub fn config() -> TableConfig {
    TableConfig {
        locality: Locality::Cidrs(vec![PODS.parse().expect("a network")]),
        ..TableConfig::default()
    }
}

/// A Service's cluster address.
pub fn cluster_ip(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a60_0000 + number)
}

/// A Service's node port.
pub fn node_port(number: u32) -> Option<u16> {
    let port = u16::try_from(number).ok().filter(|_| number < NODE_PORTS);
    port.map(|port| 30_000 + port)
}

/// The addresses of a Service's endpoints.
pub fn endpoint_ips(number: u32, endpoints: Range<u32>) -> impl Iterator<Item = Ipv4Addr> {
    endpoints.map(move |index| Ipv4Addr::from(0x0af4_0000 + (number * 4 + index) % 0xff00))
}

/// The endpoints of each slice of a Service, as upstream's controller divides them.
pub fn slices(endpoints: u32) -> impl DoubleEndedIterator<Item = Range<u32>> {
    let slices = endpoints.div_ceil(SLICE);
    (0..slices).map(move |slice| slice * SLICE..endpoints.min((slice + 1) * SLICE))
}

/// Those of a Service's last slice.
pub fn last_slice(endpoints: u32) -> Range<u32> {
    slices(endpoints).next_back().unwrap_or_default()
}

/// Namespace and name of a Service.
pub fn name(number: u32) -> Name {
    format!("{}/service-{number}", namespace(number)).into()
}

fn namespace(number: u32) -> String {
    format!("namespace-{}", number % 100)
}

/// A Service for the model.
pub fn service(number: u32) -> Service {
    Service {
        cluster_ips: [cluster_ip(number).into()].into(),
        ports: [ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: PORT,
            node_port: node_port(number).unwrap_or_default(),
        }]
        .into(),
        ..Service::default()
    }
}

/// Puts these endpoints into the slice of a Service of the model that begins with the first of them; the names of
/// the Services that changed.
pub fn set_slice(model: &mut Model, number: u32, endpoints: Range<u32>) -> Vec<Name> {
    let ready = |ip: Ipv4Addr| SliceEndpoint::new(ip.into(), State::Ready, number < 100);
    let slice = Slice {
        ports: [SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: TARGET_PORT,
        }]
        .into(),
        endpoints: endpoint_ips(number, endpoints.clone()).map(ready).collect(),
    };
    let owner = name(number);
    model.set_slice(&format!("{owner}-{}", endpoints.start), Some((&owner, slice)))
}

/// What an API server keeps of every object.
fn metadata(number: u32, name: &str, manager: &str, labels: Value) -> Value {
    json!({
        "name": name, "namespace": namespace(number), "labels": labels, "generation": 1,
        "uid": format!("5b4c1d3e-8f0a-4c57-9a51-{number:012x}"),
        "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{
            "manager": manager, "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {"f:internalTrafficPolicy": {}, "f:ports": {}, "f:selector": {}, "f:type": {}}}
        }]
    })
}

/// A Service as an API server says it.
pub fn service_object(number: u32) -> Value {
    let name = format!("service-{number}");
    let ip = cluster_ip(number).to_string();
    let mut port = json!({"name": "http", "protocol": "TCP", "port": PORT, "targetPort": TARGET_PORT});
    if let Some(node_port) = node_port(number) {
        port["nodePort"] = node_port.into();
    }
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": metadata(number, &name, "kubectl", json!({"app": name})),
        "spec": {
            "type": if port["nodePort"].is_null() { "ClusterIP" } else { "NodePort" },
            "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster", "sessionAffinity": "None", "ports": [port], "selector": {"app": name}
        },
        "status": {"loadBalancer": {}}
    })
}

/// A slice of a Service as an API server says it.
pub fn slice_object(number: u32, endpoints: Range<u32>) -> Value {
    let owner = format!("service-{number}");
    let endpoint = |(index, ip): (usize, Ipv4Addr)| {
        json!({
            "addresses": [ip], "nodeName": if number < 100 { "node1" } else { "node2" },
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": namespace(number), "name": format!("{owner}-{index}"),
                "uid": format!("6c5d2e4f-9a1b-4d68-8b62-{number:06x}{index:06x}")}
        })
    };
    let name = format!("{owner}-{}", endpoints.start);
    let listed: Vec<Value> = endpoint_ips(number, endpoints)
        .enumerate()
        .map(endpoint)
        .collect();
    let labels = json!({"kubernetes.io/service-name": owner, "app": owner,
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"});
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": metadata(number, &name, "kube-controller-manager", labels),
        "endpoints": listed, "ports": [{"name": "http", "protocol": "TCP", "port": TARGET_PORT}]
    })
}
