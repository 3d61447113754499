use serde_json::json;

use super::*;
use crate::schema::schema;

fn smp(object: Value, patch: Value) -> Result<Value, PatchError> {
    let ty = schema().kind("", "v1", "Pod").unwrap();
    strategic_merge_patch(object, patch, ty)
}

fn merged(object: Value, patch: Value) -> Value {
    smp(object, patch).unwrap()
}

#[test]
fn lists_merge_by_key() {
    let pod = json!({"spec": {"containers": [{"name": "a", "image": "1", "env": [{"name": "x", "value": "1"}]}, {"name": "b"}]}});
    let got = merged(
        pod,
        json!({"spec": {"containers": [{"name": "a", "image": "2", "env": [{"name": "y", "value": "2"}]}, {"name": "c"}]}}),
    );
    assert_eq!(
        got["spec"]["containers"],
        json!([
            {"name": "a", "image": "2", "env": [{"name": "y", "value": "2"}, {"name": "x", "value": "1"}]},
            {"name": "c"}, {"name": "b"}])
    );
}

#[test]
fn conditions_follow_the_order_given() {
    let pod = json!({"status": {"conditions": [
        {"type": "Ready", "status": "False"}, {"type": "PodScheduled", "status": "True"}]}});
    let patch = json!({"status": {
        "$setElementOrder/conditions": [{"type": "Initialized"}, {"type": "Ready"}, {"type": "PodScheduled"}],
        "conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}]}});
    let got = merged(pod, patch);
    assert_eq!(
        got["status"]["conditions"],
        json!([{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"},
               {"type": "PodScheduled", "status": "True"}])
    );
}

#[test]
fn server_only_elements_keep_their_place() {
    let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "s"}, {"name": "b"}]}});
    let patch = json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "c"}],
                                "containers": [{"name": "c"}]}});
    let names = merged(pod, patch)["spec"]["containers"].to_string();
    assert_eq!(names, r#"[{"name":"a"},{"name":"s"},{"name":"b"},{"name":"c"}]"#);
}

#[test]
fn elements_are_deleted_and_lists_replaced() {
    let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
    let got = merged(
        pod.clone(),
        json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
    );
    assert_eq!(got["spec"]["containers"], json!([{"name": "b"}]));
    let got = merged(
        pod,
        json!({"spec": {"containers": [{"name": "z"}, {"$patch": "replace"}]}}),
    );
    assert_eq!(got["spec"]["containers"], json!([{"name": "z"}]));
}

#[test]
fn scalars_lists_merge_as_sets() {
    let pod = json!({"metadata": {"finalizers": ["a", "b"]}});
    let got = merged(pod.clone(), json!({"metadata": {"finalizers": ["c"]}}));
    assert_eq!(
        got["metadata"]["finalizers"],
        json!(["c", "a", "b"]),
        "new ones go first, as upstream has it"
    );
    let got = merged(
        pod,
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}),
    );
    assert_eq!(got["metadata"]["finalizers"], json!(["b"]));
}

#[test]
fn retained_keys_push_the_others_out() {
    let pod = json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
    let patch = json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}, "$retainKeys": ["name", "hostPath"]}]}});
    assert_eq!(
        merged(pod.clone(), patch)["spec"]["volumes"],
        json!([{"name": "v", "hostPath": {"path": "/"}}])
    );
    let wrong =
        json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}, "$retainKeys": ["name"]}]}});
    assert_eq!(
        smp(pod, wrong).unwrap_err().to_string(),
        "invalid patch format of retainKeys"
    );
}

#[test]
fn maps_are_replaced_and_nulls_delete() {
    let pod = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"nodeSelector": {"x": "y"}}});
    let got = merged(
        pod,
        json!({"metadata": {"labels": {"a": null, "c": "3"}}, "spec": {"nodeSelector": {"$patch": "replace", "z": "1"}, "affinity": {"nodeAffinity": null}}}),
    );
    assert_eq!(got["metadata"]["labels"], json!({"b": "2", "c": "3"}));
    assert_eq!(got["spec"], json!({"nodeSelector": {"z": "1"}, "affinity": {}}));
}

#[test]
fn lists_without_strategy_are_replaced() {
    let pod = json!({"spec": {"tolerations": [{"key": "a"}], "containers": [{"name": "c", "command": ["x", "y"]}]}});
    let patch =
        json!({"spec": {"tolerations": [{"key": "b"}], "containers": [{"name": "c", "command": ["z"]}]}});
    let got = merged(pod, patch);
    assert_eq!(got["spec"]["tolerations"], json!([{"key": "b"}]));
    assert_eq!(got["spec"]["containers"][0]["command"], json!(["z"]));
}

#[test]
fn complaints() {
    let pod = json!({"spec": {"containers": [{"name": "a"}]}});
    let text = |p: Value| smp(pod.clone(), p).unwrap_err().to_string();
    assert_eq!(
        text(json!({"spec": {"containers": [{"image": "x"}]}})),
        "map: map[image:x] does not contain declared merge key: name"
    );
    assert_eq!(
        text(json!({"spec": {"$patch": "zap"}})),
        "unknown patch type: zap in map: map[$patch:zap]".to_string()
    );
}

#[test]
fn wrong_types_cannot_be_restored() {
    let ty = schema().kind("", "v1", "Pod").unwrap();
    let out = merged(
        json!({"spec": {"containers": [{"name": "a"}]}}),
        json!({"spec": {"containers": {"a": 1}}}),
    );
    assert_eq!(
        restore(out, ty).unwrap_err(),
        PatchError::Invalid("cannot restore slice from map".into())
    );
    let out = json!({"spec": {"terminationGracePeriodSeconds": "x"}});
    assert_eq!(
        restore(out, ty).unwrap_err(),
        PatchError::Invalid("cannot convert string to int64".into())
    );
    assert_eq!(
        restore(json!({"spec": "x"}), ty).unwrap_err(),
        PatchError::Invalid("cannot restore struct from: string".into())
    );
}

#[test]
fn json_patches() {
    let pod = json!({"spec": {"a": [1]}});
    let got = json_patch(
        pod.clone(),
        br#"[{"op":"add","path":"/spec/a/-","value":2},{"op":"test","path":"/spec/a/0","value":1}]"#,
    );
    assert_eq!(got.unwrap(), json!({"spec": {"a": [1, 2]}}));
    for wrong in [
        r#"[{"op":"remove","path":"/spec/nothere"}]"#,
        r#"[{"op":"test","path":"/spec/hostNetwork","value":true}]"#,
    ] {
        assert_eq!(
            json_patch(pod.clone(), wrong.as_bytes()),
            Err(PatchError::Rejected)
        );
    }
    assert_eq!(
        json_patch(pod, b"{\"a\": 1}").unwrap_err().to_string(),
        "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
    );
}

#[test]
fn merge_patches() {
    let mut pod = json!({"a": {"b": 1, "c": [1]}});
    merge_patch(&mut pod, &json!({"a": {"b": null, "c": [2]}}));
    assert_eq!(pod, json!({"a": {"c": [2]}}));
}
