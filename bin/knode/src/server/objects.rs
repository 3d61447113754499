//! What our control plane grants beyond upstream's defaults, so that nodes can join and their proxies and
//! overlays can work with the node's own identity.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use knode_client::Client;
use kube::api::PostParams;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::rbac;

/// Why an object could not be brought to its state.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    /// A request failed.
    #[error("ensure {kind} {name}")]
    Request {
        kind: String,
        name: String,
        #[source]
        source: kube::Error,
    },
    /// The published kubeconfig could not be written.
    #[error("write the kubeconfig that cluster-info publishes")]
    Publish(#[source] knode_pki::Error),
}

/// Lets our controller approve the serving certificates of kubelets, which upstream leaves to a person.
fn approver() -> (ClusterRole, ClusterRoleBinding) {
    let name = "knode:approve-kubelet-serving";
    let role = json!({
        "metadata": {"name": name},
        "rules": [{"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "verbs": ["approve"],
                   "resourceNames": ["kubernetes.io/kubelet-serving"]}],
    });
    let binding = json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "namespace": "kube-system", "name": "certificate-controller"}],
    });
    (typed(role), typed(binding))
}

/// Creates or replaces the roles, their bindings and the bootstrap token.
pub async fn ensure(client: &Client, token: &Secret) -> Result<(), EnsureError> {
    put(&Api::all(client.clone()), &rbac::role(true)).await?;
    let (role, binding_of_role) = approver();
    put(&Api::all(client.clone()), &role).await?;
    put(&Api::all(client.clone()), &binding_of_role).await?;
    put(&Api::all(client.clone()), &rbac::binding()).await?;
    put(&Api::namespaced(client.clone(), "kube-system"), token).await
}

/// Creates an object, or brings an existing one to this state.
pub async fn put<K>(api: &Api<K>, object: &K) -> Result<(), EnsureError>
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let name = object.meta().name.clone().unwrap_or_default();
    let put = async {
        let params = PostParams::default();
        let Some(existing) = api.get_opt(&name).await? else {
            return api.create(&params, object).await.map(drop);
        };
        let mut wanted = object.clone();
        wanted.meta_mut().resource_version = existing.meta().resource_version.clone();
        api.replace(&name, &params, &wanted).await.map(drop)
    };
    put.await.map_err(|source| EnsureError::Request {
        kind: K::kind(&()).into_owned(),
        name: name.clone(),
        source,
    })
}

/// A constant object as its type.
pub fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value)
        .expect("these constant objects have their types' shape; a unit test builds each")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_has_its_types_shape() {
        assert_eq!(approver().1.role_ref.name, approver().0.metadata.name.unwrap());
    }
}
