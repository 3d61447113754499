//! What `verify` creates.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Service};
use serde_json::{Value, json};

use super::web_image;

/// Name of the Service, the DaemonSet and the app label.
pub const NAME: &str = "nginx-ds";
/// The container from which pages are fetched inside the pod.
pub const CLIENT: &str = "client";
/// Where the client container itself listens: nobody asks there.
const CLIENT_PORT: &str = "8081";

/// A namespace of its own, so that nothing of the user's is touched.
pub fn namespace(name: &str) -> Namespace {
    typed(json!({"metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "knode-verify"}}}))
}

/// The NodePort service.
pub fn service() -> Service {
    typed(json!({
        "metadata": {"name": NAME, "labels": {"app": NAME}},
        "spec": {"type": "NodePort", "selector": {"app": NAME},
                 "ports": [{"name": "http", "port": 80, "targetPort": 80}]},
    }))
}

/// One web server a node, on every node whatever its taints; beside it a container that can fetch pages.
pub fn daemon_set(image: &str) -> DaemonSet {
    typed(json!({
        "metadata": {"name": NAME, "labels": {"app": NAME}},
        "spec": {
            "selector": {"matchLabels": {"app": NAME}},
            "template": {
                "metadata": {"labels": {"app": NAME}},
                "spec": {
                    "tolerations": [{"operator": "Exists"}],
                    "terminationGracePeriodSeconds": 1,
                    "containers": [web(image), client()],
                },
            },
        },
    }))
}

fn web(image: &str) -> Value {
    json!({
        "name": "my-nginx", "image": image, "imagePullPolicy": "IfNotPresent",
        "ports": [{"containerPort": 80}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1},
    })
}

fn client() -> Value {
    json!({
        "name": CLIENT, "image": web_image::REFERENCE, "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "PORT", "value": CLIENT_PORT}],
    })
}

fn typed<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value)
        .expect("these constant objects have their types' shape; a unit test builds each")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_has_its_types_shape() {
        assert_eq!(namespace("x").metadata.name.as_deref(), Some("x"));
        assert_eq!(service().spec.unwrap().type_.as_deref(), Some("NodePort"));
        assert_eq!(
            daemon_set("i")
                .spec
                .unwrap()
                .template
                .spec
                .unwrap()
                .containers
                .len(),
            2
        );
    }
}
