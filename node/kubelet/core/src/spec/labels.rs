//! Labels and annotations that tie sandboxes and containers to pods (upstream: `pkg/kubelet/types`,
//! `kuberuntime/labels.go`).

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::Value;

use crate::pod::PodExt;
use crate::static_pods::{SEEN, SOURCE};

/// The pod's name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// The pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The pod's uid.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// The container's name.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Hash of the container's definition.
pub const HASH: &str = "io.kubernetes.container.hash";
/// How often the container was restarted.
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Where the container writes its termination message.
pub const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Where else the message may come from.
pub const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// The container's preStop hook as JSON.
pub const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
/// The container's ports as JSON.
pub const PORTS: &str = "io.kubernetes.container.ports";
/// The pod's grace period in seconds.
pub const POD_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
/// The pod's grace period on deletion, in seconds.
pub const POD_DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";

type Pairs = HashMap<String, String>;

fn pair(key: &str, value: impl Into<String>) -> (String, String) {
    (key.to_owned(), value.into())
}

fn identity(pod: &Pod) -> [(String, String); 3] {
    [
        pair(POD_NAME, pod.pod_name()),
        pair(POD_NAMESPACE, pod.ns()),
        pair(POD_UID, pod.uid()),
    ]
}

/// Labels of the pod's sandboxes: its own and its identity.
pub fn of_sandbox(pod: &Pod) -> Pairs {
    let own = pod
        .metadata
        .labels
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone()));
    own.chain(identity(pod)).collect()
}

/// Labels of a container.
pub fn of_container(pod: &Pod, container: &Container) -> Pairs {
    identity(pod)
        .into_iter()
        .chain([pair(CONTAINER_NAME, &container.name)])
        .collect()
}

/// Annotations of the pod's sandboxes; `seen` is when this node first saw the pod.
pub fn sandbox_annotations(pod: &Pod, seen: &str) -> Pairs {
    let own = pod
        .metadata
        .annotations
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone()));
    // A static pod brings its own.
    [pair(SEEN, seen), pair(SOURCE, "api")]
        .into_iter()
        .chain(own)
        .collect()
}

/// Annotations of a container.
pub fn container_annotations(pod: &Pod, container: &Container, attempt: u32) -> Pairs {
    let path = container
        .termination_message_path
        .as_deref()
        .unwrap_or("/dev/termination-log");
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    let mut all = Pairs::from([
        pair(HASH, super::hash::container(container)),
        pair(RESTART_COUNT, attempt.to_string()),
        pair(MESSAGE_PATH, path),
        pair(MESSAGE_POLICY, policy),
    ]);
    if let Some(grace) = pod.metadata.deletion_grace_period_seconds {
        all.extend([pair(POD_DELETION_GRACE, grace.to_string())]);
    }
    if let Some(grace) = pod.spec().and_then(|spec| spec.termination_grace_period_seconds) {
        all.extend([pair(POD_GRACE, grace.to_string())]);
    }
    let hook = container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    all.extend(
        hook.and_then(|hook| serde_json::to_string(hook).ok())
            .map(|text| pair(PRE_STOP, text)),
    );
    let ports = container.ports.as_deref().filter(|ports| !ports.is_empty());
    all.extend(ports.map(|ports| pair(PORTS, ports_json(ports))));
    all
}

/// Ports with the fields in the order in which upstream writes them.
fn ports_json(ports: &[k8s_openapi::api::core::v1::ContainerPort]) -> String {
    let one = |port: &k8s_openapi::api::core::v1::ContainerPort| {
        let mut fields = Vec::new();
        let text = |text: &str| Value::String(text.to_owned()).to_string();
        fields.extend(port.name.as_ref().map(|name| format!("\"name\":{}", text(name))));
        fields.extend(
            port.host_port
                .filter(|port| *port != 0)
                .map(|port| format!("\"hostPort\":{port}")),
        );
        fields.push(format!("\"containerPort\":{}", port.container_port));
        fields.push(format!(
            "\"protocol\":{}",
            text(port.protocol.as_deref().unwrap_or("TCP"))
        ));
        fields.extend(port.host_ip.as_ref().map(|ip| format!("\"hostIP\":{}", text(ip))));
        format!("{{{}}}", fields.join(","))
    };
    let all: Vec<String> = ports.iter().map(one).collect();
    format!("[{}]", all.join(","))
}
