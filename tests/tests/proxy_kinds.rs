//! Every kind of Service by real packets, and `knode proxy` telling the same.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use knode_e2e::proxy::{Answers, Client, HTTP_PORT, Pod, ProxySite, Said, User, at, reached, service, slice};
use serde_json::{Value, json};

const WEB: &str = "10.254.0.10";

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
    let _proxy = site.usual_proxy();
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
        site.until_explained(ip, "tcp 80: spread over its endpoints");
    }
    let last = site.until_explained("sticky", "172.30.1.3:8080");
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
        assert_eq!(seen, Answers::from(&[one, two], &[source]), "{ip}");
    }
    let dns = at("10.254.0.10", 53);
    assert_eq!(
        Client::pod(client, dns).sends(site, dns),
        Answers::from(&[one, two], &[&client.ip])
    );
    let inner = at("10.254.0.15", 80);
    assert_eq!(
        Client::pod(client, inner).connects(site, inner),
        Answers::from(&[one], &[&client.ip])
    );
    // Who is its own endpoint is seen with the node's address by itself, with its own by the other.
    let plain = at("10.254.0.10", 80);
    let seen = Client::pod(one, plain).connects(site, plain);
    assert_eq!(seen, Answers::from(&[one, two], &[&one.ip, &Pod::GATEWAY]));
    // The node itself is masqueraded as what it is.
    let seen = Answers::over_http(&site.node, plain);
    assert_eq!(seen, Answers::from(&[one, two], &[&Pod::GATEWAY]));
}

#[track_caller]
fn from_outside(site: &ProxySite) {
    let (one, two) = (&site.pods[0], &site.pods[1]);
    let masqueraded = Answers::from(&[one, two], &[&Pod::GATEWAY]);
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
        assert_eq!(seen, Answers::from(&[one], &[&ProxySite::OUTSIDE]), "{to}");
    }
    let health = reached(&site.outside, at(ProxySite::NODE, 31082)).ok();
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
    let said = site.until_explained("empty", "it has no endpoint");
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
    assert_eq!(seen, Answers::from(&[&site.pods[0]], &[&site.pods[2].ip]));
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
    let _proxy = site.usual_proxy();
    let (one, two, client) = (&site.pods[0], &site.pods[1], &site.pods[2]);
    let to = at(WEB, 80);
    site.apply(&[
        service("web", json!({"clusterIP": WEB})),
        slice("web", &[one], false),
    ]);
    site.until_explained("web", "172.30.1.2:8080");
    assert_eq!(
        Client::pod(client, to).connects(&site, to),
        Answers::from(&[one], &[&client.ip])
    );
    site.apply(&[slice("web", &[two], false)]);
    site.until_explained("web", "172.30.1.3:8080");
    assert_eq!(
        Client::pod(client, to).connects(&site, to),
        Answers::from(&[two], &[&client.ip])
    );

    // Another proxy's from now on, and ours again.
    let label = "service.kubernetes.io/service-proxy-name";
    site.kubectl(&["label", "service", "web", &format!("{label}=other")])
        .ok();
    site.until_explained(WEB, "no service has");
    let said = Said::of(&site, client.ip.into(), to, "tcp");
    assert!(!said.end().contains("172.30."), "{}", said.text);
    let seen = Answers::over_http(&client.host, to);
    assert!(!matches!(seen, Answers::From { .. }), "{seen:?}");
    site.kubectl(&["label", "service", "web", &format!("{label}-")])
        .ok();
    site.until_explained("web", "172.30.1.3:8080");
    assert_eq!(
        Client::pod(client, to).connects(&site, to),
        Answers::from(&[two], &[&client.ip])
    );

    site.kubectl(&["delete", "service", "web"]).ok();
    site.until_explained(WEB, "no service has");
}

#[test]
fn both_families_are_served() {
    let options = [
        "--pod-cidr=172.30.0.0/16,fd30::/48",
        "--service-cidr=10.254.0.0/16,fd54::/112",
    ];
    let site = ProxySite::new("families", 3, &options);
    let _proxy = site.usual_proxy();
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
    site.until_explained("fd54::10", "[fd30:0:0:1::3]:8080");
    for (ip, source, gateway) in [
        (WEB, IpAddr::from(client.ip), IpAddr::from(Pod::GATEWAY)),
        ("fd54::10", client.six.into(), Pod::GATEWAY6.into()),
    ] {
        let (web, dns) = (at(ip, 80), at(ip, 53));
        assert_eq!(
            Client::pod(client, web).connects(&site, web),
            Answers::from(&both, &[&source])
        );
        assert_eq!(
            Client::pod(client, dns).sends(&site, dns),
            Answers::from(&both, &[&source])
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
                Answers::from(&both, &[&gateway]),
                "{to}"
            );
        }
        let refused = at(ip, 81);
        let seen = Answers::over_http(&client.host, refused);
        assert!(!matches!(seen, Answers::From { .. }), "{seen:?}");
    }
}
