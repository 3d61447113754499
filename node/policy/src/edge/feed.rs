//! API watches feed the planner; objects themselves are not kept. Nothing is watched that no policy needs.

use std::collections::HashMap;
use std::net::IpAddr;

use futures::FutureExt;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use knode_client::{Change, Client, WatchConfig};
use tokio::sync::oneshot;

use super::announce::{Announced, Announcements};
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
    announced: Announcements,
    /// Addresses of this node's pods that the API server does not show yet.
    early: HashMap<Key, Box<[IpAddr]>>,
    /// Who waits until a pod's policies are enforced.
    waiting: Vec<(Key, oneshot::Sender<()>)>,
}

enum Event {
    Policy(Change<NetworkPolicy>),
    Pod(Change<PodObject>),
    Namespace(Change<Namespace>),
    Announced(Announced),
}

impl Feed {
    pub fn start(client: Client, node_name: String, announced: Announcements) -> Self {
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
            announced,
            early: HashMap::new(),
            waiting: Vec::new(),
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
            announced = self.announced.next() => Event::Announced(announced),
        }
    }

    /// Watches more when a policy needs it, and no pods at all when there is no policy.
    fn watch_what_is_needed(&mut self) {
        let needs = self.planner.needs();
        if needs.pods == PodsNeed::None && self.scope != PodsNeed::None {
            self.pods.stop();
            self.planner.replace_pods(Vec::new());
            self.early.clear();
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
            Event::Announced(announced) => self.announced(announced),
        }
    }

    fn announced(&mut self, announced: Announced) {
        let Announced { pod, ips, enforced } = announced;
        if self.scope == PodsNeed::None || !self.is_synced() {
            // There is no policy, or no knowing.
            return;
        }
        let ips: Box<[IpAddr]> = ips.into();
        if let Some(known) = self.planner.model().pod(&pod).cloned() {
            let known = Pod {
                ips: ips.clone(),
                ..Pod::clone(&known)
            };
            self.planner.set_pod(&pod, Some(known));
        }
        self.early.insert(pod.clone(), ips);
        self.waiting.push((pod, enforced));
    }

    /// The kernel has what the plan says: tells those who wait for pods that are known.
    pub fn enforced(&mut self) {
        let model = self.planner.model();
        let (known, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .filter(|(_, enforced)| !enforced.is_closed())
            .partition(|(pod, _)| model.pod(pod).is_some());
        self.waiting = waiting;
        let known: Vec<(Key, oneshot::Sender<()>)> = known;
        for (_, enforced) in known {
            // Who no longer waits need not know.
            let _ = enforced.send(());
        }
    }

    /// What the API server says of a pod, with the addresses that it does not show yet.
    fn with_early(&mut self, key: &Key, pod: Option<Pod>) -> Option<Pod> {
        let Some(early) = self.early.get(key) else {
            return pod;
        };
        match pod {
            Some(pod) if !same_addresses(&pod.ips, early) => Some(Pod {
                ips: early.clone(),
                ..pod
            }),
            shown_or_gone => {
                self.early.remove(key);
                shown_or_gone
            }
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
        match change {
            Change::Restarted(objects) => {
                let pods = objects.iter().map(|object| self.known(object)).collect();
                self.planner.replace_pods(pods);
            }
            Change::Applied(object) => {
                let (key, pod) = self.known(&object);
                self.planner.set_pod(&key, pod);
            }
            Change::Deleted(object) => {
                let key = convert::key(&object);
                self.early.remove(&key);
                self.planner.set_pod(&key, None);
            }
        }
    }

    fn known(&mut self, object: &PodObject) -> (Key, Option<Pod>) {
        let key = convert::key(object);
        let pod = convert::pod(object, &self.node_name);
        let pod = self.with_early(&key, pod);
        (key, pod)
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

fn same_addresses(one: &[IpAddr], other: &[IpAddr]) -> bool {
    one.len() == other.len() && one.iter().all(|ip| other.contains(ip))
}
