//! What the metrics tell once pods have come and gone.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::runtime::Behaviour;
use common::{Bench, pod};
use serde_json::json;

/// The values of these lines, by what stands before them.
fn told(bench: &Bench, lines: &[(&str, f64)]) {
    let text = bench.metrics.text();
    for (name, wanted) in lines {
        let found = text.lines().find_map(|line| {
            let (before, value) = line.rsplit_once(' ')?;
            (before == *name).then(|| value.parse::<f64>().unwrap())
        });
        assert_eq!(found, Some(*wanted), "{name} in\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_start_of_a_pod_is_told_once_and_without_its_init_containers() {
    let mut bench = Bench::start("metrics-start").await;
    let init = Behaviour {
        exit: Some((Duration::from_secs(7), 0)),
        ..Behaviour::default()
    };
    bench.runtime.behave("before", init);
    let before = json!({"initContainers": [{"name": "before", "image": "registry.test/app:1"}]});
    bench.api.put(pod("p", json!({}), before));
    bench.until_ready("p").await;
    told(
        &bench,
        &[
            ("kubelet_started_pods_total", 1.0),
            ("kubelet_started_pods_errors_total", 0.0),
            (
                "kubelet_started_containers_total{container_type=\"init_container\"}",
                1.0,
            ),
            (
                "kubelet_started_containers_total{container_type=\"container\"}",
                1.0,
            ),
            ("kubelet_containers_per_pod_count_sum", 1.0),
            ("kubelet_pod_start_duration_seconds_count", 1.0),
            // It took seven seconds, of which the init container ran seven.
            ("kubelet_pod_start_duration_seconds_bucket{le=\"6\"}", 0.0),
            ("kubelet_pod_start_duration_seconds_bucket{le=\"8\"}", 1.0),
            ("kubelet_pod_start_sli_duration_seconds_count", 1.0),
            (
                "kubelet_run_podsandbox_duration_seconds_count{runtime_handler=\"\"}",
                1.0,
            ),
        ],
    );

    bench.stop_kubelet().await;
    bench.start_kubelet().await;
    bench.until_ready("p").await;
    bench.pass(5).await;
    told(&bench, &[("kubelet_pod_start_duration_seconds_count", 1.0)]);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_started_is_told_by_its_reason() {
    let bench = Bench::start("metrics-errors").await;
    bench.runtime.fail_sandboxes(2);
    bench.runtime.fail_pulls(Some("no such image"));
    bench
        .api
        .put(pod("p", json!({"imagePullPolicy": "Always"}), json!({})));
    let pulled = |pod: &k8s_openapi::api::core::v1::Pod| {
        common::first_status(pod)["state"]["waiting"]["reason"] == "ErrImagePull"
    };
    bench.until("p", "a pull that failed", pulled).await;
    let code = "kubelet_started_containers_errors_total{code=\"ErrImagePull\",container_type=\"container\"}";
    told(
        &bench,
        &[
            ("kubelet_started_pods_total", 3.0),
            ("kubelet_started_pods_errors_total", 2.0),
            ("kubelet_run_podsandbox_errors_total{runtime_handler=\"\"}", 2.0),
            (code, 1.0),
            ("kubelet_pod_start_duration_seconds_count", 0.0),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_not_taken_is_told_by_the_reason() {
    let bench = Bench::start("metrics-rejected").await;
    let elsewhere = json!({"nodeSelector": {"kubernetes.io/hostname": "node2"}});
    bench.api.put(pod("p", json!({}), elsewhere));
    let failed = |pod: &k8s_openapi::api::core::v1::Pod| common::phase(pod) == "Failed";
    bench.until("p", "a rejection", failed).await;
    told(
        &bench,
        &[("kubelet_admission_rejections_total{reason=\"NodeAffinity\"}", 1.0)],
    );
}
