//! Images that pods mount as volumes.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Bench, first_status, pod};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

fn mounting(reference: &str, policy: &str) -> Pod {
    let container = json!({"volumeMounts": [
        {"name": "image", "mountPath": "/all"},
        {"name": "image", "mountPath": "part", "subPath": "usr/share"},
    ]});
    let spec = json!({"volumes": [
        {"name": "image", "image": {"reference": reference, "pullPolicy": policy}},
        {"name": "unused", "image": {"reference": "nowhere:1", "pullPolicy": "Never"}},
    ]});
    pod("mounting", container, spec)
}

#[tokio::test(start_paused = true)]
async fn images_are_pulled_and_handed_over() {
    let bench = Bench::start("imagevolume").await;
    bench.api.put(mounting("files:1", "IfNotPresent"));
    bench.until_ready("mounting").await;
    let config = bench.runtime.creates()[0].config.clone().unwrap();
    let mount = |path: &str| {
        let found = config.mounts.iter().find(|mount| mount.container_path == path);
        found.unwrap_or_else(|| panic!("no {path}")).clone()
    };
    let (all, part) = (mount("/all"), mount("/part"));
    let image = all.image.unwrap();
    assert_eq!(image.user_specified_image, "files:1");
    assert!(!image.image.is_empty() && part.image.unwrap() == image);
    assert_eq!(
        (part.image_sub_path.as_str(), all.image_sub_path.as_str()),
        ("usr/share", "")
    );
    assert!(all.readonly && all.host_path.is_empty());
    let events = bench.api.events("mounting");
    let pulled = events
        .iter()
        .any(|event| event.contains("Pulling image \"files:1\""));
    assert!(pulled, "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_not_there_holds_the_container() {
    let bench = Bench::start("noimagevolume").await;
    bench.api.put(mounting("nowhere:1", "Never"));
    let held = bench.until("mounting", "waiting for its image", |pod| {
        first_status(pod)["state"]["waiting"]["reason"] == "ErrImageNeverPull"
    });
    let message = first_status(&held.await)["state"]["waiting"]["message"].to_string();
    assert!(
        message.contains("nowhere:1") && message.contains("not present"),
        "{message}"
    );
    assert!(bench.runtime.creates().is_empty());
}
