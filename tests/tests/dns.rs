//! Cluster DNS as pods see it: `knode up` with both families, several nodes, and `knode dns` alone.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use knode_e2e::{BOUND, Cluster, Output, Site};
use knode_testkit::{Host, Process, image, wait_until};

const RANGES: [&str; 4] = [
    "--pod-cidr",
    "172.30.0.0/16,fd00:30::/48",
    "--service-cidr",
    "10.254.0.0/16,fd00:254::/112",
];

const OBJECTS: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: members}
spec:
  clusterIP: None
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: waiting}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {app: never-ready}
  ports: [{name: http, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {type: ExternalName, externalName: www.corp.example}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, labels: {app: web}}
spec:
  hostname: web-0
  subdomain: members
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: 'busybox:test', imagePullPolicy: Never, command: [sleep, '3600']}]
---
apiVersion: v1
kind: Pod
metadata: {name: never-ready, labels: {app: never-ready}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sleep, '3600']
    readinessProbe: {exec: {command: ['false']}}
";

/// A pod that asks; the number shows its process among the machine's.
fn client(name: &str, number: u32, node: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  nodeName: {node}\n  containers: [{{name: c, image: 'busybox:test', imagePullPolicy: Never, command: [sleep, '{number}']}}]\n"
    )
}

/// The process of a pod that sleeps for this number of seconds.
fn process(number: u32) -> Option<u32> {
    let is_it = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line == format!("sleep\0{number}\0").as_bytes()
    };
    let processes = std::fs::read_dir("/proc").unwrap();
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.into_iter().find(is_it)
}

/// Where a pod asks, and how.
struct Pod {
    pid: u32,
    servers: Vec<String>,
}

impl Pod {
    #[track_caller]
    fn find(number: u32) -> Self {
        let pid = wait_until("the pod's process", BOUND, || process(number));
        let path = format!("/proc/{pid}/root/etc/resolv.conf");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("search default.svc.cluster.local svc.cluster.local cluster.local"),
            "{text}"
        );
        let servers = text.lines().filter_map(|line| line.strip_prefix("nameserver "));
        Self {
            pid,
            servers: servers.map(str::to_owned).collect(),
        }
    }

    /// dig in the pod's network, as its resolver would ask.
    fn dig(&self, server: &str, arguments: &str) -> String {
        let mut command = Command::new("nsenter");
        command
            .args([
                &format!("--net=/proc/{}/ns/net", self.pid),
                "--",
                "dig",
                "+tries=2",
                "+time=2",
            ])
            .arg(format!("@{server}"))
            .args(arguments.split_whitespace());
        let output = Output::of(&mut command);
        output.to_string()
    }

    /// The values alone, sorted.
    fn short(&self, arguments: &str) -> Vec<String> {
        let text = self.dig(&self.servers[0], &format!("+noall +answer {arguments}"));
        let records = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let records = records.filter(|words| words.len() > 4 && words[2] == "IN");
        let mut values: Vec<String> = records.map(|words| words[4..].join(" ")).collect();
        values.sort_unstable();
        values
    }

    /// Waits for this answer.
    #[track_caller]
    fn gets(&self, arguments: &str, expected: &[String]) {
        wait_until(&format!("{arguments} to be {expected:?}"), BOUND, || {
            let seen = self.short(arguments);
            if seen == expected {
                Ok(())
            } else {
                Err(format!("{seen:?}\n{}", self.dig(&self.servers[0], arguments)))
            }
        });
    }
}

fn list(texts: &[&str]) -> Vec<String> {
    let mut texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    texts.sort_unstable();
    texts
}

/// A server that knows of corp.example.
fn corp(host: &Host) -> Process {
    host.spawn(
        "dnsmasq",
        "dnsmasq",
        &[
            "--no-daemon",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--port=5399",
            "--listen-address=10.99.0.1",
            "--host-record=www.corp.example,192.0.2.80",
            "--user=root",
            "--pid-file=",
        ],
    )
}

#[test]
fn pods_find_services_by_their_names() {
    let mut cluster = Cluster::machine_with_ipv6("dns");
    let _corp = corp(&cluster.host);
    let stub = ["--dns-stub", "corp.example=10.99.0.1:5399"];
    cluster.start(&[&RANGES[..], &stub].concat());
    let archive = cluster.scratch.join("busybox.tar");
    image::busybox().name("busybox:test").build().write_oci(&archive);
    cluster.import(&archive).ok();
    cluster
        .apply(&format!("{OBJECTS}---\n{}", client("client", 39_001, "node1")))
        .ok();
    let web_0 = cluster.wait_ready("pod web-0");
    cluster.wait_ready("pod client");
    let text = |what: &str, path: &str| cluster.kubectl(&format!("get {what} -o jsonpath={path}")).ok();
    let pod = Pod::find(39_001);
    assert_eq!(pod.servers, ["10.254.0.2", "fd00:254::2"]);

    every_kind_of_name(&pod, &cluster, &web_0);
    by_both_ways_in_both_families(&pod, &text("service web", "{.spec.clusterIP}"));
    // As a program in the pod does, by the search path.
    wait_until("the pod's own resolver", BOUND, || {
        let looked_up = cluster
            .kubectl("exec client -- nslookup web.default.svc.cluster.local")
            .result()?;
        let address = text("service web", "{.spec.clusterIP}");
        if looked_up.contains(&address) {
            Ok(())
        } else {
            Err(looked_up)
        }
    });
    changes_are_seen(&pod, &cluster);
    left_to_another(&pod, &cluster);
}

#[track_caller]
fn every_kind_of_name(pod: &Pod, cluster: &Cluster, web_0: &serde_json::Value) {
    let of = |what: &str, path: &str| cluster.kubectl(&format!("get {what} -o jsonpath={path}")).ok();
    let zone = "default.svc.cluster.local";
    let (four, six) = (
        of("service web", "{.spec.clusterIPs[0]}"),
        of("service web", "{.spec.clusterIPs[1]}"),
    );
    let ip = |at: usize| web_0["status"]["podIPs"][at]["ip"].as_str().unwrap().to_owned();
    pod.gets(&format!("web.{zone} A"), std::slice::from_ref(&four));
    pod.gets(&format!("web.{zone} AAAA"), std::slice::from_ref(&six));
    pod.gets(
        "+domain=default.svc.cluster.local web A",
        std::slice::from_ref(&four),
    );
    pod.gets(&format!("members.{zone} A"), &[ip(0)]);
    pod.gets(&format!("web-0.members.{zone} AAAA"), &[ip(1)]);
    pod.gets(
        &format!("_http._tcp.web.{zone} SRV"),
        &list(&[&format!("0 50 80 web.{zone}.")]),
    );
    pod.gets(
        &format!("_http._tcp.members.{zone} SRV"),
        &list(&[&format!("0 50 8080 web-0.members.{zone}.")]),
    );
    pod.gets(&format!("-x {four}"), &list(&[&format!("web.{zone}.")]));
    pod.gets(
        &format!("-x {}", ip(1)),
        &list(&[
            &format!("web-0.members.{zone}."),
            &format!("{}.web.{zone}.", ip(1).replace(':', "-")),
        ]),
    );
    let dashed = ip(0).replace('.', "-");
    pod.gets(&format!("{dashed}.default.pod.cluster.local A"), &[ip(0)]);
    let waiting = wait_until("the address of a pod that is never ready", BOUND, || {
        let ip = of("pod never-ready", "{.status.podIP}");
        if ip.is_empty() { None } else { Some(ip) }
    });
    pod.gets(&format!("waiting.{zone} A"), &[waiting]);
    pod.gets(
        &format!("other.{zone} A"),
        &list(&["www.corp.example.", "192.0.2.80"]),
    );
    pod.gets("www.corp.example A", &list(&["192.0.2.80"]));
    pod.gets("kubernetes.default.svc.cluster.local A", &list(&["10.254.0.1"]));
    let none = pod.dig(&pod.servers[0], "none.default.svc.cluster.local A");
    assert!(
        none.contains("status: NXDOMAIN") && none.contains("hostmaster.cluster.local"),
        "{none}"
    );
}

#[track_caller]
fn by_both_ways_in_both_families(pod: &Pod, expected: &str) {
    for server in &pod.servers {
        for way in ["+notcp", "+tcp"] {
            wait_until(&format!("{server} {way}"), BOUND, || {
                let text = pod.dig(server, &format!("{way} web.default.svc.cluster.local A"));
                if text.contains(expected) {
                    Ok(())
                } else {
                    Err(text)
                }
            });
        }
    }
}

#[track_caller]
fn changes_are_seen(pod: &Pod, cluster: &Cluster) {
    let late = "apiVersion: v1\nkind: Service\nmetadata: {name: late}\nspec: {clusterIP: 10.254.0.77, ports: [{port: 80}]}\n";
    cluster.apply(late).ok();
    let soon = Duration::from_secs(5);
    let look = |expected: &[&str]| {
        let seen = pod.short("late.default.svc.cluster.local A");
        if seen == expected {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    };
    wait_until("a new service's name", soon, || look(&["10.254.0.77"]));
    cluster.kubectl("delete service late").ok();
    wait_until("a deleted service's name to go", soon, || look(&[]));
}

/// Somebody makes the Service their own: we leave it.
#[track_caller]
fn left_to_another(pod: &Pod, cluster: &Cluster) {
    let slices = "endpointslices -n kube-system -l endpointslice.kubernetes.io/managed-by=dns.knode";
    let count = |list: &serde_json::Value| list["items"].as_array().map_or(0, Vec::len);
    let families = cluster.get(slices);
    assert_eq!(count(&families), 2, "{families}");
    cluster.kubectl("patch service kube-dns -n kube-system --type merge -p {\"spec\":{\"selector\":{\"k8s-app\":\"kube-dns\"}}}").ok();
    cluster.wait(slices, |list| {
        if count(list) == 0 {
            Ok(())
        } else {
            Err(list.to_string())
        }
    });
    wait_until("our answers to end", BOUND, || {
        let text = pod.dig(
            &pod.servers[0],
            "+tries=1 +time=1 web.default.svc.cluster.local A",
        );
        if text.contains("status: NOERROR") {
            Err(text)
        } else {
            Ok(())
        }
    });
}

#[test]
fn names_are_answered_while_the_api_server_and_other_nodes_are_away() {
    let mut site = Site::new("dns-nodes", 2);
    site.server(&[]);
    site.node("one", 0, &[]);
    site.node("two", 1, &[]);
    site.all_ready(&["nodes"], 2);
    site.apply(&format!(
        "{}---\n{}",
        client("client-one", 39_011, "one"),
        client("client-two", 39_012, "two")
    ));
    site.apply("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.254.0.80, ports: [{name: http, port: 80}]}\n");
    site.all_ready(&["pods"], 2);
    let (one, two) = (Pod::find(39_011), Pod::find(39_012));
    assert_eq!(one.servers, ["10.254.0.2"]);
    let answer = list(&["10.254.0.80"]);
    for pod in [&one, &two] {
        pod.gets("web.default.svc.cluster.local A", &answer);
    }
    alone(&site);

    site.kill("server");
    for round in 0..5 {
        for pod in [&one, &two] {
            let seen = pod.short("web.default.svc.cluster.local A");
            assert_eq!(seen, answer, "round {round} without an API server");
        }
    }
    site.kill("one");
    assert_eq!(
        two.short("+tcp web.default.svc.cluster.local A"),
        answer,
        "without the other node"
    );
    assert_eq!(
        two.short("-x 10.254.0.80"),
        list(&["web.default.svc.cluster.local."])
    );
}

/// `knode dns` beside the control plane, as beside any other.
#[track_caller]
fn alone(site: &Site) {
    let kubeconfig = site.path("admin.kubeconfig");
    let mut command = site.hosts[1].command(knode_e2e::binary());
    command.args([
        "dns",
        "--kubeconfig",
        &kubeconfig,
        "--address",
        "10.99.0.2",
        "--lameduck",
        "0",
        // The node's own metrics have the port on loopback.
        "--metrics",
        "10.99.0.2:9153",
    ]);
    let process = Process::spawn("knode-dns", command);
    let page = |port: u16, path: &str| {
        let mut command = site.hosts[0].command(Path::new("curl"));
        command.args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "5",
            &format!("http://10.99.0.2:{port}{path}"),
        ]);
        Output::of(&mut command).result()
    };
    wait_until("knode dns to be ready", BOUND, || {
        page(8181, "/ready").map_err(|e| format!("{e}\n{}", process.output()))
    });
    let mut command = site.hosts[0].command(Path::new("dig"));
    command.args(["+short", "@10.99.0.2", "web.default.svc.cluster.local"]);
    assert_eq!(Output::of(&mut command).ok().trim(), "10.254.0.80");
    assert_eq!(page(8080, "/health").unwrap().trim(), "OK");
    let metrics = page(9153, "/metrics").unwrap();
    assert!(metrics.contains("coredns_dns_requests_total{server=\"dns\",zone=\".\",view=\"\",proto=\"udp\",family=\"1\",type=\"A\"} 1"), "{metrics}");
}
