//! `knode kube-proxy` before an API server: upstream's flags, its configuration file, its modes.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use knode_e2e::proxy::{
    Answers, Client, ECHO_PORT, HTTP_PORT, Kept, Pod, ProxySite, User, at, service, slice,
};
use knode_e2e::{BOUND, Output};
use knode_testkit::{Host, wait_until};
use serde_json::json;

const WEB: &str = "10.254.0.10";

fn page(host: &Host, url: &str) -> Output {
    Output::of(
        host.command("curl")
            .args(["--silent", "--show-error", "--insecure", "--max-time", "5", url]),
    )
}

/// The article's unit file, with the range of the services as the cluster's.
#[test]
fn the_seeds_flags_are_taken_and_their_mistake_is_told() {
    let site = ProxySite::new("seed-flags", 3, &[]);
    let node = ProxySite::NODE.to_string();
    let kubeconfig = site.kubeconfig(User::Proxy);
    let (bind, name) = (
        format!("--bind-address={node}"),
        format!("--hostname-override={node}"),
    );
    let file = format!("--kubeconfig={kubeconfig}");
    let cidr = "--cluster-cidr=10.254.0.0/16";
    site.apply(&[
        service("web", json!({"type": "NodePort", "clusterIP": WEB, "ports": [{"name": "http", "port": 80, "nodePort": 30080}]})),
        slice("web", &[&site.pods[0], &site.pods[1]], false),
    ]);
    let proxy = site.proxy(&[&bind, &name, cidr, &file, "--logtostderr=true", "--v=2"]);
    let log = proxy.output();
    for part in [
        "the cluster CIDR 10.254.0.0/16 contains 10.254.0.1",
        "masqueraded",
    ] {
        assert!(log.contains(part), "no {part:?} in\n{log}");
    }
    assert!(
        log.lines()
            .any(|line| line.starts_with('W') && line.contains("cluster CIDR")),
        "a warning: {log}"
    );

    // What the warning says: pods' addresses are lost. All else is as it should be.
    let web = at(WEB, 80);
    let (one, two, client) = (&site.pods[0], &site.pods[1], &site.pods[2]);
    let seen = Client::pod(client, web).connects(&site, web);
    assert_eq!(seen, Answers::from(&[one, two], &[&Pod::GATEWAY]));
    let port = at(ProxySite::NODE, 30080);
    let seen = Client::outside(&site, port).connects(&site, port);
    assert_eq!(seen, Answers::from(&[one, two], &[&Pod::GATEWAY]));
    let version = page(&client.host, "https://10.254.0.1/version").ok();
    assert!(
        version.contains("gitVersion"),
        "the API server by its Service: {version}"
    );
    served_as_upstream(&site, &node);
}

/// The addresses that the flags leave at their defaults.
#[track_caller]
fn served_as_upstream(site: &ProxySite, node: &str) {
    let health = page(&site.outside, &format!("http://{node}:10256/healthz")).ok();
    assert!(
        health.contains("\"lastUpdated\"") && health.contains("\"nodeEligible\": true"),
        "{health}"
    );
    page(&site.outside, &format!("http://{node}:10256/livez")).ok();
    assert_eq!(
        page(&site.node, "http://127.0.0.1:10249/proxyMode").ok(),
        "nftables"
    );
    let metrics = page(&site.node, "http://127.0.0.1:10249/metrics").ok();
    for name in [
        "kubeproxy_sync_proxy_rules_duration_seconds_count",
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
        "kubeproxy_network_programming_duration_seconds_bucket",
    ] {
        assert!(metrics.contains(name), "no {name} in\n{metrics}");
    }
    page(&site.outside, &format!("http://{node}:10249/metrics")).fails();
}

const CONFIGURATION: &str = "
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
bindAddress: 0.0.0.0
clientConnection: {kubeconfig: KUBECONFIG, qps: 5}
clusterCIDR: 172.30.0.0/16
hostnameOverride: node1
healthzBindAddress: 10.99.0.2:11256
metricsBindAddress: 0.0.0.0:11249
nodePortAddresses: [10.99.0.0/24]
nftables: {masqueradeBit: 12, masqueradeAll: false, syncPeriod: 30s}
conntrack: {maxPerCore: 0, min: 0}
";

#[test]
fn a_configuration_file_takes_the_place_of_flags() {
    let site = ProxySite::new("proxy-file", 3, &[]);
    let file = site.path("kube-proxy.yaml");
    let text = CONFIGURATION.replace("KUBECONFIG", &site.kubeconfig(User::Proxy));
    std::fs::write(&file, text).unwrap();
    site.add_node("node1");
    let ports = json!([{"name": "http", "port": 80, "nodePort": 30080}]);
    let (one, two) = (&site.pods[0], &site.pods[1]);
    site.apply(&[
        service(
            "web",
            json!({"type": "NodePort", "clusterIP": WEB, "ports": ports}),
        ),
        slice("web", &[one, two], false),
    ]);
    let mut proxy = site.proxy(&["--config", &file, "--cluster-cidr=192.0.2.0/24"]);
    let log = proxy.output();
    assert!(
        !log.contains("the cluster CIDR"),
        "the pods' network is right: {log}"
    );
    let client = &site.pods[2];
    for (to, source) in [
        (at(WEB, 80), client.ip),
        (at(ProxySite::NODE, 30080), Pod::GATEWAY),
    ] {
        let seen = Client::pod(client, to).connects(&site, to);
        assert_eq!(seen, Answers::from(&[one, two], &[&source]), "{to}");
    }
    page(&site.outside, "http://10.99.0.2:11256/healthz").ok();
    assert_eq!(
        page(&site.outside, "http://10.99.0.2:11249/proxyMode").ok(),
        "nftables"
    );
    let rules = site.node.run("nft", &["list", "ruleset"]);
    assert!(
        rules.contains("0x00001000") && !rules.contains("0x00004000"),
        "the bit is 12: {rules}"
    );

    // It ends when told to, and its table stays; `--cleanup` removes it.
    proxy.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(proxy.wait(BOUND).success(), "{}", proxy.output());
    let to = at(WEB, 80);
    assert_eq!(
        Client::pod(&site.pods[2], to).connects(&site, to),
        Answers::from(&[one, two], &[&site.pods[2].ip])
    );
    site.start_proxy(&["--cleanup"]).wait(BOUND);
    assert_eq!(site.node.run("nft", &["list", "ruleset"]).trim(), "");
}

#[test]
fn what_cannot_be_followed_is_refused_by_name() {
    let site = Host::new("no-site");
    let refused = |arguments: &[&str]| {
        let mut command = site.command(knode_e2e::binary());
        Output::of(command.arg("kube-proxy").args(arguments)).fails()
    };
    assert!(refused(&["--no-such-flag=1"]).contains("unknown flag: --no-such-flag"));
    let ipvs = refused(&["--proxy-mode=ipvs"]);
    assert!(
        ipvs.contains("proxy mode ipvs") && ipvs.contains("not supported"),
        "{ipvs}"
    );
    assert!(refused(&["--config=/does/not/exist"]).contains("/does/not/exist"));
    assert!(refused(&["--cluster-cidr=10.0.0.0/33"]).contains("10.0.0.0/33"));
}

/// What each mode leaves in the kernel.
fn traces_of(site: &ProxySite, mode: &str) -> bool {
    if mode == "nftables" {
        return site
            .node
            .run("nft", &["list", "tables"])
            .contains("table ip knode-proxy");
    }
    site.node.run("iptables-save", &["-t", "nat"]).contains("KUBE-S")
}

#[test]
fn the_mode_can_be_changed_under_connections() {
    let site = ProxySite::new("modes", 3, &[]);
    let (one, two, client) = (&site.pods[0], &site.pods[1], &site.pods[2]);
    let ports = json!([{"name": "http", "port": 80, "nodePort": 30080}, {"name": "echo", "port": 7}]);
    let mut slices = slice("web", &[one, two], false);
    slices["ports"] = json!([{"name": "http", "port": HTTP_PORT}, {"name": "echo", "port": ECHO_PORT}]);
    let web = service(
        "web",
        json!({"type": "NodePort", "clusterIP": WEB, "ports": ports}),
    );
    site.apply(&[web, slices]);
    let file = format!("--kubeconfig={}", site.kubeconfig(User::Proxy));
    let usual = ["--hostname-override=node1", "--cluster-cidr=172.30.0.0/16", &file];
    site.node.run("nft", &["add", "table", "ip", "kube-proxy"]);
    let mut kept = None;
    for (mode, other) in [
        ("nftables", "iptables"),
        ("iptables", "nftables"),
        ("nftables", "iptables"),
    ] {
        let options = ["--nodeport-addresses=10.99.0.0/24", "--proxy-mode", mode];
        let mut proxy = site.proxy(&[&usual[..], &options].concat());
        kept.get_or_insert_with(|| Kept::open(client.host.clone(), at(WEB, 7), 4));
        assert_eq!(page(&site.node, "http://127.0.0.1:10249/proxyMode").ok(), mode);
        for (host, to, source) in [
            (&client.host, at(WEB, 80), client.ip),
            (&site.outside, at(ProxySite::NODE, 30080), Pod::GATEWAY),
        ] {
            assert_eq!(
                Answers::over_http(host, to),
                Answers::from(&[one, two], &[&source]),
                "{mode}: {to}"
            );
        }
        assert!(traces_of(&site, mode), "{mode} is at work");
        wait_until(&format!("{mode} to remove what {other} left"), BOUND, || {
            !traces_of(&site, other)
        });
        wait_until("upstream's table to be removed", BOUND, || {
            let tables = site.node.run("nft", &["list", "tables"]);
            if tables.contains("table ip kube-proxy") {
                Err(tables)
            } else {
                Ok(())
            }
        });
        proxy.signal(nix::sys::signal::Signal::SIGTERM);
        assert!(proxy.wait(BOUND).success(), "{}", proxy.output());
    }
    let echoes = kept.map(Kept::echoes);
    assert!(echoes.is_some_and(|echoes| echoes > 10), "{echoes:?}");
}
