//! What goes into a pod's resolv.conf (upstream: `pkg/kubelet/network/dns`).

use k8s_openapi::api::core::v1::Pod;
use knode_cri as cri;

use crate::pod::PodExt;

const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;

/// Settings of resolv.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

impl Resolver {
    /// Reads a resolv.conf.
    pub fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.servers.extend(words.next().map(ToOwned::to_owned)),
                Some("search") => resolver.searches = words.map(ToOwned::to_owned).collect(),
                Some("options") => resolver.options = words.map(ToOwned::to_owned).collect(),
                _ => {}
            }
        }
        resolver
    }
}

/// What the cluster offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterDns {
    /// Addresses of the cluster's name servers; none if it has none.
    pub servers: Vec<String>,
    /// The cluster's domain, such as `cluster.local`.
    pub domain: String,
}

/// The pod's resolver; `host` is the node's own.
pub fn resolver(pod: &Pod, cluster: &ClusterDns, host: &Resolver) -> Resolver {
    let spec = pod.spec();
    let policy = spec
        .and_then(|spec| spec.dns_policy.as_deref())
        .unwrap_or("ClusterFirst");
    let of_cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !pod.host_network(),
        _ => false,
    };
    let mut resolver = match policy {
        "None" => Resolver::default(),
        _ if of_cluster && !cluster.servers.is_empty() => cluster_resolver(pod, cluster, host),
        _ => host.clone(),
    };
    if let Some(own) = spec.and_then(|spec| spec.dns_config.as_ref()) {
        extend(&mut resolver.servers, own.nameservers.iter().flatten());
        extend(&mut resolver.searches, own.searches.iter().flatten());
        for option in own.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            let prefix = format!("{name}:");
            resolver
                .options
                .retain(|old| *old != name && !old.starts_with(&prefix));
            resolver.options.push(match &option.value {
                Some(value) => format!("{prefix}{value}"),
                None => name,
            });
        }
    }
    resolver.servers.truncate(MAX_SERVERS);
    resolver.searches.truncate(MAX_SEARCHES);
    resolver
}

fn cluster_resolver(pod: &Pod, cluster: &ClusterDns, host: &Resolver) -> Resolver {
    let domain = cluster.domain.as_str();
    let mut searches = Vec::new();
    if !domain.is_empty() {
        searches = vec![
            format!("{}.svc.{domain}", pod.ns()),
            format!("svc.{domain}"),
            domain.to_owned(),
        ];
    }
    extend(
        &mut searches,
        host.searches.iter().filter(|search| search.as_str() != "."),
    );
    Resolver {
        servers: cluster.servers.clone(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

fn extend<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for one in more {
        if !list.contains(one) {
            list.push(one.clone());
        }
    }
}

impl From<Resolver> for cri::DnsConfig {
    fn from(resolver: Resolver) -> Self {
        Self {
            servers: resolver.servers,
            searches: resolver.searches,
            options: resolver.options,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        let metadata = json!({"name": "p", "namespace": "cri"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn cluster() -> ClusterDns {
        ClusterDns {
            servers: vec!["10.96.0.10".into()],
            domain: "cluster.local".into(),
        }
    }

    fn host() -> Resolver {
        Resolver::parse("# comment\nnameserver 127.0.0.53\nsearch lan\noptions edns0 trust-ad\n")
    }

    #[test]
    fn cluster_first_asks_the_cluster() {
        let found = resolver(&pod(json!({"containers": []})), &cluster(), &Resolver::default());
        assert_eq!(found.servers, ["10.96.0.10"]);
        assert_eq!(
            found.searches,
            ["cri.svc.cluster.local", "svc.cluster.local", "cluster.local"]
        );
        assert_eq!(found.options, ["ndots:5"]);
    }

    #[test]
    fn the_nodes_network_takes_the_nodes_resolver() {
        let on_node = pod(json!({"containers": [], "hostNetwork": true}));
        assert_eq!(resolver(&on_node, &cluster(), &host()), host());
        let asked =
            pod(json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}));
        assert_eq!(resolver(&asked, &cluster(), &host()).servers, ["10.96.0.10"]);
        let default = pod(json!({"containers": [], "dnsPolicy": "Default"}));
        assert_eq!(resolver(&default, &cluster(), &host()), host());
    }

    #[test]
    fn the_pods_own_settings_are_added() {
        let none = pod(json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {
            "nameservers": ["1.1.1.1"], "searches": ["x"], "options": [{"name": "ndots", "value": "2"}, {"name": "debug"}],
        }}));
        let found = resolver(&none, &cluster(), &host());
        assert_eq!(
            (found.servers, found.searches),
            (vec!["1.1.1.1".to_owned()], vec!["x".to_owned()])
        );
        assert_eq!(found.options, ["ndots:2", "debug"]);
        let first =
            pod(json!({"containers": [], "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}}));
        assert_eq!(resolver(&first, &cluster(), &host()).options, ["ndots:1"]);
    }
}
