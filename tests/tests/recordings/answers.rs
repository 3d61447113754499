//! The recorded requests to the API server and, through it, to the kubelet.

use knode_e2e::Cluster;
use knode_e2e::recordings::{Answer, Names, Recorded, Session, User, fixture, in_apiserver, normal, paths};
use knode_testkit::image;
use serde_json::{Map, Value, json};

/// Answers that may differ, by the recorder's note or the path, and why.
type Known = &'static [(&'static str, &'static str)];

const NO_APPLY: &str = "server-side apply is not supported yet";
const NO_DEPLOYMENTS: &str = "Deployment is not among the kinds yet";
const NO_QUOTA: &str = "ResourceQuota is not among the kinds yet";
const NO_BUDGETS: &str = "PodDisruptionBudget is not among the kinds yet";
const NOT_REPLAYED: &str = "the recording has not what the request had";

const IN_ERRORS: Known = &[
    ("duplicate field, Strict", NOT_REPLAYED),
    ("(apply as one manager)", NO_APPLY),
    ("apply conflict", NO_APPLY),
    ("apply with force", NO_APPLY),
    ("deployment selector does not match template", NO_DEPLOYMENTS),
    ("(deployment)", NO_DEPLOYMENTS),
    ("deployment selector immutable", NO_DEPLOYMENTS),
    ("unauthorized: bad token", NOT_REPLAYED),
    (
        "anonymous may read /version",
        "it is another program: version, compiler",
    ),
];
const IN_MORE: Known = &[
    ("quota: requests must be given", NO_QUOTA),
    ("quota exceeded", NO_QUOTA),
    ("eviction refused by a disruption budget: 429", NO_BUDGETS),
    ("binding of a bound pod", NO_BUDGETS),
    ("pod resize: image change refused", NO_QUOTA),
    ("generateName", "the name is random"),
];

const IN_IDENTITY: Known = &[
    (
        "node lists endpointslices",
        "one certificate for kubelet and service proxy: the role knode:node adds what the proxy needs",
    ),
    ("node lists pods of all nodes", PEERS),
    ("node lists pods of other node", PEERS),
];
/// Why a node may list pods of others.
const PEERS: &str =
    "network policies name pods of other nodes: the role knode:node lets them be listed and watched";

fn user(recorded: &Recorded) -> User {
    match recorded.user.as_str() {
        "anonymous" => User::Anonymous,
        "node1" => User::Node,
        _ => User::Admin,
    }
}

fn replay(session: &Session<'_>, recorded: &Recorded, names: &Names) -> Answer {
    let mut headers = recorded.headers.clone();
    headers.retain(|name, _| name == "Accept" || name == "Content-Type");
    let path = names.translate_path(&recorded.path);
    let body = match &recorded.request {
        Value::String(text) => text.as_str().into(),
        object => names.translate(object),
    };
    session.send(user(recorded), &recorded.method, &path, &headers, &body)
}

/// What differs in code, warnings, content type and body.
fn differences(recorded: &Recorded, live: &Answer, names: &Names) -> Vec<String> {
    if recorded.code != live.code {
        return vec![format!(
            "code {} instead of {}: {}",
            live.code, recorded.code, live.body
        )];
    }
    let mut out = Vec::new();
    for name in ["Warning", "Content-Type"] {
        let wanted = match recorded.response_headers.get(name) {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(list) => list
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect(),
            None => Vec::new(),
        };
        let found = live.header(name);
        if wanted != found && !(name == "Content-Type" && wanted.is_empty()) {
            out.push(format!("{name}: {found:?} instead of {wanted:?}"));
        }
    }
    let wanted = normal::value(&names.translate(&recorded.response));
    out.extend(normal::differences(&wanted, &normal::value(&live.json())));
    out
}

fn compare_all(
    session: &Session<'_>,
    list: &[Recorded],
    names: &mut Names,
    known: Known,
    out: &mut Vec<String>,
) {
    for recorded in list {
        let live = replay(session, recorded, names);
        let differs = differences(recorded, &live, names);
        names.learn(&recorded.response, &live.json());
        let is_known = known.iter().any(|(note, _)| *note == recorded.note);
        if differs.is_empty() && is_known {
            out.push(format!("{}: differs no more, but is listed", recorded.note));
        } else if !differs.is_empty() && !is_known {
            out.push(format!("{}: {}", recorded.note, differs.join("; ")));
        }
    }
}

#[track_caller]
fn assert_none(problems: &[String]) {
    assert!(
        problems.is_empty(),
        "{} differ:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

fn namespace(session: &Session<'_>, name: &str) {
    session.create("/api/v1/namespaces", &json!({"metadata": {"name": name}}));
    for object in ["serviceaccount default", "configmap kube-root-ca.crt"] {
        session.cluster().wait(&format!("-n {name} {object}"), |_| Ok(()));
    }
}

#[test]
fn answers_are_the_recorded_ones() {
    let mut cluster = Cluster::machine("recanswers");
    // The recorded cluster has no Service kube-dns.
    let ranges = ["--service-cidr", "10.96.0.0/16", "--pod-cidr", "10.244.0.0/16"];
    cluster.start(&[&ranges[..], &["--cluster-dns", "none"]].concat());
    let session = Session::new(&cluster);
    let archive = cluster.scratch.join("nginx.tar");
    image::nginx().name("nginx:latest").build().write_oci(&archive);
    cluster.import(&archive).ok();
    for name in ["err", "st"] {
        namespace(&session, name);
    }
    let web = json!({"metadata": {"name": "p"}, "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": "nginx:latest", "imagePullPolicy": "IfNotPresent"}]}});
    session.create("/api/v1/namespaces/st/pods", &web);
    let mut problems = Vec::new();
    watches(&session, &mut problems);
    discovery(&session, &mut problems);
    tables(&session, &mut problems);
    cluster.wait_ready("pod -n st p");
    kubelet(&session, &mut problems);

    let mut names = Names::default();
    compare_all(
        &session,
        &in_apiserver("errors.jsonl"),
        &mut names,
        IN_ERRORS,
        &mut problems,
    );
    let identity = in_apiserver("errors-node-identity.jsonl");
    compare_all(&session, &identity, &mut names, IN_IDENTITY, &mut problems);
    compare_all(
        &session,
        &in_apiserver("errors-more.jsonl"),
        &mut names,
        IN_MORE,
        &mut problems,
    );
    assert_none(&problems);
}

/// The recorder's changes to the maps that the watches look at.
fn change(session: &Session<'_>) {
    let maps = "/api/v1/namespaces/err/configmaps";
    let patch = |name: &str, patch: Value| {
        let answer = session.admin("PATCH", &format!("{maps}/{name}"), &patch);
        assert_eq!(answer.code, 200, "{}", answer.body);
    };
    patch("w0", json!({"data": {"k": "new"}}));
    patch("w1", json!({"metadata": {"labels": {"w": null}}}));
    patch("w1", json!({"metadata": {"labels": {"w": "1"}}}));
    assert_eq!(
        session.admin("DELETE", &format!("{maps}/w2"), &Value::Null).code,
        200
    );
    session.create(maps, &map("w2", "2"));
}

fn map(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"w": "1"}}, "data": {"k": value}})
}

/// Watches that are left out, and why.
const LEFT_OUT: [(&str, &str); 3] = [
    (
        "watch resourceVersion=1",
        "its recording is cut; other changes were before it",
    ),
    ("watch in the future", "it has no events"),
    (
        "bookmarks: allowWatchBookmarks",
        "it takes 12 s for what the streaming list shows",
    ),
];

fn watches(session: &Session<'_>, problems: &mut Vec<String>) {
    let mut names = Names::default();
    for number in 0..5 {
        let made = session.create(
            "/api/v1/namespaces/err/configmaps",
            &map(&format!("w{number}"), &number.to_string()),
        );
        if number == 4 {
            names.learn(&json!({"metadata": {"resourceVersion": "1150"}}), &made);
        }
    }
    let recorded: Vec<Recorded> = in_apiserver("watch.jsonl")
        .into_iter()
        .filter(|r| r.path.contains("watch") && r.code == 200)
        .filter(|r| !LEFT_OUT.iter().any(|(note, _)| r.note.starts_with(note)))
        .collect();
    assert!(recorded.len() > 8);
    for one in &recorded {
        let mut path = names.translate_path(&one.path);
        if !is_live(one) {
            // All that there is to see comes at once.
            path = path.replace("timeoutSeconds=2", "timeoutSeconds=1");
            path = path.replace("timeoutSeconds=3", "timeoutSeconds=1");
        }
        let mut process = session.stream_as("watch", &path, accept(one));
        if is_live(one) {
            wait_for_begin(&process);
            change(session);
        }
        process.wait(std::time::Duration::from_secs(20));
        let live: Vec<Value> = process
            .output()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let wanted = match &one.response["watchEvents"] {
            Value::Null => json!([one.response]),
            list => list.clone(),
        };
        let differs = normal::differences(&settled(&wanted), &settled(&live.into()));
        if !differs.is_empty() {
            problems.push(format!("{}: {}", one.note, differs.join("; ")));
        }
    }
}

/// Without what varies, and without the bookmark that may come just before the time-out.
fn settled(events: &Value) -> Value {
    let mut events = normal::value(events);
    let is_begin = |e: &Value| e["object"]["metadata"]["annotations"].is_object();
    if let Some(list) = events.as_array_mut() {
        list.pop_if(|last| last["type"] == "BOOKMARK" && !is_begin(last));
    }
    events
}

/// Whether the recorder made its changes while this watch was open.
fn is_live(recorded: &Recorded) -> bool {
    recorded.note.starts_with("watch without")
        || recorded.note.starts_with("streaming list: sendInitialEvents")
}

fn wait_for_begin(process: &knode_testkit::Process) {
    knode_testkit::wait_until("the watch's first events", knode_e2e::BOUND, || {
        let text = process.output();
        if text.lines().count() >= 5 {
            Ok(())
        } else {
            Err(text)
        }
    });
}

fn accept(recorded: &Recorded) -> &str {
    recorded
        .headers
        .get("Accept")
        .and_then(Value::as_str)
        .unwrap_or("application/json")
}

/// Groups of the recording that this server doesn't have.
const NO_GROUPS: [&str; 3] = ["/apis/batch/v1", "/apis/policy/v1", "/apis/autoscaling/v2"];

fn discovery(session: &Session<'_>, problems: &mut Vec<String>) {
    for recorded in in_apiserver("discovery.jsonl") {
        let live = replay(session, &recorded, &Names::default());
        if live.code != recorded.code && !NO_GROUPS.contains(&recorded.path.as_str()) {
            problems.push(format!("{}: code {}", recorded.path, live.code));
        }
    }
}

/// Columns of every kind that is there, and how many cells a row has.
fn tables(session: &Session<'_>, problems: &mut Vec<String>) {
    for recorded in fixture("tables.jsonl") {
        let path = recorded
            .path
            .replace("/ctl/", "/err/")
            .replace("/k33", "/err")
            .replace("/man33", "");
        let mut headers = Map::new();
        headers.insert("Accept".into(), accept(&recorded).into());
        let live = session.send(User::Admin, "GET", &path, &headers, &Value::Null);
        if live.code == 404 {
            continue;
        }
        let table = live.json();
        let columns = normal::differences(
            &recorded.response["columnDefinitions"],
            &table["columnDefinitions"],
        );
        problems.extend(columns.iter().map(|d| format!("{path} columns{d}")));
        let (wanted, found) = (&recorded.response["rows"][0], &table["rows"][0]);
        if let (Some(wanted), Some(found)) = (wanted["cells"].as_array(), found["cells"].as_array()) {
            let kinds = |cells: &[Value]| cells.iter().map(|c| c.is_string()).collect::<Vec<_>>();
            if kinds(wanted) != kinds(found) {
                problems.push(format!("{path} cells: {found:?} instead of {wanted:?}"));
            }
        }
    }
}

/// What the kubelet answers otherwise, by the path's end, and why.
const IN_KUBELET: Known = &[
    ("/proxy/pods", NO_ANNOTATIONS),
    ("/proxy/pods?x=1", NO_ANNOTATIONS),
    ("/proxy/configz", "what can be set is what is shown"),
    (
        "/proxy/stats/summary",
        "no pressure stall figures without version 2 control groups; nothing is invented",
    ),
    ("/containerLogs/st/p/c?tailLines=2", ONLY_TEXT),
    ("/containerLogs/st/p/none", ONLY_TEXT),
    ("/containerLogs/st/none/c", ONLY_TEXT),
    ("/proxy/logs/", "the node's own logs are not served: 501 says so"),
    ("/proxy/statusz", NO_PAGES),
    ("/proxy/flagz", NO_PAGES),
    ("/pods/p:80/proxy/", "proxying to pods is not served"),
];
const NO_ANNOTATIONS: &str = "the kubelet doesn't put its own annotations on the pods that it lists";
const ONLY_TEXT: &str = "logs are text whatever the client accepts; the recorder asked for JSON";
const NO_PAGES: &str = "no pages for debugging upstream's programs";

fn kubelet(session: &Session<'_>, problems: &mut Vec<String>) {
    for recorded in fixture("kubelet-api.jsonl") {
        let live = replay(session, &recorded, &Names::default());
        let name = recorded.path.as_str();
        let mut differs = Vec::new();
        if live.code != recorded.code {
            differs.push(format!(
                "code {} instead of {}: {}",
                live.code, recorded.code, live.body
            ));
        } else {
            let wanted = recorded
                .response_headers
                .get("Content-Type")
                .and_then(Value::as_str);
            if live.header("Content-Type") != wanted.into_iter().collect::<Vec<_>>() {
                differs.push(format!("{:?} instead of {wanted:?}", live.header("Content-Type")));
            }
            differs.extend(shape(&recorded, &live));
        }
        let is_known = IN_KUBELET.iter().any(|(path, _)| name.ends_with(path));
        if differs.is_empty() == is_known {
            problems.push(format!("kubelet {name}: {}", differs.join("; ")));
        }
    }
}

/// Short texts and refusals must be the same; of measurements and lists, the fields must be recorded ones.
fn shape(recorded: &Recorded, live: &Answer) -> Vec<String> {
    let found = live.json();
    match &recorded.response {
        Value::String(text) if text.starts_with("# HELP") => metrics(text, &live.body),
        Value::String(text) if text.len() < 40 && !text.contains("got line") => {
            normal::differences(&text.as_str().into(), &live.body.as_str().into())
        }
        Value::String(_) => Vec::new(),
        status if status["kind"] == "Status" => normal::differences(status, &found),
        object => {
            let (wanted, found) = (paths(object), paths(&found));
            let more: Vec<_> = found.difference(&wanted).cloned().collect();
            let less: Vec<_> = wanted.difference(&found).cloned().collect();
            let mut out = Vec::new();
            if !more.is_empty() {
                out.push(format!("fields not recorded: {more:?}"));
            }
            if !less.is_empty() {
                out.push(format!("fields missing: {less:?}"));
            }
            out
        }
    }
}

/// Metrics that upstream has too must have its help and type.
fn metrics(recorded: &str, live: &str) -> Vec<String> {
    let comments = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|l| l.starts_with("# "))
            .map(str::to_owned)
            .collect()
    };
    let (wanted, found) = (comments(recorded), comments(live));
    let name = |line: &str| line.split(' ').nth(2).unwrap_or_default().to_owned();
    let is_other = |line: &&String| !wanted.contains(line) && wanted.iter().any(|w| name(w) == name(line));
    found.iter().filter(is_other).cloned().collect()
}
