//! API watches feed the model; objects themselves are not kept.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::PoisonError;
use std::time::SystemTime;

use futures::{FutureExt, Stream, StreamExt};
use knode_client::{Api, Change, Client, WatchConfig, WatchError, watch};
use kube::Resource;
use serde::de::DeserializeOwned;

use super::convert;
use super::objects::{NamespaceObject, ServiceObject, SliceObject};
use super::server::SharedModel;
use crate::model::Model;

type Changes<K> = Pin<Box<dyn Stream<Item = Result<Change<K>, WatchError>> + Send>>;

/// Keeps a model true.
pub(super) struct Feed {
    model: SharedModel,
    services: Changes<ServiceObject>,
    slices: Changes<SliceObject>,
    namespaces: Changes<NamespaceObject>,
    synced: [bool; 3],
}

enum Event {
    Service(Change<ServiceObject>),
    Slice(Change<SliceObject>),
    Namespace(Change<NamespaceObject>),
    Interrupted(WatchError),
}

fn follow<K>(client: &Client) -> Changes<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watch(Api::all(client.clone()), WatchConfig::default())
}

impl Feed {
    pub fn start(client: &Client, model: SharedModel) -> Self {
        Self {
            model,
            services: follow(client),
            slices: follow(client),
            namespaces: follow(client),
            synced: [false; 3],
        }
    }

    /// Whether all first lists are complete.
    pub fn is_synced(&self) -> bool {
        self.synced == [true; 3]
    }

    /// Waits for something to happen and takes it in, with all that has come meanwhile.
    pub async fn next(&mut self) {
        let mut events = vec![self.event().await];
        while let Some(event) = self.event().now_or_never() {
            events.push(event);
        }
        let shared = self.model.clone();
        let mut model = shared.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = false;
        for event in events {
            changed |= self.apply(&mut model, event);
        }
        if changed {
            model.touch(seconds_now());
        }
    }

    async fn event(&mut self) -> Event {
        tokio::select! {
            Some(change) = self.services.next() => change.map_or_else(Event::Interrupted, Event::Service),
            Some(change) = self.slices.next() => change.map_or_else(Event::Interrupted, Event::Slice),
            Some(change) = self.namespaces.next() => change.map_or_else(Event::Interrupted, Event::Namespace),
        }
    }

    fn apply(&mut self, model: &mut Model, event: Event) -> bool {
        match event {
            Event::Service(change) => self.service(model, change),
            Event::Slice(change) => self.slice(model, change),
            Event::Namespace(change) => self.namespace(model, change),
            Event::Interrupted(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "watch interrupted");
                false
            }
        }
    }

    fn service(&mut self, model: &mut Model, change: Change<ServiceObject>) -> bool {
        match change {
            Change::Restarted(objects) => {
                self.synced[0] = true;
                let keyed = |object: ServiceObject| (convert::name(&object), Some(convert::service(&object)));
                model.replace_services(objects.into_iter().map(keyed).collect())
            }
            Change::Applied(object) => {
                model.set_service(&convert::name(&object), Some(convert::service(&object)))
            }
            Change::Deleted(object) => model.set_service(&convert::name(&object), None),
        }
    }

    fn slice(&mut self, model: &mut Model, change: Change<SliceObject>) -> bool {
        match change {
            Change::Restarted(objects) => {
                self.synced[1] = true;
                let keyed = |object: SliceObject| (convert::name(&object), convert::slice(&object));
                model.replace_slices(objects.into_iter().map(keyed).collect())
            }
            Change::Applied(object) => {
                let slice = convert::slice(&object);
                let slice = slice
                    .as_ref()
                    .map(|(owner, slice)| (owner.as_str(), slice.clone()));
                model.set_slice(&convert::name(&object), slice)
            }
            Change::Deleted(object) => model.set_slice(&convert::name(&object), None),
        }
    }

    fn namespace(&mut self, model: &mut Model, change: Change<NamespaceObject>) -> bool {
        let name = |object: &NamespaceObject| object.metadata.name.clone().unwrap_or_default();
        match change {
            Change::Restarted(objects) => {
                self.synced[2] = true;
                model.replace_namespaces(objects.iter().map(|object| name(object).into()))
            }
            Change::Applied(object) => model.add_namespace(&name(&object)),
            Change::Deleted(object) => model.remove_namespace(&name(&object)),
        }
    }
}

/// Seconds since 1970, as serial numbers are.
fn seconds_now() -> u32 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}
