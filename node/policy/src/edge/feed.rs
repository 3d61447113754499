//! API watches feed the planner; objects themselves are not kept. Nothing is watched that no policy needs.

use futures::FutureExt;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use knode_client::{Change, Client, WatchConfig};

use super::follow::Follow;
use crate::convert::{self, PodObject};
use crate::model::{Key, Labels, Name, Pod, Policy};
use crate::plan::{Planner, PodsNeed};

/// The planner, and what keeps it true.
pub(super) struct Feed {
    pub planner: Planner,
    client: Client,
    node_name: String,
    policies: Follow<NetworkPolicy>,
    pods: Follow<PodObject>,
    namespaces: Follow<Namespace>,
    /// Which pods are watched.
    scope: PodsNeed,
}

enum Event {
    Policy(Change<NetworkPolicy>),
    Pod(Change<PodObject>),
    Namespace(Change<Namespace>),
}

impl Feed {
    pub fn start(client: Client, node_name: String) -> Self {
        let mut policies = Follow::default();
        policies.start(&client, WatchConfig::default());
        Self {
            planner: Planner::default(),
            client,
            node_name,
            policies,
            pods: Follow::default(),
            namespaces: Follow::default(),
            scope: PodsNeed::None,
        }
    }

    /// Whether all that the plan needs is known.
    pub fn is_synced(&self) -> bool {
        self.policies.is_settled() && self.pods.is_settled() && self.namespaces.is_settled()
    }

    /// Waits for something to happen and takes it in, with all that has come meanwhile.
    pub async fn next(&mut self) {
        let event = self.event().await;
        self.apply(event);
        while let Some(event) = self.event().now_or_never() {
            self.apply(event);
        }
        self.planner.settle();
        self.watch_what_is_needed();
    }

    async fn event(&mut self) -> Event {
        tokio::select! {
            change = self.policies.next() => Event::Policy(change),
            change = self.pods.next() => Event::Pod(change),
            change = self.namespaces.next() => Event::Namespace(change),
        }
    }

    /// Watches more when a policy needs it, and no pods at all when there is no policy.
    fn watch_what_is_needed(&mut self) {
        let needs = self.planner.needs();
        if needs.pods == PodsNeed::None && self.scope != PodsNeed::None {
            self.pods.stop();
            self.planner.replace_pods(Vec::new());
            self.scope = PodsNeed::None;
            tracing::debug!("no network policies: pods are not watched");
        }
        // Back to this node's alone would be another list; it waits until there is no policy.
        if needs.pods > self.scope {
            let config = match needs.pods {
                PodsNeed::Local => WatchConfig::fields(format!("spec.nodeName={}", self.node_name)),
                _ => WatchConfig::default(),
            };
            self.pods.start(&self.client, config);
            self.scope = needs.pods;
            tracing::debug!(scope = ?self.scope, "pods are watched for network policies");
        }
        match (needs.namespaces, self.namespaces.is_on()) {
            (true, false) => self.namespaces.start(&self.client, WatchConfig::default()),
            (false, true) if needs.pods == PodsNeed::None => {
                self.namespaces.stop();
                self.planner.replace_namespaces(Vec::new());
            }
            _ => {}
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Policy(change) => self.policy(change),
            Event::Pod(change) => self.pod(change),
            Event::Namespace(change) => self.namespace(change),
        }
    }

    fn policy(&mut self, change: Change<NetworkPolicy>) {
        let keyed =
            |object: &NetworkPolicy| -> (Key, Policy) { (convert::key(object), convert::policy(object)) };
        match change {
            Change::Restarted(objects) => self.planner.replace_policies(objects.iter().map(keyed).collect()),
            Change::Applied(object) => {
                let (key, policy) = keyed(&object);
                self.planner.set_policy(&key, Some(policy));
            }
            Change::Deleted(object) => self.planner.set_policy(&convert::key(&object), None),
        }
    }

    fn pod(&mut self, change: Change<PodObject>) {
        let node_name = &self.node_name;
        let keyed = |object: &PodObject| -> (Key, Option<Pod>) {
            (convert::key(object), convert::pod(object, node_name))
        };
        match change {
            Change::Restarted(objects) => {
                let pods = objects.iter().map(keyed).collect();
                self.planner.replace_pods(pods);
            }
            Change::Applied(object) => {
                let (key, pod) = keyed(&object);
                self.planner.set_pod(&key, pod);
            }
            Change::Deleted(object) => self.planner.set_pod(&convert::key(&object), None),
        }
    }

    fn namespace(&mut self, change: Change<Namespace>) {
        let keyed = |object: &Namespace| -> (Name, Labels) {
            let labels = convert::labels(object.metadata.labels.as_ref());
            (convert::key(object).name, labels)
        };
        match change {
            Change::Restarted(objects) => self
                .planner
                .replace_namespaces(objects.iter().map(keyed).collect()),
            Change::Applied(object) => {
                let (name, labels) = keyed(&object);
                self.planner.set_namespace(&name, Some(labels));
            }
            Change::Deleted(object) => self.planner.set_namespace(&convert::key(&object).name, None),
        }
    }
}
