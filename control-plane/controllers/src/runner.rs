//! The shared runner: informers feed queues of keys, workers reconcile a key at a time.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use knode_client::{
    Api, Backoff, Cache, Client, Delta, EventRecorder, EventSource, ObjectKey, WatchConfig, WorkQueue,
};
use kube::Resource;
use serde::de::DeserializeOwned;

use crate::{ControllersConfig, Result};
use crate::{
    bootstrap_signer, csr, daemon_set, endpoint_slice, gc, namespace, node, pod_gc, resource_claim, root_ca,
    service_account, tokens, volume,
};

/// Keys that are worked on at the same time in one controller.
const WORKERS: usize = 4;

/// What to do about a key after a reconcile that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing until something changes.
    Done,
    /// Look again after this time even if nothing changes.
    After(Duration),
}

/// A controller: brings what belongs to one key to its desired state.
#[async_trait]
pub(crate) trait Reconcile: Send + Sync + 'static {
    /// For the log.
    const NAME: &'static str;

    /// Reconciles one key.
    async fn reconcile(&self, key: &ObjectKey) -> Result<Next>;
}

/// The queue of one controller.
pub(crate) type Queue = Arc<WorkQueue<ObjectKey>>;

/// What all controllers share: configuration and one cache a kind.
#[derive(Clone)]
pub(crate) struct Shared {
    pub config: ControllersConfig,
    pub client: Client,
    pub namespaces: Cache<Namespace>,
    pub nodes: Cache<Node>,
    pub pods: Cache<Pod>,
    pub services: Cache<Service>,
    pub slices: Cache<EndpointSlice>,
    pub endpoints: Cache<Endpoints>,
    pub daemon_sets: Cache<DaemonSet>,
    pub revisions: Cache<ControllerRevision>,
    pub service_accounts: Cache<ServiceAccount>,
    pub root_cas: Cache<ConfigMap>,
    pub requests: Cache<CertificateSigningRequest>,
    pub leases: Cache<Lease>,
    pub tokens: Cache<Secret>,
    pub cluster_info: Cache<ConfigMap>,
}

impl Shared {
    fn start(config: ControllersConfig) -> Self {
        let client = config.client.clone();
        let all = WatchConfig::default;
        Self {
            namespaces: cache(&client, all()),
            nodes: cache(&client, all()),
            pods: cache(&client, all()),
            services: cache(&client, all()),
            slices: cache(&client, all()),
            endpoints: cache(&client, all()),
            daemon_sets: cache(&client, all()),
            revisions: cache(&client, all()),
            service_accounts: cache(&client, WatchConfig::fields("metadata.name=default")),
            root_cas: cache(
                &client,
                WatchConfig::fields(format!("metadata.name={}", root_ca::NAME)),
            ),
            requests: cache(&client, all()),
            leases: Cache::start(Api::namespaced(client.clone(), node::LEASES), all()),
            tokens: Cache::start(
                Api::namespaced(client.clone(), tokens::NAMESPACE),
                WatchConfig::fields(tokens::FIELDS),
            ),
            cluster_info: Cache::start(
                Api::namespaced(client.clone(), bootstrap_signer::NAMESPACE),
                WatchConfig::fields(format!("metadata.name={}", bootstrap_signer::NAME)),
            ),
            client,
            config,
        }
    }

    async fn synced(&self) {
        tokio::join!(
            self.namespaces.wait_synced(),
            self.nodes.wait_synced(),
            self.pods.wait_synced(),
            self.services.wait_synced(),
            self.slices.wait_synced(),
            self.endpoints.wait_synced(),
            self.daemon_sets.wait_synced(),
            self.revisions.wait_synced(),
            self.service_accounts.wait_synced(),
            self.root_cas.wait_synced(),
            self.requests.wait_synced(),
            self.leases.wait_synced(),
            self.tokens.wait_synced(),
            self.cluster_info.wait_synced(),
        );
    }

    /// As this controller's service account.
    pub(crate) fn acting_as(&self, account: &str) -> Self {
        Self {
            client: (self.config.clients)(account),
            ..self.clone()
        }
    }

    /// A recorder that signs as `component`.
    pub fn recorder(&self, component: &str) -> EventRecorder {
        let source = EventSource {
            component: component.to_owned(),
            host: String::new(),
        };
        EventRecorder::start(self.client.clone(), source, self.config.clock.clone())
    }

    /// An empty queue.
    pub fn queue(&self) -> Queue {
        Arc::new(WorkQueue::new(self.config.clock.clone(), Backoff::QUEUE))
    }
}

fn cache<K>(client: &Client, config: WatchConfig) -> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    Cache::start(Api::all(client.clone()), config)
}

/// Adds the keys that `keys` derives from each change of `cache` to `queue`, for ever.
pub(crate) fn feed<K, F>(cache: &Cache<K>, queue: &Queue, keys: F)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    F: Fn(&Delta<K>) -> Vec<ObjectKey> + Send + 'static,
{
    let (mut deltas, queue) = (cache.subscribe(), queue.clone());
    tokio::spawn(async move {
        while let Some(delta) = deltas.recv().await {
            keys(&delta).into_iter().for_each(|key| queue.add(key));
        }
        queue.close();
    });
}

/// Reconciles keys of `queue` until it is closed.
pub(crate) async fn work<R: Reconcile>(controller: R, queue: Queue) {
    let controller = Arc::new(controller);
    join_all((0..WORKERS).map(|_| worker(controller.clone(), queue.clone()))).await;
}

async fn worker<R: Reconcile>(controller: Arc<R>, queue: Queue) {
    while let Some(key) = queue.next().await {
        match controller.reconcile(&key).await {
            Ok(next) => {
                queue.forget(&key);
                if let Next::After(delay) = next {
                    queue.add_after(key.clone(), delay);
                }
            }
            Err(error) => {
                tracing::warn!(controller = R::NAME, %key, error = knode_client::brief(&error), "reconcile failed");
                queue.add_rate_limited(key.clone());
            }
        }
        queue.done(&key);
    }
}

/// Runs every controller until `shutdown` resolves.
pub async fn run(config: ControllersConfig, shutdown: impl Future<Output = ()> + Send) {
    let shared = Shared::start(config);
    let controllers = async {
        shared.synced().await;
        tokio::join!(
            namespace::run(shared.acting_as("namespace-controller")),
            service_account::run(shared.acting_as("service-account-controller")),
            root_ca::run(shared.acting_as("root-ca-cert-publisher")),
            csr::run(shared.acting_as("certificate-controller")),
            node::run(shared.acting_as("node-controller")),
            endpoint_slice::run(shared.acting_as("endpointslice-controller")),
            daemon_set::run(shared.acting_as("daemon-set-controller")),
            pod_gc::run(shared.acting_as("pod-garbage-collector")),
            tokens::run(shared.acting_as("token-cleaner")),
            bootstrap_signer::run(shared.acting_as("bootstrap-signer")),
            gc::run(shared.acting_as("generic-garbage-collector")),
            volume::run(&shared),
            resource_claim::run(shared.acting_as("resource-claim-controller")),
        )
    };
    tokio::select! {
        _ = controllers => tracing::error!("the controllers ended by themselves"),
        () = shutdown => {}
    }
}
