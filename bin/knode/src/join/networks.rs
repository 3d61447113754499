//! The address ranges of a cluster, from what it says of itself to those who join.

use anyhow::Context;
use k8s_openapi::api::core::v1::ConfigMap;
use knode_client::Client;
use kube::Api;
use serde_json::Value;

/// Where our control plane says it.
pub const CONFIG_MAP: &str = "knode-config";
/// Where kubeadm's clusters do.
const KUBEADM: &str = "kubeadm-config";
const NAMESPACE: &str = "kube-system";

/// Ranges as their flags take them; one per family, separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks {
    /// Addresses of pods.
    pub pods: String,
    /// Addresses of services.
    pub services: String,
}

/// What the cluster says. `None` when it says nothing.
///
/// # Errors
/// When it can't be asked, or says something unreadable.
pub async fn of_cluster(client: &Client) -> anyhow::Result<Option<Networks>> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    for (name, read) in [
        (
            CONFIG_MAP,
            ours as fn(&ConfigMap) -> anyhow::Result<Option<Networks>>,
        ),
        (KUBEADM, kubeadms),
    ] {
        let asked = maps.get_opt(name).await;
        // Another control plane may not let nodes read what it does not have.
        let unknown = |e: &kube::Error| matches!(knode_client::status_code(e), Some(401 | 403));
        let found = match asked {
            Err(error) if unknown(&error) => None,
            asked => asked.with_context(|| format!("get ConfigMap {NAMESPACE}/{name}"))?,
        };
        let networks = found.map(|map| read(&map)).transpose();
        if let Some(networks) = networks
            .with_context(|| format!("read ConfigMap {NAMESPACE}/{name}"))?
            .flatten()
        {
            return Ok(Some(networks));
        }
    }
    Ok(None)
}

fn ours(map: &ConfigMap) -> anyhow::Result<Option<Networks>> {
    let get = |key: &str| map.data.as_ref()?.get(key).cloned();
    Ok(get("podCIDR")
        .zip(get("serviceCIDR"))
        .map(|(pods, services)| Networks { pods, services }))
}

/// `networking` of the ClusterConfiguration (kubeadm.k8s.io).
fn kubeadms(map: &ConfigMap) -> anyhow::Result<Option<Networks>> {
    let Some(text) = map.data.as_ref().and_then(|d| d.get("ClusterConfiguration")) else {
        return Ok(None);
    };
    let configuration: Value =
        serde_norway::from_str(text).context("the ClusterConfiguration is not YAML")?;
    let get = |key: &str| {
        let text = configuration["networking"][key].as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    };
    Ok(get("podSubnet")
        .zip(get("serviceSubnet"))
        .map(|(pods, services)| Networks { pods, services }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(data: Value) -> ConfigMap {
        serde_json::from_value(json!({"data": data})).unwrap()
    }

    fn networks(pods: &str, services: &str) -> Option<Networks> {
        let (pods, services) = (pods.to_owned(), services.to_owned());
        Some(Networks { pods, services })
    }

    #[test]
    fn our_own_and_kubeadms_form_are_read() {
        let own = map(json!({"podCIDR": "172.30.0.0/16", "serviceCIDR": "10.254.0.0/16"}));
        assert_eq!(ours(&own).unwrap(), networks("172.30.0.0/16", "10.254.0.0/16"));
        let text = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nnetworking:\n  dnsDomain: cluster.local\n  podSubnet: 10.244.0.0/16\n  serviceSubnet: 10.96.0.0/12\n";
        let kubeadm = map(json!({"ClusterConfiguration": text}));
        assert_eq!(
            kubeadms(&kubeadm).unwrap(),
            networks("10.244.0.0/16", "10.96.0.0/12")
        );
        let without = map(json!({"ClusterConfiguration": "networking: {}"}));
        assert_eq!(kubeadms(&without).unwrap(), None);
        assert!(kubeadms(&map(json!({"ClusterConfiguration": "a: [b"}))).is_err());
    }
}
