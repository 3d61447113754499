//! Answers compared with those of Kubernetes 1.36.2, recorded on the wire (`recordings/*.jsonl`): codes, fields,
//! reasons and messages. What differs is listed with its reason; a listed difference that is none any more fails
//! the test too. `docs/differences.md` says the same to users.

mod common;

use std::collections::BTreeMap;

use common::{Answer, Server};
use knode_apiserver::UserInfo;
use serde_json::{Map, Value, json};

/// The annotation that upstream's controller puts on the root CA's ConfigMap.
static ROOT_CA: std::sync::LazyLock<Value> = std::sync::LazyLock::new(
    || json!({"kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."}),
);

/// One recorded request with its answer.
struct Recorded {
    note: String,
    user: UserInfo,
    method: String,
    path: String,
    headers: Map<String, Value>,
    request: Value,
    code: u16,
    warnings: Vec<String>,
    response: Value,
}

fn read(file: &str) -> Vec<Recorded> {
    let path = format!("{}/tests/recordings/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.lines()
        .map(|line| parse(serde_json::from_str(line).expect("a line of JSON")))
        .collect()
}

fn parse(line: Value) -> Recorded {
    let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
    let user = match line["user"].as_str() {
        Some("anonymous") => UserInfo::anonymous(),
        Some("node1") => common::node("node1"),
        _ => common::admin(),
    };
    let warnings = match &line["responseHeaders"]["Warning"] {
        Value::String(one) => vec![one.clone()],
        list => list
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    };
    Recorded {
        note: text("note"),
        user,
        method: text("method"),
        path: text("path"),
        headers: line["headers"].as_object().cloned().unwrap_or_default(),
        request: line["request"].clone(),
        code: line["code"]
            .as_u64()
            .and_then(|code| u16::try_from(code).ok())
            .expect("a code"),
        warnings,
        response: line["response"].clone(),
    }
}

/// What stands in the recording for what stands here: uids and resource versions.
#[derive(Default)]
struct Names(BTreeMap<String, String>);

impl Names {
    fn learn(&mut self, recorded: &Value, live: &Value) {
        for field in ["uid", "resourceVersion", "continue"] {
            if let (Some(recorded), Some(live)) = (
                recorded["metadata"][field].as_str(),
                live["metadata"][field].as_str(),
            ) {
                self.0.insert(recorded.to_owned(), live.to_owned());
            }
        }
    }

    fn translate(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => match self.0.get(text) {
                Some(live) => live.as_str().into(),
                None => text.as_str().into(),
            },
            Value::Array(list) => list.iter().map(|item| self.translate(item)).collect(),
            Value::Object(map) => map
                .iter()
                .map(|(k, v)| (k.clone(), self.translate(v)))
                .collect::<Map<_, _>>()
                .into(),
            other => other.clone(),
        }
    }

    /// Versions and tokens in a query.
    fn translate_path(&self, path: &str) -> String {
        let known = |text: &str, name: &str| -> Option<String> {
            let value = text.strip_prefix(name)?.strip_prefix('=')?;
            Some(format!("{name}={}", self.0.get(value)?))
        };
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let parts = query.split('&').map(|part| {
            let translated = known(part, "resourceVersion").or_else(|| known(part, "continue"));
            translated.unwrap_or_else(|| part.to_owned())
        });
        format!("{path}?{}", parts.collect::<Vec<_>>().join("&"))
    }

    /// Uids inside of texts.
    fn translate_text(&self, text: &str) -> String {
        let long = self.0.iter().filter(|(recorded, _)| recorded.len() == 36);
        long.fold(text.to_owned(), |text, (recorded, live)| {
            text.replace(recorded, live)
        })
    }
}

/// Replaces what is another each time.
fn normal(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let fields = map.iter().map(|(key, value)| {
                let value = match key.as_str() {
                    "uid" | "resourceVersion" | "continue" if value.is_string() => "…".into(),
                    "creationTimestamp" | "deletionTimestamp" | "lastTransitionTime" if value.is_string() => {
                        "…".into()
                    }
                    "message" => normal_text(value.as_str().unwrap_or_default()).into(),
                    "clusterIP" | "clusterIPs" => "…".into(),
                    "image" => value.clone(),
                    _ => normal(value),
                };
                (key.clone(), value)
            });
            fields.collect::<Map<_, _>>().into()
        }
        Value::Array(list) => list.iter().map(normal).collect(),
        Value::String(text) if text.starts_with("kube-api-access-") => "kube-api-access-…".into(),
        other => other.clone(),
    }
}

fn normal_text(text: &str) -> String {
    // The difference of two Go structs follows; its line numbers and field names are Go's.
    let text = text.split("\n@@ ").next().unwrap_or_default();
    match text.split_once(", current: ") {
        Some((before, _)) => before.to_owned(),
        None => text.to_owned(),
    }
}

async fn replay(server: &Server, recorded: &Recorded, names: &Names) -> Answer {
    let mut request = common::request(
        &recorded.method,
        &names.translate_path(&recorded.path),
        &Value::Null,
    );
    for name in ["Accept", "Content-Type"] {
        if let Some(text) = recorded.headers.get(name).and_then(Value::as_str) {
            request.headers_mut().insert(
                http::HeaderName::from_bytes(name.as_bytes()).expect("a header's name"),
                text.parse().expect("a header's value"),
            );
        }
    }
    let body = match &recorded.request {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        object => names.translate(object).to_string(),
    };
    *request.body_mut() = http_body_util::Full::new(body.into());
    server.send(&recorded.user, request).await
}

/// What differs between the recorded and the live answer.
fn compare(recorded: &Recorded, live: &Answer, names: &Names) -> Option<String> {
    if recorded.code != live.code {
        return Some(format!(
            "code {} instead of {}: {}",
            live.code,
            recorded.code,
            live.text()
        ));
    }
    if recorded.warnings != live.header("warning") {
        return Some(format!(
            "warnings {:?} instead of {:?}",
            live.header("warning"),
            recorded.warnings
        ));
    }
    let recorded_text = names.translate_text(&recorded.response.to_string());
    let wanted = normal(&serde_json::from_str(&recorded_text).unwrap_or_default());
    let found = if live.bytes.is_empty() {
        Value::Null
    } else {
        normal(&live.json())
    };
    let mut differences = Vec::new();
    difference("", &wanted, &found, &mut differences);
    if differences.is_empty() {
        None
    } else {
        Some(differences.join("; "))
    }
}

fn difference(path: &str, wanted: &Value, found: &Value, out: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let at = |map: &Map<String, Value>| map.get(key.as_str()).cloned().unwrap_or(Value::Null);
                difference(&format!("{path}.{key}"), &at(a), &at(b), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                difference(&format!("{path}[{index}]"), a, b, out);
            }
        }
        // A list that was cut when it was recorded.
        (Value::Array(a), Value::Array(_))
            if a.iter()
                .any(|item| item.as_str().is_some_and(|t| t.ends_with("more>"))) => {}
        (Value::String(a), _) if a.contains("<…>") => {}
        (a, b) if a == b => {}
        (a, b) => out.push(format!("{path}: {b} instead of {a}")),
    }
}

/// Compares one after the other. `known` are the notes of answers that may differ, with the reason.
async fn compare_all(server: &Server, list: &[Recorded], names: &mut Names, known: &[(&str, &str)]) {
    let mut problems = Vec::new();
    for recorded in list {
        let live = replay(server, recorded, names).await;
        let differs = compare(recorded, &live, names);
        names.learn(&recorded.response, &live.json());
        let listed = known.iter().find(|(note, _)| *note == recorded.note);
        match (differs, listed) {
            (Some(difference), None) => problems.push(format!("{}: {difference}", recorded.note)),
            (None, Some((note, _))) => problems.push(format!("{note}: differs no more, but is listed")),
            _ => {}
        }
    }
    assert!(
        problems.is_empty(),
        "{} differ:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

const NO_APPLY: &str = "server-side apply is not supported yet: 415 says so";
const NO_DEPLOYMENTS: &str = "Deployment is not among the kinds of this server yet";
const NO_QUOTA: &str = "ResourceQuota is not among the kinds of this server yet";
const NO_BUDGETS: &str = "PodDisruptionBudget is not among the kinds of this server yet";
const NO_SCHEDULER: &str = "the recorded cluster had a scheduler";
const NOT_REPLAYED: &str = "the recording has not what the request had";

const IN_ERRORS: &[(&str, &str)] = &[
    ("duplicate field, Strict", NOT_REPLAYED),
    ("(reads e1)", NO_SCHEDULER),
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

const IN_MORE: &[(&str, &str)] = &[
    ("quota: requests must be given", NO_QUOTA),
    ("quota exceeded", NO_QUOTA),
    ("eviction refused by a disruption budget: 429", NO_BUDGETS),
    ("binding of a bound pod", NO_BUDGETS),
    ("pod resize: image change refused", NO_QUOTA),
    ("generateName", "the name is random"),
    ("delete of a pod never scheduled, grace 30", NO_SCHEDULER),
];
const IN_NODE: &[(&str, &str)] = &[];
const IN_LISTS: &[(&str, &str)] = &[(
    "list with limit=2, before compaction",
    "other changes were made before it",
)];
/// Groups in the recording that this server doesn't have.
const NO_GROUPS: [&str; 3] = ["/apis/batch/v1", "/apis/policy/v1", "/apis/autoscaling/v2"];

#[tokio::test]
async fn errors_are_upstreams() {
    let server = Server::start().await;
    server.namespace("err").await;
    let mut names = Names::default();
    compare_all(&server, &read("errors.jsonl"), &mut names, IN_ERRORS).await;
    server
        .create(
            "/api/v1/namespaces/err/configmaps",
            json!({"metadata": {"name": "ap"}}),
        )
        .await;
    server
        .create("/api/v1/nodes", json!({"metadata": {"name": "node1"}}))
        .await;
    place_a_pod(&server, "err").await;
    compare_all(&server, &read("errors-node-identity.jsonl"), &mut names, IN_NODE).await;
    server.namespace("st").await;
    place_a_pod(&server, "st").await;
    for number in 0..2 {
        let map =
            json!({"metadata": {"name": format!("w{number}"), "labels": {"w": "1"}}, "data": {"k": "z"}});
        server.create("/api/v1/namespaces/err/configmaps", map).await;
    }
    compare_all(&server, &read("errors-more.jsonl"), &mut names, IN_MORE).await;
}

/// A pod on node1, which therefore has to do with the namespace's default service account.
async fn place_a_pod(server: &Server, namespace: &str) {
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let spec = json!({"nodeName": "node1", "containers": [{"name": "c", "image": "b"}]});
    server
        .create(&pods, json!({"metadata": {"name": "p"}, "spec": spec}))
        .await;
}

#[tokio::test]
async fn lists_are_upstreams() {
    let server = Server::start().await;
    server.namespace("err").await;
    let maps = "/api/v1/namespaces/err/configmaps";
    server
        .create(maps, json!({"metadata": {"name": "ap"}, "data": {"k": "2"}}))
        .await;
    server.create(maps, json!({"metadata": {"name": "kube-root-ca.crt", "annotations": *ROOT_CA}, "data": {"ca.crt": "x"}})).await;
    for number in 0..5 {
        let map = json!({"metadata": {"name": format!("w{number}"), "labels": {"w": "1"}}, "data": {"k": number.to_string()}});
        server.create(maps, map).await;
    }
    server.create(maps, json!({"metadata": {"name": "x"}})).await;
    let lists: Vec<Recorded> = read("watch.jsonl")
        .into_iter()
        .filter(|r| !r.path.contains("watch") || r.code != 200)
        .collect();
    assert!(lists.len() > 10);
    compare_all(&server, &lists, &mut Names::default(), IN_LISTS).await;
}

#[tokio::test]
async fn discovery_is_upstreams() {
    let server = Server::start().await;
    let mut problems = Vec::new();
    for recorded in read("discovery.jsonl") {
        let live = replay(&server, &recorded, &Names::default()).await;
        let missing = NO_GROUPS.contains(&recorded.path.as_str());
        if recorded.code != live.code && !missing {
            problems.push(format!("{} {}: code {}", recorded.note, recorded.path, live.code));
        }
        compare_discovery(&recorded, &live.json(), &mut problems);
    }
    assert!(
        problems.is_empty(),
        "{} differ:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

/// Versions that upstream's server has where it is told to.
const WHERE_TOLD: &[(&str, &str)] = &[("certificates.k8s.io", "v1beta1")];

/// What this server has must be as it is upstream; it needn't have everything.
fn compare_discovery(recorded: &Recorded, live: &Value, problems: &mut Vec<String>) {
    let lists = [("groups", "name"), ("resources", "name"), ("items", "metadata")];
    for (list, key) in lists {
        for found in live[list].as_array().into_iter().flatten() {
            let theirs = recorded.response[list].as_array().into_iter().flatten();
            match theirs.clone().find(|item| item[key] == found[key]) {
                Some(wanted) => part(
                    &format!("{} {}", recorded.path, found[key]),
                    wanted,
                    found,
                    problems,
                ),
                None => problems.push(format!("{}: {} isn't there upstream", recorded.path, found[key])),
            }
        }
    }
}

fn part(path: &str, wanted: &Value, found: &Value, problems: &mut Vec<String>) {
    for list in ["versions", "resources", "subresources"] {
        for item in found[list].as_array().into_iter().flatten() {
            let key = ["version", "resource", "subresource"]
                .into_iter()
                .find(|key| item[*key].is_string())
                .unwrap_or("name");
            let told = |(group, version): &(&str, &str)| path.contains(group) && item["version"] == *version;
            if WHERE_TOLD.iter().any(told) {
                continue;
            }
            let theirs = wanted[list].as_array().into_iter().flatten();
            match theirs.clone().find(|other| other[key] == item[key]) {
                Some(wanted) => part(&format!("{path} {}", item[key]), wanted, item, problems),
                None => problems.push(format!("{path}: {} isn't there upstream", item[key])),
            }
        }
    }
    let without_lists = |value: &Value| {
        let map = value.as_object().cloned().unwrap_or_default();
        let plain = map.into_iter().filter(|(key, _)| {
            !["versions", "resources", "subresources", "preferredVersion"].contains(&key.as_str())
        });
        Value::Object(plain.collect())
    };
    difference(path, &without_lists(wanted), &without_lists(found), problems);
}

/// Versions that have been compacted away: 410 to lists, an ERROR event to watches.
#[tokio::test]
async fn answers_about_forgotten_versions_are_upstreams() {
    let server = Server::start().await;
    server.namespace("old").await;
    let maps = "/api/v1/namespaces/old/configmaps";
    for number in 0..5 {
        let map = json!({"metadata": {"name": format!("w{number}"), "labels": {"w": "1"}}, "data": {"k": number.to_string()}});
        server.create(maps, map).await;
    }
    let recorded = read("gone-410.jsonl");
    let page = server
        .admin("GET", &format!("{maps}?limit=2&labelSelector=w"), &Value::Null)
        .await;
    let mut names = Names::default();
    let token = recorded[3]
        .path
        .split("continue=")
        .nth(1)
        .expect("a token")
        .to_owned();
    let begin = json!({"metadata": {"resourceVersion": "232", "continue": token}});
    names.learn(&begin, &page.json());
    for name in ["later", "last"] {
        server.create(maps, json!({"metadata": {"name": name}})).await;
    }
    let server = restarted(server).await;
    let mut problems = Vec::new();
    for recorded in &recorded {
        let live = replay(&server, recorded, &names).await;
        let (wanted, found) = (settled(&recorded.response), settled(&live.json()));
        let mut differences = Vec::new();
        difference("", &wanted, &found, &mut differences);
        if recorded.code != live.code || !differences.is_empty() {
            problems.push(format!(
                "{}: {} {}",
                recorded.note,
                live.code,
                differences.join("; ")
            ));
        }
        names.learn(&recorded.response, &live.json());
    }
    assert!(
        problems.is_empty(),
        "{} differ:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

/// After a compaction; until the restart the server has the history itself, as upstream's has.
async fn restarted(server: Server) -> Server {
    let Server { api, store, pki, dir } = server;
    store.compact(store.revision()).await.expect("a compaction");
    store.close().await;
    drop(api);
    let store = knode_store::Store::open(dir.0.join("state.db"))
        .await
        .expect("the store");
    let api = knode_apiserver::ApiServer::start(common::config(&pki), store.clone())
        .await
        .expect("a server");
    Server { api, store, pki, dir }
}

/// Without the versions that an ERROR event names.
fn settled(value: &Value) -> Value {
    let mut value = normal(value);
    let message = value.pointer_mut("/object/message");
    if let Some(message) = message.filter(|m| {
        m.as_str()
            .is_some_and(|m| m.starts_with("too old resource version: "))
    }) {
        *message = "too old resource version: …".into();
    }
    value
}
