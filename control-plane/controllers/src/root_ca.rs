//! Every active namespace has the CA certificates of the API server in a ConfigMap
//! (upstream: pkg/controller/certificates/rootcacertpublisher).

use std::collections::BTreeMap;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::ConfigMap;
use knode_client::{Api, ObjectKey};
use kube::api::{ObjectMeta, PostParams};

use crate::Result;
use crate::error::{api, stale};
use crate::namespace::is_active;
use crate::runner::{Next, Queue, Reconcile, Shared, feed, work};

/// Name of the ConfigMap.
pub(crate) const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

struct Controller(Shared);

/// Runs until its queue is closed.
pub(crate) async fn run(shared: Shared) {
    let queue = shared.queue();
    feed(&shared.namespaces, &queue, |d| vec![d.key()]);
    feed(&shared.root_cas, &queue, |d| {
        vec![ObjectKey::new("", d.key().namespace)]
    });
    let replaced = again(shared.clone(), queue.clone());
    tokio::select! {
        () = work(Controller(shared), queue) => {}
        () = replaced => {}
    }
}

/// Looks at every namespace when the authority has been replaced.
async fn again(shared: Shared, queue: Queue) {
    let mut authority = shared.config.authority.clone();
    while authority.changed().await.is_ok() {
        for namespace in shared.namespaces.list() {
            queue.add(ObjectKey::of(namespace.as_ref()));
        }
    }
    // Nobody replaces it any more.
    std::future::pending().await
}

fn wanted(ca_pem: &str) -> ConfigMap {
    let annotations = BTreeMap::from([("kubernetes.io/description".to_owned(), DESCRIPTION.to_owned())]);
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("ca.crt".to_owned(), ca_pem.to_owned())])),
        ..ConfigMap::default()
    }
}

#[async_trait]
impl Reconcile for Controller {
    const NAME: &'static str = "root-ca-certificate-publisher";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        if !is_active(&self.0.namespaces, &key.name) {
            return Ok(Next::Done);
        }
        let ca = self.0.config.authority.borrow().clone();
        let mut wanted = wanted(ca.cert_pem());
        let maps = Api::<ConfigMap>::namespaced(self.0.client.clone(), &key.name);
        let params = PostParams::default();
        let written = match self.0.root_cas.get(&key.name, NAME) {
            Some(there) if there.data == wanted.data => return Ok(Next::Done),
            Some(there) => {
                wanted.metadata.resource_version = there.metadata.resource_version.clone();
                maps.replace(NAME, &params, &wanted).await
            }
            None => maps.create(&params, &wanted).await,
        };
        match written {
            Err(e) if !stale(&e) => Err(api(format!("write {NAME} in {}", key.name))(e)),
            _ => Ok(Next::Done),
        }
    }
}
