//! The pod's `/etc/hosts` (upstream: `pkg/kubelet/kubelet_pods.go`).

use std::fmt::Write;

use k8s_openapi::api::core::v1::{HostAlias, Pod};

use crate::pod::PodExt;

const HEADER: &str = "# Kubernetes-managed hosts file.\n";
const HEADER_NODE: &str = "# Kubernetes-managed hosts file (host network).\n";
const OWN: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
fe00::\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";

/// Host name and, with a subdomain, the full name of the pod. A name that overrides both stands alone.
pub fn names(pod: &Pod, domain: &str) -> (String, Option<String>) {
    let spec = pod.spec();
    let other = spec.and_then(|spec| spec.hostname_override.clone());
    if let Some(name) = other.filter(|name| !name.is_empty()) {
        return (name, None);
    }
    let host = spec
        .and_then(|spec| spec.hostname.clone())
        .filter(|name| !name.is_empty());
    let host: String = host
        .unwrap_or_else(|| pod.pod_name().to_owned())
        .chars()
        .take(63)
        .collect();
    let host = host.trim_end_matches(['-', '.']).to_owned();
    let subdomain = spec
        .and_then(|spec| spec.subdomain.as_deref())
        .filter(|name| !name.is_empty());
    let full = subdomain.map(|subdomain| format!("{host}.{subdomain}.{}.svc.{domain}", pod.ns()));
    (host, full)
}

/// The file for a pod with these addresses; `host_file` is the node's own, used on the node's network.
pub fn file(pod: &Pod, ips: &[String], domain: &str, host_file: &str) -> String {
    let mut text = match pod.host_network() {
        true => format!("{HEADER_NODE}{host_file}"),
        false => format!("{HEADER}{OWN}"),
    };
    if !pod.host_network() {
        let (host, full) = names(pod, domain);
        for ip in ips {
            let line = match &full {
                Some(full) => format!("{ip}\t{full}\t{host}\n"),
                None => format!("{ip}\t{host}\n"),
            };
            text.push_str(&line);
        }
    }
    aliases(
        &mut text,
        pod.spec()
            .and_then(|spec| spec.host_aliases.as_deref())
            .unwrap_or_default(),
    );
    text
}

fn aliases(text: &mut String, aliases: &[HostAlias]) {
    if aliases.is_empty() {
        return;
    }
    text.push_str("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}\t{names}", alias.ip);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        let metadata = json!({"name": "p", "namespace": "n"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    #[test]
    fn the_pods_names_and_aliases_are_in_it() {
        let pod = pod(json!({"containers": [], "hostname": "h", "subdomain": "s",
            "hostAliases": [{"ip": "10.1.2.3", "hostnames": ["foo", "bar"]}]}));
        let text = file(&pod, &["10.0.0.5".to_owned()], "cluster.local", "");
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(text.contains("\n10.0.0.5\th.s.n.svc.cluster.local\th\n"));
        assert!(text.ends_with("\n# Entries added by HostAliases.\n10.1.2.3\tfoo\tbar\n"));
    }

    #[test]
    fn a_name_that_overrides_stands_alone() {
        let pod = pod(
            json!({"containers": [], "hostname": "h", "subdomain": "s", "hostnameOverride": "web.example.com"}),
        );
        assert_eq!(names(&pod, "cluster.local"), ("web.example.com".to_owned(), None));
        let text = file(&pod, &["10.0.0.5".to_owned()], "cluster.local", "");
        assert!(text.ends_with("\n10.0.0.5\tweb.example.com\n"), "{text}");
    }

    #[test]
    fn on_the_nodes_network_it_is_the_nodes() {
        let pod = pod(json!({"containers": [], "hostNetwork": true}));
        let text = file(&pod, &["10.99.0.1".to_owned()], "cluster.local", "127.0.0.1 me\n");
        assert_eq!(
            text,
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1 me\n"
        );
    }
}
