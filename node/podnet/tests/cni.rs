//! The CNI plugin as an engine calls it, real packets. Needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::IpAddr;

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
