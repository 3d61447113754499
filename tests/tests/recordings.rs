//! explore
#![allow(clippy::unwrap_used, reason = "a failed test says where")]
use std::time::{Duration, Instant};
use knode_e2e::Cluster;
use knode_e2e::recordings::{Recorded, Session, Watching, events, fixture, states};
use knode_testkit::image;
use serde_json::{Value, json};

#[test]
fn explore() {
    let cluster = Cluster::up("recordings");
    for (n, i) in [image::busybox().name("busybox:latest").build(), image::nginx().name("nginx:latest").build()].iter().enumerate() {
        let archive = cluster.scratch.join(format!("{n}.tar"));
        i.write_oci(&archive);
        cluster.import(&archive).ok();
    }
    let session = Session::new(&cluster);
    session.create("/api/v1/namespaces", &json!({"metadata": {"name": "rec"}}));
    cluster.wait("serviceaccount -n rec default", |_| Ok(()));
    cluster.wait("configmap -n rec kube-root-ca.crt", |_| Ok(()));
    session.create("/api/v1/namespaces/rec/configmaps", &json!({"metadata": {"name": "cm"}, "data": {"a": "1", "b.txt": "two\n"}}));
    session.create("/api/v1/namespaces/rec/secrets", &json!({"metadata": {"name": "sec"}, "data": {"pw": "aHVudGVyMg=="}}));
    let pods = Watching::start(&session, "/api/v1/namespaces/rec/pods");
    let evs = Watching::start(&session, "/api/v1/namespaces/rec/events");
    let start = Instant::now();
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/data/recordings/pods");
    let mut all: Vec<(String, Vec<Recorded>, Value)> = Vec::new();
    let mut names: Vec<String> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for name in names {
        let rec = fixture(&format!("pods/{name}"));
        let c = rec.iter().find(|l| l.user == "admin" && l.method == "POST").unwrap();
        let text = c.manifest.to_string().replace("\"cri\"", "\"rec\"").replace("\"name\":\"init\"", "\"name\":\"cri-init\"");
        let mut m: Value = serde_json::from_str(&text).unwrap();
        if name.starts_with("cri-") { m["metadata"]["name"] = name.trim_end_matches(".jsonl").into(); }
        let a = session.admin("POST", "/api/v1/namespaces/rec/pods?fieldManager=x", &m);
        println!("{name}: {} {}", a.code, if a.code == 201 { "" } else { &a.body });
        all.push((name.trim_end_matches(".jsonl").to_owned(), rec, a.json()));
    }
    let nap = |s: u64| { while start.elapsed() < Duration::from_secs(s) { std::thread::sleep(Duration::from_millis(100)); } };
    nap(3);
    session.admin("PATCH", "/api/v1/namespaces/rec/pods/gated", &json!([{"op": "remove", "path": "/spec/schedulingGates"}]));
    for p in ["cri-plain", "cri-init", "grace2"] {
        let g = if p == "grace2" { 2 } else { 5 };
        session.admin("DELETE", &format!("/api/v1/namespaces/rec/pods/{p}"), &json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": g}));
    }
    nap(50);
    for (name, rec, _) in &all {
        if rec.iter().any(|l| l.user == "admin" && l.method == "DELETE") {
            session.admin("DELETE", &format!("/api/v1/namespaces/rec/pods/{name}"), &Value::Null);
        }
    }
    nap(52);
    let t = session.admin("PATCH", "/api/v1/nodes/node1", &json!({"spec": {"taints": [{"key": "boom", "effect": "NoExecute"}]}}));
    println!("taint {}", t.code);
    nap(88);
    let mut out = serde_json::Map::new();
    for (name, rec, created) in &all {
        let seen = pods.of(|o| o["metadata"]["name"] == name.as_str());
        let uid = created["metadata"]["uid"].as_str().unwrap_or("none");
        let e = evs.of(|o| o["involvedObject"]["name"] == name.as_str());
        let c = rec.iter().find(|l| l.user == "admin" && l.method == "POST").unwrap();
        let f = |s: Vec<states::State>| s.into_iter().map(|s| s.status).collect::<Vec<_>>();
        out.insert(name.clone(), json!({"created": [c.response, created],
            "states": [f(states::recorded(rec)), f(states::live(&seen))],
            "events": [events::recorded(rec, c.response["metadata"]["uid"].as_str().unwrap()), events::live(&e, uid)],
            "raw": seen, "rawevents": e }));
    }
    std::fs::write("/tmp/rec/out.json", Value::Object(out).to_string()).unwrap();
}
