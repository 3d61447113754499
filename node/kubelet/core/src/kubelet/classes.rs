//! The control groups of the classes of pods (upstream: `pkg/kubelet/cm/qos_container_manager_linux.go`): best-effort
//! pods together have the least there is, burstable ones together what they request.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use knode_cri as cri;

use crate::qos::{Qos, class, pod_total};
use crate::spec::resources::{class_cgroup, shares};
use crate::worker::Context;

/// Changes that come together are taken together.
const BATCH: Duration = Duration::from_millis(100);
/// How often the groups are written without a change, as upstream.
const AGAIN: Duration = Duration::from_secs(60);

/// Keeps the groups until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let mut synced = context.shared.synced.subscribe();
    limit(&context, Qos::BestEffort, shares(0));
    // Before that it is not known what runs here: what an earlier kubelet wrote is better.
    // The sender lives in what the context holds.
    let _ = synced.wait_for(|synced| *synced).await;
    let clock = &context.config.clock;
    loop {
        limit(&context, Qos::BestEffort, shares(0));
        limit(
            &context,
            Qos::Burstable,
            burstable_shares(&context.shared.pods_but("")),
        );
        tokio::select! {
            () = context.classes.notified() => clock.sleep(BATCH).await,
            () = clock.sleep(AGAIN) => {}
        }
    }
}

fn limit(context: &Context, class: Qos, shares: i64) {
    let group = class_cgroup(&context.config.cgroup_root, class);
    let limits = cri::LinuxContainerResources {
        cpu_shares: shares,
        ..cri::LinuxContainerResources::default()
    };
    if let Err(error) = context.config.cgroups.apply(&group, &limits) {
        tracing::warn!(group, %error, "cannot set the shares of a class of pods");
    }
}

/// Shares of the burstable pods among these, together.
fn burstable_shares(pods: &[Arc<Pod>]) -> i64 {
    let burstable = pods.iter().filter(|pod| class(pod) == Qos::Burstable);
    let requests = burstable.filter_map(|pod| {
        pod_total(pod, false)
            .get("cpu")
            .map(knode_api::quantity::Quantity::milli_value)
    });
    shares(requests.fold(0, i64::saturating_add))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(requests: Value, limits: Value) -> Arc<Pod> {
        let resources = json!({"requests": requests, "limits": limits});
        let spec = json!({"containers": [{"name": "c", "resources": resources}]});
        Arc::new(serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap())
    }

    #[test]
    fn burstable_pods_have_what_they_request_together() {
        let half = pod(json!({"cpu": "500m"}), json!({}));
        let memory = pod(json!({"memory": "1Gi"}), json!({}));
        let whole = json!({"cpu": "1", "memory": "1Gi"});
        let guaranteed = pod(whole.clone(), whole);
        let nothing = pod(json!({}), json!({}));
        assert_eq!(burstable_shares(&[]), 2);
        assert_eq!(burstable_shares(&[memory, guaranteed.clone(), nothing]), 2);
        assert_eq!(burstable_shares(&[half.clone(), guaranteed, half]), 1024);
    }
}
