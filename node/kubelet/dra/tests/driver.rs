//! A driver on its socket: what it is asked, and what containers get of it.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use knode_kubelet_dra::v1::dra_plugin_server::{DraPlugin, DraPluginServer};
use knode_kubelet_dra::v1::{self, SERVICE};
use knode_kubelet_dra::{ByDirectory, ClaimApi, Claims};
use knode_kubelet_plugins::{Handler, Plugin};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

const DRIVER: &str = "driver.example.com";

/// Notes what it is asked; says this of every claim.
#[derive(Clone, Default)]
struct Driver {
    asked: Arc<Mutex<Vec<String>>>,
    error: Arc<Mutex<String>>,
}

#[tonic::async_trait]
impl DraPlugin for Driver {
    async fn node_prepare_resources(
        &self,
        request: Request<v1::NodePrepareResourcesRequest>,
    ) -> Result<Response<v1::NodePrepareResourcesResponse>, Status> {
        let answer = |claim: v1::Claim| {
            self.asked.lock().unwrap().push(format!("+{}", claim.name));
            let device = |request: &str| v1::Device {
                request_names: vec![request.to_owned()],
                pool_name: "pool".to_owned(),
                device_name: request.to_owned(),
                cdi_device_ids: vec![format!("example.com/class={}-{request}", claim.name)],
            };
            let result = v1::NodePrepareResourceResponse {
                devices: vec![device("one"), device("two")],
                error: self.error.lock().unwrap().clone(),
            };
            (claim.uid, result)
        };
        let claims = request.into_inner().claims.into_iter().map(answer).collect();
        Ok(Response::new(v1::NodePrepareResourcesResponse { claims }))
    }

    async fn node_unprepare_resources(
        &self,
        request: Request<v1::NodeUnprepareResourcesRequest>,
    ) -> Result<Response<v1::NodeUnprepareResourcesResponse>, Status> {
        let answer = |claim: v1::Claim| {
            self.asked.lock().unwrap().push(format!("-{}", claim.name));
            let error = self.error.lock().unwrap().clone();
            (claim.uid, v1::NodeUnprepareResourceResponse { error })
        };
        let claims = request.into_inner().claims.into_iter().map(answer).collect();
        Ok(Response::new(v1::NodeUnprepareResourcesResponse { claims }))
    }
}

/// Every claim is reserved for the pods `p` and `q`.
struct Api;

#[async_trait]
impl ClaimApi for Api {
    async fn claim(&self, namespace: &str, name: &str) -> Result<Value, String> {
        if name == "missing" {
            return Err("not found".to_owned());
        }
        Ok(json!({
            "metadata": {"name": name, "namespace": namespace, "uid": format!("uid-{name}")},
            "status": {
                "reservedFor": [{"resource": "pods", "uid": "p"}, {"resource": "pods", "uid": "q"}],
                "allocation": {"devices": {"results": [{"driver": DRIVER, "request": "one"}]}},
            },
        }))
    }

    async fn delete_slices(&self, _: &str) -> Result<(), String> {
        Ok(())
    }
}

fn pod(uid: &str, claim: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": uid, "namespace": "default", "uid": uid},
        "spec": {
            "resourceClaims": [{"name": "a", "resourceClaimName": claim}],
            "containers": [
                {"name": "all", "resources": {"claims": [{"name": "a"}]}},
                {"name": "two", "resources": {"claims": [{"name": "a", "request": "two"}]}},
                {"name": "none"},
            ],
        },
    }))
    .unwrap()
}

struct Bed {
    directory: PathBuf,
    driver: Driver,
}

impl Bed {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("dra-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let driver = Driver::default();
        let listener = UnixListener::bind(directory.join("d.sock")).unwrap();
        let service = DraPluginServer::new(driver.clone());
        tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            let incoming = UnixListenerStream::new(listener);
            server.serve_with_incoming(incoming).await.unwrap();
        });
        Self { directory, driver }
    }

    fn open(&self) -> Arc<Claims> {
        Claims::open(self.directory.join("state"), Arc::new(Api)).unwrap()
    }

    fn plugin(&self, service: &str) -> Plugin {
        Plugin {
            name: DRIVER.to_owned(),
            endpoint: self.directory.join("d.sock"),
            versions: vec![service.to_owned()],
            socket: self.directory.join("registration.sock"),
        }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.driver.asked.lock().unwrap())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

fn names(claims: &Claims, pod: &Pod, container: usize) -> Vec<String> {
    let container = &pod.spec.as_ref().unwrap().containers[container];
    let used = claims.of_container(pod, container).unwrap().into_iter();
    let devices = used.flat_map(|claim| claim.drivers.into_values().flatten());
    devices.flat_map(|device| device.cdi_device_ids).collect()
}

#[tokio::test]
async fn claims_are_made_ready_shared_and_taken_back_even_after_a_restart() {
    let bed = Bed::new("shared");
    let claims = bed.open();
    let (first, second) = (pod("p", "c"), pod("q", "c"));
    let error = claims.prepare(&first).await.unwrap_err().to_string();
    assert_eq!(error, "DRA driver driver.example.com is not registered");
    let handler = ByDirectory(claims.clone());
    handler.register(&bed.plugin(SERVICE)).await.unwrap();
    claims.prepare(&first).await.unwrap();
    claims.prepare(&first).await.unwrap();
    claims.prepare(&second).await.unwrap();
    assert_eq!(bed.asked(), ["+c"], "once for all");
    let (one, two) = ("example.com/class=c-one", "example.com/class=c-two");
    assert_eq!(names(&claims, &first, 0), [one, two]);
    assert_eq!(names(&claims, &first, 1), [two]);
    assert_eq!(names(&claims, &first, 2), [""; 0]);
    claims.unprepare("p").await.unwrap();
    assert_eq!(bed.asked(), [""; 0], "another still uses it");

    // After a restart.
    let claims = bed.open();
    ByDirectory(claims.clone())
        .register(&bed.plugin(SERVICE))
        .await
        .unwrap();
    assert_eq!(names(&claims, &second, 0), [one, two]);
    let strangers = claims.strangers(&BTreeSet::new());
    assert_eq!(strangers, BTreeSet::from(["q".to_owned()]));
    "busy".clone_into(&mut bed.driver.error.lock().unwrap());
    let error = claims.unprepare("q").await.unwrap_err().to_string();
    assert_eq!(error, "NodeUnprepareResources failed for ResourceClaim c: busy");
    bed.driver.error.lock().unwrap().clear();
    claims.unprepare("q").await.unwrap();
    assert_eq!(bed.asked(), ["-c", "-c"]);
    claims.unprepare("q").await.unwrap();
    assert_eq!(bed.asked(), [""; 0], "nothing is taken back twice");
    assert!(bed.open().strangers(&BTreeSet::new()).is_empty());
}

#[tokio::test]
async fn what_cannot_be_made_ready_says_why() {
    let bed = Bed::new("refused");
    let claims = bed.open();
    let handler = ByDirectory(claims.clone());
    let refusal = handler
        .validate(&bed.plugin("v1beta1.DRAPlugin"))
        .await
        .unwrap_err();
    assert!(refusal.0.contains("not v1.DRAPlugin"), "{refusal}");
    handler.register(&bed.plugin(SERVICE)).await.unwrap();
    let error = claims
        .prepare(&pod("p", "missing"))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "failed to fetch ResourceClaim missing referenced by pod p: not found"
    );
    let error = claims.prepare(&pod("r", "c")).await.unwrap_err().to_string();
    assert_eq!(error, "pod r (r) is not allowed to use ResourceClaim c (uid-c)");
    "broken".clone_into(&mut bed.driver.error.lock().unwrap());
    let error = claims.prepare(&pod("p", "c")).await.unwrap_err().to_string();
    assert_eq!(error, "NodePrepareResources failed for ResourceClaim c: broken");
    handler.deregister(&bed.plugin(SERVICE)).await;
    let error = claims.prepare(&pod("p", "c")).await.unwrap_err().to_string();
    assert_eq!(error, "DRA driver driver.example.com is not registered");
}
