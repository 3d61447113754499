//! Pods from manifests: they run with and without the API server, which shows their mirrors.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Bench, first_status, is_ready, phase};
use k8s_openapi::api::core::v1::Pod;

const NAME: &str = "web-node1";

fn manifest(command: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  namespace: rec\n  labels: {{app: web}}\nspec:\n  \
         terminationGracePeriodSeconds: 5\n  containers:\n  - name: c\n    image: busybox:latest\n    command: [{command}]\n"
    )
}

async fn with_manifest(name: &str, text: &str) -> Bench {
    let bench = Bench::start(name).await;
    write(&bench, "web.yaml", text);
    bench
}

fn write(bench: &Bench, file: &str, text: &str) {
    let directory = bench.root.join("manifests");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join(file), text).unwrap();
}

fn annotation(pod: &Pod, name: &str) -> String {
    let annotations = pod.metadata.annotations.as_ref().unwrap();
    annotations
        .get(&format!("kubernetes.io/config.{name}"))
        .cloned()
        .unwrap_or_default()
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap()
}

/// Everything that was started, by the uid in its labels.
fn started(bench: &Bench) -> Vec<String> {
    let uid =
        |request: &knode_cri::RunPodSandboxRequest| request.config.clone().unwrap().metadata.unwrap().uid;
    bench.runtime.runs().iter().map(uid).collect()
}

#[tokio::test(start_paused = true)]
async fn a_manifest_runs_and_has_a_mirror() {
    let bench = with_manifest("static", &manifest("a")).await;
    let mirror = bench.until_ready(NAME).await;
    let hash = annotation(&mirror, "hash");
    assert_eq!(hash.len(), 32, "{hash}");
    assert_eq!(annotation(&mirror, "mirror"), hash);
    assert_eq!(annotation(&mirror, "source"), "file");
    assert!(annotation(&mirror, "seen").starts_with("2026-11-22T"));
    let owner = &mirror.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(
        (
            owner.kind.as_str(),
            owner.name.as_str(),
            owner.uid.as_str(),
            owner.controller
        ),
        ("Node", "node1", "node-uid", Some(true))
    );
    assert_eq!(phase(&mirror), "Running");
    assert_ne!(uid(&mirror), hash, "the mirror has a uid of its own");
    assert_eq!(
        started(&bench),
        std::slice::from_ref(&hash),
        "the pod's uid is its hash"
    );
    let shown = bench.kubelet().pod("rec", NAME).unwrap();
    assert_eq!(uid(&shown.pod), hash);
    let sandbox = bench.runtime.runs()[0].config.clone().unwrap();
    assert_eq!(sandbox.annotations["kubernetes.io/config.source"], "file");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_mirror_is_made_again_and_the_pod_runs_on() {
    let bench = with_manifest("mirror", &manifest("a")).await;
    let first = bench.until_ready(NAME).await;
    for grace in [Some(30), Some(0)] {
        let before = uid(&bench.api.pod(NAME).unwrap());
        bench.api.delete_pod(NAME, grace);
        let again = |pod: &Pod| uid(pod) != before && is_ready(pod);
        let mirror = bench.until(NAME, "another mirror that is Ready", again).await;
        assert_eq!(annotation(&mirror, "hash"), annotation(&first, "hash"));
        assert_eq!(
            first_status(&mirror)["containerID"],
            first_status(&first)["containerID"]
        );
    }
    let ended = bench.runtime.calls();
    assert!(!ended.iter().any(|call| call.starts_with("Stop")), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn another_manifest_is_another_pod_once_the_first_has_ended() {
    let bench = with_manifest("changed", &manifest("a")).await;
    let first = bench.until_ready(NAME).await;
    write(&bench, "web.yaml", &manifest("a, b"));
    let hash = annotation(&first, "hash");
    let other = |pod: &Pod| annotation(pod, "hash") != hash && is_ready(pod);
    let second = bench.until(NAME, "a mirror of the changed pod", other).await;
    assert_eq!(started(&bench), [hash, annotation(&second, "hash")]);
    let calls = bench.runtime.calls();
    let place = |call: &str| calls.iter().rposition(|one| one == call).unwrap();
    assert!(
        place("RemoveContainer c") < place(&format!("RunPodSandbox {NAME}")),
        "both ran at once: {calls:?}"
    );
    // A manifest that cannot be used changes nothing.
    write(
        &bench,
        "web.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{na",
    );
    bench.pass(60).await;
    assert!(is_ready(&bench.api.pod(NAME).unwrap()));
    std::fs::remove_file(bench.root.join("manifests/web.yaml")).unwrap();
    bench.until_gone(NAME).await;
    bench.until_clean().await;
    // The same again is the same pod.
    write(&bench, "web.yaml", &manifest("a"));
    let third = bench.until_ready(NAME).await;
    assert_eq!(annotation(&third, "hash"), started(&bench)[0]);
}

#[tokio::test(start_paused = true)]
async fn without_an_api_server_it_runs_and_restarts() {
    let mut bench = Bench::start("offline").await;
    bench.stop_kubelet().await;
    bench.api.go_offline();
    write(&bench, "web.yaml", &manifest("a"));
    bench.start_kubelet().await;
    let running = async || {
        for _ in 0..400 {
            if let Some(id) = bench.runtime.running("c") {
                return id;
            }
            bench.pass(1).await;
        }
        panic!("it never ran; the runtime was asked {:?}", bench.runtime.calls());
    };
    let first = running().await;
    bench.runtime.exit(&first, 1, "Error");
    let second = running().await;
    assert_ne!(first, second);
    assert!(bench.api.pod(NAME).is_none());
    bench.pass(600).await;
    bench.api.go_online();
    let mirror = bench.until_ready(NAME).await;
    assert_eq!(first_status(&mirror)["restartCount"], 1);
    assert_eq!(first_status(&mirror)["containerID"], format!("knode://{second}"));
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_kubelet_takes_it_up_and_mirrors_of_nothing_go() {
    let mut bench = with_manifest("taken-up", &manifest("a")).await;
    bench.until_ready(NAME).await;
    let calls = bench.runtime.calls();
    bench.stop_kubelet().await;
    let mut stray = bench.api.pod(NAME).unwrap();
    stray.metadata.name = Some("stray-node1".into());
    stray.metadata.uid = Some("stray".into());
    bench.api.put(stray);
    bench.start_kubelet().await;
    bench.until_gone("stray-node1").await;
    bench.pass(30).await;
    assert_eq!(bench.runtime.calls(), calls, "a restart touched it");
    assert!(is_ready(&bench.api.pod(NAME).unwrap()));
}
