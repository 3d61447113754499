//! `knode kube-proxy` before an API server: upstream's flags and configuration file, every kind of Service by real
//! packets, and `knode proxy` telling the same.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use knode_e2e::proxy::{Answers, ECHO_PORT, HTTP_PORT, Kept, Pod, ProxySite, Said, UDP_PORT, User};
use knode_e2e::{BOUND, Output};
use knode_testkit::{Host, wait_until};
use serde_json::{Value, json};

const WEB: &str = "10.254.0.10";

/// A Service without a selector, so that its slices are the test's.
fn service(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    if spec["ports"].is_null() && spec["type"] != "ExternalName" {
        spec["ports"] = json!([
            {"name": "http", "port": 80, "targetPort": HTTP_PORT},
            {"name": "dns", "port": 53, "targetPort": UDP_PORT, "protocol": "UDP"}
        ]);
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

/// A slice of a Service with these pods, of which the first is on the node.
fn slice(owner: &str, pods: &[&Pod], six: bool) -> Value {
    let endpoint = |(index, pod): (usize, &&Pod)| {
        let address: IpAddr = if six { pod.six.into() } else { pod.ip.into() };
        json!({"addresses": [address], "nodeName": if index == 0 { "node1" } else { "node2" }})
    };
    let listed: Vec<Value> = pods.iter().enumerate().map(endpoint).collect();
    let family = if six { "IPv6" } else { "IPv4" };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
        "metadata": {"name": format!("{owner}-{}", family.to_lowercase()), "labels": {"kubernetes.io/service-name": owner}},
        "endpoints": listed,
        "ports": [{"name": "http", "port": HTTP_PORT}, {"name": "dns", "port": UDP_PORT, "protocol": "UDP"}]
    })
}

fn at(ip: impl ToString, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_string().parse().unwrap(), port)
}

fn from(pods: &[&Pod], sources: &[&dyn ToString]) -> Answers {
    Answers::From {
        pods: pods.iter().map(|pod| pod.name.clone()).collect(),
        sources: sources.iter().map(|ip| ip.to_string().parse().unwrap()).collect(),
    }
}

/// A client: its host, and its address towards a destination.
#[derive(Clone, Copy)]
struct Client<'a> {
    host: &'a Host,
    address: IpAddr,
}

impl<'a> Client<'a> {
    fn pod(pod: &'a Pod, to: SocketAddr) -> Self {
        let (host, address) = (&*pod.host, pod.ip_like(to.ip()));
        Self { host, address }
    }

    fn outside(site: &'a ProxySite, to: SocketAddr) -> Self {
        let (host, address) = (&site.outside, ProxySite::ip_towards(ProxySite::OUTSIDE, to.ip()));
        Self { host, address }
    }

    fn stranger(site: &'a ProxySite, to: SocketAddr) -> Self {
        let (host, address) = (
            &site.stranger,
            ProxySite::ip_towards(ProxySite::STRANGER, to.ip()),
        );
        Self { host, address }
    }

    /// Connects, and compares with what `knode proxy trace` says.
    #[track_caller]
    fn connects(&self, site: &ProxySite, to: SocketAddr) -> Answers {
        let seen = Answers::over_http(self.host, to);
        Said::of(site, self.address, to, "tcp").agrees_with(site, self.address, &seen);
        seen
    }

    #[track_caller]
    fn sends(&self, site: &ProxySite, to: SocketAddr) -> Answers {
        let seen = Answers::over_udp(self.host, to);
        Said::of(site, self.address, to, "udp").agrees_with(site, self.address, &seen);
        seen
    }
}

/// Waits until the kernel has a Service's address.
#[track_caller]
fn until_explained(site: &ProxySite, service: &str, part: &str) -> String {
    let kubeconfig = site.kubeconfig(User::Admin);
    wait_until(&format!("{service}: {part}"), BOUND, || {
        let said = site
            .inspect(&["explain", service, "--kubeconfig", &kubeconfig])
            .result()?;
        if said.contains(part) { Ok(said) } else { Err(said) }
    })
}

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
    assert_eq!(seen, from(&[one, two], &[&Pod::GATEWAY]));
    let port = at(ProxySite::NODE, 30080);
    let seen = Client::outside(&site, port).connects(&site, port);
    assert_eq!(seen, from(&[one, two], &[&Pod::GATEWAY]));
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
        assert_eq!(seen, from(&[one, two], &[&source]), "{to}");
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
        from(&[one, two], &[&site.pods[2].ip])
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

/// The proxy that most tests use: pods are told by their network, and the node's name is that of the slices.
#[track_caller]
fn usual(site: &ProxySite) -> knode_testkit::Process {
    let file = format!("--kubeconfig={}", site.kubeconfig(User::Proxy));
    site.proxy(&[
        "--hostname-override=node1",
        "--cluster-cidr=172.30.0.0/16,fd30::/16",
        &file,
    ])
}

/// Services of every kind with both of the first pods, of which the second is said to be on another node.
fn every_kind(site: &ProxySite) -> Vec<Value> {
    let both = [&site.pods[0], &site.pods[1]];
    let http = |node_port: u16| json!([{"name": "http", "port": 80, "nodePort": node_port}]);
    let mut objects = vec![
        service("plain", json!({"clusterIP": "10.254.0.10"})),
        service(
            "node-port",
            json!({"type": "NodePort", "clusterIP": "10.254.0.11", "ports": http(30080)}),
        ),
        service(
            "balanced",
            json!({"type": "LoadBalancer", "clusterIP": "10.254.0.12", "ports": http(30081),
            "loadBalancerSourceRanges": [format!("{}/32", ProxySite::OUTSIDE)]}),
        ),
        service(
            "local",
            json!({"type": "LoadBalancer", "clusterIP": "10.254.0.13", "ports": http(30082),
            "externalTrafficPolicy": "Local", "healthCheckNodePort": 31082}),
        ),
        service(
            "external-ip",
            json!({"clusterIP": "10.254.0.14", "externalIPs": ["192.0.2.14"]}),
        ),
        service(
            "inner",
            json!({"clusterIP": "10.254.0.15", "internalTrafficPolicy": "Local"}),
        ),
        service("headless", json!({"clusterIP": "None"})),
        service(
            "sticky",
            json!({"clusterIP": "10.254.0.17", "sessionAffinity": "ClientIP"}),
        ),
        service("empty", json!({"clusterIP": "10.254.0.18"})),
        service(
            "named",
            json!({"type": "ExternalName", "externalName": "example.org"}),
        ),
    ];
    let owners = [
        "plain",
        "node-port",
        "balanced",
        "local",
        "external-ip",
        "inner",
        "headless",
        "sticky",
    ];
    objects.extend(owners.map(|owner| slice(owner, &both, false)));
    objects
}

#[test]
fn every_kind_of_service_is_served_and_told() {
    let site = ProxySite::new("kinds", 3, &[]);
    let _proxy = usual(&site);
    site.apply(&every_kind(&site));
    for (name, ip) in [("balanced", "203.0.113.12"), ("local", "203.0.113.13")] {
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}}).to_string();
        site.kubectl(&[
            "patch",
            "service",
            name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &status,
        ])
        .ok();
        until_explained(&site, ip, "tcp 80: spread over its endpoints");
    }
    let last = until_explained(&site, "sticky", "172.30.1.3:8080");
    assert!(last.contains("a client keeps its endpoint"), "{last}");

    from_inside(&site);
    from_outside(&site);
    what_is_not_served(&site);
    clients_that_keep_their_endpoint(&site);
}

#[track_caller]
fn from_inside(site: &ProxySite) {
    let (one, two, client) = (&site.pods[0], &site.pods[1], &site.pods[2]);
    for ip in [
        "10.254.0.10",
        "10.254.0.11",
        "10.254.0.12",
        "10.254.0.13",
        "10.254.0.14",
        "192.0.2.14",
    ] {
        let to = at(ip, 80);
        let seen = Client::pod(client, to).connects(site, to);
        // External addresses are masqueraded for everybody.
        let source: &dyn ToString = if ip == "192.0.2.14" {
            &Pod::GATEWAY
        } else {
            &client.ip
        };
        assert_eq!(seen, from(&[one, two], &[source]), "{ip}");
    }
    let dns = at("10.254.0.10", 53);
    assert_eq!(
        Client::pod(client, dns).sends(site, dns),
        from(&[one, two], &[&client.ip])
    );
    let inner = at("10.254.0.15", 80);
    assert_eq!(
        Client::pod(client, inner).connects(site, inner),
        from(&[one], &[&client.ip])
    );
    // Who is its own endpoint is seen with the node's address by itself, with its own by the other.
    let plain = at("10.254.0.10", 80);
    let seen = Client::pod(one, plain).connects(site, plain);
    assert_eq!(seen, from(&[one, two], &[&one.ip, &Pod::GATEWAY]));
    // The node itself is masqueraded as what it is.
    let seen = Answers::over_http(&site.node, plain);
    assert_eq!(seen, from(&[one, two], &[&Pod::GATEWAY]));
}

#[track_caller]
fn from_outside(site: &ProxySite) {
    let (one, two) = (&site.pods[0], &site.pods[1]);
    let masqueraded = from(&[one, two], &[&Pod::GATEWAY]);
    let node = ProxySite::NODE.to_string();
    for (ip, port) in [
        (node.as_str(), 30080),
        (&node, 30081),
        ("203.0.113.12", 80),
        ("192.0.2.14", 80),
        ("10.254.0.10", 80),
    ] {
        let to = at(ip, port);
        assert_eq!(Client::outside(site, to).connects(site, to), masqueraded, "{to}");
    }
    let balanced = at("203.0.113.12", 80);
    assert_eq!(
        Client::stranger(site, balanced).connects(site, balanced),
        Answers::Silence
    );
    for (ip, port) in [(node.as_str(), 30082), ("203.0.113.13", 80)] {
        let to = at(ip, port);
        let seen = Client::outside(site, to).connects(site, to);
        assert_eq!(seen, from(&[one], &[&ProxySite::OUTSIDE]), "{to}");
    }
    let health = page(&site.outside, &format!("http://{node}:31082/")).ok();
    assert!(health.contains("\"localEndpoints\": 1"), "{health}");
}

#[track_caller]
fn what_is_not_served(site: &ProxySite) {
    let kubeconfig = site.kubeconfig(User::Admin);
    let empty = at("10.254.0.18", 80);
    for client in [Client::pod(&site.pods[2], empty), Client::outside(site, empty)] {
        assert_eq!(client.connects(site, empty), Answers::Refused);
    }
    let dns = at("10.254.0.18", 53);
    assert_eq!(Client::pod(&site.pods[2], dns).sends(site, dns), Answers::Refused);
    let said = until_explained(site, "empty", "it has no endpoint");
    assert!(said.contains("clients are refused"), "{said}");
    for name in ["headless", "named"] {
        let said = site
            .inspect(&["explain", name, "--kubeconfig", &kubeconfig])
            .fails();
        assert!(said.contains("no addresses"), "{said}");
    }
    // A headless Service's endpoints are asked directly.
    let pod = at(site.pods[0].ip, HTTP_PORT);
    let said = Said::of(site, site.pods[2].ip.into(), pod, "tcp");
    assert_eq!(said.end(), "it is left alone", "{}", said.text);
    let seen = Answers::over_http(&site.pods[2].host, pod);
    assert_eq!(seen, from(&[&site.pods[0]], &[&site.pods[2].ip]));
}

#[track_caller]
fn clients_that_keep_their_endpoint(site: &ProxySite) {
    let sticky = at("10.254.0.17", 80);
    // The second pod is said to be elsewhere, so that it can't be its own endpoint here.
    for pod in [&site.pods[0], &site.pods[2]] {
        let Answers::From { pods, .. } = Answers::over_http(&pod.host, sticky) else {
            panic!("{} is not served", pod.name);
        };
        assert_eq!(pods.len(), 1, "{} got {pods:?}", pod.name);
    }
    let said = Said::of(site, site.pods[2].ip.into(), sticky, "tcp");
    assert!(said.text.contains("a client keeps its endpoint"), "{}", said.text);
}

#[test]
fn changes_reach_the_kernel_and_other_proxies_services_are_left_to_them() {
    let site = ProxySite::new("changes", 3, &[]);
    let _proxy = usual(&site);
    let (one, two, client) = (&site.pods[0], &site.pods[1], &site.pods[2]);
    let to = at(WEB, 80);
    site.apply(&[
        service("web", json!({"clusterIP": WEB})),
        slice("web", &[one], false),
    ]);
    until_explained(&site, "web", "172.30.1.2:8080");
    assert_eq!(
        Client::pod(client, to).connects(&site, to),
        from(&[one], &[&client.ip])
    );
    site.apply(&[slice("web", &[two], false)]);
    until_explained(&site, "web", "172.30.1.3:8080");
    assert_eq!(
        Client::pod(client, to).connects(&site, to),
        from(&[two], &[&client.ip])
    );

    // Another proxy's from now on, and ours again.
    let label = "service.kubernetes.io/service-proxy-name";
    site.kubectl(&["label", "service", "web", &format!("{label}=other")])
        .ok();
    until_explained(&site, WEB, "no service has");
    let said = Said::of(&site, client.ip.into(), to, "tcp");
    assert!(!said.end().contains("172.30."), "{}", said.text);
    let seen = Answers::over_http(&client.host, to);
    assert!(!matches!(seen, Answers::From { .. }), "{seen:?}");
    site.kubectl(&["label", "service", "web", &format!("{label}-")])
        .ok();
    until_explained(&site, "web", "172.30.1.3:8080");
    assert_eq!(
        Client::pod(client, to).connects(&site, to),
        from(&[two], &[&client.ip])
    );

    site.kubectl(&["delete", "service", "web"]).ok();
    until_explained(&site, WEB, "no service has");
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
                from(&[one, two], &[&source]),
                "{mode}: {to}"
            );
        }
        assert!(traces_of(&site, mode), "{mode} is at work");
        wait_until(&format!("{mode} to remove what {other} left"), BOUND, || !traces_of(&site, other));
        wait_until("upstream's table to be removed", BOUND, || {
            let tables = site.node.run("nft", &["list", "tables"]);
            if tables.contains("table ip kube-proxy") { Err(tables) } else { Ok(()) }
        });
        proxy.signal(nix::sys::signal::Signal::SIGTERM);
        assert!(proxy.wait(BOUND).success(), "{}", proxy.output());
    }
    let echoes = kept.map(Kept::echoes);
    assert!(echoes.is_some_and(|echoes| echoes > 10), "{echoes:?}");
}

#[test]
fn both_families_are_served() {
    let options = [
        "--pod-cidr=172.30.0.0/16,fd30::/48",
        "--service-cidr=10.254.0.0/16,fd54::/112",
    ];
    let site = ProxySite::new("families", 3, &options);
    let _proxy = usual(&site);
    let (one, two, client) = (&site.pods[0], &site.pods[1], &site.pods[2]);
    let spec = json!({"type": "NodePort", "ipFamilyPolicy": "RequireDualStack", "clusterIP": WEB, "clusterIPs": [WEB, "fd54::10"],
        "externalIPs": ["192.0.2.14", "2001:db8::14"],
        "ports": [{"name": "http", "port": 80, "nodePort": 30080},
            {"name": "dns", "port": 53, "nodePort": 30053, "protocol": "UDP"}]});
    let both = [one, two];
    site.apply(&[
        service("web", spec),
        slice("web", &both, false),
        slice("web", &both, true),
    ]);
    until_explained(&site, "fd54::10", "[fd30:0:0:1::3]:8080");
    for (ip, source, gateway) in [
        (WEB, IpAddr::from(client.ip), IpAddr::from(Pod::GATEWAY)),
        ("fd54::10", client.six.into(), Pod::GATEWAY6.into()),
    ] {
        let (web, dns) = (at(ip, 80), at(ip, 53));
        assert_eq!(
            Client::pod(client, web).connects(&site, web),
            from(&both, &[&source])
        );
        assert_eq!(
            Client::pod(client, dns).sends(&site, dns),
            from(&both, &[&source])
        );
        let seen: BTreeSet<IpAddr> = [one.ip_like(web.ip()), gateway].into();
        let own = Client::pod(one, web).connects(&site, web);
        assert!(
            matches!(&own, Answers::From { sources, .. } if *sources == seen),
            "{own:?}"
        );
        let external = if ip == WEB { "192.0.2.14" } else { "2001:db8::14" };
        let node = ProxySite::ip_towards(ProxySite::NODE, web.ip());
        for to in [at(node, 30080), at(external, 80), web] {
            assert_eq!(
                Client::outside(&site, to).connects(&site, to),
                from(&both, &[&gateway]),
                "{to}"
            );
        }
        let refused = at(ip, 81);
        let seen = Answers::over_http(&client.host, refused);
        assert!(!matches!(seen, Answers::From { .. }), "{seen:?}");
    }
}
