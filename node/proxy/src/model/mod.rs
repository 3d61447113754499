//! What the proxy remembers of Services and EndpointSlices: only what decides about packets.

mod service;
mod slice;
mod types;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

pub use knode_nft::IpFamily;
pub use service::{Service, ServicePort};
pub use slice::{NodeHint, Slice, SliceEndpoint, SlicePort, State};
pub use types::{Endpoint, Protocol};

/// `namespace/name` of a Service or an EndpointSlice.
pub type Name = Arc<str>;

/// A Service and the slices that name it; either may come first.
#[derive(Debug, Default)]
pub struct Entry {
    /// The Service, once known.
    pub service: Option<Service>,
    /// Its slices by name.
    pub slices: Vec<(Name, Slice)>,
}

/// All Services with their slices.
#[derive(Debug, Default)]
pub struct Model {
    entries: HashMap<Name, Entry>,
    owners: HashMap<Name, Name>,
    zone: Option<Box<str>>,
}

impl Model {
    /// The Service of this name with its slices.
    pub fn get(&self, service: &str) -> Option<&Entry> {
        self.entries.get(service)
    }

    /// The names of all Services, and of those only known from slices.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.entries.keys()
    }

    /// The zone that this node is in, if it is known.
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// Takes the node's zone as it is now; returns the names of the Services that it may concern.
    pub fn set_zone(&mut self, zone: Option<&str>) -> Vec<Name> {
        if self.zone.as_deref() == zone {
            return Vec::new();
        }
        self.zone = zone.map(Box::from);
        let hinted = |entry: &Entry| {
            let mut endpoints = entry.slices.iter().flat_map(|(_, slice)| &slice.endpoints);
            endpoints.any(|endpoint| endpoint.for_zones.is_some())
        };
        let concerned = self.entries.iter().filter(|(_, entry)| hinted(entry));
        concerned.map(|(name, _)| name.clone()).collect()
    }

    /// Takes a Service as it is now, `None` if it is gone; returns the name if anything changed.
    pub fn set_service(&mut self, name: &str, service: Option<Service>) -> Option<Name> {
        let known = self.entries.get_key_value(name);
        if known.and_then(|(_, entry)| entry.service.as_ref()) == service.as_ref() {
            return None;
        }
        let name = known.map_or_else(|| Name::from(name), |(name, _)| name.clone());
        let entry = self.entries.entry(name.clone()).or_default();
        entry.service = service;
        self.forget_if_empty(&name);
        Some(name)
    }

    /// Takes a slice as it is now, with the name of its Service; returns the names of the Services it changes.
    pub fn set_slice(&mut self, name: &str, slice: Option<(&str, Slice)>) -> Vec<Name> {
        let mut dirty = Vec::new();
        let owner = slice.as_ref().map(|(owner, _)| *owner);
        if self
            .owners
            .get(name)
            .is_some_and(|old| Some(old.as_ref()) != owner)
        {
            dirty.extend(self.remove_slice(name));
        }
        if let Some((owner, slice)) = slice {
            dirty.extend(self.insert_slice(name, owner, slice));
        }
        dirty
    }

    /// Takes the whole list of Services; returns the names of those that changed or are gone.
    pub fn replace_services(&mut self, services: Vec<(String, Option<Service>)>) -> Vec<Name> {
        let now: BTreeSet<&str> = services.iter().map(|(name, _)| name.as_str()).collect();
        let with_service = self.entries.iter().filter(|(_, entry)| entry.service.is_some());
        let gone: Vec<Name> = with_service
            .map(|(name, _)| name.clone())
            .filter(|name| !now.contains(&**name))
            .collect();
        let mut dirty: Vec<Name> = gone
            .iter()
            .filter_map(|name| self.set_service(name, None))
            .collect();
        for (name, service) in services {
            dirty.extend(self.set_service(&name, service));
        }
        dirty
    }

    /// Takes the whole list of slices; returns the names of the Services that they change.
    pub fn replace_slices(&mut self, slices: Vec<(String, Option<(String, Slice)>)>) -> Vec<Name> {
        let now: BTreeSet<&str> = slices.iter().map(|(name, _)| name.as_str()).collect();
        let gone: Vec<Name> = self
            .owners
            .keys()
            .filter(|name| !now.contains(&***name))
            .cloned()
            .collect();
        let mut dirty: Vec<Name> = gone.iter().filter_map(|name| self.remove_slice(name)).collect();
        for (name, slice) in slices {
            let slice = slice
                .as_ref()
                .map(|(owner, slice)| (owner.as_str(), slice.clone()));
            dirty.extend(self.set_slice(&name, slice));
        }
        dirty
    }

    fn insert_slice(&mut self, name: &str, owner: &str, slice: Slice) -> Option<Name> {
        let key = self
            .entries
            .get_key_value(owner)
            .map_or_else(|| Name::from(owner), |(key, _)| key.clone());
        let entry = self.entries.entry(key.clone()).or_default();
        match entry.slices.iter_mut().find(|(known, _)| &**known == name) {
            Some((_, known)) if *known == slice => return None,
            Some((_, known)) => *known = slice,
            None => {
                let name = Name::from(name);
                entry.slices.push((name.clone(), slice));
                entry.slices.sort_by(|(one, _), (other, _)| one.cmp(other));
                self.owners.insert(name, key.clone());
            }
        }
        Some(key)
    }

    fn remove_slice(&mut self, name: &str) -> Option<Name> {
        let owner = self.owners.remove(name)?;
        if let Some(entry) = self.entries.get_mut(&owner) {
            entry.slices.retain(|(known, _)| &**known != name);
        }
        self.forget_if_empty(&owner);
        Some(owner)
    }

    fn forget_if_empty(&mut self, name: &Name) {
        if self
            .entries
            .get(name)
            .is_some_and(|entry| entry.service.is_none() && entry.slices.is_empty())
        {
            self.entries.remove(name);
        }
    }
}
