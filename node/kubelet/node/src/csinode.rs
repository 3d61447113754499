//! The CSINode object, without which upstream's kubelet does not call itself ready.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::{CSINode, CSINodeSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use knode_client::{Api, ApiError, Client, is_conflict, is_not_found, status_code};
use kube::api::PostParams;

use crate::lease::owner_reference;

/// In-tree volume plug-ins that upstream's kubelet has moved to CSI.
const MIGRATED: &str = "kubernetes.io/aws-ebs,kubernetes.io/azure-disk,kubernetes.io/azure-file,\
                        kubernetes.io/cinder,kubernetes.io/gce-pd,kubernetes.io/portworx-volume,\
                        kubernetes.io/vsphere-volume";

/// Makes sure that the object exists. A server that does not know the kind needs none.
pub(crate) async fn ensure(client: &Client, node: &Node) -> Result<(), ApiError> {
    let objects: Api<CSINode> = Api::all(client.clone());
    let name = node.metadata.name.as_deref().unwrap_or_default();
    match objects.get(name).await {
        Ok(_) => return Ok(()),
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(error),
    }
    match objects.create(&PostParams::default(), &object(node)).await {
        Ok(_) => Ok(()),
        Err(error) if is_conflict(&error) => Ok(()),
        Err(error) if status_code(&error) == Some(404) => {
            tracing::info!("the API server has no CSINode objects");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn object(node: &Node) -> CSINode {
    let annotation = (
        "storage.alpha.kubernetes.io/migrated-plugins".to_owned(),
        MIGRATED.to_owned(),
    );
    CSINode {
        metadata: ObjectMeta {
            name: node.metadata.name.clone(),
            annotations: Some(BTreeMap::from([annotation])),
            owner_references: Some(vec![owner_reference(node)]),
            ..ObjectMeta::default()
        },
        spec: CSINodeSpec { drivers: Vec::new() },
    }
}
