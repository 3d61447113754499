use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;

fn kubernetes() -> ServiceLink {
    let port = ServicePort {
        name: "https".into(),
        port: 443,
        protocol: "TCP".into(),
    };
    ServiceLink {
        name: "kubernetes".into(),
        cluster_ip: "10.96.0.1".into(),
        ports: vec![port],
    }
}

fn build(container: Value, objects: &EnvObjects) -> Result<Vec<String>, String> {
    let container: Container = serde_json::from_value(container).unwrap();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "volumes", "namespace": "rec", "labels": {"l": "v"}},
        "spec": {"nodeName": "node1", "containers": [serde_json::to_value(&container).unwrap()]},
    }))
    .unwrap();
    let (ips, hosts) = (["10.244.0.17".to_owned()], ["10.99.0.1".to_owned()]);
    let allocatable = BTreeMap::new();
    let fields = PodFields {
        pod: &pod,
        pod_ips: &ips,
        host_ips: &hosts,
        allocatable: &allocatable,
    };
    let built =
        environment(&container, fields, objects, &[kubernetes()]).map_err(|error| error.to_string())?;
    Ok(built
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect())
}

fn objects() -> EnvObjects {
    let map = json!({"data": {"a": "1", "b.txt": "two"}});
    let secret = json!({"data": {"pw": "c3dvcmRmaXNo"}});
    EnvObjects {
        config_maps: BTreeMap::from([
            (
                "cm".to_owned(),
                Some(Arc::new(serde_json::from_value(map).unwrap())),
            ),
            ("nocm".to_owned(), None),
        ]),
        secrets: BTreeMap::from([(
            "sec".to_owned(),
            Some(Arc::new(serde_json::from_value(secret).unwrap())),
        )]),
        files: BTreeMap::from([(
            ("v".to_owned(), "config.env".to_owned()),
            Ok("A='from a file'\n".to_owned()),
        )]),
    }
}

#[test]
fn a_variable_comes_from_a_file_of_a_volume() {
    let of = |volume: &str, key: &str, optional: bool| {
        let reference = json!({"volumeName": volume, "path": "config.env", "key": key, "optional": optional});
        build(
            json!({"name": "c", "env": [{"name": "X", "valueFrom": {"fileKeyRef": reference}}]}),
            &objects(),
        )
    };
    assert!(of("v", "A", false).unwrap().contains(&"X=from a file".to_owned()));
    assert!(
        !of("v", "B", true)
            .unwrap()
            .iter()
            .any(|line| line.starts_with("X="))
    );
    let missing = of("v", "B", false).unwrap_err();
    assert_eq!(
        missing,
        "environment variable key \"B\" not found in file \"config.env\""
    );
    let unknown = of("other", "A", false).unwrap_err();
    assert_eq!(
        unknown,
        "cannot find the volume \"other\" referenced by FileKeyRef"
    );
}

#[test]
fn the_recorded_container_gets_the_recorded_environment() {
    let container = json!({
        "name": "c",
        "resources": {"limits": {"cpu": "150m", "memory": "48Mi"}, "requests": {"memory": "16Mi"}},
        "envFrom": [{"prefix": "CM_", "configMapRef": {"name": "cm"}}],
        "env": [
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}}},
            {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "pw"}}},
            {"name": "REF", "value": "$(POD)-$(NOPE)-$$(POD)"},
        ],
    });
    let built = build(container, &objects()).unwrap();
    let wanted = [
        "CM_a=1",
        "CM_b.txt=two",
        "POD=volumes",
        "IP=10.244.0.17",
        "CPU=1",
        "MEM=16",
        "PW=swordfish",
        "REF=volumes-$(NOPE)-$(POD)",
        "KUBERNETES_SERVICE_HOST=10.96.0.1",
        "KUBERNETES_SERVICE_PORT=443",
        "KUBERNETES_SERVICE_PORT_HTTPS=443",
        "KUBERNETES_PORT=tcp://10.96.0.1:443",
        "KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443",
        "KUBERNETES_PORT_443_TCP_PROTO=tcp",
        "KUBERNETES_PORT_443_TCP_PORT=443",
        "KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1",
    ];
    assert_eq!(built, wanted);
}

#[test]
fn what_is_missing_is_named_as_upstream_does() {
    let by_key = |name: &str, key: &str| json!({"name": "c", "env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": name, "key": key}}}]});
    assert_eq!(
        build(by_key("nocm", "k"), &objects()).unwrap_err(),
        "configmap \"nocm\" not found"
    );
    assert_eq!(
        build(by_key("cm", "no"), &objects()).unwrap_err(),
        "couldn't find key no in ConfigMap rec/cm"
    );
    let optional = json!({"name": "c", "env": [{"name": "X", "valueFrom": {
        "configMapKeyRef": {"name": "nocm", "key": "k", "optional": true}}}]});
    assert!(
        !build(optional, &objects())
            .unwrap()
            .iter()
            .any(|one| one.starts_with("X="))
    );
}

#[test]
fn a_variable_of_the_container_goes_before_the_services() {
    let container = json!({"name": "c", "env": [{"name": "KUBERNETES_SERVICE_HOST", "value": "mine"}]});
    let built = build(container, &objects()).unwrap();
    assert_eq!(
        built
            .iter()
            .filter(|one| one.starts_with("KUBERNETES_SERVICE_HOST="))
            .count(),
        1
    );
    assert!(built.contains(&"KUBERNETES_SERVICE_HOST=mine".to_owned()));
}
