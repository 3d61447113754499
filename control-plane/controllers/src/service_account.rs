//! Every active namespace has a service account `default` (upstream: pkg/controller/serviceaccount).

use async_trait::async_trait;
use k8s_openapi::api::core::v1::ServiceAccount;
use knode_client::{Api, ObjectKey};
use kube::api::{ObjectMeta, PostParams};

use crate::Result;
use crate::error::{api, stale};
use crate::namespace::is_active;
use crate::runner::{Next, Reconcile, Shared, feed, work};

const DEFAULT: &str = "default";

struct Controller(Shared);

/// Runs until its queue is closed.
pub(crate) async fn run(shared: Shared) {
    let queue = shared.queue();
    feed(&shared.namespaces, &queue, |d| vec![d.key()]);
    feed(&shared.service_accounts, &queue, |d| {
        vec![ObjectKey::new("", d.key().namespace)]
    });
    work(Controller(shared), queue).await;
}

#[async_trait]
impl Reconcile for Controller {
    const NAME: &'static str = "serviceaccount";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let there = self.0.service_accounts.get(&key.name, DEFAULT).is_some();
        if there || !is_active(&self.0.namespaces, &key.name) {
            return Ok(Next::Done);
        }
        let metadata = ObjectMeta {
            name: Some(DEFAULT.into()),
            namespace: Some(key.name.clone()),
            ..ObjectMeta::default()
        };
        let account = ServiceAccount {
            metadata,
            ..ServiceAccount::default()
        };
        let accounts = Api::<ServiceAccount>::namespaced(self.0.client.clone(), &key.name);
        match accounts.create(&PostParams::default(), &account).await {
            Err(e) if !stale(&e) => Err(api(format!("create service account {DEFAULT} in {}", key.name))(
                e,
            )),
            _ => Ok(Next::Done),
        }
    }
}
