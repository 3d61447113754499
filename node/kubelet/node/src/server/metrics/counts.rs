//! How many pods and containers there are; pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use knode_cri::{Container, ContainerState, PodSandbox, PodSandboxState};
use knode_kubelet_metrics::Page;

const SOURCE: &str = "kubernetes.io/config.source";
/// States of containers with upstream's words for them.
const STATES: [(ContainerState, &str); 4] = [
    (ContainerState::ContainerCreated, "created"),
    (ContainerState::ContainerRunning, "running"),
    (ContainerState::ContainerExited, "exited"),
    (ContainerState::ContainerUnknown, "unknown"),
];

/// What the kubelet is told to run.
pub(super) fn pods(pods: &[Arc<Pod>], page: &mut Page) {
    let of = |wanted: &dyn Fn(&Pod) -> bool| as_f64(pods.iter().filter(|pod| wanted(pod)).count());
    let by_source = |wanted: &dyn Fn(&Pod) -> bool| {
        let fixed = of(&|pod| is_static(pod) && wanted(pod));
        let others = of(&|pod| !is_static(pod) && wanted(pod));
        [(&[""][..], others), (&["true"][..], fixed)]
    };
    page.gauges(
        "kubelet_desired_pods",
        "Pods that the kubelet is told to run.",
        &["static"],
        by_source(&|_| true),
    );
    page.gauges(
        "kubelet_active_pods",
        "Pods that have not ended, which count when another is taken.",
        &["static"],
        by_source(&is_active),
    );
    page.gauge(
        "kubelet_mirror_pods",
        "Pods that the API server is to show for static ones.",
        of(&is_static),
    );
    let debugging = pods.iter().map(|pod| {
        let spec = pod.spec.as_ref();
        spec.and_then(|spec| spec.ephemeral_containers.as_ref())
            .map_or(0, Vec::len)
    });
    page.gauge(
        "kubelet_managed_ephemeral_containers",
        "Ephemeral containers in the pods of this node.",
        as_f64(debugging.sum()),
    );
}

/// What the runtime has.
pub(super) fn runtime(containers: &[Container], sandboxes: &[PodSandbox], page: &mut Page) {
    let ready = sandboxes
        .iter()
        .filter(|sandbox| sandbox.state() == PodSandboxState::SandboxReady);
    page.gauge(
        "kubelet_running_pods",
        "Pods whose sandbox runs.",
        as_f64(ready.count()),
    );
    let in_state = STATES.map(|(state, word)| {
        let count = containers.iter().filter(|one| one.state() == state).count();
        ([word], as_f64(count))
    });
    let there = in_state.iter().filter(|(_, count)| *count > 0.0);
    page.gauges(
        "kubelet_running_containers",
        "Containers by their state.",
        &["container_state"],
        there.map(|(word, count)| (&word[..], *count)),
    );
}

fn is_static(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    let source = annotations.and_then(|all| all.get(SOURCE));
    source.is_some_and(|source| source != "api")
}

fn is_active(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

#[allow(clippy::cast_precision_loss)]
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(annotations: Value, phase: &str) -> Arc<Pod> {
        let value = json!({
            "metadata": {"annotations": annotations},
            "spec": {"containers": [], "ephemeralContainers": [{"name": "debugger"}]},
            "status": {"phase": phase},
        });
        Arc::new(serde_json::from_value(value).expect("a pod"))
    }

    #[test]
    fn pods_are_told_apart_by_where_they_come_from() {
        let all = [
            pod(json!({}), "Running"),
            pod(json!({}), "Succeeded"),
            pod(json!({SOURCE: "file"}), "Running"),
        ];
        let mut page = Page::default();
        pods(&all, &mut page);
        let text = page.text();
        for line in [
            "kubelet_desired_pods{static=\"\"} 2",
            "kubelet_desired_pods{static=\"true\"} 1",
            "kubelet_active_pods{static=\"\"} 1",
            "kubelet_mirror_pods 1",
            "kubelet_managed_ephemeral_containers 3",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn containers_are_counted_by_state() {
        let container = |state: ContainerState| Container {
            state: state.into(),
            ..Container::default()
        };
        let sandbox = |state: PodSandboxState| PodSandbox {
            state: state.into(),
            ..PodSandbox::default()
        };
        let containers = [
            container(ContainerState::ContainerRunning),
            container(ContainerState::ContainerRunning),
            container(ContainerState::ContainerExited),
        ];
        let sandboxes = [
            sandbox(PodSandboxState::SandboxReady),
            sandbox(PodSandboxState::SandboxNotready),
        ];
        let mut page = Page::default();
        runtime(&containers, &sandboxes, &mut page);
        let text = page.text();
        let values: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            values,
            [
                "kubelet_running_pods 1",
                "kubelet_running_containers{container_state=\"exited\"} 1",
                "kubelet_running_containers{container_state=\"running\"} 2",
            ]
        );
    }
}
