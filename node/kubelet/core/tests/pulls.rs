//! Who may use images that are there, seen from the pods. On virtual time; as root.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use common::{Bench, first_status, pod};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use knode_kubelet::PullVerification;
use serde_json::{Value, json};

const IMAGE: &str = "reg.io/a:1";

/// A secret with a password for the registry.
fn secret(name: &str, uid: &str, password: &str) -> Secret {
    let text = json!({"auths": {"reg.io": {"username": "u", "password": password}}}).to_string();
    let mut secret = Secret {
        data: Some([(".dockerconfigjson".to_owned(), ByteString(text.into_bytes()))].into()),
        ..Secret::default()
    };
    secret.metadata.name = Some(name.into());
    secret.metadata.namespace = Some("rec".into());
    secret.metadata.uid = Some(uid.into());
    secret
}

fn wants(name: &str, secret: Option<&str>, policy: &str) -> Pod {
    let spec = secret.map_or(json!({}), |name| json!({"imagePullSecrets": [{"name": name}]}));
    pod(name, json!({"image": IMAGE, "imagePullPolicy": policy}), spec)
}

fn waits_for(reason: &'static str) -> impl Fn(&Pod) -> bool {
    move |pod| waiting(pod)["reason"] == reason
}

fn waiting(pod: &Pod) -> Value {
    first_status(pod)["state"]["waiting"].clone()
}

fn pulls(bench: &Bench) -> usize {
    let calls = bench.runtime.calls();
    calls.iter().filter(|call| call.starts_with("PullImage")).count()
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_the_credentials_cannot_use_what_another_pulled() {
    let mut bench = Bench::start("pulled").await;
    bench.runtime.lock_image(IMAGE, "secret");
    bench.api.put_secret("good", secret("good", "1", "secret"));
    bench.api.put_secret("bad", secret("bad", "2", "guess"));
    bench.api.put(wants("first", Some("good"), "IfNotPresent"));
    bench.until_ready("first").await;
    assert_eq!(pulls(&bench), 1);

    bench.api.put(wants("none", None, "IfNotPresent"));
    bench
        .until("none", "ErrImagePull", waits_for("ErrImagePull"))
        .await;
    bench.api.put(wants("wrong", Some("bad"), "IfNotPresent"));
    bench
        .until("wrong", "ErrImagePull", waits_for("ErrImagePull"))
        .await;
    bench.api.put(wants("never", None, "Never"));
    let never = bench
        .until("never", "ErrImageNeverPull", waits_for("ErrImageNeverPull"))
        .await;
    let text = "Container image \"reg.io/a:1\" is not present with pull policy of Never";
    assert_eq!(waiting(&never)["message"], text);

    for name in ["none", "wrong", "never"] {
        bench.api.delete_pod(name, Some(0));
        bench.until_gone(name).await;
    }
    let before = pulls(&bench);
    bench.start_kubelet().await;
    bench.api.put(wants("second", Some("good"), "Never"));
    bench.until_ready("second").await;
    // Another secret with the same password, and the first one with another: both are known after that.
    bench.api.put_secret("twin", secret("twin", "3", "secret"));
    bench.api.put(wants("third", Some("twin"), "Never"));
    bench.until_ready("third").await;
    bench.api.put_secret("twin", secret("twin", "3", "rotated"));
    bench.api.put(wants("fourth", Some("twin"), "Never"));
    bench.until_ready("fourth").await;
    bench.api.put_secret("new", secret("new", "4", "rotated"));
    bench.api.put(wants("fifth", Some("new"), "Never"));
    bench.until_ready("fifth").await;
    assert_eq!(pulls(&bench), before, "nothing was pulled again");
    let events = bench.api.events("fifth");
    let text = "already present on machine and can be accessed by the pod";
    assert!(events.iter().any(|event| event.contains(text)), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn what_anybody_can_pull_anybody_can_use() {
    let bench = Bench::start("anybody").await;
    bench.api.put(wants("first", None, "IfNotPresent"));
    bench.until_ready("first").await;
    bench.api.put(wants("second", None, "Never"));
    bench.until_ready("second").await;
    assert_eq!(pulls(&bench), 1);
}

#[tokio::test(start_paused = true)]
async fn images_that_were_there_before_are_verified_only_where_that_is_asked_for() {
    let image = json!({"image": "busybox:latest", "imagePullPolicy": "Never"});
    let mut bench = Bench::start("preloaded").await;
    bench.api.put(pod("preloaded", image.clone(), json!({})));
    bench.until_ready("preloaded").await;
    bench.verification = PullVerification::Always;
    bench.start_kubelet().await;
    bench.api.put(pod("always", image, json!({})));
    bench
        .until("always", "ErrImageNeverPull", waits_for("ErrImageNeverPull"))
        .await;
    bench
        .api
        .put(pod("pulls", json!({"image": "busybox:latest"}), json!({})));
    bench.until_ready("pulls").await;
    assert_eq!(pulls(&bench), 1);
    // That nobody needs credentials for it is known now.
    bench.until_ready("always").await;
}
