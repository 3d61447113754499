//! Pods on a network of Debian's plugins: `knode up` with a conflist. Needs the packages containernetworking-plugins
//! and iptables.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::net::IpAddr;

use knode_e2e::{BOUND, Cluster, Output};
use knode_testkit::{image, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const BRIDGE: &str = "e2e0";

/// A machine whose pods get their network from a directory of conflists.
struct Machine {
    cluster: Cluster,
}

impl Machine {
    fn new(name: &str) -> Self {
        let machine = Self {
            cluster: Cluster::machine(name),
        };
        std::fs::create_dir(machine.dir()).unwrap();
        machine
    }

    fn dir(&self) -> std::path::PathBuf {
        self.cluster.scratch.join("net.d")
    }

    fn start(&mut self) {
        let dir = self.dir().display().to_string();
        self.cluster
            .start(&["--cni-conf-dir", &dir, "--cni-bin-dir", "/nowhere:/usr/lib/cni"]);
    }

    fn conflist(&self, file: &str, plugins: &Value) {
        let list = json!({"cniVersion": "1.0.0", "name": "others", "plugins": plugins});
        std::fs::write(self.dir().join(file), list.to_string()).unwrap();
    }

    fn bridge(&self) -> Value {
        let ipam = json!({"type": "host-local", "dataDir": self.cluster.scratch.join("ipam"),
            "ranges": [[{"subnet": "10.7.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]});
        json!([
            {"type": "bridge", "bridge": BRIDGE, "isGateway": true, "hairpinMode": true, "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ])
    }

    /// The addresses that host-local has given out.
    fn leases(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.cluster.scratch.join("ipam/others"));
        let names = entries.into_iter().flatten().flatten().map(|e| e.file_name());
        let mut leases: Vec<_> = names.map(|n| n.to_string_lossy().into_owned()).collect();
        leases.retain(|name| name.parse::<IpAddr>().is_ok());
        leases.sort();
        leases
    }

    fn import(&self) {
        let busybox = self.cluster.scratch.join("busybox.tar");
        image::busybox().name("busybox:test").build().write_oci(&busybox);
        self.cluster.import(&busybox).ok();
        let nginx = self.cluster.scratch.join("nginx.tar");
        image::nginx().name("nginx:test").build().write_oci(&nginx);
        self.cluster.import(&nginx).ok();
    }

    /// Runs a pod and answers its address.
    fn pod(&self, name: &str, container: &str) -> String {
        let manifest = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
             containers:\n  - {{name: c, imagePullPolicy: Never, {container}}}\n"
        );
        self.cluster.apply(&manifest).ok();
        let pod = self.cluster.wait_ready(&format!("pod {name}"));
        pod["status"]["podIP"].as_str().unwrap().to_owned()
    }

    fn delete(&self, name: &str) {
        self.cluster.kubectl(&format!("delete pod {name} --wait")).ok();
    }

    /// Ends the node, then takes away by hand what the plugins leave by design; everything else must be gone.
    fn end(mut self) {
        let data = self.cluster.data_dir();
        Output::of(&mut self.cluster.knode(&["down", "--data-dir", &data])).ok();
        assert_eq!(
            self.leases(),
            Vec::<String>::new(),
            "addresses of pods that were running"
        );
        let host = &self.cluster.host;
        if host.ip("-o link show").contains(BRIDGE) {
            host.ip(&format!("link delete {BRIDGE}"));
        }
        let tables = host.run("nft", &["list", "tables"]);
        for family in ["ip", "ip6"] {
            for table in ["nat", "filter", "mangle"] {
                let name = format!("table {family} {table}");
                if tables.lines().any(|line| line == name) {
                    host.run("nft", &["delete", "table", family, table]);
                }
            }
        }
        assert_eq!(self.cluster.purge(), Vec::<String>::new());
    }
}

const SLEEPER: &str = "image: 'busybox:test', command: [sleep, '3600']";
const WEB: &str = "image: 'nginx:test', ports: [{containerPort: 80, hostPort: 8081}]";

#[test]
fn pods_get_their_network_from_a_conflist_and_give_it_back() {
    let mut machine = Machine::new("cni");
    machine.conflist("05-broken.conflist", &json!([{"kind": "bridge"}]));
    machine.conflist("10-others.conflist", &machine.bridge());
    machine.start();
    let log = machine.cluster.log();
    assert!(
        log.contains("05-broken.conflist: plugins[0].type: missing"),
        "{log}"
    );
    assert!(
        log.contains("10-others.conflist: plugins bridge, portmap, version 1.0.0"),
        "{log}"
    );
    machine.import();
    let (web, one) = (machine.pod("web", WEB), machine.pod("one", SLEEPER));
    assert!(
        web.starts_with("10.7.0.") && one.starts_with("10.7.0."),
        "{web} {one}"
    );
    let mut both = vec![web.clone(), one.clone()];
    both.sort();
    assert_eq!(machine.leases(), both);
    let links = machine.cluster.host.ip("-o link show");
    assert!(
        links.contains(BRIDGE) && !links.contains("cni0"),
        "the built-in network makes no bridge: {links}"
    );
    machine
        .cluster
        .kubectl(&format!("exec one -- ping -c 1 -W 5 {web}"))
        .ok();
    wait_until("the host's port to lead into the pod", BOUND, || {
        machine.cluster.page("http://10.99.0.1:8081/").result()
    });

    // A daemon that is killed and started again knows what its pods have.
    let options = kill_and_start(&mut machine);
    assert_eq!(options, both, "addresses stay");
    machine.delete("web");
    wait_until("the address to be free", BOUND, || {
        let leases = machine.leases();
        if leases == [one.clone()] {
            Ok(())
        } else {
            Err(format!("{leases:?}"))
        }
    });
    let refused = machine.cluster.page("http://10.99.0.1:8081/").fails();
    assert!(refused.contains("onnect"), "{refused}");

    // Without a conflist new pods get the built-in network; pods that have another keep it, and give it back.
    for file in ["05-broken.conflist", "10-others.conflist"] {
        std::fs::remove_file(machine.dir().join(file)).unwrap();
    }
    logged(
        &machine,
        "new pods get the built-in network: no network configuration in",
    );
    let built_in = machine.pod("built-in", SLEEPER);
    assert!(built_in.starts_with("172.30."), "{built_in}");
    wait_until("the networks to reach each other through the host", BOUND, || {
        machine
            .cluster
            .kubectl(&format!("exec one -- ping -c 1 -W 5 {built_in}"))
            .result()
    });
    for pod in ["one", "built-in"] {
        machine.delete(pod);
    }
    wait_until("the last address to be free", BOUND, || {
        machine.leases().is_empty()
    });
    machine.end();
}

fn kill_and_start(machine: &mut Machine) -> Vec<String> {
    let pid = Pid::from_raw(machine.cluster.pid());
    kill(pid, Signal::SIGKILL).unwrap();
    wait_until("the daemon to be gone", BOUND, || kill(pid, None).is_err());
    machine.start();
    machine.leases()
}

fn logged(machine: &Machine, text: &str) {
    wait_until(text, BOUND, || {
        let log = machine.cluster.log();
        if log.contains(text) { Ok(()) } else { Err(log) }
    });
}

#[test]
fn a_node_without_a_usable_network_says_why() {
    let mut machine = Machine::new("cni-not-ready");
    machine.start();
    let ready = |wanted: &str, text: &str| {
        machine.cluster.wait("node node1", |node| {
            let conditions = node["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let found = conditions
                .iter()
                .find(|c| c["type"] == "Ready")
                .cloned()
                .unwrap_or_default();
            let told = found["message"].as_str().unwrap_or_default();
            if found["status"] == wanted && told.contains(text) {
                Ok(())
            } else {
                Err(found.to_string())
            }
        });
    };
    ready("True", "");
    let file = machine.dir().join("10-others.conflist");
    std::fs::write(&file, "{\n  \"name\": \"x\"\n  \"plugins\": []\n}\n").unwrap();
    let why = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
               message:Network plugin returns error: cni config load failed: ";
    ready("False", why);
    ready(
        "False",
        "10-others.conflist: expected `,` or `}` at line 3 column 3",
    );
    machine.conflist("10-others.conflist", &json!([{"type": "nobodys"}]));
    ready(
        "False",
        r#"failed to find plugin "nobodys" in path [/nowhere /usr/lib/cni]"#,
    );
    machine.conflist("10-others.conflist", &machine.bridge());
    ready("True", "");
    machine.end();
}
