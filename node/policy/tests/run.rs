//! The whole in a network namespace, fed by an API server's watches.

mod common;

use std::time::Duration;

use common::api::Api;
use common::cluster::pod;
use common::{in_fresh_netns, nft};
use knode_policy::{Announcer, PolicyConfig, announcements, run};
use serde_json::{Value, json};
use tokio::sync::oneshot;

fn config(api: &Api) -> (PolicyConfig, Announcer) {
    let (announcer, announcements) = announcements();
    let config = PolicyConfig {
        client: api.client(),
        node_name: "node1".to_owned(),
        table: "knode-policy".to_owned(),
        announcements,
    };
    (config, announcer)
}

/// Runs `test` beside the enforcement, in a fresh namespace, and ends both.
fn with_policies<F: Future<Output = ()>>(api: &Api, test: impl FnOnce(Api) -> F + Send + 'static) {
    with_announcer(api, |api, _| test(api));
}

fn with_announcer<F: Future<Output = ()>>(
    api: &Api,
    test: impl FnOnce(Api, Announcer) -> F + Send + 'static,
) {
    let api = api.clone();
    in_fresh_netns(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        runtime.block_on(async {
            let (stop, stopped) = oneshot::channel::<()>();
            let (config, announcer) = config(&api);
            let enforcing = run(config, async { stopped.await.unwrap_or_default() });
            let test = async {
                test(api.clone(), announcer).await;
                stop.send(()).expect("it runs");
            };
            let (ended, ()) = tokio::join!(enforcing, test);
            ended.expect("it ends without an error");
        });
    });
}

/// Waits until the condition holds of the ruleset and of what is watched.
async fn until(api: &Api, what: &str, holds: impl Fn(&str, &[String]) -> bool) {
    let (mut listing, mut watched) = (String::new(), Vec::new());
    for _ in 0..500 {
        (listing, watched) = (nft(&["-n", "list", "ruleset"]), api.watched());
        if holds(&listing, &watched) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within five seconds: {what}; watched: {watched:?}, the ruleset is\n{listing}");
}

fn set_pod(api: &Api, name: &str, node: &str, labels: Value, ip: &str) {
    api.set("pods", name, pod(name, node, labels, &[ip], json!([])));
}

fn set_policy(api: &Api, name: &str, spec: Value) {
    api.set("networkpolicies", name, json!({"metadata": {}, "spec": spec}));
}

fn peers(peers: Value) -> Value {
    json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": peers}]})
}

#[test]
fn nothing_is_watched_that_no_policy_needs() {
    let api = Api::default();
    set_pod(&api, "a/web", "node1", json!({"app": "web"}), "10.244.0.2");
    set_pod(&api, "b/far", "node2", json!({"app": "far"}), "10.244.1.2");
    api.set("namespaces", "a", json!({"metadata": {"labels": {"team": "a"}}}));
    api.set("namespaces", "b", json!({"metadata": {"labels": {"team": "b"}}}));
    with_policies(&api, |api| async move {
        until(&api, "no policy", |now, watched| {
            now.is_empty() && watched == ["networkpolicies"]
        })
        .await;
        set_policy(
            &api,
            "c/else",
            peers(json!([{"namespaceSelector": {"matchLabels": {"team": "b"}}}])),
        );
        let of_node = ["networkpolicies", "pods of node1"];
        until(&api, "no pod here is selected", |now, watched| {
            now.is_empty() && watched == of_node
        })
        .await;
        set_policy(&api, "a/deny", json!({"podSelector": {}}));
        until(&api, "this node's pods are enough", |now, watched| {
            now.contains("10.244.0.2 : goto ingress-") && watched == of_node
        })
        .await;
        set_policy(&api, "a/pods", peers(json!([{"namespaceSelector": {}}])));
        until(&api, "other nodes' pods are peers", |now, watched| {
            now.contains("10.244.1.2") && watched == ["networkpolicies", "pods"]
        })
        .await;
        set_policy(
            &api,
            "a/spaces",
            peers(json!([{"namespaceSelector": {"matchLabels": {"team": "b"}}}])),
        );
        until(&api, "labels of namespaces matter", |now, watched| {
            now.matches("elements = { 10.244.1.2 }").count() == 1
                && watched == ["namespaces", "networkpolicies", "pods"]
        })
        .await;
        for name in ["a/deny", "a/pods", "a/spaces", "c/else"] {
            api.delete("networkpolicies", name);
        }
        until(&api, "as in the beginning", |now, watched| {
            now.is_empty() && watched == ["networkpolicies"]
        })
        .await;
    });
}

#[test]
fn pods_namespaces_and_policies_are_followed() {
    let api = Api::default();
    set_pod(&api, "a/web", "node1", json!({"app": "web"}), "10.244.0.2");
    set_policy(
        &api,
        "a/web",
        peers(json!([{"namespaceSelector": {"matchLabels": {"team": "b"}}}])),
    );
    with_policies(&api, |api| async move {
        until(&api, "isolated", |now, _| {
            now.contains("10.244.0.2 : goto ingress-")
        })
        .await;
        set_pod(&api, "b/client", "node2", json!({}), "10.244.1.7");
        api.set("namespaces", "b", json!({"metadata": {"labels": {"team": "b"}}}));
        until(&api, "the namespace is one of the peers", |now, _| {
            now.contains("10.244.1.7")
        })
        .await;
        set_pod(&api, "b/client", "node2", json!({}), "10.244.1.8");
        until(&api, "another address", |now, _| {
            now.contains("10.244.1.8") && !now.contains("10.244.1.7")
        })
        .await;
        api.set("namespaces", "b", json!({"metadata": {"labels": {"team": "c"}}}));
        until(&api, "no longer a peer", |now, _| !now.contains("10.244.1.8")).await;
        set_pod(&api, "a/late", "node1", json!({}), "10.244.0.3");
        until(&api, "another pod is selected", |now, _| {
            now.contains("10.244.0.3 : goto ingress-")
        })
        .await;
        set_policy(
            &api,
            "a/web",
            json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"],
                                         "egress": [{"ports": [{"port": 443}]}]}),
        );
        until(&api, "the other direction, and fewer pods", |now, _| {
            now.contains("10.244.0.2 : goto egress-")
                && !now.contains("goto ingress-")
                && now.contains("443 accept")
        })
        .await;
        api.delete("pods", "a/web");
        until(&api, "nobody is left", |now, _| now.is_empty()).await;
    });
}

#[test]
fn a_table_that_someone_broke_is_mended() {
    let api = Api::default();
    set_pod(&api, "a/web", "node1", json!({}), "10.244.0.2");
    set_policy(&api, "a/deny", json!({"podSelector": {}}));
    with_policies(&api, |api| async move {
        let is_there =
            |now: &str, _: &[String]| now.contains("10.244.0.2 : goto ingress-") && now.contains("drop");
        until(&api, "applied", is_there).await;
        nft(&["flush ruleset"]);
        until(&api, "mended after a flush", is_there).await;
        nft(&["insert rule ip knode-policy judge-ingress counter accept"]);
        until(&api, "mended after a strange rule", |now, watched| {
            is_there(now, watched) && !now.contains("bytes 0 accept")
        })
        .await;
    });
}

#[test]
fn what_an_earlier_run_left_stays_until_more_is_known_and_is_taken_over() {
    let api = Api::default();
    set_pod(&api, "a/web", "node1", json!({}), "10.244.0.2");
    set_policy(&api, "a/deny", json!({"podSelector": {}}));
    api.forbid("pods", true);
    with_policies(&api, |api| async move {
        nft(&["add table ip knode-policy"]);
        nft(&["add set ip knode-policy left { type ipv4_addr; }"]);
        until(&api, "policies are known, pods are not", |now, watched| {
            now.contains("left") && watched == ["networkpolicies"]
        })
        .await;
        api.forbid("pods", false);
        until(&api, "enforced when pods can be seen", |now, _| {
            now.contains("10.244.0.2 : goto ingress-") && !now.contains("left")
        })
        .await;
    });
}

#[test]
fn the_tables_outlive_the_run() {
    let api = Api::default();
    set_pod(&api, "a/web", "node1", json!({}), "10.244.0.2");
    set_policy(&api, "a/deny", json!({"podSelector": {}}));
    in_fresh_netns(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        runtime.block_on(async {
            let (config, _announcer) = config(&api);
            let applied = until(&api, "applied", |now, _| {
                now.contains("10.244.0.2 : goto ingress-")
            });
            run(config, applied).await.expect("it ends");
        });
        assert!(
            nft(&["list", "ruleset"]).contains("goto ingress-"),
            "pods stay isolated"
        );
        assert!(knode_policy::teardown("knode-policy").is_empty());
        assert_eq!(nft(&["list", "ruleset"]), "");
    });
}

#[test]
fn bridged_packets_are_shown_to_the_rules() {
    let api = Api::default();
    set_pod(&api, "a/web", "node1", json!({}), "10.244.0.2");
    with_policies(&api, |api| async move {
        let off = |switch: &str| {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{switch}");
            std::fs::write(path, "0").expect("the kernel has br_netfilter");
        };
        ["iptables", "ip6tables"].into_iter().for_each(off);
        set_policy(&api, "a/deny", json!({"podSelector": {}}));
        let read = |switch: &str| {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{switch}");
            std::fs::read_to_string(path).expect("the kernel has br_netfilter")
        };
        until(&api, "applied", |now, _| now.contains("goto ingress-")).await;
        assert_eq!((read("iptables").trim(), read("ip6tables").trim()), ("1", "1"));
        ["iptables", "ip6tables"].into_iter().for_each(off);
        set_pod(&api, "a/late", "node1", json!({}), "10.244.0.3");
        until(&api, "another pod", |now, _| {
            now.contains("10.244.0.3 : goto ingress-")
        })
        .await;
        assert_eq!((read("iptables").trim(), read("ip6tables").trim()), ("1", "1"));
    });
}

#[test]
fn a_pod_is_isolated_before_the_api_server_knows_its_address() {
    let api = Api::default();
    let starting = |labels: Value| pod("a/web", "node1", labels, &[], json!([]));
    with_announcer(&api, move |api, announcer| async move {
        let bound = Duration::from_secs(5);
        let told = |ips: &[&str]| {
            let ips = ips.iter().map(|ip| ip.parse().expect("address")).collect();
            tokio::time::timeout(bound, announcer.pod_has("a", "web", ips))
        };
        let leads = |ip: &str| nft(&["list", "ruleset"]).contains(&format!("{ip} : goto ingress-"));
        told(&["10.244.0.2"])
            .await
            .expect("without policies nobody waits");
        set_policy(
            &api,
            "a/deny",
            json!({"podSelector": {"matchLabels": {"app": "web"}}}),
        );
        until(&api, "pods are watched", |_, watched| {
            watched.contains(&"pods of node1".to_owned())
        })
        .await;
        // Until the first list is there nobody can know.
        api.set("pods", "a/web", starting(json!({"app": "web"})));
        let seen = async {
            while !leads("10.244.0.2") {
                told(&["10.244.0.2"]).await.expect("told in time");
            }
        };
        tokio::time::timeout(bound, seen)
            .await
            .expect("isolated by what was told");
        told(&["10.244.0.3", "fd00::3"]).await.expect("told in time");
        assert!(
            leads("10.244.0.3") && leads("fd00::3"),
            "when it returns the rules are there"
        );
        assert!(!leads("10.244.0.2"), "the pod has another address now");
        api.set("pods", "a/web", starting(json!({"app": "web", "other": "label"})));
        let late = pod("a/late", "node1", json!({"app": "web"}), &[], json!([]));
        let ips = vec!["10.244.0.4".parse().expect("address")];
        let (_, ()) = tokio::join!(async { api.set("pods", "a/late", late) }, async {
            tokio::time::timeout(bound, announcer.pod_has("a", "late", ips))
                .await
                .expect("it came to be known")
        });
        assert!(
            leads("10.244.0.4") && leads("10.244.0.3"),
            "what was told holds until it is shown"
        );
        let mut shown = starting(json!({"app": "web"}));
        shown["status"]["podIPs"] = json!([{"ip": "fd00::3"}, {"ip": "10.244.0.3"}]);
        api.set("pods", "a/web", shown.clone());
        shown["status"]["podIPs"] = json!([{"ip": "10.244.0.5"}]);
        api.set("pods", "a/web", shown);
        until(&api, "what is shown holds then", |now, _| {
            now.contains("10.244.0.5 : goto ingress-") && !now.contains("10.244.0.3 :")
        })
        .await;
        api.delete("pods", "a/web");
        until(&api, "gone", |now, _| !now.contains("10.244.0.5")).await;
    });
}
