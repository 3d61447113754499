use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::*;

fn pod(volumes: serde_json::Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"containers": [], "volumes": volumes},
    }))
    .unwrap()
}

fn one(volume: serde_json::Value) -> Result<VolumeKind, VolumeError> {
    plan(&pod(json!([volume]))).remove(0).1.map(|volume| volume.kind)
}

#[test]
fn an_unknown_type_is_named() {
    let error = one(json!({"name": "v", "iscsi": {"iqn": "i", "lun": 0, "targetPortal": "t"}})).unwrap_err();
    assert_eq!(error.to_string(), "unsupported volume: iscsi");
    let error = one(json!({"name": "v"})).unwrap_err();
    assert_eq!(error.to_string(), "volume has no source");
    let error = one(json!({"name": "v", "emptyDir": {"medium": "HugePages-2Mi"}})).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unsupported volume: emptyDir medium HugePages-2Mi"
    );
}

#[test]
fn modes_and_options_have_upstream_defaults() {
    let kind = one(json!({"name": "v", "secret": {"secretName": "s", "items": [{"key": "k", "path": "p"}]}}))
        .unwrap();
    let VolumeKind::Secret(secret) = kind else {
        panic!("not a secret: {kind:?}")
    };
    assert_eq!(secret.items.default_mode, 0o644);
    assert!(!secret.items.optional);
    let kind =
        one(json!({"name": "v", "configMap": {"name": "c", "defaultMode": 256, "optional": true}})).unwrap();
    let VolumeKind::ConfigMap(map) = kind else {
        panic!("not a config map: {kind:?}")
    };
    assert_eq!((map.items.default_mode, map.items.optional), (0o400, true));
}

#[test]
fn a_memory_dir_has_its_limit_in_bytes() {
    let kind = one(json!({"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})).unwrap();
    assert_eq!(
        kind,
        VolumeKind::EmptyDir {
            memory: true,
            size_limit: Some(1 << 20)
        }
    );
}

#[test]
fn references_are_found_everywhere() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p"},
        "spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{
                "name": "c",
                "envFrom": [{"configMapRef": {"name": "from-cm"}}, {"secretRef": {"name": "from-s"}}],
                "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "key-s", "key": "k"}}}],
            }],
            "volumes": [
                {"name": "a", "configMap": {"name": "vol-cm"}},
                {"name": "b", "projected": {"sources": [{"secret": {"name": "prj-s"}}]}},
            ],
        },
    }))
    .unwrap();
    let found = references(&pod);
    assert_eq!(
        found.config_maps.iter().collect::<Vec<_>>(),
        ["from-cm", "vol-cm"]
    );
    assert_eq!(
        found.secrets.iter().collect::<Vec<_>>(),
        ["from-s", "key-s", "prj-s", "pull"]
    );
}
