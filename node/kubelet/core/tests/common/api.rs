//! An API server that holds pods, applies status patches as the real one does, and remembers everything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use knode_client::Clock;
use knode_kubelet::env::{ServiceLink, ServicePort};
use knode_kubelet::plan::PodEvent;
use knode_kubelet::{PodApi, PodApiError, PodChange};
use knode_volumes::{ObjectError, Objects, Token, TokenQuery, TrustQuery};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::clock::VirtualClock;

#[derive(Default)]
struct State {
    pods: BTreeMap<String, Pod>,
    version: u64,
    watchers: Vec<mpsc::UnboundedSender<PodChange>>,
    contents: Vec<mpsc::UnboundedSender<String>>,
    config_maps: BTreeMap<String, Arc<ConfigMap>>,
    secrets: BTreeMap<String, Arc<Secret>>,
    patches: Vec<(String, Value)>,
    events: Vec<(String, String)>,
    refuse: u32,
    offline: bool,
    /// When there were requests of any kind, answered or not.
    requests: Vec<tokio::time::Instant>,
    tokens: u32,
}

pub struct FakeApi {
    state: Mutex<State>,
    clock: Arc<VirtualClock>,
}

impl FakeApi {
    pub fn new(clock: Arc<VirtualClock>) -> Self {
        Self {
            state: Mutex::default(),
            clock,
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap())
    }

    /// Creates or changes a pod.
    pub fn put(&self, pod: Pod) {
        self.with(|state| state.put(pod));
    }

    pub fn pod(&self, name: &str) -> Option<Pod> {
        self.with(|state| state.pods.get(name).cloned())
    }

    /// What a user's DELETE does.
    pub fn delete_pod(&self, name: &str, grace: Option<i64>) {
        let now = self.clock.now();
        self.with(|state| {
            let mut pod = state.pods[name].clone();
            let own = pod
                .spec
                .as_ref()
                .and_then(|spec| spec.termination_grace_period_seconds);
            let grace = grace.or(own).unwrap_or(30);
            pod.metadata.deletion_grace_period_seconds = Some(grace);
            pod.metadata.deletion_timestamp = Some(Time(now + SignedDuration::from_secs(grace)));
            pod.metadata.generation = pod.metadata.generation.map(|generation| generation + 1);
            if grace == 0 {
                state.take_out(name)
            } else {
                state.put(pod)
            }
        });
    }

    pub fn put_config_map(&self, name: &str, map: ConfigMap, users: &[&str]) {
        self.with(|state| {
            state.config_maps.insert(name.to_owned(), Arc::new(map));
            for watcher in &state.contents {
                users
                    .iter()
                    .for_each(|uid| watcher.send((*uid).to_owned()).unwrap());
            }
        });
    }

    pub fn put_secret(&self, name: &str, secret: Secret) {
        self.with(|state| state.secrets.insert(name.to_owned(), Arc::new(secret)));
    }

    /// Is not there until it is called back.
    pub fn go_offline(&self) {
        self.with(|state| state.offline = true);
    }

    /// Is there again, and says so to those who watch.
    pub fn go_online(&self) {
        self.with(|state| {
            state.offline = false;
            let all = state.pods.values().map(|pod| Arc::new(pod.clone())).collect();
            state.tell(&PodChange::All(all));
        });
    }

    /// When the API was asked for something, in vain or not.
    pub fn requests(&self) -> Vec<tokio::time::Instant> {
        self.with(|state| state.requests.clone())
    }

    /// Tokens that were given.
    pub fn tokens(&self) -> u32 {
        self.with(|state| state.tokens)
    }

    /// Lets the next status patches fail.
    pub fn refuse_patches(&self, count: u32) {
        self.with(|state| state.refuse = count);
    }

    /// Status patches of a pod.
    pub fn patches(&self, name: &str) -> Vec<Value> {
        self.with(|state| {
            state
                .patches
                .iter()
                .filter(|(pod, _)| pod == name)
                .map(|(_, patch)| patch.clone())
                .collect()
        })
    }

    /// Events of a pod: `Type Reason|message|fieldPath`.
    pub fn events(&self, name: &str) -> Vec<String> {
        self.with(|state| {
            state
                .events
                .iter()
                .filter(|(pod, _)| pod == name)
                .map(|(_, event)| event.clone())
                .collect()
        })
    }
}

impl State {
    /// Counts a request, which fails while nobody is there.
    fn ask(&mut self) -> Result<(), ObjectError> {
        self.requests.push(tokio::time::Instant::now());
        match self.offline {
            true => Err(ObjectError("connection refused".to_owned())),
            false => Ok(()),
        }
    }

    fn put(&mut self, mut pod: Pod) {
        self.version += 1;
        pod.metadata.resource_version = Some(self.version.to_string());
        self.pods.insert(pod.metadata.name.clone().unwrap(), pod.clone());
        self.tell(&PodChange::Applied(Arc::new(pod)));
    }

    fn take_out(&mut self, name: &str) {
        self.version += 1;
        let pod = self.pods.remove(name).unwrap();
        self.tell(&PodChange::Deleted(Arc::new(pod)));
    }

    fn tell(&mut self, change: &PodChange) {
        self.watchers
            .retain(|watcher| watcher.send(change.clone()).is_ok());
    }
}

/// A status after a strategic merge patch.
pub fn patched(status: &Value, patch: &Value) -> Value {
    Value::Object(merge(
        status.as_object().cloned().unwrap_or_default(),
        patch.as_object().unwrap(),
    ))
}

fn merge(mut into: Map<String, Value>, patch: &Map<String, Value>) -> Map<String, Value> {
    for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        let key = match name.as_str() {
            "conditions" => Some("type"),
            "podIPs" => Some("ip"),
            _ => None,
        };
        let old = into.get(name).cloned();
        let new = match (value, key, old) {
            (Value::Null, ..) => {
                into.remove(name);
                continue;
            }
            (Value::Object(change), _, Some(Value::Object(old))) => Value::Object(merge(old, change)),
            (Value::Array(changes), Some(key), old) => {
                let order = patch.get(&format!("$setElementOrder/{name}"));
                Value::Array(merge_list(old, changes, key, order))
            }
            (value, ..) => value.clone(),
        };
        into.insert(name.clone(), new);
    }
    into
}

fn merge_list(old: Option<Value>, changes: &[Value], key: &str, order: Option<&Value>) -> Vec<Value> {
    let mut all = old.and_then(|old| old.as_array().cloned()).unwrap_or_default();
    for change in changes {
        let place = all.iter().position(|item| item[key] == change[key]);
        match (place, change.get("$patch").is_some()) {
            (Some(place), true) => drop(all.remove(place)),
            (Some(place), false) => {
                let merged = merge(
                    all[place].as_object().cloned().unwrap(),
                    change.as_object().unwrap(),
                );
                all[place] = Value::Object(merged);
            }
            (None, false) => all.push(Value::Object(merge(Map::new(), change.as_object().unwrap()))),
            (None, true) => {}
        }
    }
    if let Some(order) = order.and_then(Value::as_array) {
        all.sort_by_key(|item| {
            order
                .iter()
                .position(|one| one[key] == item[key])
                .unwrap_or(usize::MAX)
        });
    }
    all
}

#[async_trait]
impl Objects for FakeApi {
    async fn config_map(&self, _: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, ObjectError> {
        Ok(self.with(|state| state.config_maps.get(name).cloned()))
    }

    async fn secret(&self, _: &str, name: &str) -> Result<Option<Arc<Secret>>, ObjectError> {
        Ok(self.with(|state| state.secrets.get(name).cloned()))
    }

    async fn trust_bundles(&self, _: &TrustQuery) -> Result<Vec<String>, ObjectError> {
        Ok(Vec::new())
    }

    async fn token(&self, query: &TokenQuery) -> Result<Token, ObjectError> {
        let expires = self.clock.now() + SignedDuration::from_secs(query.expiration_seconds);
        let number = self.with(|state| state.ask().map(|()| state.tokens))?;
        self.with(|state| state.tokens += 1);
        Ok(Token {
            token: format!("token {number}"),
            expires,
        })
    }
}

#[async_trait]
impl PodApi for FakeApi {
    async fn patch_status(&self, _: &str, name: &str, patch: Value) -> Result<Pod, PodApiError> {
        tokio::task::yield_now().await;
        self.with(|state| {
            if state.ask().is_err() || state.refuse > 0 {
                state.refuse = state.refuse.saturating_sub(1);
                return Err(PodApiError::Failed("refused".into()));
            }
            let pod = state.pods.get(name).ok_or(PodApiError::Gone)?;
            if pod.metadata.uid.as_deref() != patch["metadata"]["uid"].as_str() {
                return Err(PodApiError::Gone);
            }
            let mut pod = pod.clone();
            let status = serde_json::to_value(&pod.status).unwrap();
            pod.status = serde_json::from_value(patched(&status, &patch["status"])).unwrap();
            state.patches.push((name.to_owned(), patch));
            state.put(pod);
            Ok(state.pods[name].clone())
        })
    }

    async fn delete(&self, _: &str, name: &str, uid: &str) -> Result<(), PodApiError> {
        let reached = self.with(State::ask);
        reached.map_err(|error| PodApiError::Failed(error.0))?;
        self.with(|state| match state.pods.get(name) {
            Some(pod) if pod.metadata.uid.as_deref() == Some(uid) => {
                let mirror = mirrored(pod);
                assert!(
                    mirror || pod.metadata.deletion_timestamp.is_some(),
                    "a pod that nobody deleted was deleted"
                );
                state.take_out(name);
                Ok(())
            }
            _ => Err(PodApiError::Gone),
        })
    }

    async fn create(&self, pod: &Pod) -> Result<Pod, PodApiError> {
        self.with(|state| {
            let name = pod.metadata.name.clone().unwrap();
            state.ask().map_err(|error| PodApiError::Failed(error.0))?;
            if state.pods.contains_key(&name) {
                return Err(PodApiError::Gone);
            }
            let mut pod = pod.clone();
            pod.metadata.uid = Some(format!("made-{}", state.version));
            pod.status = serde_json::from_value(serde_json::json!({"phase": "Pending"})).unwrap();
            state.put(pod);
            Ok(state.pods[&name].clone())
        })
    }

    fn event(&self, pod: &Pod, event: &PodEvent) {
        let path = event.field_path().unwrap_or_default();
        let text = format!("{} {}|{}|{path}", event.kind.name(), event.reason, event.message);
        self.with(|state| {
            state
                .events
                .push((pod.metadata.name.clone().unwrap_or_default(), text))
        });
    }

    async fn runtime_handler(&self, class: &str) -> Result<Option<String>, ObjectError> {
        Ok(class.strip_prefix("with-").map(ToOwned::to_owned))
    }

    async fn services(&self, _: &str, _: bool) -> Vec<ServiceLink> {
        let port = ServicePort {
            name: "https".into(),
            port: 443,
            protocol: "TCP".into(),
        };
        vec![ServiceLink {
            name: "kubernetes".into(),
            cluster_ip: "10.96.0.1".into(),
            ports: vec![port],
        }]
    }

    fn register(&self, _: &Pod) {}

    fn unregister(&self, _: &Pod) {}

    fn content_changes(&self) -> BoxStream<'static, String> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.with(|state| state.contents.push(sender));
        stream(receiver)
    }

    fn pods(&self) -> BoxStream<'static, PodChange> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.with(|state| {
            let all = state.pods.values().map(|pod| Arc::new(pod.clone())).collect();
            if !state.offline {
                sender.send(PodChange::All(all)).unwrap();
            }
            state.watchers.push(sender);
        });
        stream(receiver)
    }
}

fn mirrored(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.is_some_and(|all| all.contains_key("kubernetes.io/config.mirror"))
}

fn stream<T: Send + 'static>(receiver: mpsc::UnboundedReceiver<T>) -> BoxStream<'static, T> {
    futures::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    })
    .boxed()
}
