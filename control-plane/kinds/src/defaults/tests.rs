use serde_json::json;

use super::*;

#[test]
fn pull_policies() {
    let cases = [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("busybox:1", "IfNotPresent"),
        ("localhost:5000/a", "Always"),
        ("localhost:5000/a:2", "IfNotPresent"),
        ("a@sha256:00", "IfNotPresent"),
        ("", "IfNotPresent"),
    ];
    for (image, want) in cases {
        assert_eq!(image::pull_policy(image), want, "{image}");
    }
}

#[test]
fn a_bare_pod_is_filled_in() {
    let mut pod = json!({"spec": {"containers": [{
        "name": "c", "image": "b", "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": "1"}},
        "readinessProbe": {"httpGet": {"port": 80}},
        "env": [{"name": "n", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    }], "volumes": [{"name": "v"}, {"name": "h", "hostPath": {"path": "/"}}, {"name": "s", "secret": {"secretName": "s"}}]}});
    pods::pod(&mut pod);
    let want = json!({
        "containers": [{
            "name": "c", "image": "b", "imagePullPolicy": "Always",
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
            "readinessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                               "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
            "env": [{"name": "n", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}]
        }],
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/", "type": ""}},
                    {"name": "s", "secret": {"secretName": "s", "defaultMode": 420}}],
        "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler", "securityContext": {}, "enableServiceLinks": true
    });
    assert_eq!(pod["spec"], want);
    let once = pod.clone();
    pods::pod(&mut pod);
    assert_eq!(pod, once, "defaulting twice changes nothing");
}

#[test]
fn host_network_opens_ports_on_the_host() {
    let mut pod = json!({"spec": {"hostNetwork": true, "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}});
    pods::pod(&mut pod);
    assert_eq!(pod["spec"]["containers"][0]["ports"][0]["hostPort"], 80);
}
