use super::*;

#[test]
fn every_kind_has_a_schema_and_distinct_names() {
    for kind in ALL {
        assert!(kind.schema().is_some(), "{} has no schema", kind.kind);
        let same = ALL
            .iter()
            .filter(|k| k.group == kind.group && k.plural == kind.plural)
            .count();
        assert_eq!(same, 1, "{}", kind.plural);
        assert!(
            kind.columns[0].name == "Name" || kind.kind == "Event",
            "{}",
            kind.kind
        );
    }
}

#[test]
fn kinds_are_found() {
    let pod = crate::find("", "v1", "pods").unwrap();
    assert_eq!(pod.kind, "Pod");
    assert_eq!(pod.api_version(), "v1");
    assert!(pod.subresource("eviction").is_some_and(|s| s.group == "policy"));
    let set = crate::find_kind("apps", "v1", "DaemonSet").unwrap();
    assert_eq!(set.api_version(), "apps/v1");
    let object =
        serde_json::json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"hostNetwork": true}});
    assert_eq!(pod.select(&object, "spec.hostNetwork"), Some("true"));
    assert_eq!(pod.select(&object, "spec.nodeName"), Some(""));
    assert_eq!(pod.select(&object, "spec.foo"), None);
    assert!(
        !crate::find("", "v1", "nodes")
            .unwrap()
            .knows_field("metadata.namespace")
    );
}
