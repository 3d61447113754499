use serde_json::json;

use super::*;
use crate::schema::schema;

fn pod() -> TypeId {
    schema().kind("", "v1", "Pod").unwrap()
}

fn decode(v: &Value) -> Result<Decoded, DecodeError> {
    json(v.to_string().as_bytes(), pod())
}

fn fault(v: Value) -> String {
    decode(&v).unwrap_err().to_string()
}

#[test]
fn unknown_and_duplicate_fields_are_reported() {
    let text = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","name":"b"},"spec":{"containers":[{"name":"c","imagee":"x"}],"foo":1}}"#;
    let got = json(text, pod()).unwrap();
    assert_eq!(
        got.strict,
        [
            "duplicate field \"metadata.name\"",
            "unknown field \"spec.containers[0].imagee\"",
            "unknown field \"spec.foo\""
        ]
    );
    assert_eq!(got.value["metadata"]["name"], "b");
    assert!(got.value["spec"].get("foo").is_none());
    assert_eq!(
        strict_error(&got.strict[1..]),
        "strict decoding error: unknown field \"spec.containers[0].imagee\", unknown field \"spec.foo\""
    );
}

#[test]
fn wrong_types_are_named() {
    assert_eq!(
        fault(json!({"spec": {"containers": "no"}})),
        "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container"
    );
    assert_eq!(
        fault(json!({"spec": {"terminationGracePeriodSeconds": "x"}})),
        "json: cannot unmarshal string into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64"
    );
    assert_eq!(
        fault(json!({"metadata": {"labels": {"a": 1}}})),
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"
    );
    assert_eq!(
        fault(json!({"spec": {"containers": [{"ports": [{"containerPort": 1.5}]}]}})),
        "json: cannot unmarshal number 1.5 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"
    );
    assert_eq!(
        fault(json!({"spec": {"containers": [{"resources": {"limits": {"memory": "12Q"}}}]}})),
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    );
    assert_eq!(
        fault(json!([])),
        "json: cannot unmarshal array into Go value of type v1.Pod"
    );
}

#[test]
fn canonical_form() {
    let got = decode(&json!({
        "metadata": {"name": "a", "namespace": "", "labels": {}, "creationTimestamp": null},
        "spec": {
            "hostNetwork": false, "terminationGracePeriodSeconds": 0, "nodeName": null,
            "containers": [{"name": "c", "image": "", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}},
                            "livenessProbe": {"tcpSocket": {"port": 80}}}],
            "volumes": [{"name": "v", "emptyDir": {}}]
        }
    }));
    let want = json!({
        "metadata": {"name": "a"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
                            "livenessProbe": {"tcpSocket": {"port": 80}}}],
            "volumes": [{"name": "v", "emptyDir": {}}]
        },
        "status": {}
    });
    assert_eq!(got.unwrap().value, want);
}

#[test]
fn yaml_documents() {
    let text =
        b"apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  nodeNam: x\n  containers:\n  - name: c\n";
    let got = yaml(text, pod()).unwrap();
    assert_eq!(got.strict, ["unknown field \"spec.nodeNam\""]);
    assert_eq!(got.value["spec"]["containers"][0]["name"], "c");
    assert_eq!(yaml_type_meta(text).unwrap().kind, "Pod");
}

#[test]
fn broken_documents() {
    let e = type_meta(b"{hello").unwrap_err().to_string();
    assert_eq!(
        e,
        "couldn't get version/kind; json parse error: invalid character 'h' looking for beginning of object key string"
    );
    assert_eq!(type_meta(b"{\"kind\":\"Pod\",\"x\":{}}").unwrap().kind, "Pod");
    assert_eq!(summary(b""), "<empty>");
    assert_eq!(summary(b"{hello"), "{hello");
    assert_eq!(summary(b"hello"), "68656c6c6f");
}

#[test]
fn values_are_idempotent() {
    let once = decode(&json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}})).unwrap();
    let twice = value(once.value.clone(), pod()).unwrap();
    assert_eq!(once, twice);
}
