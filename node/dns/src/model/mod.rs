//! What the cluster's names are made of; pure.

mod index;
mod types;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

pub use types::{Addresses, Endpoint, Name, Port, Protocol, Service, Slice};

use index::Index;

/// Namespaces, Services and endpoints by name, and by address.
///
/// Names of Services are `namespace/name`, as are those of slices.
#[derive(Clone, Debug, Default)]
pub struct Model {
    namespaces: HashSet<Box<str>>,
    entries: HashMap<Name, Entry>,
    /// The Service that a slice belongs to.
    owners: HashMap<Box<str>, Name>,
    services_by_ip: Index,
    endpoints_by_ip: Index,
    serial: u32,
}

/// A Service with its endpoints; either may come first.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    service: Option<Service>,
    slices: Vec<(Box<str>, Slice)>,
}

impl Entry {
    /// The Service, if it is there.
    pub fn service(&self) -> Option<&Service> {
        self.service.as_ref()
    }

    /// Its slices, in the order of their names.
    pub fn slices(&self) -> impl Iterator<Item = &Slice> {
        self.slices.iter().map(|(_, slice)| slice)
    }

    fn is_empty(&self) -> bool {
        self.service.is_none() && self.slices.is_empty()
    }
}

impl Model {
    /// Whether there is a namespace of this name.
    pub fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    /// The Service of this name, and what is known of its endpoints. `namespace/name`, lower case.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// The Services that have this cluster address: one, unless an address changes hands just now.
    pub fn services_at(&self, ip: IpAddr) -> &[Name] {
        self.services_by_ip.at(ip)
    }

    /// The Services that have a ready endpoint of this address.
    pub fn endpoints_at(&self, ip: IpAddr) -> &[Name] {
        self.endpoints_by_ip.at(ip)
    }

    /// The zone's serial number: when it changed last (CoreDNS: seconds since 1970).
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// How many Services there are.
    pub fn len(&self) -> usize {
        self.entries
            .values()
            .filter(|entry| entry.service.is_some())
            .count()
    }

    /// Whether there are no Services.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes the time of a change; the serial number never goes back.
    pub fn touch(&mut self, now: u32) {
        self.serial = self.serial.max(now);
    }

    /// Adds a namespace.
    pub fn add_namespace(&mut self, name: &str) -> bool {
        self.namespaces.insert(name.into())
    }

    /// Takes a namespace away.
    pub fn remove_namespace(&mut self, name: &str) -> bool {
        self.namespaces.remove(name)
    }

    /// Takes the whole list of namespaces.
    pub fn replace_namespaces(&mut self, names: impl IntoIterator<Item = Box<str>>) -> bool {
        let names: HashSet<Box<str>> = names.into_iter().collect();
        let changed = self.namespaces != names;
        self.namespaces = names;
        changed
    }

    /// Takes what a Service is now, `None` if it is gone. Whether that is a change.
    pub fn set_service(&mut self, name: &str, service: Option<Service>) -> bool {
        let known = self.entries.get(name).and_then(|entry| entry.service.as_ref());
        if known == service.as_ref() {
            return false;
        }
        let key = self.key(name);
        for ip in known.map(Service::ips).unwrap_or_default().to_vec() {
            self.services_by_ip.remove(ip, &key);
        }
        for ip in service.as_ref().map(Service::ips).unwrap_or_default() {
            self.services_by_ip.add(*ip, &key);
        }
        self.entries.entry(key).or_default().service = service;
        self.forget_if_empty(name);
        true
    }

    /// Takes what a slice is now and which Service it belongs to, `None` if it is gone or belongs to none. Whether
    /// that is a change.
    pub fn set_slice(&mut self, name: &str, slice: Option<(&str, Slice)>) -> bool {
        let known = self
            .owners
            .get(name)
            .map(|owner| (owner.clone(), self.slice(owner, name)));
        let same = match (&known, &slice) {
            (None, None) => true,
            (Some((owner, Some(known))), Some((now, slice))) => **owner == **now && *known == slice,
            _ => false,
        };
        if same {
            return false;
        }
        if let Some(owner) = known.map(|(owner, _)| owner) {
            self.remove_slice(name, &owner);
        }
        if let Some((owner, slice)) = slice {
            self.insert_slice(name, owner, slice);
        }
        true
    }

    /// Takes the whole list of Services.
    pub fn replace_services(&mut self, services: Vec<(String, Option<Service>)>) -> bool {
        let now: HashSet<&str> = services.iter().map(|(name, _)| name.as_str()).collect();
        let with_service = self.entries.iter().filter(|(_, entry)| entry.service.is_some());
        let gone: Vec<Name> = with_service
            .map(|(name, _)| name.clone())
            .filter(|name| !now.contains(&**name))
            .collect();
        let mut changed = false;
        for name in gone {
            changed |= self.set_service(&name, None);
        }
        for (name, service) in services {
            changed |= self.set_service(&name, service);
        }
        changed
    }

    /// Takes the whole list of slices, each with the Service it belongs to.
    pub fn replace_slices(&mut self, slices: Vec<(String, Option<(String, Slice)>)>) -> bool {
        let now: HashSet<&str> = slices.iter().map(|(name, _)| name.as_str()).collect();
        let gone: Vec<Box<str>> = self
            .owners
            .keys()
            .filter(|name| !now.contains(&***name))
            .cloned()
            .collect();
        let mut changed = false;
        for name in gone {
            changed |= self.set_slice(&name, None);
        }
        for (name, slice) in slices {
            let slice = slice
                .as_ref()
                .map(|(owner, slice)| (owner.as_str(), slice.clone()));
            changed |= self.set_slice(&name, slice);
        }
        changed
    }

    fn slice(&self, owner: &str, name: &str) -> Option<&Slice> {
        let entry = self.entries.get(owner)?;
        entry
            .slices
            .iter()
            .find(|(known, _)| **known == *name)
            .map(|(_, slice)| slice)
    }

    /// The one copy of a name.
    fn key(&self, name: &str) -> Name {
        self.entries
            .get_key_value(name)
            .map_or_else(|| Name::from(name), |(key, _)| key.clone())
    }

    fn insert_slice(&mut self, name: &str, owner: &str, slice: Slice) {
        let key = self.key(owner);
        for endpoint in &slice.endpoints {
            self.endpoints_by_ip.add(endpoint.ip, &key);
        }
        let slices = &mut self.entries.entry(key.clone()).or_default().slices;
        let at = slices.partition_point(|(known, _)| **known < *name);
        // Nearly all have one for each family: room for more would be most of it.
        slices.reserve_exact(1);
        slices.insert(at, (name.into(), slice));
        self.owners.insert(name.into(), key);
    }

    fn remove_slice(&mut self, name: &str, owner: &Name) {
        self.owners.remove(name);
        let Some(entry) = self.entries.get_mut(owner) else {
            return;
        };
        let Some(at) = entry.slices.iter().position(|(known, _)| **known == *name) else {
            return;
        };
        let (_, slice) = entry.slices.remove(at);
        for endpoint in &slice.endpoints {
            // While a pod moves from one slice to another it is in both.
            let stays = entry.slices.iter().any(|(_, other)| other.has(endpoint.ip));
            if !stays {
                self.endpoints_by_ip.remove(endpoint.ip, owner);
            }
        }
        self.forget_if_empty(owner);
    }

    fn forget_if_empty(&mut self, name: &str) {
        if self.entries.get(name).is_some_and(Entry::is_empty) {
            self.entries.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn service(ips: &[&str]) -> Service {
        Service::new(Addresses::Cluster(ips.iter().map(|text| ip(text)).collect()), [])
    }

    fn slice(ips: &[&str]) -> Slice {
        let endpoints = ips.iter().map(|text| Endpoint::new(ip(text), None));
        Slice::new([], endpoints)
    }

    #[test]
    fn addresses_lead_to_names_as_long_as_they_are_there() {
        let mut model = Model::default();
        assert!(model.set_service("a/web", Some(service(&["10.0.0.1", "fd00::1"]))));
        assert!(!model.set_service("a/web", Some(service(&["10.0.0.1", "fd00::1"]))));
        assert_eq!(model.services_at(ip("fd00::1")), [Name::from("a/web")]);
        assert!(model.set_service("a/web", Some(service(&["10.0.0.1"]))));
        assert!(model.services_at(ip("fd00::1")).is_empty());
        assert!(model.set_service("a/web", None));
        assert!(model.services_at(ip("10.0.0.1")).is_empty());
        assert!(model.entry("a/web").is_none());
    }

    #[test]
    fn an_endpoint_in_two_slices_stays_until_both_are_without_it() {
        let mut model = Model::default();
        assert!(model.set_slice("a/web-1", Some(("a/web", slice(&["10.1.0.1", "10.1.0.2"])))));
        assert!(model.set_slice("a/web-2", Some(("a/web", slice(&["10.1.0.1"])))));
        assert!(!model.set_slice("a/web-2", Some(("a/web", slice(&["10.1.0.1"])))));
        assert_eq!(model.endpoints_at(ip("10.1.0.1")), [Name::from("a/web")]);
        assert!(model.set_slice("a/web-1", None));
        assert_eq!(model.endpoints_at(ip("10.1.0.1")), [Name::from("a/web")]);
        assert!(model.endpoints_at(ip("10.1.0.2")).is_empty());
        assert!(model.set_slice("a/web-2", Some(("a/other", slice(&["10.1.0.1"])))));
        assert_eq!(model.endpoints_at(ip("10.1.0.1")), [Name::from("a/other")]);
        assert!(model.entry("a/web").is_none(), "nothing is left of it");
    }

    #[test]
    fn a_new_list_takes_away_what_it_does_not_name() {
        let mut model = Model::default();
        let list = |names: &[&str]| -> Vec<(String, Option<Service>)> {
            let one = |name: &&str| ((*name).to_owned(), Some(service(&["10.0.0.1"])));
            names.iter().map(one).collect()
        };
        assert!(model.replace_services(list(&["a/one", "a/two"])));
        assert!(!model.replace_services(list(&["a/two", "a/one"])));
        assert!(model.replace_services(list(&["a/two"])));
        assert_eq!((model.len(), model.entry("a/one").is_none()), (1, true));
        let slices = vec![(
            "a/two-1".to_owned(),
            Some(("a/two".to_owned(), slice(&["10.1.0.1"]))),
        )];
        assert!(model.replace_slices(slices));
        assert!(model.replace_slices(Vec::new()));
        assert!(model.endpoints_at(ip("10.1.0.1")).is_empty());
        assert!(model.replace_namespaces(["a".into()]));
        assert!(model.has_namespace("a") && !model.replace_namespaces(["a".into()]));
    }
}
