//! Claims of dynamic resources at the API server.

use async_trait::async_trait;
use http::Request;
use knode_client::Client;
use knode_kubelet_dra::ClaimApi;
use serde_json::Value;

const GROUP: &str = "/apis/resource.k8s.io/v1";

/// Asks with the node's identity.
pub struct Api {
    pub client: Client,
    pub node: String,
}

impl Api {
    async fn send(&self, request: Request<Vec<u8>>) -> Result<Value, String> {
        let answer = self.client.request(request).await;
        answer.map_err(|error| error.to_string())
    }
}

#[async_trait]
impl ClaimApi for Api {
    async fn claim(&self, namespace: &str, name: &str) -> Result<Value, String> {
        let path = format!("{GROUP}/namespaces/{namespace}/resourceclaims/{name}");
        let request = Request::get(path).body(Vec::new());
        self.send(request.map_err(|error| error.to_string())?).await
    }

    async fn delete_slices(&self, driver: &str) -> Result<(), String> {
        let of = format!("spec.nodeName%3D{}%2Cspec.driver%3D{driver}", self.node);
        let path = format!("{GROUP}/resourceslices?fieldSelector={of}");
        let request = Request::delete(path).body(Vec::new());
        self.send(request.map_err(|error| error.to_string())?).await?;
        Ok(())
    }
}
