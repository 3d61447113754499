//! One request.

use std::sync::Arc;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use knode_cri::{ContainerFilter, ContainerState, ContainerStateValue, ListContainersRequest};
use serde_json::{Value, json};

use super::body::{Answer, METRICS, full, json, method_not_allowed, not_found, runtime_error, text};
use super::route::{Route, query, route};
use super::{Kubelet, checkpoint, claims, logs, metrics, probes, stats, streams, system_logs, zpages};

pub(super) async fn handle(
    kubelet: Arc<Kubelet>,
    certificate: Option<Arc<[u8]>>,
    request: Request<Incoming>,
) -> Answer {
    let (parts, body) = request.into_parts();
    if let Err(refusal) = kubelet.auth.check(certificate.as_deref(), &parts).await {
        return *refusal;
    }
    let route = route(parts.uri.path());
    let _open = metrics::requests::Open::new(&kubelet.metrics, &parts.method, &route);
    if !method_fits(&route, &parts.method) {
        return method_not_allowed();
    }
    let query = query(parts.uri.query());
    match route {
        Route::Healthz => text(StatusCode::OK, "ok"),
        Route::Pods => json(&pod_list(&kubelet.pods.pods())),
        Route::RunningPods => running_pods(&kubelet).await,
        Route::Configz => json(&json!({"kubeletconfig": kubelet.configz})),
        Route::Statusz => zpages::statusz(&kubelet, &parts.headers),
        Route::Flagz => zpages::flagz(&kubelet, &parts.headers),
        Route::StatsSummary => stats::summary(&kubelet).await,
        Route::Metrics => {
            let claimed = kubelet
                .claims
                .of(kubelet.pods.as_ref(), kubelet.clock.monotonic());
            let text = metrics::text(&kubelet).await + &claims::text(claimed.await);
            full(StatusCode::OK, METRICS, text)
        }
        Route::ResourceMetrics => stats::resource_metrics(&kubelet).await,
        Route::CadvisorMetrics => stats::cadvisor_metrics(&kubelet).await,
        Route::ProbeMetrics => full(StatusCode::OK, METRICS, probes::text(&kubelet.pods.probes())),
        Route::SystemLogs(path) => system_logs::serve(&kubelet, &path).await,
        Route::ContainerLogs(target) => logs::container_logs(&kubelet, &target, &query).await,
        Route::Exec(target) => {
            streams::exec(&kubelet, &target, &query, Request::from_parts(parts, body)).await
        }
        Route::Attach(target) => {
            streams::attach(&kubelet, &target, &query, Request::from_parts(parts, body)).await
        }
        Route::PortForward(target) => {
            streams::port_forward(&kubelet, &target, Request::from_parts(parts, body)).await
        }
        Route::Run(target) => streams::run(&kubelet, &target, &query).await,
        Route::Checkpoint(target) => checkpoint::checkpoint(&kubelet, &target, &query).await,
        Route::Unknown => not_found(),
    }
}

fn method_fits(route: &Route, method: &Method) -> bool {
    match route {
        Route::Exec(_) | Route::Attach(_) | Route::PortForward(_) => {
            *method == Method::GET || *method == Method::POST
        }
        Route::Run(_) | Route::Checkpoint(_) => *method == Method::POST,
        Route::Unknown => true,
        _ => *method == Method::GET || *method == Method::HEAD,
    }
}

fn pod_list(pods: &[Arc<Pod>]) -> Value {
    let item = |pod: &Arc<Pod>| {
        let mut value = serde_json::to_value(pod.as_ref()).unwrap_or_default();
        // Items of a list carry neither.
        if let Value::Object(fields) = &mut value {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
        value
    };
    list_of(pods.iter().map(item).collect())
}

fn list_of(items: Vec<Value>) -> Value {
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}

/// The pods as the runtime sees them: names, and the containers that run.
async fn running_pods(kubelet: &Kubelet) -> Answer {
    let state = Some(ContainerStateValue {
        state: ContainerState::ContainerRunning as i32,
    });
    let filter = Some(ContainerFilter {
        state,
        ..ContainerFilter::default()
    });
    let containers = match kubelet
        .runtime
        .list_containers(ListContainersRequest { filter })
        .await
    {
        Ok(answer) => answer.containers,
        Err(error) => return runtime_error(&error),
    };
    let mut pods: Vec<Value> = Vec::new();
    for container in containers {
        let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
        let uid = label("io.kubernetes.pod.uid");
        let image = container
            .image
            .as_ref()
            .map(|image| image.image.clone())
            .unwrap_or_default();
        let entry = json!({"name": label("io.kubernetes.container.name"), "image": image, "resources": {}});
        let known = pods.iter_mut().find(|pod| pod["metadata"]["uid"] == uid.as_str());
        match known.and_then(|pod| pod["spec"]["containers"].as_array_mut()) {
            Some(list) => list.push(entry),
            None => pods.push(json!({
                "metadata": {
                    "name": label("io.kubernetes.pod.name"),
                    "namespace": label("io.kubernetes.pod.namespace"),
                    "uid": uid,
                },
                "spec": {"containers": [entry]},
                "status": {},
            })),
        }
    }
    json(&list_of(pods))
}
