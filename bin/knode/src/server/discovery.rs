//! What a machine that joins may learn of the cluster before and after it has shown its token.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use knode_client::Client;
use knode_pki::kubeconfig::{Cluster, ClusterEntry, Kubeconfig, Named};
use kube::Api;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::objects::{EnsureError, put, typed};
use crate::join::networks::CONFIG_MAP;

/// What is published.
pub struct Published {
    /// How machines reach the API server: `https://host:port`.
    pub server: String,
    /// The cluster's authority, PEM.
    pub ca_pem: String,
    /// Addresses of pods, as the flag says them.
    pub pod_cidr: String,
    /// Addresses of services, as the flag says them.
    pub service_cidr: String,
}

/// Creates or replaces what is published and who may read it.
pub async fn ensure(client: &Client, published: &Published) -> Result<(), EnsureError> {
    let public: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-public");
    let existing = public.get_opt("cluster-info").await.ok().flatten();
    put(&public, &cluster_info(published, existing)?).await?;
    let system: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    put(&system, &networks(published)).await?;
    for reading in [&PUBLIC, &JOINED, &NODES] {
        put(
            &Api::namespaced(client.clone(), reading.namespace),
            &reading.role(),
        )
        .await?;
        put(
            &Api::namespaced(client.clone(), reading.namespace),
            &reading.binding(),
        )
        .await?;
    }
    Ok(())
}

/// A kubeconfig without a user. Signatures that are there stay; the signer sees to them.
fn cluster_info(published: &Published, existing: Option<ConfigMap>) -> Result<ConfigMap, EnsureError> {
    use base64::Engine;
    let ca = base64::engine::general_purpose::STANDARD.encode(&published.ca_pem);
    let cluster = Cluster {
        server: published.server.clone(),
        certificate_authority_data: Some(ca),
        ..Cluster::default()
    };
    let kubeconfig = Kubeconfig {
        api_version: "v1".to_owned(),
        kind: "Config".to_owned(),
        clusters: vec![Named {
            name: String::new(),
            entry: ClusterEntry { cluster },
        }],
        ..Kubeconfig::default()
    };
    let text = kubeconfig.to_yaml().map_err(EnsureError::Publish)?;
    let mut data = existing.and_then(|map| map.data).unwrap_or_default();
    data.insert("kubeconfig".to_owned(), text);
    Ok(config_map("cluster-info", data))
}

fn networks(published: &Published) -> ConfigMap {
    let data = [
        ("podCIDR".to_owned(), published.pod_cidr.clone()),
        ("serviceCIDR".to_owned(), published.service_cidr.clone()),
    ];
    config_map(CONFIG_MAP, BTreeMap::from(data))
}

fn config_map(name: &str, data: BTreeMap<String, String>) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(data),
        ..ConfigMap::default()
    }
}

/// One ConfigMap that some may read.
struct Reading {
    role: &'static str,
    namespace: &'static str,
    config_map: &'static str,
    verbs: &'static [&'static str],
    /// Kind and name of those who may.
    subjects: &'static [(&'static str, &'static str)],
}

const PUBLIC: Reading = Reading {
    role: "knode:cluster-info",
    namespace: "kube-public",
    config_map: "cluster-info",
    verbs: &["get"],
    subjects: &[("User", "system:anonymous")],
};
const JOINED: Reading = Reading {
    role: "knode:cluster-config",
    namespace: "kube-system",
    config_map: CONFIG_MAP,
    verbs: &["get"],
    subjects: &[("Group", "system:bootstrappers"), ("Group", "system:nodes")],
};
/// Nodes follow which authorities the cluster has.
const NODES: Reading = Reading {
    role: "knode:cluster-authorities",
    namespace: "kube-public",
    config_map: "cluster-info",
    verbs: &["get", "list", "watch"],
    subjects: &[("Group", "system:nodes")],
};

impl Reading {
    fn role(&self) -> Role {
        typed(json!({
            "metadata": {"name": self.role},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [self.config_map],
                       "verbs": self.verbs}],
        }))
    }

    fn binding(&self) -> RoleBinding {
        let subject = |(kind, name): &(&str, &str)| -> Value {
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name})
        };
        typed(json!({
            "metadata": {"name": self.role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": self.role},
            "subjects": self.subjects.iter().map(subject).collect::<Vec<_>>(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published() -> Published {
        Published {
            server: "https://192.0.2.1:6443".into(),
            ca_pem: "PEM".into(),
            pod_cidr: "172.30.0.0/16".into(),
            service_cidr: "10.254.0.0/16".into(),
        }
    }

    #[test]
    fn signatures_survive_and_the_kubeconfig_names_no_user() {
        let old = config_map(
            "cluster-info",
            BTreeMap::from([("jws-kubeconfig-aaaaaa".into(), "x".into())]),
        );
        let data = cluster_info(&published(), Some(old)).unwrap().data.unwrap();
        assert_eq!(data["jws-kubeconfig-aaaaaa"], "x");
        let kubeconfig = Kubeconfig::parse(&data["kubeconfig"], "cluster-info").unwrap();
        assert_eq!(
            kubeconfig.clusters[0].entry.cluster.server,
            "https://192.0.2.1:6443"
        );
        assert!(kubeconfig.users.is_empty());
    }

    #[test]
    fn every_object_has_its_types_shape() {
        for reading in [&PUBLIC, &JOINED, &NODES] {
            assert_eq!(reading.role().metadata.name, reading.binding().metadata.name);
        }
    }
}
