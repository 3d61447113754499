//! Network policies as a user sees them: pods, a Service, rules.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use knode_e2e::{BOUND, Cluster, kubectl};
use knode_testkit::{image, wait_until};

const PODS: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: nginx:test
    imagePullPolicy: Never
    ports: [{name: http, containerPort: 80}]
    readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1, failureThreshold: 2}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 8080, targetPort: http}]
---
apiVersion: v1
kind: Pod
metadata: {name: friend, labels: {role: friend}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: 'busybox:test', imagePullPolicy: Never, command: [sleep, '3600']}]
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, labels: {role: stranger}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: 'busybox:test', imagePullPolicy: Never, command: [sleep, '3600']}]
";

const DENY: &str = r"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {}, policyTypes: [Ingress]}
";

const ALLOW: &str = r"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: friends}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {role: friend}}}]
    ports: [{port: http}]
";

fn import(cluster: &Cluster) {
    for (name, image) in [("busybox", image::busybox()), ("nginx", image::nginx())] {
        let archive = cluster.scratch.join(format!("{name}.tar"));
        image.name(&format!("{name}:test")).build().write_oci(&archive);
        cluster.import(&archive).ok();
    }
}

/// Whether a pod gets the page by the Service.
fn gets_page(cluster: &Cluster, who: &str, address: &str) -> bool {
    let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 1 {address} 8080");
    let output = cluster.kubectl_by(&kubectl::default(), &["exec", who, "--", "sh", "-c", &ask]);
    output.result().is_ok_and(|page| page.contains("200 OK"))
}

fn wait_for(cluster: &Cluster, address: &str, what: &str, expected: [bool; 2]) {
    wait_until(what, BOUND, || {
        let seen = ["friend", "stranger"].map(|who| gets_page(cluster, who, address));
        if seen == expected {
            Ok(())
        } else {
            Err(format!("friend and stranger: {seen:?}"))
        }
    });
}

#[test]
fn what_is_denied_by_default_is_allowed_by_label_through_a_service() {
    let cluster = Cluster::up("policy");
    import(&cluster);
    cluster.apply(PODS).ok();
    for pod in ["web", "friend", "stranger"] {
        cluster.wait_ready(&format!("pod {pod}"));
    }
    let service = cluster.get("service web")["spec"]["clusterIP"]
        .as_str()
        .unwrap()
        .to_owned();
    wait_for(
        &cluster,
        &service,
        "without policies all get the page",
        [true, true],
    );
    cluster.apply(DENY).ok();
    wait_for(&cluster, &service, "nobody gets it", [false, false]);
    cluster.apply(ALLOW).ok();
    wait_for(&cluster, &service, "friends get it", [true, false]);
    let pod = cluster.get("pod web")["status"]["podIP"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        cluster.page(&format!("http://{pod}/")).code == 0,
        "the node reaches its pods"
    );
    let shown = cluster.kubectl("get networkpolicies").ok();
    let lines: Vec<Vec<&str>> = shown
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["NAME", "POD-SELECTOR", "AGE"], "{shown}");
    assert_eq!(
        (lines[1][..2].join(" "), lines[2][..2].join(" ")),
        ("deny <none>".into(), "friends app=web".into())
    );
    cluster.kubectl("label pod stranger role=friend --overwrite").ok();
    wait_for(&cluster, &service, "who becomes a friend gets it", [true, true]);
    let ready = cluster.wait_ready("pod web");
    assert_eq!(
        ready["status"]["containerStatuses"][0]["restartCount"], 0,
        "probes pass throughout"
    );
    cluster.kubectl("delete networkpolicy deny friends").ok();
    wait_until("the rules are gone", BOUND, || {
        let tables = cluster.host.run("nft", &["list", "tables"]);
        if tables.contains("knode-policy") {
            Err(tables)
        } else {
            Ok(())
        }
    });
}

#[test]
fn policies_can_be_left_to_others() {
    let mut cluster = Cluster::machine("no-policy");
    cluster.start(&["--network-policy=false"]);
    import(&cluster);
    cluster.apply(DENY).ok();
    cluster.apply(PODS).ok();
    for pod in ["web", "friend", "stranger"] {
        cluster.wait_ready(&format!("pod {pod}"));
    }
    let service = cluster.get("service web")["spec"]["clusterIP"]
        .as_str()
        .unwrap()
        .to_owned();
    wait_for(&cluster, &service, "all get the page", [true, true]);
    let tables = cluster.host.run("nft", &["list", "tables"]);
    assert!(!tables.contains("knode-policy"), "{tables}");
}

const QUIET: &str = r"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: quiet}
spec: {podSelector: {matchLabels: {quiet: 'yes'}}, policyTypes: [Egress]}
";

/// Connects as soon as it runs, and says whether it could.
const EAGER: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {quiet: 'QUIET'}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'for i in 1 2 3; do nc -w 1 $WEB_SERVICE_HOST 8080 < /dev/null 2> /dev/null && echo out || echo held; done']
";

#[test]
fn a_pod_is_isolated_before_it_runs() {
    let cluster = Cluster::up("eager");
    import(&cluster);
    cluster.apply(PODS).ok();
    cluster.wait_ready("pod web");
    cluster.apply(QUIET).ok();
    for (name, quiet, expected) in [
        ("free", "no", "out"),
        ("eager-1", "yes", "held"),
        ("eager-2", "yes", "held"),
    ] {
        cluster
            .apply(&EAGER.replace("NAME", name).replace("QUIET", quiet))
            .ok();
        cluster.wait(&format!("pod {name}"), |pod| {
            match pod["status"]["phase"].as_str() {
                Some("Succeeded" | "Failed") => Ok(()),
                _ => Err(pod["status"].to_string()),
            }
        });
        let said = cluster.kubectl(&format!("logs {name}")).ok();
        assert_eq!(said.trim(), [expected; 3].join("\n"), "{name}");
    }
}
