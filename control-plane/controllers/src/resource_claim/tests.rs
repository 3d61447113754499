use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use knode_client::{AnyKind, AnyObjects, ObjectKey, Verb};
use serde_json::{Value, json};

use super::plan::{CLAIMS, TEMPLATES, World, plan};

fn pod(uid: &str, status: Value) -> Arc<Pod> {
    let claims = json!([{"name": "gpu", "resourceClaimTemplateName": "t"},
        {"name": "given", "resourceClaimName": "one"}]);
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": uid},
            "spec": {"nodeName": "node1", "containers": [{"name": "c"}], "resourceClaims": claims},
            "status": status,
        }))
        .unwrap(),
    )
}

fn objects(all: &[Value]) -> AnyObjects {
    let key = |one: &Value| ObjectKey::new("n", one["metadata"]["name"].as_str().unwrap());
    all.iter().map(|one| (key(one), Arc::new(one.clone()))).collect()
}

fn world(pods: Vec<Arc<Pod>>, claims: &[Value]) -> World {
    let spec =
        json!({"metadata": {"labels": {"l": "1"}, "annotations": {"a": "2"}}, "spec": {"devices": {}}});
    World {
        pods,
        claims: objects(claims),
        templates: objects(&[json!({"metadata": {"name": "t", "namespace": "n"}, "spec": spec})]),
    }
}

fn path(kind: &AnyKind, rest: &str) -> String {
    kind.path("n", rest)
}

/// The claim that is made for a pod, as the server has it.
fn made(pod: &Arc<Pod>) -> Value {
    let plan = plan(&world(vec![pod.clone()], &[]));
    plan.writes[0].body.clone()
}

fn used(mut claim: Value, finalizers: &[&str], users: &[&str]) -> Value {
    let users: Vec<Value> = users
        .iter()
        .map(|uid| json!({"resource": "pods", "name": "p", "uid": uid}))
        .collect();
    claim["metadata"]["finalizers"] = json!(finalizers);
    claim["status"] = json!({"allocation": {}, "reservedFor": users});
    claim
}

#[test]
fn a_claim_is_made_of_the_template_and_the_pod_is_told() {
    let one = pod("u1", json!({}));
    let first = plan(&world(vec![one.clone()], &[]));
    let [write] = first.writes.as_slice() else {
        panic!("{first:?}")
    };
    assert_eq!(
        (write.verb, write.path.as_str()),
        (Verb::Create, path(&CLAIMS, "").as_str())
    );
    let metadata = &write.body["metadata"];
    let name = metadata["name"].as_str().unwrap();
    assert!(name.starts_with("p-gpu-"), "{name}");
    assert_eq!(metadata["labels"], json!({"l": "1"}));
    assert_eq!(
        metadata["annotations"],
        json!({"a": "2", "resource.kubernetes.io/pod-claim-name": "gpu"})
    );
    assert_eq!(metadata["ownerReferences"][0]["uid"], "u1");
    assert_eq!(write.body["spec"], json!({"devices": {}}));

    let second = plan(&world(vec![one], std::slice::from_ref(&write.body)));
    let [told] = second.writes.as_slice() else {
        panic!("{second:?}")
    };
    assert_eq!(
        (told.verb, told.path.as_str()),
        (Verb::Merge, "/api/v1/namespaces/n/pods/p/status")
    );
    let statuses = json!([{"name": "gpu", "resourceClaimName": name}]);
    assert_eq!(told.body["status"]["resourceClaimStatuses"], statuses);

    let knows = pod("u1", json!({"resourceClaimStatuses": statuses}));
    assert_eq!(
        plan(&world(vec![knows], std::slice::from_ref(&write.body))),
        Default::default()
    );
}

#[test]
fn what_cannot_be_made_is_said() {
    let one = pod("u1", json!({}));
    let mut without = world(vec![one.clone()], &[]);
    without.templates.clear();
    let failed = plan(&without);
    assert!(failed.writes.is_empty());
    assert!(
        failed.failures[0].1.contains("\"t\" not found"),
        "{:?}",
        failed.failures
    );
    let mut others = made(&one);
    others["metadata"]["ownerReferences"] = json!([]);
    let failed = plan(&world(vec![one], &[others]));
    assert!(failed.failures[0].1.contains("was not created for the pod"));
    assert_eq!(TEMPLATES.plural, "resourceclaimtemplates");
}

#[test]
fn claims_are_taken_from_pods_that_are_over() {
    let running = pod("u1", json!({"phase": "Running"}));
    let claim = used(
        made(&running),
        &["resource.kubernetes.io/delete-protection"],
        &["u1", "u2"],
    );
    let plan_of = |pods: Vec<Arc<Pod>>, claim: &Value| plan(&world(pods, std::slice::from_ref(claim)));
    let status = |plan: &super::plan::Plan| {
        let found = plan
            .writes
            .iter()
            .find(|write| write.path.ends_with("/status") && write.verb == Verb::Update);
        found.cloned().unwrap()
    };
    // Of two users one is missing: whether it is gone is asked before.
    let write = status(&plan_of(vec![running.clone()], &claim));
    assert_eq!(
        write.gone,
        [("/api/v1/namespaces/n/pods/p".to_owned(), "u2".to_owned())]
    );
    assert_eq!(write.body["status"]["reservedFor"].as_array().unwrap().len(), 1);
    assert!(write.body["status"]["allocation"].is_object());
    // The last one has ended: the allocation goes with it, then the claim.
    let ended = pod("u1", json!({"phase": "Succeeded"}));
    let alone = used(
        made(&running),
        &["resource.kubernetes.io/delete-protection"],
        &["u1"],
    );
    let write = status(&plan_of(vec![ended.clone()], &alone));
    assert!(write.gone.is_empty());
    assert_eq!(write.body["status"], json!({}));
    let last = plan_of(vec![ended.clone()], &write.body);
    assert_eq!(
        last.writes.iter().map(|write| write.verb).collect::<Vec<_>>(),
        [Verb::Delete]
    );
    let mut going = write.body.clone();
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let last = plan_of(vec![ended], &going);
    assert_eq!(last.writes[0].body["metadata"]["finalizers"], json!([]));
}

#[test]
fn an_allocation_that_somebody_else_keeps_stays() {
    let ended = pod("u1", json!({"phase": "Failed"}));
    let claim = json!({"metadata": {"name": "one", "namespace": "n", "uid": "c1"},
        "status": {"allocation": {"x": 1}, "reservedFor": [{"resource": "pods", "name": "p", "uid": "u1"}]}});
    let writes = plan(&world(vec![ended], &[claim])).writes;
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].body["status"], json!({"allocation": {"x": 1}}));
}
