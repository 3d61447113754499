//! The Service that pods ask.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use knode_client::{Api, Client};
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use super::{ClusterDns, MANAGED_BY, NAMESPACE, OURS, SERVICE};
use crate::dual::Dual;
use crate::server::objects::typed;

/// How long a node's start waits for the API server to say where names are asked for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether we made it, and nobody has made it another's since: a selector makes others its endpoints.
pub(super) fn is_ours(service: &Service) -> bool {
    let labels = service.metadata.labels.as_ref();
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    labels
        .and_then(|labels| labels.get(MANAGED_BY))
        .is_some_and(|by| by == OURS)
        && selector.is_none_or(|selector| selector.is_empty())
        && service.metadata.deletion_timestamp.is_none()
}

/// The addresses of a Service, the primary first.
fn addresses(service: &Service) -> Vec<IpAddr> {
    let spec = service.spec.as_ref();
    let texts = spec
        .and_then(|spec| spec.cluster_ips.as_ref())
        .into_iter()
        .flatten();
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// As upstream's, without a selector.
fn wanted(addresses: &[IpAddr]) -> Service {
    let family = |ip: &IpAddr| if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let families: Vec<&str> = addresses.iter().map(family).collect();
    let policy = match families.len() {
        1 => "SingleStack",
        _ => "RequireDualStack",
    };
    typed(json!({
        "metadata": {
            "name": SERVICE,
            "namespace": NAMESPACE,
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
                MANAGED_BY: OURS,
            },
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": addresses.first(),
            "clusterIPs": addresses,
            "ipFamilies": families,
            "ipFamilyPolicy": policy,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
            ],
        },
    }))
}

/// Makes the Service at these addresses. One that somebody else has made is left alone.
pub(super) async fn ensure(client: &Client, dns: ClusterDns, services: &Dual<IpNet>) -> anyhow::Result<()> {
    let api: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let there = api
        .get_opt(SERVICE)
        .await
        .context("look for the Service kube-dns")?;
    let within = |ip: &IpAddr| services.iter().any(|range| range.contains(ip));
    let asked: Vec<IpAddr> = dns.addresses().into_iter().filter(within).collect();
    match there {
        Some(service) if !is_ours(&service) => {
            tracing::info!("the cluster has a Service kube-dns of its own: nodes do not answer names");
            return Ok(());
        }
        Some(service) if addresses(&service) == asked => return Ok(()),
        Some(_) => {
            let deleted = api.delete(SERVICE, &DeleteParams::default()).await;
            deleted.context("delete the Service kube-dns of before")?;
        }
        None => {}
    }
    if asked.is_empty() {
        return Ok(());
    }
    let created = api.create(&PostParams::default(), &wanted(&asked)).await;
    created.with_context(|| format!("make the Service kube-dns at {asked:?}"))?;
    Ok(())
}

/// The name servers of a node's pods: those that were asked for, or the cluster's. `file` remembers them for starts
/// without an API server.
pub async fn name_servers(
    client: &Client,
    asked: Option<ClusterDns>,
    services: &Dual<IpNet>,
    file: &Path,
) -> Vec<IpAddr> {
    if let Some(asked) = asked {
        return asked.addresses();
    }
    match of_cluster(client).await {
        Ok(found) => {
            remember(file, &found);
            found
        }
        Err(error) => {
            tracing::warn!(
                error = format!("{error:#}"),
                "the cluster's DNS is where it was last"
            );
            remembered(file).unwrap_or_else(|| ClusterDns::settle(None, services).addresses())
        }
    }
}

async fn of_cluster(client: &Client) -> anyhow::Result<Vec<IpAddr>> {
    let api: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let Ok(there) = tokio::time::timeout(PATIENCE, api.get_opt(SERVICE)).await else {
        bail!("no answer within {PATIENCE:?}");
    };
    let there = there.context("look for the Service kube-dns")?;
    Ok(there.as_ref().map(addresses).unwrap_or_default())
}

fn remember(file: &Path, addresses: &[IpAddr]) {
    let lines: String = addresses.iter().map(|ip| format!("{ip}\n")).collect();
    if let Err(error) = std::fs::write(file, lines) {
        tracing::warn!(file = %file.display(), %error, "cannot be written");
    }
}

fn remembered(file: &Path) -> Option<Vec<IpAddr>> {
    let text = std::fs::read_to_string(file).ok()?;
    Some(text.lines().filter_map(|line| line.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_clusters_dns_was_is_remembered() {
        let file = std::env::temp_dir().join(format!("knode-cluster-dns-{}", std::process::id()));
        assert_eq!(remembered(&file), None);
        let both: [IpAddr; 2] = ["10.254.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        remember(&file, &both);
        assert_eq!(remembered(&file).unwrap(), both);
        remember(&file, &[]);
        assert_eq!(
            remembered(&file).unwrap(),
            [] as [IpAddr; 0],
            "a cluster without one"
        );
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn ours_is_what_we_made_until_it_selects_pods() {
        let mut service = wanted(&["10.254.0.2".parse().unwrap(), "fd00::2".parse().unwrap()]);
        assert!(is_ours(&service));
        assert_eq!(addresses(&service).len(), 2);
        let spec = service.spec.as_mut().unwrap();
        assert_eq!(spec.ip_family_policy.as_deref(), Some("RequireDualStack"));
        spec.selector = Some([("k8s-app".to_owned(), "kube-dns".to_owned())].into());
        assert!(!is_ours(&service));
        let mut service = wanted(&["10.254.0.2".parse().unwrap()]);
        service.metadata.labels.as_mut().unwrap().remove(MANAGED_BY);
        assert!(!is_ours(&service));
    }
}
