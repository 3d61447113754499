use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::manifest::{parse, parse_all};
use super::mirror::{MirrorAction, Shown, mirror_of, plan};
use super::state::State;
use crate::api::PodChange;
use crate::pod::PodExt;

fn seen() -> jiff::Timestamp {
    "2026-11-22T14:00:00Z".parse().unwrap()
}

fn read(text: &str) -> Result<Pod, String> {
    parse(text.as_bytes(), Path::new("/etc/pods/web.yaml"), "Node1", seen())
        .map_err(|error| error.to_string())
}

fn web(spec: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: web}}, spec: {{containers: [{{name: c, image: i}}]{spec}}}}}"
    )
}

#[test]
fn the_name_bears_the_nodes_and_the_uid_is_the_contents() {
    let pod = read(&web("")).unwrap();
    assert_eq!((pod.ns(), pod.pod_name()), ("default", "web-node1"));
    assert_eq!(pod.uid().len(), 32);
    assert_eq!(pod.uid(), read(&web("")).unwrap().uid());
    assert_ne!(pod.uid(), read(&web(", hostPID: true")).unwrap().uid());
    let elsewhere = parse(web("").as_bytes(), Path::new("/other"), "Node1", seen()).unwrap();
    assert_ne!(pod.uid(), elsewhere.uid());
    let own = web("").replace("name: web", "name: web, uid: mine");
    assert_eq!(read(&own).unwrap().uid(), "mine");
    // The order of fields says nothing, nor does JSON instead of YAML.
    let other = r#"{"kind": "Pod", "spec": {"containers": [{"image": "i", "name": "c"}]}, "metadata": {"name": "web"}, "apiVersion": "v1"}"#;
    assert_eq!(pod.uid(), read(other).unwrap().uid());
    let tolerations = pod.spec.as_ref().unwrap().tolerations.as_ref().unwrap();
    assert_eq!(tolerations[0].effect.as_deref(), Some("NoExecute"));
    assert!(pod.is_static() && pod.is_critical());
}

#[test]
fn what_a_static_pod_cannot_be_is_refused() {
    let table = [
        ("a: [", "neither YAML nor JSON"),
        ("{apiVersion: v1, kind: Service}", "\"Service\""),
        (
            "{apiVersion: v1, kind: Pod, spec: {containers: [{name: c, image: i}]}}",
            "metadata.name",
        ),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: n}, spec: {containers: []}}",
            "spec.containers",
        ),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: n}, spec: {containers: 5}}",
            "not a pod's",
        ),
    ];
    for (text, wanted) in table {
        let error = read(text).unwrap_err();
        assert!(error.contains(wanted), "{text}: {error}");
    }
    let references = [
        (", serviceAccountName: a", "serviceaccounts"),
        (", imagePullSecrets: [{name: s}]", "secrets"),
        (", volumes: [{name: v, configMap: {name: m}}]", "configmaps"),
        (
            ", volumes: [{name: v, persistentVolumeClaim: {claimName: m}}]",
            "persistentvolumeclaims",
        ),
    ];
    for (more, what) in references {
        let error = read(&web(more)).unwrap_err();
        assert_eq!(error, format!("static pods may not reference {what}"), "{more}");
    }
}

#[test]
fn a_url_holds_a_pod_or_a_list_of_pods() {
    let all = |text: &str| {
        let found = parse_all(text.as_bytes(), "http://a/", "Node1", seen());
        found.map_err(|error| error.to_string())
    };
    let pod = all(&web("")).unwrap().remove(0);
    assert_ne!(pod.uid(), read(&web("")).unwrap().uid(), "the place counts");
    assert!(pod.is_static());
    let annotations = pod.metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations["kubernetes.io/config.source"], "http");
    let bare = "{metadata: {name: b}, spec: {containers: [{name: c, image: i}]}}";
    let list = |items: &str| format!("{{apiVersion: v1, kind: PodList, items: [{items}]}}");
    let two = all(&list(&format!("{}, {bare}", web("")))).unwrap();
    let names: Vec<&str> = two.iter().map(PodExt::pod_name).collect();
    assert_eq!(names, ["web-node1", "b-node1"]);
    assert_eq!(two[0].uid(), pod.uid());
    assert_eq!(all(""), Ok(Vec::new()));
    assert_eq!(all("{apiVersion: v1, kind: PodList}"), Ok(Vec::new()));
    for (text, says) in [
        (
            list(&format!("{bare}, {{metadata: {{name: c}}}}")),
            "spec: Required value",
        ),
        (list("{kind: Service}"), "\"Service\""),
        (
            "{apiVersion: v1, kind: PodList, items: 5}".to_owned(),
            "not a list",
        ),
        ("just text".to_owned(), "kind is \"\""),
    ] {
        let error = all(&text).unwrap_err();
        assert!(error.contains(says), "{text}: {error}");
    }
}

fn key(name: &str) -> (String, String) {
    ("default".into(), name.into())
}

fn mirror(name: &str, hash: &str, deleted: bool) -> Pod {
    let mut value = json!({"metadata": {"name": name, "namespace": "default", "uid": format!("api-{hash}"),
        "annotations": {"kubernetes.io/config.mirror": hash}, "resourceVersion": "7"}, "status": {"phase": "Running"}});
    if deleted {
        value["metadata"]["deletionTimestamp"] = json!("2026-11-22T14:00:00Z");
    }
    serde_json::from_value(value).unwrap()
}

#[test]
fn mirrors_follow_the_static_pods() {
    let shown = |hash: &str, wanted| Shown {
        hash: hash.into(),
        wanted,
    };
    let create = || MirrorAction::Create(key("a"));
    let delete = |hash: &str| MirrorAction::Delete {
        key: key("a"),
        uid: format!("api-{hash}"),
    };
    let table = [
        (None, None, vec![]),
        (Some(shown("1", true)), None, vec![create()]),
        (Some(shown("1", false)), None, vec![]),
        (Some(shown("1", true)), Some(mirror("a", "1", false)), vec![]),
        (Some(shown("1", false)), Some(mirror("a", "1", false)), vec![]),
        (
            Some(shown("1", true)),
            Some(mirror("a", "1", true)),
            vec![delete("1")],
        ),
        (
            Some(shown("2", true)),
            Some(mirror("a", "1", false)),
            vec![delete("1")],
        ),
        (None, Some(mirror("a", "1", false)), vec![delete("1")]),
    ];
    for (number, (pod, mirror, wanted)) in table.into_iter().enumerate() {
        let pods: BTreeMap<_, _> = pod.into_iter().map(|pod| (key("a"), pod)).collect();
        let mirrors: BTreeMap<_, _> = mirror.into_iter().map(|mirror| (key("a"), mirror)).collect();
        assert_eq!(plan(&pods, &mirrors), wanted, "row {number}");
    }
}

/// Changes as short texts.
fn told(changes: &[PodChange]) -> Vec<String> {
    let one = |pod: &Arc<Pod>| format!("{} {}", pod.pod_name(), pod.uid());
    let text = |change: &PodChange| match change {
        PodChange::All(pods) => format!("all [{}]", pods.iter().map(one).collect::<Vec<_>>().join(", ")),
        PodChange::Applied(pod) => format!("applied {} {}", one(pod), pod.api_phase()),
        PodChange::Deleted(pod) => format!("deleted {}", one(pod)),
    };
    changes.iter().map(text).collect()
}

fn pod(uid: &str) -> Arc<Pod> {
    let own = web("").replace("name: web", &format!("name: web, uid: '{uid}'"));
    Arc::new(read(&own).unwrap())
}

#[test]
fn a_changed_pod_waits_for_the_end_of_the_one_before() {
    let mut state = State::default();
    assert_eq!(
        told(&state.files(vec![pod("1")])),
        ["applied web-node1 1 Pending"]
    );
    assert!(
        state.mirror_actions().is_empty(),
        "the API has not said what it has"
    );
    assert_eq!(told(&state.api(PodChange::All(vec![]))), ["all [web-node1 1]"]);
    assert_eq!(state.mirror_actions(), [MirrorAction::Create(key("web-node1"))]);
    let shown = state.api(PodChange::Applied(Arc::new(mirror("web-node1", "1", false))));
    assert_eq!(told(&shown), ["applied web-node1 1 Running"]);
    assert!(state.mirror_actions().is_empty());

    assert_eq!(told(&state.files(vec![pod("2")])), ["deleted web-node1 1"]);
    assert!(told(&state.files(vec![pod("2")])).is_empty(), "said twice");
    assert!(state.mirror_actions().is_empty(), "the mirror of what ends stays");
    assert!(told(&state.gone(&pod("2"))).is_empty());
    assert_eq!(told(&state.gone(&pod("1"))), ["applied web-node1 2 Pending"]);
    let uid = "api-1".to_owned();
    let key = key("web-node1");
    assert_eq!(state.mirror_actions(), [MirrorAction::Delete { key, uid }]);
    assert_eq!(told(&state.files(vec![])), ["deleted web-node1 2"]);
    assert!(told(&state.gone(&pod("2"))).is_empty());
}

#[test]
fn a_mirror_is_the_nodes_and_no_pod_of_its_own() {
    let made = mirror_of(&pod("1"), "node1", "node-uid");
    assert_eq!(made.metadata.uid, None);
    let annotations = made.metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations["kubernetes.io/config.mirror"], "1");
    let mut state = State::default();
    let all = PodChange::All(vec![Arc::new(mirror("other", "9", false))]);
    assert_eq!(told(&state.api(all)), ["all []"]);
}
