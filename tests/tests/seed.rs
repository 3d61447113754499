//! The walk-through that knode comes from, step by step with its own unit files: etcd with TLS, the network's
//! configuration, flanneld, kubelet by TLS bootstrapping with a person's approval, kube-proxy, and the web server on
//! every node. The units are data (`tests/data/seed`); only their variables are filled in.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

#[path = "seed/node.rs"]
mod node;
#[path = "seed/pki.rs"]
mod pki;
#[path = "seed/unit.rs"]
mod unit;

use std::collections::BTreeMap;

use knode_e2e::{BOUND, Output, Site, ready};
use knode_testkit::{Process, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

use node::{Node, ServiceManager};
use unit::Unit;

const MASTER: &str = "10.99.0.1";
const NODE: &str = "10.99.0.2";
/// Like `head -c 16 /dev/urandom | od -An -t x`: it says nothing of an end.
const TOKEN: &str = "4c9a1f2b7d3e6058a1b2c3d4e5f60718";
const NETWORK: &str = r#"{"Network":"172.30.0.0/16", "SubnetLen": 24, "Backend": {"Type": "vxlan"}}"#;

fn variables() -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("ETCD_ENDPOINTS", format!("https://{MASTER}:2379")),
        ("FLANNEL_ETCD_PREFIX", "/kubernetes/network".into()),
        ("FLANNEL_OPTIONS", "-iface=eth0".into()),
        ("NODE_ADDRESS", NODE.into()),
        ("SERVICE_CIDR", "10.254.0.0/16".into()),
        ("CLUSTER_DNS_SVC_IP", "10.254.0.2".into()),
        ("CLUSTER_DNS_DOMAIN", "cluster.local.".into()),
    ])
}

/// etcd on the master, which only takes clients with a certificate.
fn etcd(site: &Site) -> Process {
    let mut command = site.hosts[0].command("etcd");
    let url = format!("https://{MASTER}:2379");
    let ssl = site.scratch.join("ssl");
    command
        .arg("--data-dir")
        .arg(site.scratch.join("etcd"))
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args(["--listen-peer-urls", "http://127.0.0.1:2380"])
        .arg("--client-cert-auth")
        .arg("--trusted-ca-file")
        .arg(ssl.join("ca.pem"))
        .arg("--cert-file")
        .arg(ssl.join("kubernetes.pem"))
        .arg("--key-file")
        .arg(ssl.join("kubernetes-key.pem"));
    Process::spawn("etcd", command)
}

/// The control plane: a token file, and nobody may join before a person says so.
fn master(site: &mut Site) {
    let csv = site.path("token.csv");
    let line = format!("{TOKEN},kubelet-bootstrap,10001,\"system:kubelet-bootstrap\"\n");
    std::fs::write(&csv, line).unwrap();
    Output::of(std::process::Command::new("chmod").args(["600", &csv])).ok();
    site.server(&[
        "--pod-cidr=172.30.0.0/16",
        "--service-cidr=10.254.0.0/16",
        "--node-port-range=30000-50000",
        "--node-approval=none",
        "--token-auth-file",
        &csv,
    ]);
}

/// A program and the service manager that it speaks to.
struct Role(Process, ServiceManager);

impl Role {
    /// Ends it as a service manager does.
    #[track_caller]
    fn end(mut self) {
        self.0.signal(Signal::SIGTERM);
        let status = self.0.wait(BOUND);
        assert!(status.success(), "{status}\n{}", self.0.output());
        self.1.wait_for("STOPPING=1", &self.0);
    }
}

fn says(what: &str, process: &Process, text: &str) {
    wait_until(&format!("{what}: {text}"), BOUND, || {
        let log = process.output();
        log.contains(text).then_some(()).ok_or(log)
    });
}

/// `flanneld`: the configuration, the lease, and docker's options.
fn overlay(site: &Site, node: &Node) -> (Role, String) {
    let ssl = "/etc/kubernetes/ssl";
    let mut set = node.command("/root/local/bin/flanneld");
    set.args(["config", "set", NETWORK])
        .arg(format!("-etcd-endpoints=https://{MASTER}:2379"))
        .arg("-etcd-prefix=/kubernetes/network")
        .arg(format!("-etcd-cafile={ssl}/ca.pem"))
        .arg(format!("-etcd-certfile={ssl}/kubernetes.pem"))
        .arg(format!("-etcd-keyfile={ssl}/kubernetes-key.pem"));
    wait_until("etcd to take the network's configuration", BOUND, || {
        Output::of(&mut set).result()
    });

    let unit = Unit::read("flanneld", &variables());
    let manager = node.service_manager(site, "flanneld");
    let flanneld = node.start("flanneld", &unit.start, &manager);
    manager.wait_for("READY=1", &flanneld);
    says("flanneld", &flanneld, "Lease acquired: 172.30.");
    says(
        "flanneld",
        &flanneld,
        &format!("Using interface with name eth0 and address {NODE}"),
    );
    // The key is the one of all machines, etcd's among them.
    says(
        "flanneld",
        &flanneld,
        &format!("is a server's certificate for {MASTER} too"),
    );
    for post in &unit.start_post {
        Output::of(&mut node.command_of(post)).ok();
    }
    let docker = node.read("/run/flannel/docker");
    let log = flanneld.output();
    let lease = log
        .split("Lease acquired: ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .to_owned();
    let bip = lease.replace(".0/24", ".1/24");
    assert!(
        docker.contains(&format!(
            "DOCKER_NETWORK_OPTIONS=\" --bip={bip} --ip-masq=true --mtu=1450\""
        )),
        "{docker}"
    );
    let link = site.hosts[1].ip("address show flannel.1");
    assert!(
        link.contains("mtu 1450") && link.contains(&lease.replace("/24", "/32")),
        "{link}"
    );
    (Role(flanneld, manager), lease)
}

fn requests(site: &Site) -> Vec<Value> {
    let list = site.json(&["csr"]).unwrap_or_default();
    list["items"].as_array().cloned().unwrap_or_default()
}

/// `kubelet`: a request that waits, a person who approves it, a node.
fn kubelet(site: &Site, node: &Node) -> Role {
    let unit = Unit::read("kubelet", &variables());
    let manager = node.service_manager(site, "kubelet");
    let kubelet = node.start("kubelet", &unit.start, &manager);
    says(
        "kubelet",
        &kubelet,
        "bootstrap.kubeconfig holds a token that never expires",
    );
    for flag in [
        "--experimental-bootstrap-kubeconfig is --bootstrap-kubeconfig today",
        "--pod-infra-container-image has no effect",
        "--require-kubeconfig=true has no effect",
        "--allow-privileged=true has no effect",
        "--logtostderr=true has no effect",
        "hairpinMode: \"promiscuous-bridge\" has no effect",
    ] {
        says("kubelet", &kubelet, flag);
    }
    let request = wait_until("the node's request", BOUND, || {
        requests(site).into_iter().next().ok_or_else(|| kubelet.output())
    });
    let name = request["metadata"]["name"].as_str().unwrap().to_owned();
    let table = site.kubectl(&["get", "csr"]).ok();
    let row = table.lines().find(|line| line.starts_with(&name)).unwrap();
    assert!(
        row.contains("kubelet-bootstrap") && row.ends_with("Pending"),
        "{table}"
    );
    let nodes = site.kubectl(&["get", "nodes"]);
    assert!(nodes.stderr.contains("No resources found"), "{nodes}");
    assert!(!node.path("/etc/kubernetes/kubelet.kubeconfig").exists());

    site.kubectl(&["certificate", "approve", &name]).ok();
    manager.wait_for("READY=1", &kubelet);
    wait_until("the node to be Ready", BOUND, || {
        let found = site.json(&["node", NODE])?;
        if ready(&found) {
            Ok(())
        } else {
            Err(format!("{}\n{}", found["status"]["conditions"], kubelet.output()))
        }
    });
    private_files(node);
    manager.wait_for("WATCHDOG=1", &kubelet);
    let shown = ["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/configz")];
    let shown: Value = serde_json::from_str(&site.kubectl(&shown).ok()).unwrap();
    let shown = &shown["kubeletconfig"];
    assert_eq!(
        (&shown["address"], &shown["clusterDNS"][0]),
        (&NODE.into(), &"10.254.0.2".into()),
        "{shown}"
    );
    assert_eq!(shown["authentication"]["anonymous"]["enabled"], false, "{shown}");
    Role(kubelet, manager)
}

/// What the bootstrap has left, by name and by mode.
fn private_files(node: &Node) {
    use std::os::unix::fs::MetadataExt;
    let mode = |path: &str| std::fs::metadata(node.path(path)).map(|file| file.mode() & 0o777);
    let private = [
        "/etc/kubernetes/kubelet.kubeconfig",
        "/etc/kubernetes/ssl/kubelet.key",
    ];
    for path in private {
        assert_eq!(
            mode(path).unwrap_or_else(|e| panic!("{path}: {e}")),
            0o600,
            "{path}"
        );
    }
    assert!(node.path("/etc/kubernetes/ssl/kubelet.crt").exists());
    let kubeconfig = node.read("/etc/kubernetes/kubelet.kubeconfig");
    assert!(
        kubeconfig.contains("/etc/kubernetes/ssl/kubelet-client-current.pem"),
        "{kubeconfig}"
    );
    let current = node.read_link("/etc/kubernetes/ssl/kubelet-client-current.pem");
    assert_eq!(mode(&current).unwrap(), 0o600, "{current}");
}

/// `kube-proxy`, and the web server on every node through it.
fn service(site: &Site, node: &Node, lease: &str) -> Role {
    let unit = Unit::read("kube-proxy", &variables());
    let manager = node.service_manager(site, "kube-proxy");
    let proxy = node.start("kube-proxy", &unit.start, &manager);
    manager.wait_for("READY=1", &proxy);
    says(
        "kube-proxy",
        &proxy,
        "the cluster CIDR 10.254.0.0/16 contains 10.254.0.",
    );

    site.apply(include_str!("../../nginx-ds.yml"));
    let pods = site.all_ready(&["pods", "-l", "app=nginx-ds"], 1);
    let ip = pods[0]["status"]["podIP"].as_str().unwrap();
    let begin = lease.strip_suffix("0/24").unwrap();
    assert!(ip.starts_with(begin), "{ip} is not of the lease {lease}");
    assert_eq!(pods[0]["spec"]["nodeName"], NODE);

    let nginx = site.json(&["service", "nginx-ds"]).unwrap();
    let port = nginx["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    let cluster = nginx["spec"]["clusterIP"].as_str().unwrap();
    let urls = [
        (1, format!("http://{cluster}/")),
        (1, format!("http://{NODE}:{port}/")),
        (0, format!("http://{NODE}:{port}/")),
        (1, format!("http://{ip}/")),
    ];
    for (host, url) in urls {
        wait_until(&url, BOUND, || {
            let mut curl = site.hosts[host].command("curl");
            curl.args(["--silent", "--show-error", "--fail", "--max-time", "5", &url]);
            let page = Output::of(&mut curl).result()?;
            if page.contains("Welcome to nginx!") {
                Ok(())
            } else {
                Err(page)
            }
        });
    }
    Role(proxy, manager)
}

#[test]
fn the_walk_through_leads_to_a_web_server_on_the_node() {
    let mut site = Site::new("seed", 2);
    pki::certificates(&site, &[MASTER, NODE]);
    let etcd = etcd(&site);
    master(&mut site);
    says_of_ports(&site);
    // The seed's machines have a way out, which is the way to services too.
    site.hosts[1].ip(&format!("route add default via {MASTER}"));
    let mut node = Node::new(&site, 1);
    pki::kubeconfigs(&site, TOKEN);
    node.bring(&site);

    let (flanneld, lease) = overlay(&site, &node);
    let binding = [
        "create",
        "clusterrolebinding",
        "kubelet-bootstrap",
        "--clusterrole=system:node-bootstrapper",
        "--user=kubelet-bootstrap",
    ];
    let bound = site.kubectl(&binding).ok();
    assert!(bound.contains("kubelet-bootstrap created"), "{bound}");
    let kubelet = kubelet(&site, &node);
    let proxy = service(&site, &node, &lease);
    proxy.end();
    kubelet.end();
    flanneld.end();
    drop(etcd);
    node.end();
    site.hosts[1].ip("route delete default");
}

/// An upstream control plane knows nothing of `knode:node`: a node says what it lacks, and `knode rbac` grants it.
#[test]
fn what_a_node_lacks_is_printed_and_applied() {
    let mut site = Site::new("rbac", 2);
    site.server(&[]);
    let kinds = ["clusterrole", "clusterrolebinding"];
    for kind in kinds {
        site.kubectl(&["delete", kind, "knode:node"]).ok();
    }
    site.node("one", 1, &[]);
    wait_until("the node to say what it lacks", BOUND, || {
        let log = site.log("one");
        let says = [
            "endpointslices.discovery.k8s.io",
            "networkpolicies.networking.k8s.io",
            "kind: ClusterRoleBinding",
        ];
        let reason = log.contains("reason=") && log.contains("system:bootstrap");
        (reason && says.iter().all(|text| log.contains(text)))
            .then_some(())
            .ok_or(log)
    });
    let knode = |arguments: &[&str]| {
        Output::of(
            site.hosts[0]
                .command(knode_e2e::binary())
                .arg("rbac")
                .args(arguments),
        )
    };
    let manifest = site.path("rbac.yaml");
    std::fs::write(&manifest, knode(&[]).ok()).unwrap();
    let checked = site
        .kubectl(&["create", "--dry-run=server", "-f", &manifest])
        .ok();
    assert_eq!(checked.matches("knode:node created").count(), 2, "{checked}");
    knode(&["--apply"]).fails();
    knode(&["--apply", "--kubeconfig", &site.path("admin.kubeconfig")]).ok();
    for resource in [
        "endpointslices.discovery.k8s.io",
        "networkpolicies.networking.k8s.io",
        "services",
    ] {
        let may = [
            "auth",
            "can-i",
            "list",
            resource,
            "--as=system:node:one",
            "--as-group=system:nodes",
        ];
        assert_eq!(site.kubectl(&may).ok().trim(), "yes", "{resource}");
    }
    site.all_ready(&["nodes"], 1);
}

/// The range of the seed's node ports is that of connections too.
fn says_of_ports(site: &Site) {
    let log = site.log("server");
    assert!(
        log.contains("the node ports 30000-50000 overlap the ports")
            && log.contains("ip_local_reserved_ports"),
        "{log}"
    );
}
