//! Clusters with IPv4 and IPv6: on one machine, and between two.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::process::Command;

use knode_e2e::{BOUND, Cluster, Output, Site, kubectl};
use knode_testkit::{Host, image, wait_until};
use serde_json::{Value, json};

const RANGES: [&str; 4] = [
    "--pod-cidr",
    "172.30.0.0/16,fd00:30::/48",
    "--service-cidr",
    "10.254.0.0/16,fd00:254::/112",
];

const WEB: &str = r"
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'env; cat /etc/hosts; mkdir /tmp/www; hostname > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www']
    env:
    - {name: POD_IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}
    - {name: HOST_IPS, valueFrom: {fieldRef: {fieldPath: status.hostIPs}}}
    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
";

const SERVICES: &str = r"
apiVersion: v1
kind: Service
metadata: {name: usual}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: both}
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: six}
spec: {ipFamilies: [IPv6], selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, ipFamilyPolicy: PreferDualStack, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
";

/// The texts of a list, or of a field of its items.
fn texts(list: &Value, field: Option<&str>) -> Vec<String> {
    let items = list.as_array().cloned().unwrap_or_default();
    let text = |item: &Value| {
        field
            .map_or(item, |field| &item[field])
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    items.iter().map(text).collect()
}

fn url(address: &str, port: u16) -> String {
    match address.contains(':') {
        true => format!("http://[{address}]:{port}/"),
        false => format!("http://{address}:{port}/"),
    }
}

fn page(host: &Host, address: &str, port: u16) -> Output {
    let mut command: Command = host.command("curl");
    command.args([
        "--silent",
        "--show-error",
        "--fail",
        "--max-time",
        "5",
        &url(address, port),
    ]);
    Output::of(&mut command)
}

/// What a shell in a pod gets a page with, by a number alone.
fn fetch(address: &str, port: u16) -> String {
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 5 {address} {port} | grep web")
}

/// Waits until a page comes from each address.
#[track_caller]
fn answers(host: &Host, addresses: &[String], port: u16) {
    for address in addresses {
        let what = format!("{} from {}", url(address, port), host.name());
        wait_until(&what, BOUND, || page(host, address, port).result());
    }
}

#[track_caller]
fn is_pair(addresses: &[String], four: &str, six: &str) {
    let fits = matches!(addresses, [a, b] if a.starts_with(four) && b.starts_with(six));
    assert!(fits, "{addresses:?} are not of {four} and {six}");
}

/// Runs the pod `web`.
fn run_web(cluster: &Cluster) {
    let archive = cluster.scratch.join("busybox.tar");
    image::busybox().name("busybox:test").build().write_oci(&archive);
    cluster.import(&archive).ok();
    let pod = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web, labels: {{app: web}}}}{WEB}");
    cluster.apply(&pod).ok();
    cluster.wait_ready("pod web");
}

#[test]
fn one_machine_speaks_both_families() {
    let mut cluster = Cluster::machine_with_ipv6("dual");
    cluster.start(&RANGES);
    let node = cluster.get("node node1");
    is_pair(&texts(&node["spec"]["podCIDRs"], None), "172.30.", "fd00:30:");
    let own = [Cluster::ADDRESS.to_string(), Cluster::ADDRESS_V6.to_string()];
    assert_eq!(texts(&node["status"]["addresses"], Some("address"))[..2], own);

    run_web(&cluster);
    let shown = cluster.kubectl("get pod web -o jsonpath={.status.podIPs}").ok();
    let ips = texts(&serde_json::from_str(&shown).unwrap(), Some("ip"));
    is_pair(&ips, "172.30.", "fd00:30:");
    let status = &cluster.get("pod web")["status"];
    assert_eq!(status["podIP"], ips[0].as_str());
    assert_eq!(texts(&status["hostIPs"], Some("ip")), own);
    let logs = cluster.kubectl("logs web").ok();
    let (pod_ips, host_ips) = (ips.join(","), own.join(","));
    for line in [
        format!("POD_IPS={pod_ips}"),
        format!("HOST_IPS={host_ips}"),
        format!("{}\tweb", ips[0]),
        format!("{}\tweb", ips[1]),
    ] {
        assert!(logs.contains(&line), "no {line:?} in\n{logs}");
    }

    services_of_one_machine(&cluster, &own);
    policy_adds_and_drops_an_address(&cluster);
}

fn services_of_one_machine(cluster: &Cluster, own: &[String]) {
    cluster.apply(SERVICES).ok();
    let of = |name: &str, field: &str| texts(&cluster.get(&format!("service {name}"))["spec"][field], None);
    assert_eq!(of("usual", "ipFamilies"), ["IPv4"]);
    assert_eq!(of("six", "ipFamilies"), ["IPv6"]);
    assert_eq!(of("kubernetes", "clusterIPs"), ["10.254.0.1"]);
    assert_eq!(of("headless", "clusterIPs"), ["None"]);
    is_pair(&of("both", "clusterIPs"), "10.254.", "fd00:254:");
    for name in ["usual", "both", "six"] {
        answers(&cluster.host, &of(name, "clusterIPs"), 80);
    }
    answers(&cluster.host, own, 30080);
    for address in of("both", "clusterIPs") {
        // The pod reaches itself through the service.
        wait_until(&url(&address, 80), BOUND, || {
            let words = ["exec", "web", "--", "sh", "-c", &fetch(&address, 80)];
            cluster.kubectl_by(&kubectl::default(), &words).result()
        });
    }
    let families = |service: &str| {
        let slices = cluster.get(&format!("endpointslices -l kubernetes.io/service-name={service}"));
        let mut families = texts(&slices["items"], Some("addressType"));
        families.sort();
        families
    };
    assert_eq!(families("both"), ["IPv4", "IPv6"]);
    assert_eq!(families("headless"), ["IPv4", "IPv6"]);
    assert_eq!(families("six"), ["IPv6"]);
    assert_eq!(families("usual"), ["IPv4"]);
}

fn policy_adds_and_drops_an_address(cluster: &Cluster) {
    let patch = |policy: &str| {
        let body = json!({"spec": {"ipFamilyPolicy": policy}}).to_string();
        cluster.kubectl(&format!("patch service both -p {body}")).ok();
        texts(&cluster.get("service both")["spec"]["clusterIPs"], None)
    };
    let before = texts(&cluster.get("service both")["spec"]["clusterIPs"], None);
    assert_eq!(patch("SingleStack"), before[..1]);
    wait_until("the dropped address to be silent", BOUND, || {
        let output = page(&cluster.host, &before[1], 80);
        if output.code == 0 {
            Err(output.to_string())
        } else {
            Ok(())
        }
    });
    answers(&cluster.host, &before[..1], 80);
    let again = patch("PreferDualStack");
    is_pair(&again, &before[0], "fd00:254:");
    answers(&cluster.host, &again, 80);
}

#[test]
fn the_family_that_is_named_first_is_the_primary_one() {
    let mut cluster = Cluster::machine_with_ipv6("six");
    let (pods, services) = ("fd00:30::/48,172.30.0.0/16", "fd00:254::/112,10.254.0.0/16");
    cluster.start(&["--pod-cidr", pods, "--service-cidr", services]);
    let node = cluster.get("node node1");
    let addresses = texts(&node["status"]["addresses"], Some("address"));
    assert_eq!(addresses[0], Cluster::ADDRESS_V6.to_string());
    run_web(&cluster);
    let pod = cluster.get("pod web");
    let ips = texts(&pod["status"]["podIPs"], Some("ip"));
    assert!(ips.len() == 2 && ips[0].starts_with("fd00:30:"), "{ips:?}");
    assert_eq!(
        (&pod["status"]["podIP"], &pod["status"]["hostIP"]),
        (&json!(ips[0]), &json!(addresses[0]))
    );
    let logs = cluster.kubectl("logs web").ok();
    assert!(logs.contains("KUBERNETES_SERVICE_HOST=fd00:254::1"), "{logs}");
    let through = "busybox nc -w 5 fd00:254::1 443 < /dev/null && echo through";
    wait_until("the API server's service from a pod", BOUND, || {
        let words = ["exec", "web", "--", "sh", "-c", through];
        cluster.kubectl_by(&kubectl::default(), &words).result()
    });
    cluster.apply(SERVICES).ok();
    let service = cluster.get("service usual");
    assert_eq!(service["spec"]["ipFamilies"], json!(["IPv6"]));
    answers(&cluster.host, &texts(&service["spec"]["clusterIPs"], None), 80);
    let told = Output::of(&mut cluster.knode(&["verify", "--data-dir", &cluster.data_dir()])).ok();
    assert!(told.contains("fd00:30:"), "{told}");
}

#[test]
fn machines_reach_each_others_pods_by_both_families() {
    let mut site = Site::with_ipv6("dual", 2);
    site.server(&RANGES);
    site.node("one", 0, &RANGES);
    site.node("two", 1, &RANGES);
    let nodes = site.all_ready(&["nodes"], 2);
    for node in &nodes {
        is_pair(&texts(&node["spec"]["podCIDRs"], None), "172.30.", "fd00:30:");
    }
    let set = WEB.replace("\n", "\n    ");
    site.apply(&format!(
        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: web}}\nspec:\n  selector: {{matchLabels: {{app: web}}}}\n  \
         template:\n    metadata: {{labels: {{app: web}}}}{set}"
    ));
    let pods = site.all_ready(&["pods", "-l", "app=web"], 2);
    for (from, to) in [(0, 1), (1, 0)] {
        let name = pods[from]["metadata"]["name"].as_str().unwrap();
        let ips = texts(&pods[to]["status"]["podIPs"], Some("ip"));
        is_pair(&ips, "172.30.", "fd00:30:");
        for ip in ips {
            let wanted = pods[to]["metadata"]["name"].as_str().unwrap();
            wait_until(&format!("{ip} from {name}"), BOUND, || {
                let words = ["exec", name, "--", "sh", "-c", &fetch(&ip, 8080)];
                let page = site.kubectl(&words).result()?;
                if page.contains(wanted) { Ok(()) } else { Err(page) }
            });
        }
    }
    let link = site.hosts[0].ip("-d link show flannel-v6.1");
    assert!(link.contains("vxlan id 1"), "{link}");

    site.apply(SERVICES);
    let both = site.json(&["service", "both"]).unwrap();
    let addresses = texts(&both["spec"]["clusterIPs"], None);
    for host in &site.hosts {
        answers(host, &addresses, 80);
        for n in [1, 2] {
            answers(host, &[format!("10.99.0.{n}"), format!("fd99::{n}")], 30080);
        }
    }
    site.kubectl(&["delete", "daemonset", "web"]).ok();
}

#[test]
fn what_does_not_go_together_is_refused_by_name() {
    let mut cluster = Cluster::machine_with_ipv6("dual-bad");
    let cases = [
        (
            vec!["--pod-cidr", "172.30.0.0/16,10.0.0.0/8"],
            "172.30.0.0/16 and 10.0.0.0/8 are both IPv4",
        ),
        (
            vec!["--service-cidr", "10.254.0.0/16,fd00:254::/112"],
            "fd00:254::/112 has IPv6 addresses, but pods have none",
        ),
        (
            vec![
                "--pod-cidr",
                "172.30.0.0/16,fd00:254::/48",
                "--service-cidr",
                "10.254.0.0/16,fd00:254::/112",
            ],
            "pod CIDR fd00:254::/48 overlaps the service CIDR fd00:254::/112",
        ),
        (
            vec!["--pod-cidr", "172.30.0.0/16,fd99::/48"],
            "pod CIDR fd99::/48 overlaps the host's route to fd99::/64 through eth0",
        ),
        (
            vec!["--node-ip", "10.99.0.1,fd99::77"],
            "no interface has the node's address fd99::77",
        ),
    ];
    for (options, wanted) in cases {
        let output = cluster.try_start(&options);
        assert_ne!(output.code, 0, "{output}");
        let said = format!("{output}{}", cluster.log());
        assert!(said.contains(wanted), "{options:?}: {said}");
    }
}
