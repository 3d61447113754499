use serde_json::{Value, json};

use super::*;

fn pod(status: Value) -> Pod {
    let pod = json!({
        "metadata": {"name": "p", "namespace": "ns"},
        "spec": {
            "containers": [{"name": "c", "image": "i"}],
            "initContainers": [{"name": "init", "image": "i"}],
        },
        "status": {"containerStatuses": [status]},
    });
    serde_json::from_value(pod).unwrap()
}

fn status(state: Value, last: Value, id: &str) -> Value {
    json!({
        "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": state, "lastState": last, "containerID": id,
    })
}

fn terminated(id: &str) -> Value {
    json!({"terminated": {"exitCode": 1, "containerID": id}})
}

#[test]
fn the_log_is_that_of_the_run_that_is_meant() {
    let running = json!({"running": {}});
    let now = pod(status(running, terminated("knode://old"), "knode://new"));
    assert_eq!(log_container_id(&now, "c", false).unwrap(), "new");
    assert_eq!(log_container_id(&now, "c", true).unwrap(), "old");
    assert_eq!(running_container_id(&now, "c").as_deref(), Some("new"));
    let ended = pod(status(terminated("knode://x"), json!({}), "knode://x"));
    assert_eq!(log_container_id(&ended, "c", false).unwrap(), "x");
    assert_eq!(running_container_id(&ended, "c"), None);
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let backing_off = pod(status(waiting, terminated("knode://old"), "knode://old"));
    assert_eq!(log_container_id(&backing_off, "c", false).unwrap(), "old");
    assert!(has_container(&now, "init") && !has_container(&now, "none"));
}

/// recordings: kubelet-api and upstream's validateContainerLogStatus
#[test]
fn what_has_no_log_is_explained_in_upstreams_words() {
    let text = |state: Value, previous: bool| {
        log_container_id(&pod(status(state, json!({}), "")), "c", previous)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        text(json!({"running": {}}), true),
        "previous terminated container \"c\" in pod \"p\" not found"
    );
    let waiting = |reason: &str| text(json!({"waiting": {"reason": reason}}), false);
    assert_eq!(
        waiting("ErrImagePull"),
        "container \"c\" in pod \"p\" is waiting to start: image can't be pulled"
    );
    assert_eq!(
        waiting("ImagePullBackOff"),
        "container \"c\" in pod \"p\" is waiting to start: trying and failing to pull image"
    );
    assert_eq!(
        waiting("PodInitializing"),
        "container \"c\" in pod \"p\" is waiting to start: PodInitializing"
    );
    assert_eq!(
        text(json!({}), false),
        "container \"c\" in pod \"p\" is waiting to start - no logs yet"
    );
    assert_eq!(
        text(terminated(""), false),
        "container \"c\" in pod \"p\" is terminated"
    );
    let error = log_container_id(&pod(status(json!({}), json!({}), "")), "init", false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "container \"init\" in pod \"p\" is not available"
    );
    assert!(PodLookupError::NoPod("p".to_owned()).is_not_found() && !error.is_not_found());
}
