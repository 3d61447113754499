//! `knode flanneld` as the real binary: leases in knode's own API server, and in etcd. Pods are namespaces, attached
//! by hand as a CNI plugin would from the subnet file. Needs Debian's etcd.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};

use knode_e2e::{BOUND, Output, Site, binary};
use knode_testkit::{Host, Process, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

/// The daemon on one machine, with a pod behind it.
struct Daemon {
    process: Process,
    subnet_file: String,
}

impl Daemon {
    fn start(site: &Site, host: usize, node: &str, arguments: &[&str]) -> Self {
        let subnet_file = site.path(&format!("{node}-flannel/subnet.env"));
        let mut command = site.hosts[host].command(binary());
        command
            .env("NODE_NAME", node)
            .arg("flanneld")
            .args(arguments)
            .args(["-subnet-file", &subnet_file, "-ip-masq", "-healthz-port", "8471"]);
        Self {
            process: Process::spawn(node, command),
            subnet_file,
        }
    }

    /// The subnet file's variables, once it is there.
    fn variables(&self) -> BTreeMap<String, String> {
        wait_until("the subnet file", BOUND, || {
            std::fs::read_to_string(&self.subnet_file).map_err(|e| format!("{e}\n{}", self.process.output()))
        })
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
    }

    /// Ends it as a service manager does.
    fn end(&mut self) {
        self.process.signal(Signal::SIGTERM);
        let status = self.process.wait(BOUND);
        assert!(status.success(), "{status}\n{}", self.process.output());
    }
}

/// Removes what the daemon leaves for pods, which is no leak, and what the pod needed.
fn clean(host: &Host) {
    host.run("sh", &["-c", "echo 0 > /proc/sys/net/ipv6/conf/all/forwarding"]);
    for link in ["cni0", "flannel.1", "flannel-v6.1"] {
        Output::of(host.command("ip").args(["link", "delete", link]));
    }
    for family in ["ip", "ip6"] {
        Output::of(
            host.command("nft")
                .args(["delete", "table", family, "knode-overlay"]),
        );
    }
}

/// A pod on a bridge that has the subnets' first addresses; its own are the second ones.
fn pod(host: &Host, variables: &BTreeMap<String, String>) -> (Host, Vec<IpAddr>) {
    let pod = Host::new("pod");
    let mtu = &variables["FLANNEL_MTU"];
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        host.run("sh", &["-c", &format!("echo 1 > /proc/sys/net/{key}")]);
    }
    host.ip(&format!("link add cni0 mtu {mtu} type bridge"));
    host.ip("link set cni0 up");
    let peer = pod.path();
    let veth = format!("link add pod0 mtu {mtu} type veth peer name eth0 mtu {mtu} netns");
    host.ip(&format!("{veth} {}", peer.display()));
    host.ip("link set pod0 master cni0 up");
    pod.ip("link set eth0 up");
    let mut addresses = Vec::new();
    for name in ["FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"] {
        let Some(first) = variables.get(name) else {
            continue;
        };
        let (ip, length) = first.split_once('/').unwrap();
        let own = format!("{}2", ip.strip_suffix('1').unwrap());
        let nodad = if ip.contains(':') { "nodad" } else { "" };
        host.ip(&format!("address add {first} dev cni0 {nodad}"));
        pod.ip(&format!("address add {own}/{length} dev eth0 {nodad}"));
        pod.ip(&format!("route add default via {ip}"));
        addresses.push(own.parse().unwrap());
    }
    (pod, addresses)
}

/// Sends much over TCP and gets it counted.
fn reaches(from: &Host, to: &Host, address: IpAddr) {
    let listener = to.enter(|| TcpListener::bind((address, 80))).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        stream.write_all(heard.len().to_string().as_bytes()).unwrap();
    });
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, 80), BOUND)?;
        stream.write_all(&vec![7; 1_000_000])?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    assert_eq!(from.enter(ask).unwrap(), "1000000");
    server.join().unwrap();
}

/// Waits until a host has so many routes through the tunnel.
fn routed(host: &Host, family: &str, device: &str, count: usize) {
    wait_until("the routes to the others", BOUND, || {
        let routes = Output::of(
            host.command("ip")
                .args([family, "route", "show", "dev", device, "proto", "boot"]),
        );
        let lines = routes.stdout.lines().count();
        if lines == count {
            Ok(())
        } else {
            Err(routes.to_string())
        }
    });
}

const NODES: &str = r"
apiVersion: v1
kind: Node
metadata: {name: one}
---
apiVersion: v1
kind: Node
metadata: {name: two}
";

const DUAL: &str =
    r#"{"Network":"172.30.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48","Backend":{"Type":"vxlan"}}"#;

fn node(site: &Site, name: &str) -> Value {
    site.json(&["node", name]).unwrap()
}

#[test]
fn leases_in_the_api_server() {
    let mut site = Site::new("overlay", 3);
    site.server(&[]);
    site.apply(NODES);
    let conf = site.path("net-conf.json");
    std::fs::write(&conf, r#"{"Network":"172.30.0.0/16","Backend":{"Type":"vxlan"}}"#).unwrap();
    let admin = site.path("admin.kubeconfig");
    let arguments = [
        "-kube-subnet-mgr",
        "-kubeconfig-file",
        &admin,
        "-net-config-path",
        &conf,
    ];
    let mut one = Daemon::start(&site, 1, "one", &arguments);
    let two = Daemon::start(&site, 2, "two", &arguments);

    let seen = one.variables();
    let subnet = node(&site, "one")["spec"]["podCIDR"]
        .as_str()
        .unwrap()
        .replace(".0/24", ".1/24");
    assert_eq!(seen["FLANNEL_SUBNET"], subnet);
    assert_eq!(
        (seen["FLANNEL_MTU"].as_str(), seen["FLANNEL_IPMASQ"].as_str()),
        ("1450", "true")
    );
    let annotations = node(&site, "one")["metadata"]["annotations"].clone();
    let annotation = |name: &str| annotations[format!("flannel.alpha.coreos.com/{name}")].clone();
    assert_eq!(annotation("backend-type"), "vxlan");
    assert_eq!(annotation("public-ip"), "10.99.0.2");
    let link = site.hosts[1].ip("link show flannel.1");
    let data = annotation("backend-data").as_str().unwrap().to_owned();
    let mac = data
        .strip_prefix(r#"{"VNI":1,"VtepMAC":""#)
        .unwrap()
        .strip_suffix(r#""}"#)
        .unwrap();
    assert!(link.contains(mac), "{mac}: {link}");
    wait_until("the node's condition", BOUND, || {
        let node = node(&site, "one");
        let conditions = node["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let up = |c: &Value| c["reason"] == "FlannelIsUp" && c["status"] == "False";
        conditions.iter().any(up).then_some(()).ok_or(node.to_string())
    });

    let (here, here_ips) = pod(&site.hosts[1], &seen);
    let (there, there_ips) = pod(&site.hosts[2], &two.variables());
    routed(&site.hosts[1], "-4", "flannel.1", 1);
    routed(&site.hosts[2], "-4", "flannel.1", 1);
    reaches(&here, &there, there_ips[0]);
    reaches(&there, &here, here_ips[0]);

    one.end();
    reaches(&here, &there, there_ips[0]);
    let again = Daemon::start(&site, 1, "one", &arguments);
    assert_eq!(again.variables(), seen);
    assert_eq!(
        node(&site, "one")["metadata"]["annotations"],
        annotations,
        "the same station"
    );

    site.kubectl(&["delete", "node", "two"]).ok();
    routed(&site.hosts[1], "-4", "flannel.1", 0);
    drop((again, one, two, here, there));
    site.hosts[1..].iter().for_each(clean);
}

#[test]
fn leases_in_the_api_server_for_both_families() {
    let mut site = Site::with_ipv6("overlay", 3);
    site.server(&[
        "--pod-cidr",
        "172.30.0.0/16,fd00::/48",
        "--service-cidr",
        "10.254.0.0/16,fd01::/112",
    ]);
    site.apply(NODES);
    let (conf, admin) = (site.path("net-conf.json"), site.path("admin.kubeconfig"));
    std::fs::write(&conf, DUAL).unwrap();
    let arguments = [
        "-kube-subnet-mgr",
        "-kubeconfig-file",
        &admin,
        "-net-config-path",
        &conf,
    ];
    let one = Daemon::start(&site, 1, "one", &arguments);
    let two = Daemon::start(&site, 2, "two", &arguments);
    let seen = one.variables();
    assert_eq!(seen["FLANNEL_IPV6_NETWORK"], "fd00::/48");
    let annotations = node(&site, "one")["metadata"]["annotations"].clone();
    assert_eq!(annotations["flannel.alpha.coreos.com/public-ipv6"], "fd99::2");
    let data = &annotations["flannel.alpha.coreos.com/backend-v6-data"];
    assert!(
        data.as_str().unwrap().starts_with(r#"{"VNI":1,"VtepMAC":""#),
        "{data}"
    );

    let (here, here_ips) = pod(&site.hosts[1], &seen);
    let (there, there_ips) = pod(&site.hosts[2], &two.variables());
    for host in &site.hosts[1..] {
        routed(host, "-4", "flannel.1", 1);
        routed(host, "-6", "flannel-v6.1", 1);
    }
    assert_eq!((here_ips.len(), there_ips.len()), (2, 2));
    for (to, from) in there_ips.iter().zip(&here_ips) {
        reaches(&here, &there, *to);
        reaches(&there, &here, *from);
    }
    drop((one, two, here, there));
    site.hosts[1..].iter().for_each(clean);
}

/// etcd on the first machine.
fn etcd(site: &Site) -> Process {
    let mut command = site.hosts[0].command("etcd");
    let url = "http://10.99.0.1:2379";
    command
        .arg("--data-dir")
        .arg(site.scratch.join("etcd"))
        .args(["--listen-client-urls", url, "--advertise-client-urls", url])
        .args(["--listen-peer-urls", "http://127.0.0.1:2380"]);
    Process::spawn("etcd", command)
}

/// `knode flanneld config` on the second machine.
fn config(site: &Site, arguments: &[&str]) -> Output {
    let mut command = site.hosts[1].command(binary());
    command
        .args(["flanneld", "config"])
        .args(arguments)
        .args(["-etcd-endpoints", ENDPOINTS]);
    Output::of(&mut command)
}

/// The first is of a member that is not there.
const ENDPOINTS: &str = "http://10.99.0.1:4001,http://10.99.0.1:2379";

#[test]
fn leases_in_etcd_for_both_families() {
    let site = Site::with_ipv6("overlay", 3);
    let etcd = etcd(&site);
    wait_until("etcd", BOUND, || config(&site, &["set", DUAL]).result());
    assert_eq!(config(&site, &["get"]).ok().trim_end(), DUAL);
    let wrong = config(&site, &["set", r#"{"Network":"172.30.0.0/30"}"#]).fails();
    assert!(wrong.contains("SubnetLen"), "{wrong}");

    let arguments = ["-etcd-endpoints", ENDPOINTS, "-iface", "eth0"];
    let mut one = Daemon::start(&site, 1, "one", &arguments);
    let mut two = Daemon::start(&site, 2, "two", &arguments);
    let seen = one.variables();
    assert_eq!(seen["FLANNEL_IPV6_NETWORK"], "fd00::/48");
    assert_eq!(seen["FLANNEL_MTU"], "1430");
    let leases = config(&site, &["leases"]).ok();
    let key = |name: &str| {
        seen[name]
            .replace(".1/", ".0/")
            .replace("::1/", "::/")
            .replace('/', "-")
    };
    let own = format!("{}&{}", key("FLANNEL_SUBNET"), key("FLANNEL_IPV6_SUBNET"));
    let line = leases
        .lines()
        .find(|l| l.starts_with(&own))
        .unwrap_or_else(|| panic!("{own}: {leases}"));
    assert!(
        line.contains(r#""PublicIP":"10.99.0.2","PublicIPv6":"fd99::2","BackendType":"vxlan""#),
        "{line}"
    );

    let (here, here_ips) = pod(&site.hosts[1], &seen);
    let (there, there_ips) = pod(&site.hosts[2], &two.variables());
    for host in &site.hosts[1..] {
        routed(host, "-4", "flannel.1", 1);
        routed(host, "-6", "flannel-v6.1", 1);
    }
    for (to, from) in there_ips.iter().zip(&here_ips) {
        reaches(&here, &there, *to);
        reaches(&there, &here, *from);
    }
    let health = site.hosts[1].run("curl", &["-s", "http://127.0.0.1:8471/healthz"]);
    assert_eq!(health, "flanneld is running");

    drop(etcd);
    one.end();
    two.end();
    for to in &there_ips {
        reaches(&here, &there, *to);
    }
    drop((one, two, here, there));
    site.hosts[1..].iter().for_each(clean);
}
