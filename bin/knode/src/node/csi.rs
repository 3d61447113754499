//! CSI drivers: who registers as one is given to the kubelet's volumes.

use std::sync::Arc;

use async_trait::async_trait;
use knode_kubelet_csi::{Csi, RegisterError};
use knode_kubelet_plugins::{CSI_PLUGIN, Handler, Plugin, Refusal};

/// Hands plugins over as drivers.
pub struct Plugins(pub Arc<Csi>);

fn refusal(error: RegisterError) -> Refusal {
    Refusal(error.0)
}

#[async_trait]
impl Handler for Plugins {
    fn kind(&self) -> &'static str {
        CSI_PLUGIN
    }

    async fn validate(&self, plugin: &Plugin) -> Result<(), Refusal> {
        self.0.validate(&plugin.name, &plugin.versions).map_err(refusal)
    }

    async fn register(&self, plugin: &Plugin) -> Result<(), Refusal> {
        let done = self
            .0
            .register(&plugin.name, &plugin.endpoint, &plugin.socket)
            .await;
        done.map_err(refusal)
    }

    async fn deregister(&self, plugin: &Plugin) {
        self.0.deregister(&plugin.name, &plugin.socket).await;
    }
}
