//! Pods from manifests: they run with and without the API server, which shows their mirrors.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use common::{Bench, first_status, is_ready, phase};
use k8s_openapi::api::core::v1::Pod;
use knode_kubelet::{FetchedPods, ManifestSource};

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

/// A server of manifests that says what the test wants.
struct Served(Mutex<Result<String, &'static str>>);

impl Served {
    fn says(&self, text: Result<&str, &'static str>) {
        *self.0.lock().unwrap() = text.map(ToOwned::to_owned);
    }
}

#[async_trait]
impl ManifestSource for Served {
    fn url(&self) -> &str {
        "http://pods/"
    }

    async fn fetch(&self) -> Result<Bytes, String> {
        let text = self.0.lock().unwrap().clone();
        text.map(Bytes::from).map_err(ToOwned::to_owned)
    }
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_url_follow_what_it_says_and_stay_while_it_is_silent() {
    let mut bench = Bench::start("url").await;
    let served = Arc::new(Served(Mutex::new(Ok(manifest("a")))));
    bench.fetched_pods = Some(FetchedPods {
        source: served.clone(),
        interval: Duration::from_secs(20),
    });
    bench.start_kubelet().await;
    let mirror = bench.until_ready(NAME).await;
    assert_eq!(annotation(&mirror, "source"), "http");

    // Another start, and the server is away: nobody knows whether the pod is wanted.
    served.says(Err("connection refused"));
    bench.start_kubelet().await;
    bench.pass(120).await;
    assert!(!bench.kubelet().is_synced());
    assert_eq!(
        uid(&bench.api.pod(NAME).unwrap()),
        uid(&mirror),
        "its mirror is gone"
    );
    served.says(Ok(&manifest("a")));
    bench.until_ready(NAME).await;
    bench.pass(40).await;
    assert!(bench.kubelet().is_synced());
    let calls = bench.runtime.calls();
    assert!(!calls.iter().any(|call| call.starts_with("Stop")), "{calls:?}");
    assert_eq!(started(&bench), [annotation(&mirror, "hash")]);

    let list = |names: &[&str]| {
        let pod = |name: &&str| {
            format!(
                "- metadata: {{name: {name}}}\n  spec: {{containers: [{{name: c, image: busybox:latest}}]}}\n"
            )
        };
        let items: String = names.iter().map(pod).collect();
        format!("apiVersion: v1\nkind: PodList\nitems:\n{items}")
    };
    served.says(Ok(&list(&["one", "two"])));
    bench.until_ready("one-node1").await;
    bench.until_ready("two-node1").await;
    bench.until_gone(NAME).await;
    for silent in [Ok("kind: Service"), Ok("a: ["), Err("gone")] {
        served.says(silent);
        bench.pass(60).await;
        assert!(is_ready(&bench.api.pod("one-node1").unwrap()), "{silent:?}");
    }
    // One that says nothing has none.
    served.says(Ok(""));
    bench.until_gone("one-node1").await;
    bench.until_gone("two-node1").await;
    bench.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_the_api_come_and_go_before_a_url_is_known() {
    let mut bench = Bench::start("url-api").await;
    let served = Arc::new(Served(Mutex::new(Err("no route"))));
    bench.fetched_pods = Some(FetchedPods {
        source: served.clone(),
        interval: Duration::from_secs(20),
    });
    bench.start_kubelet().await;
    for name in ["stays", "goes"] {
        bench
            .api
            .put(common::pod(name, serde_json::json!({}), serde_json::json!({})));
        bench.until_ready(name).await;
    }
    bench.api.delete_pod("goes", Some(1));
    bench.until_gone("goes").await;
    // Those on disk have mirrors all the same.
    write(&bench, "web.yaml", &manifest("a"));
    let before = uid(&bench.until_ready(NAME).await);
    bench.api.delete_pod(NAME, Some(30));
    let again = |pod: &Pod| uid(pod) != before && is_ready(pod);
    bench.until(NAME, "another mirror", again).await;
    std::fs::remove_file(bench.root.join("manifests/web.yaml")).unwrap();
    bench.until_gone(NAME).await;
    served.says(Ok(&manifest("a").replace("name: web", "name: late")));
    bench.until_ready("late-node1").await;
    bench.pass(40).await;
    assert!(bench.kubelet().is_synced());
    assert!(is_ready(&bench.api.pod("stays").unwrap()));
    assert_eq!(started(&bench).len(), 4);
}
