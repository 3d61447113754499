use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use knode_testkit::{Host, Lan, Process, Scratch, wait_until};
use serde_json::{Value, json};

use super::Pod;
use crate::{BOUND, Output, binary, kubectl};

/// Who a kubeconfig stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// The cluster's administrator.
    Admin,
    /// `system:kube-proxy`, with a certificate that the cluster signed.
    Proxy,
}

/// A control plane, a node with nothing but a proxy and pods, and two hosts outside the cluster.
pub struct ProxySite {
    server: Process,
    /// Where `knode server` runs.
    pub control: Arc<Host>,
    /// Where the proxy runs.
    pub node: Host,
    /// A host that reaches the cluster's networks through the node.
    pub outside: Arc<Host>,
    /// Another one.
    pub stranger: Host,
    /// The pods behind the node.
    pub pods: Vec<Pod>,
    /// Everything's files.
    pub scratch: Scratch,
    _lan: Lan,
}

impl ProxySite {
    /// Where the control plane is.
    pub const CONTROL: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
    /// The node's address.
    pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
    /// The address of [`ProxySite::outside`].
    pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 9);
    /// The address of [`ProxySite::stranger`].
    pub const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 10);
    /// The pods' addresses.
    pub const PODS: &str = "172.30.0.0/16";

    /// Makes the hosts and pods and starts the control plane.
    ///
    /// # Panics
    /// With its output, when it doesn't come up.
    #[track_caller]
    pub fn new(name: &str, pods: u8, options: &[&str]) -> Self {
        let lan = Lan::new();
        let scratch = Scratch::new(name);
        let control = lan.host("control", Self::CONTROL, 24);
        let node = lan.host("node", Self::NODE, 24);
        let [outside, stranger] = [("outside", Self::OUTSIDE), ("stranger", Self::STRANGER)]
            .map(|(name, ip)| lan.host(name, ip, 24));
        forward(&node);
        for (host, ip) in [
            (&node, Self::NODE),
            (&outside, Self::OUTSIDE),
            (&stranger, Self::STRANGER),
        ] {
            host.ip(&format!("address add {}/64 dev eth0 nodad", six_of(ip)));
        }
        // The node needs some route to the networks of services; who comes by it finds nothing.
        for (host, gateway) in [
            (&outside, Self::NODE),
            (&stranger, Self::NODE),
            (&node, Self::OUTSIDE),
        ] {
            host.ip(&format!("route add default via {gateway}"));
            host.ip(&format!("route add default via {}", six_of(gateway)));
        }
        let pods = (0..pods).map(|number| Pod::new(&node, number + 2)).collect();
        let server = start_server(&control, &scratch, options);
        let site = Self {
            scratch,
            control: Arc::new(control),
            node,
            outside: Arc::new(outside),
            stranger,
            pods,
            server,
            _lan: lan,
        };
        wait_until("the control plane", BOUND, || {
            let answer = site.kubectl(&["get", "--raw", "/readyz"]).result();
            answer.map_err(|e| format!("{e}\n{}", site.server.output()))
        });
        site.control
            .ip(&format!("route add {} via {}", Self::PODS, Self::NODE));
        site
    }

    /// The IPv6 address of the host with this address, for a packet to `to`; the address itself for IPv4.
    pub fn ip_towards(ip: Ipv4Addr, to: IpAddr) -> IpAddr {
        if to.is_ipv4() {
            ip.into()
        } else {
            six_of(ip).into()
        }
    }

    /// A file's path.
    pub fn path(&self, name: &str) -> String {
        self.scratch.join(name).display().to_string()
    }

    /// The administrator's kubeconfig.
    pub fn admin(&self) -> PathBuf {
        self.scratch.join("admin.kubeconfig")
    }

    /// Runs kubectl beside the control plane.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        let mut command = self.control.command(kubectl::default());
        command
            .env("KUBECONFIG", self.admin())
            .env("HOME", self.scratch.path())
            .args(arguments);
        Output::of(&mut command)
    }

    /// Applies objects.
    ///
    /// # Panics
    /// When one is refused.
    #[track_caller]
    pub fn apply(&self, objects: &[Value]) {
        let file = self.path("objects.json");
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        std::fs::write(&file, list.to_string()).unwrap_or_else(|e| panic!("{file}: {e}"));
        self.kubectl(&["apply", "-f", &file]).ok();
    }

    /// The kubeconfig of a user; made when it isn't there yet.
    ///
    /// # Panics
    /// When the cluster doesn't sign the user's certificate.
    #[track_caller]
    pub fn kubeconfig(&self, user: User) -> String {
        let path = match user {
            User::Admin => self.admin(),
            User::Proxy => self.scratch.join("kube-proxy.kubeconfig"),
        };
        if !path.exists() {
            self.sign("system:kube-proxy", &path);
        }
        path.display().to_string()
    }

    /// A certificate as an administrator gets one: key and request by openssl, approved, signed.
    #[track_caller]
    fn sign(&self, user: &str, kubeconfig: &Path) {
        let (key, request) = (self.path("user.key"), self.path("user.csr"));
        let subject = format!("/CN={user}");
        let curve = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ];
        let files = ["-keyout", key.as_str(), "-out", &request, "-subj", &subject];
        let new = [&["req", "-new", "-batch"][..], &curve, &files].concat();
        self.control.run("openssl", &new);
        let pem = read(&request);
        self.apply(&[json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": "user"},
            "spec": {"request": base64(pem.as_bytes()), "signerName": "kubernetes.io/kube-apiserver-client",
                "usages": ["digital signature", "client auth"]}
        })]);
        self.kubectl(&["certificate", "approve", "user"]).ok();
        let certificate = wait_until("the user's certificate", BOUND, || {
            let text = self
                .kubectl(&["get", "csr", "user", "-o", "jsonpath={.status.certificate}"])
                .result();
            text.and_then(|text| {
                if text.is_empty() {
                    Err("not signed".to_owned())
                } else {
                    Ok(text)
                }
            })
        });
        let admin = self.kubectl(&["config", "view", "--raw", "-o", "json"]).ok();
        let mut config: Value = serde_json::from_str(&admin).unwrap_or_else(|e| panic!("{e}: {admin}"));
        config["users"][0]["user"] = json!({
            "client-certificate-data": certificate,
            "client-key-data": base64(read(&key).as_bytes()),
        });
        std::fs::write(kubeconfig, config.to_string()).unwrap_or_else(|e| panic!("{user}: {e}"));
    }

    /// Starts `knode kube-proxy` on the node with these arguments.
    #[track_caller]
    pub fn start_proxy(&self, arguments: &[&str]) -> Process {
        let mut command = self.node.command(binary());
        command.arg("kube-proxy").args(arguments);
        Process::spawn("kube-proxy", command)
    }

    /// Starts it and waits until it has programmed the kernel.
    ///
    /// # Panics
    /// With its output, when it has not.
    #[track_caller]
    pub fn proxy(&self, arguments: &[&str]) -> Process {
        let mut process = self.start_proxy(arguments);
        wait_until("the proxy", BOUND, || {
            let output = process.output();
            match process.exited() {
                Some(status) => panic!("the proxy has ended: {status}\n{output}"),
                None if output.contains("service proxy is up") => Ok(()),
                None => Err(output),
            }
        });
        process
    }

    /// The proxy that most tests use: pods are told by their network, and the node's name is that of the slices.
    ///
    /// # Panics
    /// As [`ProxySite::proxy`].
    #[track_caller]
    pub fn usual_proxy(&self) -> Process {
        let file = format!("--kubeconfig={}", self.kubeconfig(User::Proxy));
        self.proxy(&[
            "--hostname-override=node1",
            "--cluster-cidr=172.30.0.0/16,fd30::/16",
            &file,
        ])
    }

    /// Waits until `knode proxy explain` says this of a Service; all that it says.
    ///
    /// # Panics
    /// When it doesn't come to that.
    #[track_caller]
    pub fn until_explained(&self, service: &str, part: &str) -> String {
        let kubeconfig = self.kubeconfig(User::Admin);
        wait_until(&format!("{service}: {part}"), BOUND, || {
            let said = self
                .inspect(&["explain", service, "--kubeconfig", &kubeconfig])
                .result()?;
            if said.contains(part) { Ok(said) } else { Err(said) }
        })
    }

    /// Runs `knode proxy …` on the node.
    #[track_caller]
    pub fn inspect(&self, arguments: &[&str]) -> Output {
        let mut command = self.node.command(binary());
        Output::of(command.arg("proxy").args(arguments))
    }

    /// Makes the Node that the proxy looks for, with this address.
    #[track_caller]
    pub fn add_node(&self, name: &str) {
        self.apply(&[json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})]);
        let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": Self::NODE}]}});
        let status = status.to_string();
        let patch = [
            "patch",
            "node",
            name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &status,
        ];
        self.kubectl(&patch).ok();
    }
}

/// How long the server has for its end.
const END: Duration = Duration::from_secs(20);

impl Drop for ProxySite {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("-- the control plane's output:\n{}\n--", self.server.output());
            return;
        }
        self.server.signal(nix::sys::signal::Signal::SIGTERM);
        self.server.wait(END);
    }
}

fn six_of(ip: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, ip.octets()[3].into())
}

fn start_server(control: &Host, scratch: &Scratch, options: &[&str]) -> Process {
    let mut command = control.command(binary());
    command
        .arg("server")
        .arg("--data-dir")
        .arg(scratch.join("server"));
    command
        .arg("--write-kubeconfig")
        .arg(scratch.join("admin.kubeconfig"))
        .args(options);
    Process::spawn("server", command)
}

fn forward(host: &Host) {
    host.enter(|| {
        for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            let path = format!("/proc/sys/net/{switch}");
            std::fs::write(&path, "1").unwrap_or_else(|e| panic!("{path}: {e}"));
        }
    });
}

#[track_caller]
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}
