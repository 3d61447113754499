//! The whole proxy in a network namespace, fed by an API server's watches.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::api::Api;
use common::fixture::config;
use common::hosts::{elements, in_fresh_netns, nft, run as run_program};
use knode_proxy::{Error, ProxyConfig, ProxyMode, ProxyOptions, run};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

const HEALTH: &str = "127.0.0.1:10256";
const METRICS: &str = "127.0.0.1:10249";

fn proxy_config(api: &Api) -> ProxyConfig {
    let address = |text: &str| text.parse::<SocketAddr>().ok();
    ProxyConfig {
        client: api.client(),
        node_name: "node1".to_owned(),
        table: config(),
        health: address(HEALTH),
        metrics: address(METRICS),
        options: ProxyOptions::default(),
    }
}

fn set_service(api: &Api, name: &str, ip: &str) {
    let ports = json!([{"name": "p", "port": 80, "protocol": "TCP"}]);
    api.set(
        "services",
        name,
        json!({"metadata": {}, "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": ports}}),
    );
}

fn set_slice(api: &Api, service: &str, ips: &[&str]) {
    let endpoints: Vec<_> = ips
        .iter()
        .map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}}))
        .collect();
    api.set(
        "endpointslices",
        &format!("{service}-1"),
        json!({
            "metadata": {"labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "p", "port": 8080, "protocol": "TCP"}]
        }),
    );
}

#[test]
fn iptables_are_kept_as_the_api_says() {
    let api = Api::default();
    set_service(&api, "web", "10.96.0.1");
    let rules = || {
        let output = std::process::Command::new("iptables-save").output();
        let output = output.expect("iptables is installed (Debian: iptables)");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    in_fresh_netns(move || {
        nft(&["add", "table", "ip", "knode-proxy"]);
        let until = async |what: &str, holds: &dyn Fn(&str) -> bool| {
            for _ in 0..500 {
                if holds(&rules()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("not within five seconds: {what}:\n{}", rules());
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        runtime.block_on(async {
            let test = async {
                let refused = |now: &str| now.contains("-d 10.96.0.1/32") && now.contains("has no endpoints");
                until("the first list", &refused).await;
                set_slice(&api, "web", &["10.244.1.2"]);
                until("an endpoint", &|now| {
                    now.contains("--to-destination 10.244.1.2:8080")
                })
                .await;
                assert!(get(METRICS, "/proxyMode").await.ends_with("iptables"));
                let metrics = get(METRICS, "/metrics").await;
                let partial =
                    "kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1";
                assert!(metrics.contains(partial), "{metrics}");
                api.delete("services", "web");
                until("gone", &|now| {
                    !now.contains("10.96.0.1") && !now.contains("KUBE-SEP-")
                })
                .await;
                for _ in 0..500 {
                    if !nft(&["list", "tables"]).contains("knode-proxy") {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                panic!("the other mode's table is still there after five seconds");
            };
            let mut config = proxy_config(&api);
            config.options.mode = ProxyMode::Iptables;
            run(config, test).await.expect("the proxy ends");
        });
    });
}

/// Runs `test` beside the proxy, in a fresh namespace, and ends both.
fn with_proxy<F: Future<Output = ()>>(api: &Api, test: impl FnOnce(Api) -> F + Send + 'static) {
    with_proxy_after(api, || {}, test);
}

/// The same, on a host that something was done to before.
fn with_proxy_after<F: Future<Output = ()>>(
    api: &Api,
    before: impl FnOnce() + Send + 'static,
    test: impl FnOnce(Api) -> F + Send + 'static,
) {
    let api = api.clone();
    in_fresh_netns(move || {
        before();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        runtime.block_on(async {
            let (stop, stopped) = oneshot::channel::<()>();
            let proxy = run(proxy_config(&api), async { stopped.await.unwrap_or_default() });
            let test = async {
                test(api.clone()).await;
                stop.send(()).expect("the proxy runs");
            };
            let (ended, ()) = tokio::join!(proxy, test);
            ended.expect("the proxy ends without an error");
        });
    });
}

/// Waits until `nft list table` satisfies the condition.
async fn until(what: &str, holds: impl Fn(&str) -> bool) {
    let mut listing = String::new();
    for _ in 0..500 {
        listing = nft(&["-n", "list", "ruleset"]);
        if holds(&listing) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within five seconds: {what}; the ruleset is\n{listing}");
}

async fn get(address: &str, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connect");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("receive");
    answer
}

#[test]
fn services_and_slices_become_elements_and_go_again() {
    let api = Api::default();
    set_service(&api, "early", "10.96.0.1");
    set_slice(&api, "early", &["10.244.1.1"]);
    with_proxy(&api, |api| async move {
        let first = "10.96.0.1 . 6 . 80 . 0x00000000 : 10.244.1.1 . 8080";
        until("the first list is applied", |now| {
            elements(now, "eps").contains(first)
        })
        .await;
        set_service(&api, "late", "10.96.0.2");
        until("no endpoint yet", |now| {
            elements(now, "no-endpoints").contains("10.96.0.2 . 6 . 80")
        })
        .await;
        set_slice(&api, "late", &["10.244.1.2", "10.244.1.3"]);
        until("two endpoints", |now| {
            elements(now, "count-2").contains("10.96.0.2 . 6 . 80")
        })
        .await;
        api.delete("endpointslices", "late-1");
        until("none again", |now| {
            elements(now, "no-endpoints").contains("10.96.0.2 . 6 . 80")
        })
        .await;
        api.delete("services", "late");
        until("gone", |now| {
            !now.contains("10.96.0.2 ") && now.contains("10.96.0.1 ")
        })
        .await;
    });
}

#[test]
fn a_flushed_ruleset_comes_back() {
    let api = Api::default();
    set_service(&api, "web", "10.96.0.1");
    set_slice(&api, "web", &["10.244.1.1"]);
    with_proxy(&api, |_| async move {
        let is_there = |now: &str| elements(now, "to-cluster").contains("10.96.0.1 . 6 . 80");
        until("the first list is applied", is_there).await;
        for _ in 0..2 {
            nft(&["flush", "ruleset"]);
            until("it is mended", is_there).await;
        }
        let metrics = get(METRICS, "/metrics").await;
        assert!(
            metrics.contains("knode_proxy_table_repairs_total{ip_family=\"IPv4\"} 2"),
            "{metrics}"
        );
    });
}

#[test]
fn health_and_metrics_answer_as_upstream() {
    let api = Api::default();
    set_service(&api, "web", "10.96.0.1");
    with_proxy(&api, |_| async move {
        until("the first list is applied", |now| {
            now.contains("10.96.0.1 . 6 . 80")
        })
        .await;
        for path in ["/healthz", "/livez"] {
            let health = get(HEALTH, path).await;
            assert!(
                health.starts_with("HTTP/1.1 200") && health.contains("\"lastUpdated\": \"2"),
                "{health}"
            );
        }
        assert!(get(METRICS, "/proxyMode").await.ends_with("nftables"));
        let metrics = get(METRICS, "/metrics").await;
        assert!(
            metrics.contains("kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1"),
            "{metrics}"
        );
        assert!(get(METRICS, "/nothing").await.starts_with("HTTP/1.1 404"));
    });
}

#[test]
fn what_another_proxy_left_goes_once_the_rules_are_in_place() {
    let api = Api::default();
    set_service(&api, "web", "10.96.0.1");
    let leave = || {
        for family in ["ip", "ip6"] {
            nft(&["add", "table", family, "kube-proxy"]);
            nft(&["add", "table", family, "nat"]);
            for chain in [
                "KUBE-SERVICES",
                "KUBE-SVC-ERIFXISQEP7F7OF4",
                "KUBE-KUBELET-CANARY",
                "DOCKER",
            ] {
                nft(&["add", "chain", family, "nat", chain]);
            }
            nft(&[
                "add",
                "rule",
                family,
                "nat",
                "KUBE-SERVICES",
                "jump",
                "KUBE-SVC-ERIFXISQEP7F7OF4",
            ]);
            nft(&["add", "rule", family, "nat", "DOCKER", "jump", "KUBE-SERVICES"]);
            nft(&["add", "rule", family, "nat", "DOCKER", "counter"]);
        }
    };
    with_proxy_after(&api, leave, |_| async move {
        until("the other proxy's are gone, the rest is there", |now| {
            let gone = [
                "table ip kube-proxy",
                "table ip6 kube-proxy",
                "KUBE-SVC",
                "KUBE-SERVICES",
            ];
            let kept = [
                "table ip nat",
                "table ip6 nat",
                "KUBE-KUBELET-CANARY",
                "DOCKER",
                "counter packets",
            ];
            now.contains("10.96.0.1 . 6 . 80")
                && gone.iter().all(|name| !now.contains(name))
                && kept.iter().all(|name| now.contains(name))
        })
        .await;
    });
}

#[test]
fn connections_and_latency_are_told_by_service_and_family() {
    let api = Api::default();
    set_service(&api, "web", "10.96.0.1");
    with_proxy(&api, |api| async move {
        until("the first list is applied", |now| {
            elements(now, "no-endpoints").contains("10.96.0.1 . 6 . 80")
        })
        .await;
        run_program("ip", &["route", "add", "10.96.0.0/16", "dev", "lo"]);
        for _ in 0..3 {
            tokio::net::TcpStream::connect("10.96.0.1:80")
                .await
                .expect_err("no endpoint");
        }
        let counted = "knode_proxy_service_connections_total{ip_family=\"IPv4\",namespace=\"a\",service=\"web\",\
                       address=\"10.96.0.1\",protocol=\"tcp\",port=\"80\"} 3";
        until_answer(METRICS, "/metrics", "three connections", |answer| {
            answer.contains(counted)
        })
        .await;
        let slice = |family: &str, ip: &str| {
            let now = jiff::Timestamp::now().to_string();
            json!({
                "metadata": {"labels": {"kubernetes.io/service-name": "web"},
                             "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": now}},
                "addressType": family, "endpoints": [{"addresses": [ip]}],
                "ports": [{"name": "p", "port": 8080, "protocol": "TCP"}]
            })
        };
        let service = json!({"metadata": {}, "spec": {
            "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd10:96::1"],
            "ports": [{"name": "p", "port": 80, "protocol": "TCP"}]
        }});
        api.set("services", "web", service);
        api.set("endpointslices", "web-4", slice("IPv4", "10.244.1.1"));
        api.set("endpointslices", "web-6", slice("IPv6", "fd10:244::1"));
        for family in ["IPv4", "IPv6"] {
            let latency =
                format!("kubeproxy_network_programming_duration_seconds_count{{ip_family=\"{family}\"}} 1");
            until_answer(METRICS, "/metrics", &latency, |answer| answer.contains(&latency)).await;
        }
    });
}

async fn until_answer(address: &str, path: &str, what: &str, holds: impl Fn(&str) -> bool) {
    let mut answer = String::new();
    for _ in 0..500 {
        if let Ok(mut stream) = tokio::net::TcpStream::connect(address).await {
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("send");
            answer.clear();
            // A server that is being closed is asked again.
            let _ = stream.read_to_string(&mut answer).await;
            if holds(&answer) {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within five seconds: {what}; the answer is\n{answer}");
}

#[test]
fn a_node_that_goes_is_not_eligible_and_its_zone_is_followed() {
    let api = Api::default();
    let node = |zone: &str, taints: serde_json::Value| json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}, "spec": {"taints": taints}});
    api.set("nodes", "node1", node("z1", json!([])));
    set_service(&api, "web", "10.96.0.1");
    let endpoint = |ip: &str, zone: &str| json!({"addresses": [ip], "hints": {"forZones": [{"name": zone}]}});
    let slice = json!({
        "metadata": {"labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
        "endpoints": [endpoint("10.244.1.1", "z1"), endpoint("10.244.1.2", "z2")],
        "ports": [{"name": "p", "port": 8080, "protocol": "TCP"}]
    });
    api.set("endpointslices", "web-1", slice);
    with_proxy(&api, move |api| async move {
        let only = |ip: &'static str| {
            move |now: &str| {
                elements(now, "eps").contains(&format!("{{ 10.96.0.1 . 6 . 80 . 0x00000000 : {ip} . 8080 }}"))
            }
        };
        until("the endpoint of zone z1", only("10.244.1.1")).await;
        until_answer(HEALTH, "/healthz", "eligible", |answer| {
            answer.starts_with("HTTP/1.1 200") && answer.contains("\"nodeEligible\": true")
        })
        .await;
        let taint = json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]);
        api.set("nodes", "node1", node("z2", taint));
        until("the endpoint of zone z2", only("10.244.1.2")).await;
        until_answer(HEALTH, "/healthz", "not eligible", |answer| {
            answer.starts_with("HTTP/1.1 503") && answer.contains("\"nodeEligible\": false")
        })
        .await;
        let livez = get(HEALTH, "/livez").await;
        assert!(livez.starts_with("HTTP/1.1 200"), "it lives on: {livez}");
        let metrics = get(METRICS, "/metrics").await;
        assert!(
            metrics.contains("kubeproxy_proxy_healthz_total{code=\"503\"}"),
            "{metrics}"
        );
        assert!(
            api.event_reasons().contains(&"Starting".to_owned()),
            "{:?}",
            api.event_reasons()
        );
    });
}

#[test]
fn a_health_check_port_counts_the_endpoints_here() {
    let api = Api::default();
    let ports = json!([{"name": "p", "port": 80, "protocol": "TCP", "nodePort": 30080}]);
    let service = json!({"metadata": {}, "spec": {
        "type": "LoadBalancer", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "ports": ports,
        "externalTrafficPolicy": "Local", "healthCheckNodePort": 31234
    }});
    api.set("services", "web", service);
    let slice = |node: &str| {
        json!({
            "metadata": {"labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.244.0.1"], "nodeName": node}],
            "ports": [{"name": "p", "port": 8080, "protocol": "TCP"}]
        })
    };
    api.set("endpointslices", "web-1", slice("node1"));
    with_proxy(&api, move |api| async move {
        let address = "127.0.0.1:31234";
        until_answer(address, "/", "one endpoint here", |answer| {
            answer.starts_with("HTTP/1.1 200")
                && answer.contains("x-load-balancing-endpoint-weight: 1")
                && answer.contains("\"localEndpoints\": 1")
        })
        .await;
        api.set("endpointslices", "web-1", slice("node2"));
        until_answer(address, "/", "none here", |answer| {
            answer.starts_with("HTTP/1.1 503")
        })
        .await;
        until_answer(METRICS, "/metrics", "counted", |answer| {
            answer.contains("no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy=\"external\"} 1")
        })
        .await;
        api.delete("services", "web");
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(address).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the port is still open five seconds after its service has gone");
    });
}

#[test]
fn the_table_outlives_the_proxy() {
    let api = Api::default();
    set_service(&api, "web", "10.96.0.1");
    in_fresh_netns(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        runtime.block_on(async {
            let applied = until("applied", |now| now.contains("10.96.0.1 . 6 . 80"));
            run(proxy_config(&api), applied).await.expect("the proxy ends");
        });
        assert!(
            nft(&["list", "ruleset"]).contains("10.96.0.1 "),
            "connections go on without the proxy"
        );
    });
}

#[test]
fn a_taken_port_is_named() {
    in_fresh_netns(|| {
        let _holder = std::net::TcpListener::bind(HEALTH).expect("bind");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        let ended =
            runtime.block_on(async { run(proxy_config(&Api::default()), std::future::pending()).await });
        let error = ended.expect_err("the port is taken");
        assert!(matches!(error, Error::Listen { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "cannot serve health of the service proxy on 127.0.0.1:10256"
        );
    });
}
