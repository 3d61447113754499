use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ObjectFieldSelector, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::json;

use super::*;

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": "p", "namespace": "n", "uid": "u",
            "labels": {"b": "2", "a": "say \"hi\"\n"},
            "annotations": {"note": "hi"},
        },
        "spec": {
            "nodeName": "node1",
            "serviceAccountName": "default",
            "containers": [
                {"name": "c", "resources": {"limits": {"cpu": "150m", "memory": "48Mi"}, "requests": {"cpu": "50m"}}},
                {"name": "free"},
            ],
        },
    }))
    .unwrap()
}

fn field(path: &str) -> Result<String, FieldError> {
    let (pod, allocatable) = (pod(), BTreeMap::new());
    let ips = ["10.244.0.5".to_owned(), "fd00::5".to_owned()];
    let hosts = ["10.99.0.1".to_owned()];
    let fields = PodFields {
        pod: &pod,
        pod_ips: &ips,
        host_ips: &hosts,
        allocatable: &allocatable,
    };
    fields.field(&ObjectFieldSelector {
        api_version: None,
        field_path: path.to_owned(),
    })
}

fn resource(name: &str, container: Option<&str>, divisor: Option<&str>) -> Result<String, FieldError> {
    let pod = pod();
    let allocatable = BTreeMap::from([("cpu".to_owned(), Quantity("2".to_owned()))]);
    let fields = PodFields {
        pod: &pod,
        pod_ips: &[],
        host_ips: &[],
        allocatable: &allocatable,
    };
    let selector = ResourceFieldSelector {
        container_name: container.map(ToOwned::to_owned),
        divisor: divisor.map(|text| Quantity(text.to_owned())),
        resource: name.to_owned(),
    };
    fields.resource(&selector, "c")
}

#[test]
fn fields_are_found() {
    for (path, text) in [
        ("metadata.name", "p"),
        ("metadata.namespace", "n"),
        ("metadata.uid", "u"),
        ("metadata.labels", "a=\"say \\\"hi\\\"\\n\"\nb=\"2\""),
        ("metadata.labels['b']", "2"),
        ("metadata.annotations['note']", "hi"),
        ("metadata.annotations['none']", ""),
        ("spec.nodeName", "node1"),
        ("spec.serviceAccountName", "default"),
        ("status.podIP", "10.244.0.5"),
        ("status.podIPs", "10.244.0.5,fd00::5"),
        ("status.hostIP", "10.99.0.1"),
    ] {
        assert_eq!(field(path).as_deref(), Ok(text), "{path}");
    }
    assert_eq!(field("spec.nope"), Err(FieldError::Path("spec.nope".to_owned())));
}

#[test]
fn resources_are_divided_and_rounded_up() {
    assert_eq!(resource("limits.cpu", None, Some("1m")).as_deref(), Ok("150"));
    assert_eq!(resource("limits.cpu", None, None).as_deref(), Ok("1"));
    assert_eq!(resource("limits.memory", None, Some("1Mi")).as_deref(), Ok("48"));
    assert_eq!(
        resource("limits.memory", None, Some("0")).as_deref(),
        Ok("50331648")
    );
    assert_eq!(resource("requests.cpu", None, Some("1m")).as_deref(), Ok("50"));
    assert_eq!(
        resource("limits.cpu", Some("free"), Some("1m")).as_deref(),
        Ok("2000"),
        "the node's own"
    );
    assert_eq!(
        resource("requests.memory", Some("free"), None).as_deref(),
        Ok("0")
    );
    assert!(resource("limits.disk", None, None).is_err());
    assert_eq!(
        resource("limits.cpu", Some("no"), None),
        Err(FieldError::Container("no".to_owned()))
    );
}
