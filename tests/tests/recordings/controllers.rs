//! What the controllers, the scheduler and the joining node write: objects and Events beside the recorded ones.

use std::time::Duration;

use knode_e2e::Cluster;
use knode_e2e::recordings::{Recorded, Session, Watching, compare, events, fixture, normal};
use knode_testkit::{image, wait_until};
use serde_json::{Value, json};

/// Events of the recorded node that are not written here, and why.
const NO_EVENTS: [(&str, &str); 1] = [("CgroupV1", "it announces upstream's plans")];

/// For Events whose texts have no uid in them.
const NO_UID: &str = "\0";

/// Collects differences.
#[derive(Default)]
struct Report(Vec<String>);

impl Report {
    fn compare(&mut self, name: &str, recorded: &Value, live: &Value) {
        let differences = normal::differences(&object(recorded), &object(live));
        self.0.extend(differences.iter().map(|d| format!("{name}: {d}")));
    }
}

/// Without what a list leaves out and what counts.
fn object(value: &Value) -> Value {
    let mut value = normal::value(value);
    for field in ["kind", "apiVersion"] {
        value.as_object_mut().and_then(|map| map.remove(field));
    }
    generated(&mut value);
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.remove("generation");
        metadata.remove("managedFields");
    }
    value
}

/// Names made of a prefix or a hash.
fn generated(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(generated),
        Value::Array(list) => list.iter_mut().for_each(generated),
        Value::String(text) => {
            if let Some((start, _)) = text.split_once("web-").filter(|(start, _)| start.len() < 20) {
                *text = format!("{start}web-…");
            } else if text.len() == 20 && text.ends_with('Z') && text.contains('T') {
                *text = "…".to_owned();
            } else if text.starts_with("10.") && text.parse::<std::net::Ipv4Addr>().is_ok() {
                *text = "<ip>".to_owned();
            }
        }
        _ => {}
    }
}

fn of_path<'a>(lines: &'a [Recorded], method: &str, part: &str) -> Vec<&'a Recorded> {
    lines
        .iter()
        .filter(|l| l.method == method && l.path.contains(part))
        .collect()
}

#[test]
fn writes_are_the_recorded_ones() {
    let mut cluster = Cluster::machine("recwrites");
    cluster.start(&["--service-cidr", "10.96.0.0/16", "--pod-cidr", "10.244.0.0/16"]);
    let session = Session::new(&cluster);
    let archive = cluster.scratch.join("nginx.tar");
    image::nginx().name("nginx:latest").build().write_oci(&archive);
    cluster.import(&archive).ok();
    let mut report = Report::default();
    daemon_set(&session, &mut report);
    namespace(&session, &mut report);
    joining(&session, &mut report);
    certificates(&session, &mut report);
    assert!(
        report.0.is_empty(),
        "{} differ:\n{}",
        report.0.len(),
        report.0.join("\n")
    );
}

/// A daemon set and a service: as made, and after an update of the template.
fn daemon_set(session: &Session<'_>, report: &mut Report) {
    let lines = fixture("daemonset-service.jsonl");
    let watch = Watching::start(session, "/api/v1/events");
    let revisions = Watching::start(session, "/apis/apps/v1/controllerrevisions");
    let requests: Vec<&Recorded> = lines
        .iter()
        .filter(|l| l.user == "admin" && l.method != "GET")
        .collect();
    for recorded in &requests[..1] {
        send(session, recorded);
    }
    session
        .cluster()
        .wait("-n ctl serviceaccount default", |_| Ok(()));
    for recorded in &requests[1..3] {
        send(session, recorded);
    }
    let is_ready = |ds: &Value| {
        let status = &ds["status"];
        let is_done =
            status["numberAvailable"] == 1 && status["observedGeneration"] == ds["metadata"]["generation"];
        if is_done && status["updatedNumberScheduled"] == 1 {
            Ok(())
        } else {
            Err(ds.to_string())
        }
    };
    session.cluster().wait("-n ctl daemonset web", is_ready);
    for state in of_path(&lines, "GET", "/ctl/") {
        let collection = state.bare_path();
        if collection.ends_with("/endpoints") {
            continue;
        }
        let recorded = &state.response["items"][0];
        let name = collection.rsplit('/').next().unwrap();
        let live = session.get(collection)["items"][0].clone();
        // The recording was made before the pod was ready.
        let (mut recorded, mut live) = (recorded.clone(), live);
        for object in [&mut recorded, &mut live] {
            if name != "services" {
                for field in ["status", "endpoints", "ports"] {
                    object.as_object_mut().unwrap().remove(field);
                }
            }
        }
        report.compare(name, &recorded, &live);
    }
    for recorded in &requests[3..] {
        send(session, recorded);
    }
    session.cluster().wait("-n ctl daemonset web", is_ready);
    let last = |part: &str| {
        of_path(&lines, "PUT", part)
            .last()
            .map(|l| l.request.clone())
            .unwrap()
    };
    let ready = |list: &Value| {
        let slice = list["items"][0].clone();
        let endpoints = slice["endpoints"].as_array().map_or(0, Vec::len);
        if endpoints == 1 && slice["endpoints"][0]["conditions"]["ready"] == true {
            Ok(slice)
        } else {
            Err(slice.to_string())
        }
    };
    let slice = session
        .cluster()
        .wait("-n ctl endpointslices -l kubernetes.io/service-name=web", ready);
    report.compare("endpointslice at last", &last("/endpointslices/"), &slice);
    let set = session.cluster().get("-n ctl daemonset web");
    let status = |value: &Value| json!({"status": value["status"]});
    report.compare(
        "daemonset at last",
        &status(&last("/daemonsets/web/status")),
        &status(&set),
    );
    let revision = of_path(&lines, "POST", "/controllerrevisions")
        .last()
        .unwrap()
        .request
        .clone();
    let live = revisions.of(|o| o["metadata"]["namespace"] == "ctl" && o["revision"] == 2);
    let mut recorded = revision;
    recorded["metadata"]["uid"] = "u".into();
    recorded["metadata"]["resourceVersion"] = "1".into();
    recorded["metadata"]["creationTimestamp"] = "now".into();
    report.compare("controllerrevision 2", &recorded, &live[0]["object"]);
    let about = |list: Vec<Value>| -> Vec<Value> {
        let theirs = list
            .into_iter()
            .filter(|e| e["reporter"] == "daemonset-controller");
        theirs
            .map(|mut e| {
                generated(&mut e);
                let message = e["message"].as_str().unwrap_or_default();
                e["message"] = message.split("web-").next().unwrap_or_default().into();
                e
            })
            .collect()
    };
    let live = about(events::live(
        &watch.of(|o| o["metadata"]["namespace"] == "ctl"),
        NO_UID,
    ));
    report
        .0
        .extend(compare::events(&about(events::recorded(&lines, NO_UID)), &live));
}

fn send(session: &Session<'_>, recorded: &Recorded) {
    let answer = session.admin(&recorded.method, recorded.bare_path(), &recorded.request);
    assert!(answer.code < 300, "{}: {}", recorded.path, answer.body);
}

/// A namespace from creation to its last breath.
fn namespace(session: &Session<'_>, report: &mut Report) {
    let lines = fixture("namespace.jsonl");
    let watch = Watching::start(session, "/api/v1/namespaces");
    let is_admins = |l: &&Recorded| l.user == "admin";
    for recorded in lines.iter().filter(is_admins).filter(|l| l.method == "POST") {
        let answer = session.admin("POST", recorded.bare_path(), &recorded.request);
        assert_eq!(answer.code, 201, "{}", answer.body);
        report.compare(recorded.bare_path(), &recorded.response, &answer.json());
    }
    for (name, path) in [
        ("serviceaccounts", "/default"),
        ("configmaps", "/kube-root-ca.crt"),
    ] {
        let recorded = of_path(&lines, "POST", name)[0];
        let what = format!("{name}{path}").replace('/', " ");
        let live = session
            .cluster()
            .wait(&format!("-n gone {what}"), |o| Ok::<_, String>(o.clone()));
        report.compare(&what, &recorded.response, &live);
    }
    let deletion = lines
        .iter()
        .find(|l| l.method == "DELETE" && l.user == "admin")
        .unwrap();
    let answer = session.admin("DELETE", deletion.bare_path(), &json!({}));
    report.compare("answer of the deletion", &deletion.response, &answer.json());
    let seen = wait_until("the namespace to go", Duration::from_secs(60), || {
        let seen = watch.of(|o| o["metadata"]["name"] == "gone");
        let is_gone = seen.last().is_some_and(|e| e["type"] == "DELETED");
        if is_gone {
            Ok(seen)
        } else {
            Err(format!("{seen:?}"))
        }
    });
    let status = &of_path(&lines, "PUT", "/gone/status")[0].request["status"];
    let last = &seen.last().unwrap()["object"]["status"];
    report.compare(
        "the last status",
        &json!({"status": status}),
        &json!({"status": last}),
    );
}

/// What the kubelet's joining wrote: its request for a certificate, its Node, Lease and Events.
fn joining(session: &Session<'_>, report: &mut Report) {
    let lines = fixture("bootstrap.jsonl");
    let requests = session.get("/apis/certificates.k8s.io/v1/certificatesigningrequests");
    let client = "kubernetes.io/kube-apiserver-client-kubelet";
    let live = requests["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["spec"]["signerName"] == client);
    let recorded = &of_path(&lines, "PUT", "/status")[0].request;
    let live = live.unwrap();
    for field in ["signerName", "usages"] {
        let of = |v: &Value| json!({"spec": v["spec"][field]});
        report.compare("certificate request", &of(recorded), &of(live));
    }
    let of = |v: &Value| json!({"conditions": v["status"]["conditions"]});
    report.compare("certificate request", &of(recorded), &of(live));

    let node = session.get("/api/v1/nodes/node1");
    let recorded = &of_path(&lines, "POST", "/api/v1/nodes")[0].request;
    let shape = |node: &Value| {
        let conditions = node["status"]["conditions"].as_array().unwrap().iter();
        let pressure = conditions.filter(|c| c["type"] != "Ready" && c["type"] != "NetworkUnavailable");
        let keys = |field: &str| {
            node["status"][field]
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        json!({"labels": node["metadata"]["labels"], "capacity": keys("capacity"), "allocatable": keys("allocatable"),
            "conditions": pressure.collect::<Vec<_>>(), "daemonEndpoints": node["status"]["daemonEndpoints"],
            "nodeInfo": node["status"]["nodeInfo"].as_object().unwrap().keys().collect::<Vec<_>>(),
            "addresses": node["status"]["addresses"], "features": node["status"]["features"],
            "declaredFeatures": node["status"]["declaredFeatures"]})
    };
    report.compare("node", &shape(recorded), &shape(&node));
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node1";
    let recorded = *of_path(&lines, "PUT", "/leases/").last().unwrap();
    report.compare("lease", &recorded.request, &session.get(lease));
    let is_nodes = |o: &Value| o["involvedObject"]["kind"] == "Node";
    let all = session.get("/api/v1/namespaces/default/events");
    let items = all["items"].as_array().unwrap().iter().filter(|e| is_nodes(e));
    let added: Vec<Value> = items.map(|o| json!({"type": "ADDED", "object": o})).collect();
    let names = |list: Vec<Value>| {
        let is_left_out = |e: &Value| NO_EVENTS.iter().any(|(reason, _)| e["reason"] == *reason);
        let kubelets = list
            .into_iter()
            .filter(|e| e["reporter"] == "kubelet" && !is_left_out(e));
        kubelets
            .map(|e| e.to_string())
            .collect::<std::collections::BTreeSet<_>>()
    };
    let (recorded, live) = (
        names(events::recorded(&lines, NO_UID)),
        names(events::live(&added, NO_UID)),
    );
    for event in recorded.symmetric_difference(&live) {
        report.0.push(format!("event of the node: {event}"));
    }
}

/// Requests for certificates that a person approves and denies.
fn certificates(session: &Session<'_>, report: &mut Report) {
    let lines = fixture("certificates.jsonl");
    let request = signing_request(session);
    for recorded in of_path(&lines, "POST", "certificatesigningrequests") {
        let mut body = recorded.request.clone();
        body["spec"]["request"] = request.as_str().into();
        let answer = session.admin("POST", recorded.bare_path(), &body);
        assert_eq!(answer.code, 201, "{}", answer.body);
        let mut wanted = recorded.response.clone();
        let mut found = answer.json();
        for value in [&mut wanted, &mut found] {
            for field in ["username", "extra"] {
                value["spec"].as_object_mut().unwrap().remove(field);
            }
        }
        report.compare("certificate request made", &wanted, &found);
    }
    session.cluster().kubectl("certificate approve man33").ok();
    session.cluster().kubectl("certificate deny den33").ok();
    let issued = |r: &Value| {
        if r["status"]["certificate"].is_string() {
            Ok(r.clone())
        } else {
            Err(r.to_string())
        }
    };
    let live = session.cluster().wait("csr man33", issued);
    let recorded = of_path(&lines, "GET", "/man33");
    let last = recorded
        .iter()
        .rfind(|l| l.response["status"]["conditions"].is_array())
        .unwrap();
    let of = |v: &Value| json!({"conditions": v["status"]["conditions"]});
    report.compare("certificate approved", &of(&last.response), &of(&live));
    let denied = session.cluster().get("csr den33");
    let condition = &denied["status"]["conditions"][0];
    assert_eq!(
        (&condition["type"], &condition["reason"]),
        (&json!("Denied"), &json!("KubectlDeny"))
    );
}

/// A signing request as `openssl` makes it, in base64.
fn signing_request(session: &Session<'_>) -> String {
    let script = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj /CN=someone 2>/dev/null | base64 -w0";
    session.cluster().host.run("sh", &["-c", script])
}
