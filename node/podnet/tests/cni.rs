//! The CNI plugin as an engine calls it, real packets. Needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::IpAddr;

use common::outside::{OUTER, neighbour};
use common::{Pod, TempDir, ask, on_host};
use knode_netlink::{Handle, delete_link};
use knode_podnet::cni_plugin;
use serde_json::{Value, json};

struct Engine<'a> {
    dir: &'a TempDir,
    version: &'static str,
}

impl Engine<'_> {
    fn conf(&self) -> Value {
        json!({
            "cniVersion": self.version,
            "name": "pods",
            "type": "knode",
            "dataDir": self.dir.0.join("leases"),
            "subnetFile": self.dir.0.join("subnet.env"),
        })
    }

    async fn call(
        &self,
        command: &str,
        container: &str,
        pod: Option<&Pod>,
        more: Value,
    ) -> Result<Value, Value> {
        let env = |key: &str| match key {
            "CNI_COMMAND" => Some(command.to_owned()),
            "CNI_CONTAINERID" => Some(container.to_owned()),
            "CNI_IFNAME" if more["type"] == "loopback" => Some("lo".to_owned()),
            "CNI_IFNAME" => Some("eth0".to_owned()),
            "CNI_NETNS" => pod.map(|p| p.path.display().to_string()),
            _ => None,
        };
        let mut conf = self.conf();
        for (key, value) in more.as_object().into_iter().flatten() {
            conf[key] = value.clone();
        }
        let answer = cni_plugin(env, conf.to_string().as_bytes()).await;
        let said = match answer.output.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap(),
        };
        if answer.success { Ok(said) } else { Err(said) }
    }

    fn subnet(&self) {
        std::fs::create_dir_all(&self.dir.0).unwrap();
        let text = "FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET=172.30.65.1/24\nFLANNEL_MTU=1450\n";
        std::fs::write(self.dir.0.join("subnet.env"), text).unwrap();
    }

    fn both_subnets(&self) {
        self.subnet();
        let path = self.dir.0.join("subnet.env");
        let text = std::fs::read_to_string(&path).unwrap();
        let ipv6 = "FLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00:0:0:65::1/64\n";
        std::fs::write(path, text + ipv6).unwrap();
    }
}

#[test]
fn containers_come_are_checked_and_go() {
    let dir = TempDir::new();
    on_host(|| async {
        let engine = Engine {
            dir: &dir,
            version: "1.1.0",
        };
        let none = engine.call("STATUS", "", None, json!({})).await.unwrap_err();
        assert_eq!(none["code"], 50, "no subnet yet: {none}");
        let (a, b) = (Pod::new(), Pod::new());
        let early = engine.call("ADD", "a", Some(&a), json!({})).await.unwrap_err();
        assert_eq!(early["code"], 11, "{early}");
        engine.subnet();
        assert_eq!(engine.call("STATUS", "", None, json!({})).await, Ok(Value::Null));

        let first = engine.call("ADD", "a", Some(&a), json!({})).await.unwrap();
        assert_eq!(first["cniVersion"], "1.1.0");
        let ip = json!([{ "address": "172.30.65.2/24", "gateway": "172.30.65.1", "interface": 2 }]);
        assert_eq!(first["ips"], ip);
        assert_eq!(
            first["routes"],
            json!([{ "dst": "0.0.0.0/0", "gw": "172.30.65.1" }])
        );
        assert_eq!(first["interfaces"][2]["sandbox"], json!(a.path));
        let ports = json!({ "runtimeConfig": { "portMappings": [
            { "hostPort": 8080, "containerPort": 80, "protocol": "tcp" },
        ] } });
        engine.call("ADD", "b", Some(&b), ports).await.unwrap();
        let there: IpAddr = "172.30.65.3".parse().unwrap();
        let server = b.serve_tcp(80);
        assert_eq!(a.ask((there, 80), 100_000), "172.30.65.2 100000");
        server.join().unwrap();
        let server = b.serve_tcp(80);
        let answer = ask(("172.30.65.1".parse().unwrap(), 8080), 10);
        assert!(answer.ends_with(" 10"), "through the host's port: {answer}");
        server.join().unwrap();

        let prev = json!({ "prevResult": first });
        engine.call("CHECK", "a", Some(&a), prev.clone()).await.unwrap();
        let stranger = engine
            .call("CHECK", "x", Some(&a), prev.clone())
            .await
            .unwrap_err();
        assert_eq!(stranger["code"], 3, "{stranger}");
        a.handle().execute(delete_link("eth0")).unwrap();
        let broken = engine.call("CHECK", "a", Some(&a), prev).await.unwrap_err();
        assert_eq!(broken["code"], 100, "{broken}");
        engine.call("DEL", "a", Some(&a), json!({})).await.unwrap();
        engine.call("DEL", "a", None, json!({})).await.unwrap();
        engine.call("DEL", "never", None, json!({})).await.unwrap();

        let valid = json!({ "cni.dev/valid-attachments": [{ "containerID": "b", "ifname": "eth0" }] });
        let c = Pod::new();
        engine.call("ADD", "c", Some(&c), json!({})).await.unwrap();
        engine.call("GC", "", None, valid).await.unwrap();
        assert!(c.handle().link("eth0").unwrap().is_none(), "nobody's any more");
        assert!(b.handle().link("eth0").unwrap().is_some());
        engine
            .call("GC", "", None, json!({ "cni.dev/valid-attachments": [] }))
            .await
            .unwrap();
        let left: Vec<_> = Handle::open()
            .unwrap()
            .links()
            .unwrap()
            .into_iter()
            .map(|l| l.name)
            .collect();
        assert!(!left.iter().any(|n| n.starts_with("veth")), "{left:?}");
    });
}

#[test]
fn calls_at_once_get_addresses_of_their_own() {
    let dir = TempDir::new();
    on_host(|| async {
        let engine = Engine {
            dir: &dir,
            version: "0.4.0",
        };
        engine.subnet();
        let pods: Vec<_> = (0..12).map(|_| Pod::new()).collect();
        let names: Vec<_> = (0..pods.len()).map(|n| format!("c{n}")).collect();
        let all = pods.iter().zip(&names);
        let all = all.map(|(pod, name)| engine.call("ADD", name, Some(pod), json!({})));
        let mut ips = std::collections::BTreeSet::new();
        for result in futures::future::join_all(all).await {
            let result = result.unwrap();
            assert_eq!(result["ips"][0]["version"], "4", "the form of before 1.0");
            ips.insert(result["ips"][0]["address"].as_str().unwrap().to_owned());
        }
        assert_eq!(ips.len(), pods.len());
        let versions = engine.call("VERSION", "", None, json!({})).await.unwrap();
        assert_eq!(versions["supportedVersions"][4], "1.1.0");
    });
}

#[test]
fn both_families_come_from_the_subnet_file() {
    let dir = TempDir::new();
    on_host(|| async {
        let engine = Engine {
            dir: &dir,
            version: "1.0.0",
        };
        engine.both_subnets();
        let (a, b) = (Pod::new(), Pod::new());
        let first = engine.call("ADD", "a", Some(&a), json!({})).await.unwrap();
        let ips = json!([
            { "address": "172.30.65.2/24", "gateway": "172.30.65.1", "interface": 2 },
            { "address": "fd00:0:0:65::2/64", "gateway": "fd00:0:0:65::1", "interface": 2 },
        ]);
        assert_eq!(first["ips"], ips);
        let routes = json!([
            { "dst": "0.0.0.0/0", "gw": "172.30.65.1" },
            { "dst": "::/0", "gw": "fd00:0:0:65::1" },
        ]);
        assert_eq!(first["routes"], routes);
        assert_eq!(first["interfaces"][2]["mtu"], Value::Null, "only since 1.1");
        engine.call("ADD", "b", Some(&b), json!({})).await.unwrap();
        let server = b.serve_tcp6(80);
        let there: IpAddr = "fd00:0:0:65::3".parse().unwrap();
        assert_eq!(a.ask((there, 80), 1), "fd00:0:0:65::2 1");
        server.join().unwrap();
        engine.call("DEL", "a", Some(&a), json!({})).await.unwrap();
        engine.call("DEL", "b", Some(&b), json!({})).await.unwrap();
        assert_eq!(std::fs::read_dir(dir.0.join("leases/leases")).unwrap().count(), 0);
    });
}

/// What `nft` prints.
fn nft(arguments: &str) -> String {
    let output = std::process::Command::new("nft")
        .args(arguments.split(' '))
        .output();
    String::from_utf8(output.expect("these tests need nft").stdout).unwrap()
}

#[test]
fn what_leaves_is_masqueraded_where_the_overlay_does_not() {
    let dir = TempDir::new();
    on_host(|| async {
        let engine = Engine {
            dir: &dir,
            version: "1.0.0",
        };
        engine.both_subnets();
        let outside = Pod {
            netns: neighbour(),
            path: std::path::PathBuf::new(),
        };
        let (a, b) = (Pod::new(), Pod::new());
        engine.call("ADD", "a", Some(&a), json!({})).await.unwrap();
        let rules = nft("-a list table ip knode-podnet");
        engine.call("ADD", "b", Some(&b), json!({})).await.unwrap();
        assert_eq!(nft("-a list table ip knode-podnet"), rules, "not made again");
        let seen = |pod: &Pod, to: &str| {
            let there: IpAddr = to.parse().unwrap();
            let server = if there.is_ipv4() {
                outside.serve_tcp(80)
            } else {
                outside.serve_tcp6(80)
            };
            let answer = pod.ask((there, 80), 1);
            server.join().unwrap();
            answer
        };
        assert_eq!(seen(&a, "192.0.2.2"), format!("{OUTER} 1"));
        assert_eq!(seen(&a, "2001:db8::2"), "2001:db8::1 1");
        let server = b.serve_tcp(80);
        let answer = a.ask(("172.30.65.3".parse().unwrap(), 80), 1);
        assert_eq!(
            answer, "172.30.65.2 1",
            "pods keep their address among themselves"
        );
        server.join().unwrap();

        engine.call("DEL", "a", Some(&a), json!({})).await.unwrap();
        assert_eq!(
            seen(&b, "192.0.2.2"),
            format!("{OUTER} 1"),
            "for the others it goes on"
        );
        engine.call("DEL", "b", Some(&b), json!({})).await.unwrap();
        let tables = nft("list tables");
        assert!(!tables.contains("knode-podnet"), "{tables}");

        let overlays = json!({ "ipMasq": false });
        engine.call("ADD", "a", Some(&a), overlays).await.unwrap();
        assert_eq!(
            seen(&a, "192.0.2.2"),
            "172.30.65.4 1",
            "whoever asks for it sees the pod"
        );
    });
}

#[test]
fn what_the_engine_asks_for_is_done() {
    let dir = TempDir::new();
    on_host(|| async {
        let engine = Engine {
            dir: &dir,
            version: "1.1.0",
        };
        engine.both_subnets();
        let (a, b) = (Pod::new(), Pod::new());
        let asked = json!({
            "dns": { "nameservers": ["192.0.2.53"] },
            "runtimeConfig": {
                "ips": ["172.30.65.77/24", "fd00:0:0:65::88/64"],
                "mac": "02:11:22:33:44:55",
                "bandwidth": { "ingressRate": 8_000_000, "ingressBurst": 800_000,
                               "egressRate": 8_000_000, "egressBurst": 800_000 },
            },
        });
        let first = engine.call("ADD", "a", Some(&a), asked.clone()).await.unwrap();
        assert_eq!(first["ips"][0]["address"], "172.30.65.77/24");
        assert_eq!(first["ips"][1]["address"], "fd00:0:0:65::88/64");
        assert_eq!(first["interfaces"][2]["mac"], "02:11:22:33:44:55");
        assert_eq!(first["interfaces"][2]["mtu"], 1450);
        assert_eq!(first["dns"], json!({ "nameservers": ["192.0.2.53"] }));
        let eth0 = a.handle().link("eth0").unwrap().unwrap();
        assert_eq!(eth0.mac.unwrap().to_string(), "02:11:22:33:44:55");
        let tc = std::process::Command::new("tc")
            .args(["qdisc", "show"])
            .output()
            .unwrap();
        let queues = String::from_utf8(tc.stdout).unwrap();
        assert_eq!(queues.matches("qdisc tbf 1: dev").count(), 2, "{queues}");
        assert_eq!(queues.matches("rate 8Mbit").count(), 2, "{queues}");

        let taken = engine.call("ADD", "b", Some(&b), asked).await.unwrap_err();
        assert_eq!(taken["code"], 100, "{taken}");
        assert_eq!(taken["msg"], "172.30.65.77 is taken by a/eth0");
        let outside = json!({ "runtimeConfig": { "ips": ["10.0.0.1"] } });
        let refused = engine.call("ADD", "b", Some(&b), outside).await.unwrap_err();
        assert_eq!(refused["code"], 7, "{refused}");
        let empty = json!({ "cni.dev/valid-attachments": [] });
        engine.call("GC", "", None, empty).await.unwrap();
        let host = Handle::open().unwrap();
        assert_eq!(common::link_names(&host), ["cni0"]);
    });
}

#[test]
fn check_compares_with_the_result_that_was_given() {
    let dir = TempDir::new();
    on_host(|| async {
        let engine = Engine {
            dir: &dir,
            version: "1.0.0",
        };
        engine.both_subnets();
        let (a, other) = (Pod::new(), Pod::new());
        let result = engine.call("ADD", "a", Some(&a), json!({})).await.unwrap();
        let check = async |change: &dyn Fn(&mut Value)| {
            let mut prev = result.clone();
            change(&mut prev);
            engine
                .call("CHECK", "a", Some(&a), json!({ "prevResult": prev }))
                .await
        };
        check(&|_| {}).await.unwrap();
        let address = |prev: &mut Value| prev["ips"][1]["address"] = json!("fd00:0:0:65::9/64");
        assert_eq!(check(&address).await.unwrap_err()["code"], 100);
        let mac = |prev: &mut Value| prev["interfaces"][2]["mac"] = json!("02:00:00:00:00:09");
        assert_eq!(check(&mac).await.unwrap_err()["code"], 100);
        let sandbox = |prev: &mut Value| prev["interfaces"][2]["sandbox"] = json!(other.path);
        assert_eq!(check(&sandbox).await.unwrap_err()["code"], 100);
        let none = engine.call("CHECK", "a", Some(&a), json!({})).await.unwrap_err();
        assert_eq!(none["code"], 7, "CHECK without prevResult");

        let inside = a.handle();
        let index = inside.link("eth0").unwrap().unwrap().index;
        let routes = inside.routes(Some(index)).unwrap();
        let default6 = routes
            .iter()
            .find(|r| r.is_default() && r.destination.addr().is_ipv6());
        inside
            .execute(knode_netlink::delete_route(default6.unwrap()))
            .unwrap();
        let broken = check(&|_| {}).await.unwrap_err();
        assert_eq!(broken["msg"], "no default route of IPv6 leads through eth0");
    });
}

#[test]
fn a_loopback_is_set_up_under_that_name() {
    let dir = TempDir::new();
    on_host(|| async {
        let engine = Engine {
            dir: &dir,
            version: "0.3.1",
        };
        let pod = Pod::new();
        let up = || pod.handle().link("lo").unwrap().unwrap().up;
        assert!(!up());
        let conf = json!({ "name": "cni-loopback", "type": "loopback" });
        let result = engine.call("ADD", "a", Some(&pod), conf.clone()).await.unwrap();
        assert_eq!(result["ips"][0]["address"], "127.0.0.1/8");
        assert_eq!(result["ips"][0]["version"], "4");
        assert!(up());
        engine.call("DEL", "a", Some(&pod), conf).await.unwrap();
    });
}
