use super::*;

#[test]
fn invalid_lists_causes() {
    let errors = [FieldError::required("spec.containers", "")];
    let got = Status::invalid(GroupResource::new("", "Pod"), "a", &errors).to_value();
    let want = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "Pod \"a\" is invalid: spec.containers: Required value",
        "reason": "Invalid",
        "details": {"name": "a", "kind": "Pod", "causes": [
            {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.containers"}]},
        "code": 422
    });
    assert_eq!(got, want);
}

#[test]
fn details_are_left_out_or_empty_as_upstream() {
    assert!(Status::bad_request("x").to_value().get("details").is_none());
    assert_eq!(Status::method_not_allowed().to_value()["details"], json!({}));
    assert_eq!(
        Status::forbidden(
            GroupResource::new("", ""),
            "",
            "User \"u\" cannot get path \"/metrics\""
        )
        .message,
        "forbidden: User \"u\" cannot get path \"/metrics\""
    );
}

#[test]
fn groups_are_named() {
    let of = GroupResource::new("coordination.k8s.io", "leases");
    let status = Status::forbidden(of, "node2", "no");
    assert_eq!(
        status.message,
        "leases.coordination.k8s.io \"node2\" is forbidden: no"
    );
    assert_eq!(
        status.to_value()["details"],
        json!({"name": "node2", "group": "coordination.k8s.io", "kind": "leases"})
    );
}

#[test]
fn future_versions_time_out() {
    let got = Status::too_large_resource_version(99_999_999, 1126).to_value();
    assert_eq!(
        got["message"],
        "Timeout: Too large resource version: 99999999, current: 1126"
    );
    assert_eq!(got["details"]["retryAfterSeconds"], 1);
}
