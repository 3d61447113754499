use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use super::changes::{Changes, Delta};
use super::keys::{ChainKey, Member, SetKey, Shape};
use super::rules::RuleBook;
use super::targets::Targets;
use crate::model::{Direction, IpFamily, Key, Labels, Model, Name, Pod, Policy, Rule};

/// Which pods must be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodsNeed {
    /// None: there is no policy.
    None,
    /// This node's: no policy that selects one names other pods.
    Local,
    /// The whole cluster's.
    All,
}

/// What must be known of the cluster, so that nothing else is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Which pods.
    pub pods: PodsNeed,
    /// Whether the labels of namespaces.
    pub namespaces: bool,
}

/// The model and the plan that follows from it, kept together event by event.
#[derive(Debug, Default)]
pub struct Planner {
    model: Model,
    book: RuleBook,
    targets: Targets,
}

impl Planner {
    /// What is known of the cluster.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// A pod came or changed, or went (`None`).
    pub fn set_pod(&mut self, key: &Key, pod: Option<Pod>) {
        self.open(&key.namespace);
        if let Some(old) = self.model.set_pod(key, pod) {
            let new = self.model.pod(key);
            self.book
                .peers
                .pod_changed(&key.namespace, old.as_deref(), new.map(|pod| &**pod));
            self.targets.pod_changed(&self.model, key);
        }
        self.close(&key.namespace);
    }

    /// A namespace came or has other labels, or went (`None`).
    pub fn set_namespace(&mut self, name: &Name, labels: Option<Labels>) {
        self.open(name);
        if self.model.set_labels(name, labels) {
            self.book.peers.namespace_changed(&self.model, name);
        }
        self.close(name);
    }

    /// A policy came or changed, or went (`None`).
    pub fn set_policy(&mut self, key: &Key, policy: Option<Policy>) {
        self.open(&key.namespace);
        if self.model.set_policy(key, policy) {
            let policy = self.model.policy(key).cloned();
            for direction in Direction::ALL {
                if let Some(rules) = policy.as_ref().and_then(|policy| policy.rules(direction)) {
                    self.book.policy_changed(&self.model, direction, key, rules);
                }
            }
            self.targets.policy_changed(&self.model, key, policy.as_deref());
        }
        self.close(&key.namespace);
    }

    /// These are all pods.
    pub fn replace_pods(&mut self, pods: Vec<(Key, Option<Pod>)>) {
        let kept: HashSet<Key> = pods.iter().map(|(key, _)| key.clone()).collect();
        for key in self.known(|space| space.pods.keys().cloned().collect(), &kept) {
            self.set_pod(&key, None);
        }
        for (key, pod) in pods {
            self.set_pod(&key, pod);
        }
    }

    /// These are all policies.
    pub fn replace_policies(&mut self, policies: Vec<(Key, Policy)>) {
        let kept: HashSet<Key> = policies.iter().map(|(key, _)| key.clone()).collect();
        for key in self.known(|space| space.policies.keys().cloned().collect(), &kept) {
            self.set_policy(&key, None);
        }
        for (key, policy) in policies {
            self.set_policy(&key, Some(policy));
        }
    }

    /// These are all namespaces.
    pub fn replace_namespaces(&mut self, namespaces: Vec<(Name, Labels)>) {
        let kept: HashSet<Name> = namespaces.iter().map(|(name, _)| name.clone()).collect();
        let labelled = self.model.spaces().filter(|(_, space)| space.labels.is_some());
        let gone: Vec<Name> = labelled
            .map(|(name, _)| name.clone())
            .filter(|name| !kept.contains(name))
            .collect();
        for name in gone {
            self.set_namespace(&name, None);
        }
        for (name, labels) in namespaces {
            self.set_namespace(&name, Some(labels));
        }
    }

    /// The objects of a sort that are not among `kept`.
    fn known(&self, names: fn(&crate::model::Space) -> Vec<Name>, kept: &HashSet<Key>) -> Vec<Key> {
        let all = self.model.spaces().flat_map(|(namespace, space)| {
            names(space).into_iter().map(move |name| Key {
                namespace: namespace.clone(),
                name,
            })
        });
        all.filter(|key| !kept.contains(key)).collect()
    }

    fn open(&mut self, namespace: &Name) {
        if self.model.open(namespace) {
            self.book.peers.namespace_changed(&self.model, namespace);
        }
    }

    fn close(&mut self, namespace: &str) {
        if self.model.close(namespace) {
            self.book.peers.namespace_gone(namespace);
        }
    }

    /// What must be known for the plan to be right. To be asked after [`Planner::settle`].
    pub fn needs(&self) -> Needs {
        let pods = match (self.model.policies(), self.book.peers.need_all_pods()) {
            (0, _) => PodsNeed::None,
            (_, false) => PodsNeed::Local,
            (_, true) => PodsNeed::All,
        };
        Needs {
            pods,
            namespaces: self.model.policies() > 0 && self.book.peers.need_namespaces(),
        }
    }

    /// Decides about the pods that something happened to.
    pub fn settle(&mut self) {
        self.targets.settle(&self.model, &mut self.book);
    }

    /// What differs from the last time; drops what is used no more.
    pub fn take(&mut self) -> Changes {
        self.settle();
        let chains = self.book.take();
        let peers = self.book.peers.take();
        let members = peers
            .members
            .into_iter()
            .map(|(key, old, new)| (key, Delta { old, new }));
        Changes {
            sets: Delta {
                old: [peers.gone, chains.blocks.old].concat(),
                new: [peers.come, chains.blocks.new].concat(),
            },
            members: members.collect(),
            chains: chains.chains,
            rewritten: chains.rewritten,
            verdicts: self.targets.take(),
        }
    }

    /// The sets that there are.
    pub fn sets(&self) -> impl Iterator<Item = SetKey> {
        self.book.sets()
    }

    /// The members of a set, in no order.
    pub fn members(&self, key: &SetKey) -> Vec<Member> {
        self.book.peers.members(key)
    }

    /// The chains that there are; what a chain leads to comes before it.
    pub fn chains(&self) -> impl Iterator<Item = ChainKey> {
        self.book.chains()
    }

    /// The rules of a policy that selects a pod of this node.
    pub fn rules(&self, direction: Direction, key: &Key) -> &[Rule] {
        self.book.rules(direction, key)
    }

    /// The addresses of this node that are isolated in a direction, and where they lead.
    pub fn verdicts(&self, direction: Direction) -> &BTreeMap<IpAddr, Shape> {
        self.targets.verdicts(direction)
    }

    /// Whether an address of a family is isolated, so that there has to be a table.
    pub fn is_isolated(&self, family: IpFamily) -> bool {
        self.targets.is_isolated(family)
    }
}
