use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::keys::{Member, NamedPorts, Scope, SetKey};
use super::pool::Pool;
use super::store::Store;
use crate::model::{Model, Name, Namespaces, Pod, Selector};

/// An address and a port's number.
type Port = (IpAddr, u16);

/// The sets whose members are pods.
#[derive(Debug, Default)]
pub(super) struct Peers {
    selectors: Store<Arc<Selector>, Pool<IpAddr>>,
    named: Store<NamedPorts, Pool<Port>>,
    /// The selectors that look into a namespace: only these are asked about its pods.
    looking: HashMap<Name, Vec<Arc<Selector>>>,
    touched: HashSet<Touched>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Touched {
    Selector(Arc<Selector>),
    Named(NamedPorts),
}

/// What happened to the sets since the last time.
#[derive(Debug, Default)]
pub(super) struct PeerChanges {
    pub come: Vec<SetKey>,
    pub gone: Vec<SetKey>,
    pub members: Vec<(SetKey, Vec<Member>, Vec<Member>)>,
}

impl Peers {
    pub fn acquire_selector(&mut self, model: &Model, selector: &Arc<Selector>) {
        if !self.selectors.acquire(selector, Pool::default) {
            return;
        }
        match &selector.namespaces {
            Namespaces::One(name) => self.join(model, name, selector),
            matching @ Namespaces::Matching(_) => {
                let held = model.spaces().filter(|(name, _)| model.holds(matching, name));
                let names: Vec<Name> = held.map(|(name, _)| name.clone()).collect();
                for name in names {
                    self.join(model, &name, selector);
                }
            }
        }
    }

    pub fn release_selector(&mut self, selector: &Arc<Selector>) {
        self.selectors.release(selector);
    }

    pub fn acquire_named(&mut self, model: &Model, ports: &NamedPorts) {
        if !self.named.acquire(ports, Pool::default) {
            return;
        }
        let pods = model.spaces().flat_map(|(_, space)| space.pods.values());
        let Some(pool) = self.named.get_mut(ports) else {
            return;
        };
        for pod in pods {
            for member in members(ports, pod) {
                pool.add(member);
            }
        }
    }

    pub fn release_named(&mut self, ports: &NamedPorts) {
        self.named.release(ports);
    }

    /// A selector looks into a namespace from now on.
    fn join(&mut self, model: &Model, namespace: &Name, selector: &Arc<Selector>) {
        self.looking
            .entry(namespace.clone())
            .or_default()
            .push(selector.clone());
        self.count(model, namespace, selector, Pool::add);
    }

    /// A selector no longer looks into a namespace.
    fn leave(&mut self, model: &Model, namespace: &Name, selector: &Arc<Selector>) {
        self.stop_looking(namespace, |other| other == selector);
        self.count(model, namespace, selector, Pool::remove);
    }

    fn count(
        &mut self,
        model: &Model,
        namespace: &str,
        selector: &Arc<Selector>,
        change: fn(&mut Pool<IpAddr>, IpAddr),
    ) {
        let Some(pool) = self.selectors.get_mut(selector) else {
            return;
        };
        let pods = model
            .space(namespace)
            .into_iter()
            .flat_map(|space| space.pods.values());
        for pod in pods.filter(|pod| selector.selects(&pod.labels)) {
            pod.ips.iter().for_each(|ip| change(pool, *ip));
        }
        self.touched.insert(Touched::Selector(selector.clone()));
    }

    fn stop_looking(&mut self, namespace: &str, whom: impl Fn(&Arc<Selector>) -> bool) {
        if let Some(looking) = self.looking.get_mut(namespace) {
            looking.retain(|selector| !whom(selector));
            if looking.is_empty() {
                self.looking.remove(namespace);
            }
        }
    }

    /// The labels of a namespace changed, or it is a new one. Its pods are as they were.
    pub fn namespace_changed(&mut self, model: &Model, namespace: &Name) {
        let by_labels = self
            .selectors
            .keys()
            .filter(|selector| matches!(selector.namespaces, Namespaces::Matching(_)));
        let all: Vec<Arc<Selector>> = by_labels.cloned().collect();
        for selector in all {
            let looks = self
                .looking
                .get(namespace)
                .is_some_and(|looking| looking.contains(&selector));
            match (looks, model.holds(&selector.namespaces, namespace)) {
                (false, true) => self.join(model, namespace, &selector),
                (true, false) => self.leave(model, namespace, &selector),
                _ => {}
            }
        }
    }

    /// Nothing is left of a namespace.
    pub fn namespace_gone(&mut self, namespace: &str) {
        self.stop_looking(namespace, |selector| {
            matches!(selector.namespaces, Namespaces::Matching(_))
        });
    }

    /// A pod came, changed or went.
    pub fn pod_changed(&mut self, namespace: &str, old: Option<&Pod>, new: Option<&Pod>) {
        for selector in self.looking.get(namespace).into_iter().flatten() {
            let of = |pod: Option<&Pod>| -> Vec<IpAddr> {
                let pod = pod.filter(|pod| selector.selects(&pod.labels));
                pod.map(|pod| pod.ips.to_vec()).unwrap_or_default()
            };
            let (old, new) = (of(old), of(new));
            if old == new {
                continue;
            }
            let Some(pool) = self.selectors.get_mut(selector) else {
                continue;
            };
            new.into_iter().for_each(|ip| pool.add(ip));
            old.into_iter().for_each(|ip| pool.remove(ip));
            self.touched.insert(Touched::Selector(selector.clone()));
        }
        if !self.named.is_empty() {
            self.named_changed(new, Pool::add);
            self.named_changed(old, Pool::remove);
        }
    }

    fn named_changed(&mut self, pod: Option<&Pod>, change: fn(&mut Pool<Port>, Port)) {
        let Some(pod) = pod else { return };
        let mut seen = HashSet::new();
        for port in &pod.ports {
            for scope in [Scope::Local, Scope::All] {
                let key = NamedPorts {
                    scope,
                    protocol: port.protocol,
                    name: port.name.clone(),
                };
                if !seen.insert(key.clone()) {
                    continue;
                }
                if let Some(pool) = self.named.get_mut(&key) {
                    members(&key, pod).for_each(|member| change(pool, member));
                    self.touched.insert(Touched::Named(key));
                }
            }
        }
    }

    /// Drops what is not used any more and tells what changed.
    pub fn take(&mut self) -> PeerChanges {
        let mut changes = PeerChanges::default();
        for dropped in self.selectors.sweep() {
            match &dropped.key.namespaces {
                Namespaces::One(name) => self.stop_looking(&name.clone(), |other| *other == dropped.key),
                Namespaces::Matching(_) => {
                    for name in self.looking.keys().cloned().collect::<Vec<_>>() {
                        self.stop_looking(&name, |other| *other == dropped.key);
                    }
                }
            }
            changes
                .gone
                .extend((!dropped.was_new).then_some(SetKey::Pods(dropped.key)));
        }
        for dropped in self.named.sweep() {
            changes
                .gone
                .extend((!dropped.was_new).then_some(SetKey::Ports(dropped.key)));
        }
        self.take_members(&mut changes);
        changes
    }

    fn take_members(&mut self, changes: &mut PeerChanges) {
        for touched in std::mem::take(&mut self.touched) {
            let (key, (gone, come)) = match touched {
                Touched::Selector(selector) if self.selectors.is_known(&selector) => {
                    let taken = self
                        .selectors
                        .get_mut(&selector)
                        .map(Pool::take)
                        .unwrap_or_default();
                    (SetKey::Pods(selector), told(taken, Member::Address))
                }
                Touched::Named(ports) if self.named.is_known(&ports) => {
                    let taken = self.named.get_mut(&ports).map(Pool::take).unwrap_or_default();
                    (
                        SetKey::Ports(ports),
                        told(taken, |(ip, port)| Member::Port(ip, port)),
                    )
                }
                _ => continue,
            };
            if !(gone.is_empty() && come.is_empty()) {
                changes.members.push((key, gone, come));
            }
        }
        for selector in self.selectors.take_new() {
            // A new set is told of as a whole.
            self.selectors.get_mut(&selector).map(Pool::take);
            changes.come.push(SetKey::Pods(selector));
        }
        for ports in self.named.take_new() {
            // As above.
            self.named.get_mut(&ports).map(Pool::take);
            changes.come.push(SetKey::Ports(ports));
        }
    }

    /// The sets that there are.
    pub fn keys(&self) -> impl Iterator<Item = SetKey> {
        let selectors = self.selectors.keys().cloned().map(SetKey::Pods);
        selectors.chain(self.named.keys().cloned().map(SetKey::Ports))
    }

    /// The members of such a set.
    pub fn members(&self, key: &SetKey) -> Vec<Member> {
        match key {
            SetKey::Pods(selector) => {
                let pool = self.selectors.get(selector).into_iter();
                pool.flat_map(Pool::iter).map(Member::Address).collect()
            }
            SetKey::Ports(ports) => {
                let pool = self.named.get(ports).into_iter();
                pool.flat_map(Pool::iter)
                    .map(|(ip, port)| Member::Port(ip, port))
                    .collect()
            }
            SetKey::Blocks(blocks) => blocks.ranges().iter().copied().map(Member::Range).collect(),
        }
    }

    /// Whether a set needs pods of other nodes.
    pub fn need_all_pods(&self) -> bool {
        !self.selectors.is_empty() || self.named.keys().any(|ports| ports.scope == Scope::All)
    }

    /// Whether a set needs the labels of namespaces.
    pub fn need_namespaces(&self) -> bool {
        self.selectors
            .keys()
            .any(|selector| selector.namespaces.need_labels())
    }
}

fn told<M>((gone, come): (Vec<M>, Vec<M>), member: fn(M) -> Member) -> (Vec<Member>, Vec<Member>) {
    let all = |list: Vec<M>| list.into_iter().map(member).collect();
    (all(gone), all(come))
}

/// What a pod contributes to a set of named ports.
fn members<'a>(ports: &'a NamedPorts, pod: &'a Pod) -> impl Iterator<Item = (IpAddr, u16)> + 'a {
    let is_meant = ports.scope == Scope::All || pod.local;
    let numbers = pod
        .ports
        .iter()
        .filter(move |port| is_meant && port.protocol == ports.protocol && port.name == ports.name);
    numbers.flat_map(|port| pod.ips.iter().map(|ip| (*ip, port.port)))
}
