//! API watches feed the model; objects themselves are not kept.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::pin::Pin;

use futures::{FutureExt, Stream, StreamExt};
use jiff::Timestamp;
use knode_client::{Api, Change, Client, WatchConfig, WatchError, watch};
use kube::Resource;
use serde::de::DeserializeOwned;

use super::convert;
use super::node::NodeInfo;
use super::objects::{NodeObject, ServiceObject, SliceObject};
use crate::model::{IpFamily, Model, Name};

/// Services that another proxy serves are left to it.
const SERVICE_LABELS: &str = "!service.kubernetes.io/service-proxy-name";
const SLICE_LABELS: &str = "!service.kubernetes.io/headless";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

type Changes<K> = Pin<Box<dyn Stream<Item = Result<Change<K>, WatchError>> + Send>>;

/// The model, and what keeps it true.
pub(super) struct Feed {
    pub model: Model,
    node_name: String,
    services: Changes<ServiceObject>,
    slices: Changes<SliceObject>,
    nodes: Changes<NodeObject>,
    node: Option<NodeInfo>,
    synced: (bool, bool),
    /// Services that changed since [`Feed::take`].
    dirty: BTreeSet<Name>,
    /// When the pods behind them changed, and of which family their addresses are.
    triggers: Vec<(IpFamily, Timestamp)>,
    /// What happened before is not of our programming.
    started: Timestamp,
    pub counts: Counts,
}

/// Events seen, for the metrics.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub services: u64,
    pub slices: u64,
}

enum Event {
    Service(Result<Change<ServiceObject>, WatchError>),
    Slice(Result<Change<SliceObject>, WatchError>),
    Node(Result<Change<NodeObject>, WatchError>),
}

fn follow<K>(client: &Client, config: WatchConfig) -> Changes<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watch(Api::all(client.clone()), config)
}

impl Feed {
    pub fn start(client: &Client, node_name: &str) -> Self {
        Self {
            model: Model::default(),
            node_name: node_name.to_owned(),
            services: follow(client, WatchConfig::labels(SERVICE_LABELS)),
            slices: follow(client, WatchConfig::labels(SLICE_LABELS)),
            nodes: follow(client, WatchConfig::fields(format!("metadata.name={node_name}"))),
            node: None,
            synced: (false, false),
            dirty: BTreeSet::new(),
            triggers: Vec::new(),
            started: Timestamp::now(),
            counts: Counts::default(),
        }
    }

    /// Whether both first lists are complete.
    pub fn is_synced(&self) -> bool {
        self.synced == (true, true)
    }

    /// Waits for something to happen and takes it in, with all that has come meanwhile.
    pub async fn next(&mut self) {
        let event = self.event().await;
        self.apply(event);
        while let Some(event) = self.event().now_or_never() {
            self.apply(event);
        }
    }

    /// The Services that changed, and when the pods behind them did.
    pub fn take(&mut self) -> (BTreeSet<Name>, Vec<(IpFamily, Timestamp)>) {
        (
            std::mem::take(&mut self.dirty),
            std::mem::take(&mut self.triggers),
        )
    }

    /// How many Services changed since [`Feed::take`].
    pub fn waiting(&self) -> usize {
        self.dirty.len()
    }

    /// Times that were taken and whose changes could not be applied yet.
    pub fn put_back(&mut self, triggers: Vec<(IpFamily, Timestamp)>) {
        self.triggers.extend(triggers);
    }

    async fn event(&mut self) -> Event {
        tokio::select! {
            Some(change) = self.services.next() => Event::Service(change),
            Some(change) = self.slices.next() => Event::Slice(change),
            Some(change) = self.nodes.next() => Event::Node(change),
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Service(Ok(change)) => self.service(change),
            Event::Slice(Ok(change)) => self.slice(change),
            Event::Node(Ok(change)) => self.node(change),
            Event::Service(Err(error)) | Event::Slice(Err(error)) | Event::Node(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "watch interrupted");
            }
        }
    }

    /// This node, once it is known.
    pub fn node_info(&self) -> Option<&NodeInfo> {
        self.node.as_ref()
    }

    /// A node that is gone is as it was: its proxy goes on until it is told to end.
    fn node(&mut self, change: Change<NodeObject>) {
        let node = match change {
            Change::Restarted(nodes) => nodes.into_iter().next(),
            Change::Applied(node) => Some(node),
            Change::Deleted(_) => None,
        };
        if let Some(node) = node {
            let info = NodeInfo::of(&node);
            self.dirty.extend(self.model.set_zone(info.zone.as_deref()));
            self.node = Some(info);
        }
    }

    fn service(&mut self, change: Change<ServiceObject>) {
        self.counts.services += 1;
        let keyed = |object: &ServiceObject| (convert::name(object), convert::service(object));
        match change {
            Change::Restarted(objects) => {
                let services = objects.into_iter().map(|object| keyed(&object)).collect();
                self.dirty.extend(self.model.replace_services(services));
                self.synced.0 = true;
            }
            Change::Applied(object) => {
                let (name, service) = keyed(&object);
                self.dirty.extend(self.model.set_service(&name, service));
            }
            Change::Deleted(object) => self
                .dirty
                .extend(self.model.set_service(&convert::name(&object), None)),
        }
    }

    fn slice(&mut self, change: Change<SliceObject>) {
        self.counts.slices += 1;
        match change {
            Change::Restarted(objects) => {
                let keyed =
                    |object: SliceObject| (convert::name(&object), convert::slice(&object, &self.node_name));
                let slices = objects.into_iter().map(keyed).collect();
                self.dirty.extend(self.model.replace_slices(slices));
                self.synced.1 = true;
            }
            Change::Applied(object) => {
                let slice = convert::slice(&object, &self.node_name);
                let slice = slice
                    .as_ref()
                    .map(|(owner, slice)| (owner.as_str(), slice.clone()));
                let changed = self.model.set_slice(&convert::name(&object), slice);
                if !changed.is_empty() {
                    let family = IpFamily::from_name(&object.address_type);
                    let time = trigger_time(&object).filter(|time| *time > self.started);
                    self.triggers.extend(family.zip(time));
                }
                self.dirty.extend(changed);
            }
            Change::Deleted(object) => self
                .dirty
                .extend(self.model.set_slice(&convert::name(&object), None)),
        }
    }
}

fn trigger_time(object: &SliceObject) -> Option<Timestamp> {
    object
        .metadata
        .annotations
        .as_ref()?
        .get(TRIGGER_TIME)?
        .parse()
        .ok()
}
