use std::collections::HashSet;
use std::sync::Arc;

use super::changes::Delta;
use super::keys::{ChainKey, NamedPorts, Scope, SetKey, Shape};
use super::peers::Peers;
use super::store::Store;
use crate::model::{Blocks, Direction, Key, Model, Peers as RulePeers, PortList, PortMatch, Ports, Rule};

type Rules = Arc<[Rule]>;

/// The chains and what they use.
#[derive(Debug, Default)]
pub(super) struct RuleBook {
    pub peers: Peers,
    shapes: Store<Shape, ()>,
    policies: Store<(Direction, Key), Rules>,
    ports: Store<(Direction, Arc<PortList>), ()>,
    blocks: Store<Arc<Blocks>, ()>,
    changed: HashSet<(Direction, Key)>,
}

/// What happened to the chains since the last time, and to the sets that do not change.
#[derive(Debug, Default)]
pub(super) struct ChainChanges {
    pub chains: Delta<ChainKey>,
    pub rewritten: Vec<ChainKey>,
    pub blocks: Delta<SetKey>,
}

impl RuleBook {
    pub fn acquire_shape(&mut self, model: &Model, shape: &Shape) {
        if !self.shapes.acquire(shape, || ()) {
            return;
        }
        for policy in shape.policies() {
            self.acquire_policy(model, shape.direction(), policy);
        }
    }

    pub fn release_shape(&mut self, shape: &Shape) {
        self.shapes.release(shape);
    }

    fn acquire_policy(&mut self, model: &Model, direction: Direction, key: &Key) {
        let rules = || {
            let policy = model.policy(key);
            policy
                .and_then(|policy| policy.rules(direction).cloned())
                .unwrap_or_default()
        };
        let entry = (direction, key.clone());
        if self.policies.acquire(&entry, rules) {
            let rules = self.policies.get(&entry).cloned().unwrap_or_default();
            self.acquire_rules(model, direction, &rules);
        }
    }

    /// A policy has these rules now; where it is in use, its chain is written anew.
    pub fn policy_changed(&mut self, model: &Model, direction: Direction, key: &Key, rules: &Rules) {
        let entry = (direction, key.clone());
        let Some(old) = self.policies.get(&entry).filter(|old| *old != rules).cloned() else {
            return;
        };
        self.acquire_rules(model, direction, rules);
        self.release_rules(direction, &old);
        if let Some(held) = self.policies.get_mut(&entry) {
            *held = rules.clone();
        }
        self.changed.insert(entry);
    }

    fn acquire_rules(&mut self, model: &Model, direction: Direction, rules: &[Rule]) {
        for rule in rules {
            if let RulePeers::Some { pods, blocks } = &rule.peers {
                pods.iter()
                    .for_each(|selector| self.peers.acquire_selector(model, selector));
                blocks.iter().for_each(|blocks| {
                    self.blocks.acquire(blocks, || ());
                });
            }
            if let Ports::Some(list) = &rule.ports
                && self.ports.acquire(&(direction, list.clone()), || ())
            {
                named(direction, list).for_each(|ports| self.peers.acquire_named(model, &ports));
            }
        }
    }

    fn release_rules(&mut self, direction: Direction, rules: &[Rule]) {
        for rule in rules {
            if let RulePeers::Some { pods, blocks } = &rule.peers {
                pods.iter()
                    .for_each(|selector| self.peers.release_selector(selector));
                blocks.iter().for_each(|blocks| self.blocks.release(blocks));
            }
            if let Ports::Some(list) = &rule.ports {
                self.ports.release(&(direction, list.clone()));
            }
        }
    }

    /// Drops what is not used any more and tells what changed.
    pub fn take(&mut self) -> ChainChanges {
        let mut old = Vec::new();
        for dropped in self.shapes.sweep() {
            let direction = dropped.key.direction();
            for policy in dropped.key.policies() {
                self.policies.release(&(direction, policy.clone()));
            }
            old.extend((!dropped.was_new).then_some(ChainKey::Shape(dropped.key)));
        }
        for dropped in self.policies.sweep() {
            let (direction, key) = dropped.key;
            self.release_rules(direction, &dropped.value);
            old.extend((!dropped.was_new).then_some(ChainKey::Policy(direction, key)));
        }
        for dropped in self.ports.sweep() {
            let (direction, list) = dropped.key;
            named(direction, &list).for_each(|ports| self.peers.release_named(&ports));
            old.extend((!dropped.was_new).then_some(ChainKey::Ports(direction, list)));
        }
        let changed = std::mem::take(&mut self.changed);
        let known = changed.into_iter().filter(|entry| self.policies.is_known(entry));
        let rewritten = known
            .map(|(direction, key)| ChainKey::Policy(direction, key))
            .collect();
        let dropped = self.blocks.sweep().into_iter().filter(|dropped| !dropped.was_new);
        let blocks = Delta {
            old: dropped.map(|dropped| SetKey::Blocks(dropped.key)).collect(),
            new: self.blocks.take_new().into_iter().map(SetKey::Blocks).collect(),
        };
        ChainChanges {
            chains: Delta {
                old,
                new: self.take_new_chains(),
            },
            rewritten,
            blocks,
        }
    }

    fn take_new_chains(&mut self) -> Vec<ChainKey> {
        let ports = self.ports.take_new().into_iter();
        let policies = self.policies.take_new().into_iter();
        let shapes = self.shapes.take_new().into_iter();
        ports
            .map(|(direction, list)| ChainKey::Ports(direction, list))
            .chain(policies.map(|(direction, key)| ChainKey::Policy(direction, key)))
            .chain(shapes.map(ChainKey::Shape))
            .collect()
    }

    /// The chains that there are, those that others lead to first.
    pub fn chains(&self) -> impl Iterator<Item = ChainKey> {
        let ports = self.ports.keys().cloned();
        let policies = self.policies.keys().cloned();
        ports
            .map(|(direction, list)| ChainKey::Ports(direction, list))
            .chain(policies.map(|(direction, key)| ChainKey::Policy(direction, key)))
            .chain(self.shapes.keys().cloned().map(ChainKey::Shape))
    }

    /// The rules of a policy that is in use.
    pub fn rules(&self, direction: Direction, key: &Key) -> &[Rule] {
        let rules = self.policies.get(&(direction, key.clone()));
        rules.map(|rules| &**rules).unwrap_or_default()
    }

    /// The sets that there are.
    pub fn sets(&self) -> impl Iterator<Item = SetKey> {
        let blocks = self.blocks.keys().cloned().map(SetKey::Blocks);
        self.peers.keys().chain(blocks)
    }
}

/// The sets of named ports that a list of ports asks.
fn named(direction: Direction, list: &PortList) -> impl Iterator<Item = NamedPorts> {
    list.items().iter().filter_map(move |item| match item {
        PortMatch::Named { protocol, name } => Some(NamedPorts::asked(direction, *protocol, name)),
        _ => None,
    })
}

impl NamedPorts {
    /// The set that a rule of a direction asks: who is connected to is a local pod, or any.
    pub fn asked(direction: Direction, protocol: crate::model::Protocol, name: &str) -> Self {
        let scope = match direction {
            Direction::Ingress => Scope::Local,
            Direction::Egress => Scope::All,
        };
        Self {
            scope,
            protocol,
            name: name.into(),
        }
    }
}
