//! Every recorded pod, from creation to its end.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use knode_e2e::Cluster;
use knode_e2e::recordings::compare::{self, Beside};
use knode_e2e::recordings::states::{self, State};
use knode_e2e::recordings::{Recorded, Session, Watching, events, fixture, normal};
use knode_testkit::{image, wait_until};
use serde_json::{Value, json};

/// Recorded pods that are not run, and why.
const LEFT_OUT: [(&str, &str); 1] = [(
    "oom",
    "the recorded kubelet saw the kill too late and said Error; oom2 has it right",
)];

/// Recorded pods that are not run over containerd: their texts are another version's.
const OTHER_TEXTS: [&str; 2] = ["image-pull", "run-error"];

/// Up to where pods that fail for ever are followed before they are deleted.
const LOOPS: [(&str, &str); 6] = [
    ("crash", "back-off 20s"),
    ("crash-logs", "back-off 20s"),
    ("oom2", "back-off 20s"),
    ("run-error", "back-off 20s"),
    ("liveness-fail", "back-off 10s"),
    ("image-pull", "ImagePullBackOff"),
];

/// Pods that show steps which upstream wrote as one: its kubelet looks at its containers once a second, knode is told.
const STEPS: [&str; 6] = [
    "fails",
    "init-fail",
    "init-sidecar",
    "cri-init",
    "probes",
    "volumes",
];

/// Texts of the recorded runtime, and what they are here.
const TEXTS: [(&str, &str); 1] = [(
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: ",
    "OCI runtime create failed: ",
)];

/// Pods that are looked at until they are deleted only, and why.
const NO_END: [(&str, &str); 2] = [
    (
        "gated",
        "the recorded program ended by itself within the grace period",
    ),
    (
        "liveness-fail",
        "it waits when it is deleted, where the recorded one ran",
    ),
];

/// Recorded pods whose last state is another, and why.
const OTHER_END: [(&str, &str); 2] = [
    (
        "volumes",
        "upstream reads status.resources of an ended pod from a cgroup that is gone: limits vanish; knode keeps them",
    ),
    (
        "cri-init",
        "the recorded memory limit became \"no limit\" under cgroup v1",
    ),
];

/// Events that are there by a race in the recording.
const RACES: [&str; 2] = [
    "Readiness probe errored and resulted in unknown state: rpc error: ",
    "Liveness probe failed: Get ",
];

/// How long all pods together may take.
const BOUND: Duration = Duration::from_secs(150);

struct Pod {
    name: String,
    namespace: String,
    lines: Vec<Recorded>,
    states: Vec<State>,
    milestone: usize,
    created: Value,
    end: End,
    asked: Cell<bool>,
    /// Of the recorded patches by a person, those that were sent.
    patched: Cell<usize>,
}

/// How the pod was ended in the recording.
#[derive(Clone, Debug, PartialEq)]
enum End {
    /// By a request with these options.
    Deleted(Value),
    /// By a taint of the node.
    Tainted,
    /// Not at all: the test does, and looks no further.
    Open,
    /// Its file in the node's directory was removed.
    Removed,
}

impl Pod {
    fn read(name: &str, over_containerd: bool) -> Self {
        let mut lines = fixture(&format!("pods/{name}.jsonl"));
        for line in &mut lines {
            line.request = translated(&line.request, over_containerd);
        }
        let states = states::recorded(&lines);
        let namespace = lines[0].path.split('/').nth(4).unwrap().to_owned();
        let milestone = milestone(name, &lines, &states);
        Self {
            namespace,
            milestone,
            end: end(&lines),
            lines,
            states,
            name: name.to_owned(),
            created: Value::Null,
            asked: Cell::new(false),
            patched: Cell::new(0),
        }
    }

    fn creation(&self) -> &Recorded {
        self.lines.iter().find(|line| line.creates_pod()).unwrap()
    }

    /// The name inside the cluster; two recordings have it in a namespace of their own.
    fn object_name(&self) -> &str {
        self.creation().response["metadata"]["name"].as_str().unwrap()
    }

    /// Where its manifest lies in the node's directory, if that is where it comes from.
    fn file(&self, session: &Session<'_>) -> PathBuf {
        manifests(session.cluster()).join(format!("{}.json", self.name))
    }

    /// Creates it as it was.
    fn create(&self, session: &Session<'_>, watch: &Watching) -> Value {
        let manifest = &self.creation().manifest;
        if self.end != End::Removed {
            return session.create(&format!("/api/v1/namespaces/{}/pods", self.namespace), manifest);
        }
        std::fs::write(self.file(session), manifest.to_string()).unwrap();
        wait_until(&self.name, BOUND, || {
            let is_it = |o: &Value| o["metadata"]["name"] == self.object_name();
            watch
                .of(is_it)
                .first()
                .map(|event| event["object"].clone())
                .ok_or("no mirror")
        })
    }

    /// Sends the next patch of a person, once it is due.
    fn patch(&self, session: &Session<'_>, watch: &Watching) {
        let is_it = |l: &&Recorded| l.user == "admin" && l.method == "PATCH";
        let sent = self.patched.get();
        let Some(line) = self.lines.iter().filter(is_it).nth(sent) else {
            return;
        };
        let before = self.states.iter().rposition(|state| state.t < line.t);
        if self.has_come_to(before.unwrap_or_default(), watch) {
            let answer = session.admin("PATCH", &line.path, &line.request);
            assert_eq!(answer.code, 200, "{}: {}", line.path, answer.body);
            self.patched.set(sent + 1);
        }
    }

    fn path(&self) -> String {
        format!(
            "/api/v1/namespaces/{}/pods/{}",
            self.namespace,
            self.object_name()
        )
    }

    fn uid(object: &Value) -> &str {
        object["metadata"]["uid"].as_str().unwrap()
    }

    fn seen(&self, watch: &Watching) -> Vec<Value> {
        watch.of(|o| o["metadata"]["uid"] == self.created["metadata"]["uid"])
    }

    fn is_gone(&self, watch: &Watching) -> bool {
        self.seen(watch).last().is_some_and(|e| e["type"] == "DELETED")
    }

    /// Whether it has come to where the recorded one was before it was ended.
    fn has_arrived(&self, watch: &Watching) -> bool {
        self.has_come_to(self.milestone, watch)
    }

    fn has_come_to(&self, state: usize, watch: &Watching) -> bool {
        let wanted = &self.states[state].status;
        states::live(&self.seen(watch))
            .iter()
            .any(|s| s.status == *wanted)
    }

    /// What is different from the recording.
    fn differences(&self, pods: &Watching, all_events: &Watching) -> Vec<String> {
        let recorded = &self.creation().response;
        let mut out = normal::differences(&normal::value(recorded), &normal::value(&self.created));
        let mut seen = self.seen(pods);
        let is_open = self.end == End::Open || NO_END.iter().any(|(name, _)| *name == self.name);
        if is_open {
            seen.retain(|e| e["object"]["metadata"]["deletionTimestamp"].is_null());
        }
        let has_end = !is_open && OTHER_END.iter().all(|(name, _)| *name != self.name);
        out.extend(compare::states(
            &self.states,
            &states::live(&seen),
            self.beside(),
            has_end,
        ));
        let uid = Self::uid(&self.created);
        let theirs = all_events.of(|o| {
            let about = &o["involvedObject"];
            about["name"] == self.object_name() && about["namespace"] == self.namespace.as_str()
        });
        let live = settled(events::live(&theirs, uid), is_open);
        let recorded = settled(events::recorded(&self.lines, Self::uid(recorded)), is_open);
        out.extend(compare::events(&recorded, &live));
        out
    }

    fn beside(&self) -> Beside {
        if LOOPS.iter().any(|(name, _)| *name == self.name) {
            Beside::Rounds
        } else if STEPS.contains(&self.name.as_str()) {
            Beside::Steps
        } else {
            Beside::Nothing
        }
    }
}

/// What is recorded as it is here: in knode's engine, or in a containerd that is older than the recorded one.
fn translated(request: &Value, over_containerd: bool) -> Value {
    if over_containerd {
        let mut request = request.clone();
        forget_users(&mut request);
        return request;
    }
    let text = TEXTS.iter().fold(request.to_string(), |t, (recorded, here)| {
        t.replace(recorded, here)
    });
    serde_json::from_str(&text).unwrap()
}

/// containerd before 2.0 tells of no container who it runs as.
fn forget_users(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("user");
            fields.values_mut().for_each(forget_users);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_users),
        _ => {}
    }
}

fn milestone(name: &str, lines: &[Recorded], states: &[State]) -> usize {
    let until = LOOPS
        .iter()
        .find(|(pod, _)| *pod == name)
        .map(|(_, until)| *until);
    let found = until.and_then(|until| states.iter().position(|s| s.status.to_string().contains(until)));
    let before = || {
        let last = states::before_deletion(lines, states);
        // Its end is one of those that are not compared.
        if name == "volumes" { last - 1 } else { last }
    };
    found.unwrap_or_else(before)
}

fn end(lines: &[Recorded]) -> End {
    let deleted = lines
        .iter()
        .find(|l| l.method == "DELETE" && l.bare_path().contains("/pods/"));
    match deleted {
        Some(line) if line.user == "admin" => {
            let mut options = line.request.clone();
            options["apiVersion"] = "v1".into();
            End::Deleted(options)
        }
        Some(_) if lines[0].user != "admin" => End::Removed,
        Some(_) => End::Tainted,
        None => End::Open,
    }
}

/// Without what is there by chance, and the machine's name; of an open end, without what the test's deletion made.
fn settled(events: Vec<Value>, is_open: bool) -> Vec<Value> {
    let is_kept = |e: &Value| {
        let message = e["message"].as_str().unwrap_or_default();
        let is_race = RACES.iter().any(|race| message.starts_with(race));
        let is_ours = is_open && message.starts_with("Stopping container");
        !is_race && !is_ours
    };
    let mut events: Vec<Value> = events.into_iter().filter(is_kept).collect();
    for event in &mut events {
        if event["reporter"] == "default-scheduler" {
            event["instance"] = "default-scheduler-…".into();
        }
    }
    events
}

fn read_all(over_containerd: bool) -> Vec<Pod> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/data/recordings/pods");
    let files = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut names: Vec<String> = files
        .map(|p| p.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert!(names.len() > 25, "{names:?}");
    names.retain(|name| !over_containerd || !OTHER_TEXTS.contains(&name.as_str()));
    assert!(LEFT_OUT.iter().all(|(name, _)| !names.iter().any(|n| n == name)));
    let read = |name: &String| Pod::read(name, over_containerd);
    names.iter().map(read).collect()
}

#[test]
fn pods_go_the_recorded_way() {
    go(Cluster::machine("recpods"));
}

#[test]
fn the_same_over_containerd() {
    go(Cluster::over_containerd("recpods-cd"));
}

fn go(mut cluster: Cluster) {
    std::fs::create_dir_all(manifests(&cluster)).unwrap();
    cluster.start(&["--pod-manifest-path", &manifests(&cluster).display().to_string()]);
    for (number, image) in [
        image::busybox().name("busybox:latest").build(),
        image::nginx().name("nginx:latest").build(),
    ]
    .iter()
    .enumerate()
    {
        let archive = cluster.scratch.join(format!("{number}.tar"));
        image.write_oci(&archive);
        cluster.import(&archive).ok();
    }
    let session = Session::new(&cluster);
    prepare(&session);
    let mut pods = read_all(cluster.is_over_containerd());
    let watch = Watching::start(&session, "/api/v1/pods");
    let events = Watching::start(&session, "/api/v1/events");
    // What such a pod asks for counts as taken until the node has rejected it: the others are placed before.
    pods.sort_by_key(|pod| pod.name.starts_with("reject-"));
    for pod in &mut pods {
        pod.created = pod.create(&session, &watch);
    }
    end_all(&session, &pods, &watch);

    let mut problems = BTreeMap::new();
    for pod in &pods {
        let differences = pod.differences(&watch, &events);
        if !differences.is_empty() {
            problems.insert(pod.name.as_str(), differences);
        }
    }
    assert!(
        problems.is_empty(),
        "{} pods differ: {problems:#?}",
        problems.len()
    );
}

/// The recorded pods' surroundings.
fn prepare(session: &Session<'_>) {
    for namespace in ["rec", "cri"] {
        session.create("/api/v1/namespaces", &json!({"metadata": {"name": namespace}}));
    }
    let (maps, secrets) = (
        "/api/v1/namespaces/rec/configmaps",
        "/api/v1/namespaces/rec/secrets",
    );
    session.create(
        maps,
        &json!({"metadata": {"name": "cm"}, "data": {"a": "1", "b.txt": "two\n"}}),
    );
    session.create(
        secrets,
        &json!({"metadata": {"name": "sec"}, "stringData": {"pw": "swordfish"}}),
    );
    for namespace in ["rec", "cri"] {
        for object in ["serviceaccount default", "configmap kube-root-ca.crt"] {
            session
                .cluster()
                .wait(&format!("-n {namespace} {object}"), |_| Ok(()));
        }
    }
}

/// Ends each pod as it was, once it has come as far: first those that were deleted, then the others by a taint.
fn end_all(session: &Session<'_>, pods: &[Pod], watch: &Watching) {
    let is_tainted = |p: &&Pod| p.end == End::Tainted;
    wait_until("the pods to come as far as recorded", BOUND, || {
        pods.iter().for_each(|pod| pod.patch(session, watch));
        for pod in pods.iter().filter(|p| !p.asked.get() && p.end != End::Tainted) {
            if pod.has_arrived(watch) {
                delete(session, pod);
            }
        }
        let left: Vec<&Pod> = pods
            .iter()
            .filter(|p| {
                if p.end == End::Tainted {
                    !p.has_arrived(watch)
                } else {
                    !p.is_gone(watch)
                }
            })
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        Err(left
            .iter()
            .map(|p| shown(p, watch))
            .collect::<Vec<_>>()
            .join("\n"))
    });
    taint(session, &json!([{"key": "boom", "effect": "NoExecute"}]));
    wait_until("the tainted pods to go", BOUND, || {
        let left: Vec<&str> = pods
            .iter()
            .filter(is_tainted)
            .filter(|p| !p.is_gone(watch))
            .map(|p| p.name.as_str())
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join(" "))
        }
    });
    taint(session, &Value::Null);
}

fn shown(pod: &Pod, watch: &Watching) -> String {
    let live = states::live(&pod.seen(watch));
    let status = live.last().map(|s| s.status.clone()).unwrap_or_default();
    let wanted = &pod.states[pod.milestone].status;
    format!(
        "{}: {}",
        pod.name,
        normal::differences(wanted, &status).join("; ")
    )
}

fn delete(session: &Session<'_>, pod: &Pod) {
    pod.asked.set(true);
    if pod.end == End::Removed {
        return std::fs::remove_file(pod.file(session)).unwrap();
    }
    let options = match &pod.end {
        End::Deleted(options) => options.clone(),
        _ => json!({"gracePeriodSeconds": 0}),
    };
    let answer = session.admin("DELETE", &pod.path(), &options);
    assert_eq!(answer.code, 200, "{}: {}", pod.name, answer.body);
}

/// The node's directory of pods.
fn manifests(cluster: &Cluster) -> PathBuf {
    cluster.scratch.join("manifests")
}

fn taint(session: &Session<'_>, taints: &Value) {
    let patch = json!({"spec": {"taints": taints}});
    let answer = session.admin("PATCH", "/api/v1/nodes/node1", &patch);
    assert_eq!(answer.code, 200, "{}", answer.body);
}
