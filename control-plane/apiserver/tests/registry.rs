//! The verbs, as clients in the same process see them.

mod common;

use common::Server;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";

fn map(name: &str, label: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"l": label}}, "data": {"k": "v"}})
}

#[tokio::test]
async fn an_object_is_made_read_changed_and_deleted() {
    let server = Server::start().await;
    server.namespace("ns").await;
    let made = server.create(MAPS, map("a", "1")).await;
    assert_eq!(
        (made["kind"].as_str(), made["apiVersion"].as_str()),
        (Some("ConfigMap"), Some("v1"))
    );
    assert_eq!(made["metadata"]["uid"].as_str().map(str::len), Some(36));
    let path = format!("{MAPS}/a");
    let read = server.admin("GET", &path, &Value::Null).await.json();
    assert_eq!(read, made);
    let mut changed = read.clone();
    changed["data"]["k"] = "w".into();
    let answer = server.admin("PUT", &path, &changed).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    let stale = server.admin("PUT", &path, &changed).await;
    assert_eq!(
        (stale.code, stale.json()["reason"].as_str()),
        (409, Some("Conflict"))
    );
    let answer = server.admin("PATCH", &path, &json!({"data": {"m": "n"}})).await;
    assert_eq!(answer.json()["data"], json!({"k": "w", "m": "n"}));
    let version = answer.json()["metadata"]["resourceVersion"].clone();
    let same = server.admin("PATCH", &path, &json!({"data": {"m": "n"}})).await;
    assert_eq!(
        same.json()["metadata"]["resourceVersion"],
        version,
        "nothing changed, nothing is written"
    );
    let deleted = server.admin("DELETE", &path, &Value::Null).await;
    assert_eq!(deleted.json()["status"], "Success", "{}", deleted.text());
    assert_eq!(server.admin("GET", &path, &Value::Null).await.code, 404);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let server = Server::start().await;
    server.namespace("ns").await;
    let answer = server
        .admin("POST", &format!("{MAPS}?dryRun=All"), &map("a", "1"))
        .await;
    assert_eq!(answer.code, 201);
    assert_eq!(
        server.admin("GET", &format!("{MAPS}/a"), &Value::Null).await.code,
        404
    );
    server.create(MAPS, map("a", "1")).await;
    let answer = server
        .admin(
            "PATCH",
            &format!("{MAPS}/a?dryRun=All"),
            &json!({"data": {"k": "x"}}),
        )
        .await;
    assert_eq!(answer.json()["data"]["k"], "x");
    server
        .admin("DELETE", &format!("{MAPS}/a?dryRun=All"), &Value::Null)
        .await;
    let read = server.admin("GET", &format!("{MAPS}/a"), &Value::Null).await;
    assert_eq!(read.json()["data"]["k"], "v");
}

#[tokio::test]
async fn lists_come_in_pages_of_one_version() {
    let server = Server::start().await;
    server.namespace("ns").await;
    for name in ["a", "b", "c", "d"] {
        server.create(MAPS, map(name, "1")).await;
    }
    let first = server
        .admin("GET", &format!("{MAPS}?limit=2"), &Value::Null)
        .await
        .json();
    assert_eq!(first["metadata"]["remainingItemCount"], 2, "{first}");
    server.admin("DELETE", &format!("{MAPS}/c"), &Value::Null).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let next = server
        .admin("GET", &format!("{MAPS}?limit=2&continue={token}"), &Value::Null)
        .await
        .json();
    let names: Vec<&str> = next["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["c", "d"], "the page is of the first one's version");
    assert_eq!(
        next["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    assert!(
        next["items"][0].get("kind").is_none(),
        "items of a list don't name their kind"
    );
    server.create(MAPS, map("e", "1")).await;
    server.store.compact(server.store.revision()).await.unwrap();
    let gone = server
        .admin("GET", &format!("{MAPS}?limit=2&continue={token}"), &Value::Null)
        .await;
    assert_eq!(
        (gone.code, gone.json()["reason"].as_str()),
        (410, Some("Expired"))
    );
    let token = gone.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let rest = server
        .admin("GET", &format!("{MAPS}?limit=2&continue={token}"), &Value::Null)
        .await
        .json();
    assert_eq!(rest["items"].as_array().unwrap().len(), 2, "{rest}");
}

fn events(text: &str) -> Vec<(String, String)> {
    let event = |line: &str| -> (String, String) {
        let value: Value = serde_json::from_str(line).expect("a line of JSON");
        let name = value["object"]["metadata"]["name"].as_str().unwrap_or_default();
        (
            value["type"].as_str().unwrap_or_default().to_owned(),
            name.to_owned(),
        )
    };
    text.lines().map(event).collect()
}

fn expected(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

#[tokio::test]
async fn a_watch_sees_objects_move_in_and_out_of_its_selection() {
    let server = Server::start().await;
    server.namespace("ns").await;
    server.create(MAPS, map("a", "1")).await;
    let list = server.admin("GET", MAPS, &Value::Null).await.json();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    server
        .admin(
            "PATCH",
            &format!("{MAPS}/a"),
            &json!({"metadata": {"labels": {"l": "2"}}}),
        )
        .await;
    server
        .admin("PATCH", &format!("{MAPS}/a"), &json!({"data": {"unseen": "x"}}))
        .await;
    server
        .admin(
            "PATCH",
            &format!("{MAPS}/a"),
            &json!({"metadata": {"labels": {"l": "1"}}}),
        )
        .await;
    server.create(MAPS, map("b", "1")).await;
    server.admin("DELETE", &format!("{MAPS}/a"), &Value::Null).await;
    let path = format!("{MAPS}?watch=1&labelSelector=l%3D1&timeoutSeconds=1&resourceVersion={version}");
    let seen = server.admin("GET", &path, &Value::Null).await.text();
    let wanted = [("DELETED", "a"), ("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")];
    assert_eq!(events(&seen), expected(&wanted));
    let path = format!(
        "{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    );
    let seen = server.admin("GET", &path, &Value::Null).await.text();
    assert_eq!(events(&seen), expected(&[("ADDED", "b"), ("BOOKMARK", "")]));
    assert!(seen.contains("\"k8s.io/initial-events-end\":\"true\""), "{seen}");
}

#[tokio::test]
async fn a_watch_goes_on_from_before_the_server_began() {
    let server = Server::start().await;
    server.namespace("ns").await;
    server.create(MAPS, map("a", "1")).await;
    let version = server.store.revision();
    server.create(MAPS, map("b", "1")).await;
    server.admin("DELETE", &format!("{MAPS}/a"), &Value::Null).await;
    let again = knode_apiserver::ApiServer::start(common::config(&server.pki), server.store.clone())
        .await
        .unwrap();
    let second = Server {
        api: again,
        store: server.store.clone(),
        pki: server.pki.clone(),
        dir: common::scratch(),
    };
    let path = format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={version}");
    let seen = second.admin("GET", &path, &Value::Null).await.text();
    assert_eq!(
        events(&seen),
        expected(&[("ADDED", "b"), ("DELETED", "a")]),
        "{seen}"
    );
    server.store.compact(server.store.revision()).await.unwrap();
    server.store.close().await;
    let store = knode_store::Store::open(server.dir.0.join("state.db"))
        .await
        .unwrap();
    let again = knode_apiserver::ApiServer::start(common::config(&server.pki), store.clone())
        .await
        .unwrap();
    let third = Server {
        api: again,
        store,
        pki: server.pki.clone(),
        dir: common::scratch(),
    };
    let seen = third.admin("GET", &path, &Value::Null).await.text();
    let event: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(
        (event["type"].as_str(), event["object"]["code"].as_i64()),
        (Some("ERROR"), Some(410)),
        "{seen}"
    );
}

#[tokio::test]
async fn finalizers_hold_an_object_until_they_are_gone() {
    let server = Server::start().await;
    server.namespace("ns").await;
    let mut object = map("a", "1");
    object["metadata"]["finalizers"] = json!(["example.com/wait"]);
    server.create(MAPS, object).await;
    let path = format!("{MAPS}/a");
    let answer = server
        .admin(
            "DELETE",
            &format!("{path}?propagationPolicy=Foreground"),
            &Value::Null,
        )
        .await;
    let finalizers = answer.json()["metadata"]["finalizers"].clone();
    assert_eq!(
        finalizers,
        json!(["example.com/wait", "foregroundDeletion"]),
        "{}",
        answer.text()
    );
    assert!(answer.json()["metadata"]["deletionTimestamp"].is_string());
    server
        .admin("PATCH", &path, &json!({"metadata": {"finalizers": null}}))
        .await;
    assert_eq!(server.admin("GET", &path, &Value::Null).await.code, 404);
}

#[tokio::test]
async fn a_pod_ends_gracefully_on_its_node_and_at_once_elsewhere() {
    let server = Server::start().await;
    server.namespace("ns").await;
    let pods = "/api/v1/namespaces/ns/pods";
    let pod = |name: &str| json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    server.create(pods, pod("loose")).await;
    server.create(pods, pod("placed")).await;
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "placed"}, "target": {"kind": "Node", "name": "n"}});
    let bound = server
        .admin("POST", &format!("{pods}/placed/binding"), &binding)
        .await;
    assert_eq!(bound.code, 201, "{}", bound.text());
    server
        .admin("DELETE", &format!("{pods}/loose"), &Value::Null)
        .await;
    assert_eq!(
        server
            .admin("GET", &format!("{pods}/loose"), &Value::Null)
            .await
            .code,
        404
    );
    let going = server
        .admin("DELETE", &format!("{pods}/placed"), &Value::Null)
        .await
        .json();
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30, "{going}");
    let shorter = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 5});
    let going = server
        .admin("DELETE", &format!("{pods}/placed"), &shorter)
        .await
        .json();
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 5, "{going}");
    let now = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    server.admin("DELETE", &format!("{pods}/placed"), &now).await;
    assert_eq!(
        server
            .admin("GET", &format!("{pods}/placed"), &Value::Null)
            .await
            .code,
        404
    );
}

#[tokio::test]
async fn a_namespace_goes_when_it_is_finalized() {
    let server = Server::start().await;
    server.namespace("ns").await;
    let going = server
        .admin("DELETE", "/api/v1/namespaces/ns", &Value::Null)
        .await
        .json();
    assert_eq!(going["status"]["phase"], "Terminating", "{going}");
    let refused = server.admin("POST", MAPS, &map("a", "1")).await;
    assert_eq!(refused.code, 403, "{}", refused.text());
    let mut done = going.clone();
    done["spec"] = json!({});
    let answer = server.admin("PUT", "/api/v1/namespaces/ns/finalize", &done).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    assert_eq!(
        server
            .admin("GET", "/api/v1/namespaces/ns", &Value::Null)
            .await
            .code,
        404
    );
}

#[tokio::test]
async fn services_get_addresses_and_give_them_back() {
    let server = Server::start().await;
    server.namespace("ns").await;
    let services = "/api/v1/namespaces/ns/services";
    let service = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "selector": {"a": "b"},
            "ports": [{"port": 80, "nodePort": 30123}]}})
    };
    let made = server.create(services, service("a")).await;
    assert!(
        made["spec"]["clusterIP"]
            .as_str()
            .is_some_and(|ip| ip.starts_with("10.96.")),
        "{made}"
    );
    let taken = server.admin("POST", services, &service("b")).await;
    assert_eq!(taken.code, 422, "{}", taken.text());
    server
        .admin("DELETE", &format!("{services}/a"), &Value::Null)
        .await;
    server.create(services, service("b")).await;
    let again = knode_apiserver::ApiServer::start(common::config(&server.pki), server.store.clone())
        .await
        .unwrap();
    let second = Server {
        api: again,
        store: server.store.clone(),
        pki: server.pki.clone(),
        dir: common::scratch(),
    };
    let taken = second.admin("POST", services, &service("c")).await;
    assert_eq!(
        taken.code,
        422,
        "a new server knows what is taken: {}",
        taken.text()
    );
}

#[tokio::test]
async fn a_signing_request_names_who_made_it() {
    let server = Server::start().await;
    let key = knode_pki::PrivateKey::generate();
    let subject = knode_pki::Subject::new("system:node:n", &["system:nodes"]);
    let request = knode_pki::SigningRequest::create(&key, &subject, &Default::default()).unwrap();
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, request);
    let object = json!({"metadata": {"generateName": "csr-"}, "spec": {"request": encoded, "username": "root",
        "signerName": "kubernetes.io/kube-apiserver-client-kubelet", "usages": ["digital signature", "client auth"]}});
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let user = knode_apiserver::UserInfo::new("system:bootstrap:abcdef", ["system:bootstrappers"]);
    let made = server.send(&user, common::request("POST", path, &object)).await;
    assert_eq!(made.code, 201, "{}", made.text());
    let made = made.json();
    assert_eq!(made["spec"]["username"], "system:bootstrap:abcdef");
    let mut approved = made.clone();
    approved["status"] = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "R"}]});
    let name = made["metadata"]["name"].as_str().unwrap();
    let answer = server
        .admin("PUT", &format!("{path}/{name}/approval"), &approved)
        .await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    assert!(
        answer.json()["status"]["conditions"][0]["lastUpdateTime"].is_string(),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn events_of_both_groups_are_the_same_objects() {
    let server = Server::start().await;
    server.namespace("ns").await;
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "ns"},
        "reason": "R", "message": "said", "type": "Normal"});
    server.create("/api/v1/namespaces/ns/events", event).await;
    let path = "/apis/events.k8s.io/v1/namespaces/ns/events";
    let other = server
        .admin("GET", &format!("{path}/e"), &Value::Null)
        .await
        .json();
    assert_eq!(
        (other["note"].as_str(), other["regarding"]["name"].as_str()),
        (Some("said"), Some("p")),
        "{other}"
    );
    let event = json!({"metadata": {"name": "f"}, "regarding": {"kind": "Pod", "name": "p", "namespace": "ns"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "c", "reportingInstance": "i",
        "action": "A", "reason": "R", "note": "noted", "type": "Normal"});
    server.create(path, event).await;
    let list = server
        .admin("GET", "/api/v1/namespaces/ns/events", &Value::Null)
        .await
        .json();
    let messages: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|i| i["message"].as_str())
        .collect();
    assert_eq!(messages, ["said", "noted"], "{list}");
    let watch = format!("{path}?watch=1&timeoutSeconds=1&fieldSelector=regarding.name%3Dp");
    let seen = server.admin("GET", &watch, &Value::Null).await.text();
    assert_eq!(
        events(&seen),
        expected(&[("ADDED", "e"), ("ADDED", "f")]),
        "{seen}"
    );
}

#[tokio::test]
async fn a_closed_store_refuses_writes_and_answers_reads() {
    let server = Server::start().await;
    server.namespace("ns").await;
    server.create(MAPS, map("a", "1")).await;
    server.store.close().await;
    let refused = server.admin("POST", MAPS, &map("b", "1")).await;
    assert_eq!(refused.code, 503, "{}", refused.text());
    let list = server.admin("GET", MAPS, &Value::Null).await.json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

fn short_lived(name: &str, label: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"l": label}}, "type": "Normal", "reason": "R", "message": "said",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "ns"}})
}

/// What a list says but for its versions.
fn listed(list: &Value) -> Value {
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let item = |item: &Value| json!([item["metadata"]["name"], item["metadata"]["labels"]["l"]]);
    json!([
        list["metadata"]["remainingItemCount"],
        items.iter().map(item).collect::<Vec<_>>()
    ])
}

/// What clients see of a kind's objects.
async fn seen(server: &Server, path: &str, make: fn(&str, &str) -> Value) -> Vec<Value> {
    let mut said = Vec::new();
    let at = |name: &str| format!("{path}/{name}");
    let get = async |query: &str| server.admin("GET", &format!("{path}{query}"), &Value::Null).await;
    for (name, label) in [("a", "1"), ("b", "2"), ("c", "1"), ("d", "2"), ("e", "1")] {
        server.create(path, make(name, label)).await;
    }
    let first = get("?limit=2").await.json();
    let version = first["metadata"]["resourceVersion"]
        .as_str()
        .expect("a version")
        .to_owned();
    let token = first["metadata"]["continue"]
        .as_str()
        .expect("a token")
        .to_owned();
    server.admin("DELETE", &at("c"), &Value::Null).await;
    let change = json!({"metadata": {"labels": {"l": "2"}}});
    said.push(server.admin("PATCH", &at("a"), &change).await.json()["metadata"]["labels"].clone());
    said.extend([
        listed(&first),
        listed(&get(&format!("?limit=2&continue={token}")).await.json()),
    ]);
    said.push(get("/a").await.json()["metadata"]["labels"].clone());
    said.push(get("/c").await.code.into());
    said.push(server.admin("POST", path, &make("a", "3")).await.json()["reason"].clone());
    for query in [
        "",
        "?resourceVersion=0",
        "?labelSelector=l%3D2",
        "?fieldSelector=metadata.name%3Dd",
        &format!("?resourceVersion={version}&resourceVersionMatch=Exact"),
    ] {
        said.push(listed(&get(query).await.json()));
    }
    for query in [
        format!("resourceVersion={version}&labelSelector=l%3D1"),
        "labelSelector=l%3D2".to_owned(),
    ] {
        let text = get(&format!("?watch=1&timeoutSeconds=1&{query}")).await.text();
        said.extend(events(&text).into_iter().map(|(kind, name)| json!([kind, name])));
    }
    server
        .admin("DELETE", &format!("{path}?labelSelector=l%3D2"), &Value::Null)
        .await;
    said.push(listed(&get("").await.json()));
    said
}

#[tokio::test]
async fn objects_that_expire_are_seen_as_all_others() {
    let server = Server::start().await;
    server.namespace("ns").await;
    let path = "/api/v1/namespaces/ns/events";
    let (kept, short) = tokio::join!(seen(&server, MAPS, map), seen(&server, path, short_lived));
    assert_eq!(kept, short);
    assert_eq!(short.last().unwrap(), &json!([null, [["e", "1"]]]), "{short:?}");
    let again = knode_apiserver::ApiServer::start(common::config(&server.pki), server.store.clone());
    let second = Server {
        api: again.await.unwrap(),
        store: server.store.clone(),
        pki: server.pki.clone(),
        dir: common::scratch(),
    };
    let list = second.admin("GET", path, &Value::Null).await.json();
    assert_eq!(listed(&list), json!([null, [["e", "1"]]]));
}
