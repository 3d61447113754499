//! `/metrics`: the kubelet about itself (upstream: `pkg/kubelet/metrics`).

mod certificates;
mod counts;
mod process;
pub(super) mod requests;

use knode_cri::{ListContainersRequest, ListPodSandboxRequest};
use knode_kubelet_metrics::Page;

pub(crate) use self::certificates::Certificates;
use super::Kubelet;

/// What was counted, and what is so now.
pub(super) async fn text(kubelet: &Kubelet) -> String {
    let mut page = Page::default();
    page.gauges(
        "kubelet_node_name",
        "The node's name. The count is always 1.",
        &["node"],
        [(&[kubelet.node_name.as_str()][..], 1.0)],
    );
    build(kubelet, &mut page);
    counts::pods(&kubelet.pods.pods(), &mut page);
    runtime(kubelet, &mut page).await;
    certificates::text(&kubelet.certificates, kubelet.clock.now(), &mut page);
    process::text(kubelet.started, &mut page);
    kubelet.metrics.text() + &page.text()
}

/// What the runtime has; left out while it does not answer.
async fn runtime(kubelet: &Kubelet, page: &mut Page) {
    let containers = kubelet.runtime.list_containers(ListContainersRequest::default());
    let sandboxes = kubelet.runtime.list_pod_sandbox(ListPodSandboxRequest::default());
    match tokio::join!(containers, sandboxes) {
        (Ok(containers), Ok(sandboxes)) => {
            counts::runtime(&containers.containers, &sandboxes.items, page);
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::debug!(%error, "what runs is not counted");
        }
    }
}

fn build(kubelet: &Kubelet, page: &mut Page) {
    let version = kubelet.version.as_str();
    let mut parts = version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let platform = format!("linux/{}", crate::machine::architecture());
    page.gauges(
        "kubernetes_build_info",
        "The version that this kubelet goes by. The value is always 1.",
        &["git_version", "major", "minor", "platform"],
        [(&[version, major, minor, &platform][..], 1.0)],
    );
}
