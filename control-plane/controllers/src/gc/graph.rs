//! Who owns whom; pure.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ApiResource, ObjectMeta};

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

/// As much of an object as ownership needs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub api_version: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub owners: Vec<OwnerReference>,
    deleting: bool,
    foreground: bool,
    orphan: bool,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl Item {
    /// From an object's metadata.
    pub(super) fn of(resource: &ApiResource, meta: ObjectMeta) -> Self {
        let finalizers = meta.finalizers.unwrap_or_default();
        let has = |wanted: &str| finalizers.iter().any(|f| f == wanted);
        Self {
            api_version: resource.api_version.clone(),
            kind: resource.kind.clone(),
            namespace: meta.namespace.unwrap_or_default(),
            name: meta.name.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
            owners: meta.owner_references.unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            foreground: has(FOREGROUND),
            orphan: has(ORPHAN),
        }
    }

    fn matters(&self) -> bool {
        !self.owners.is_empty() || self.deleting
    }
}

/// What is to be done about an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Todo {
    /// None of these may exist any more.
    CheckOwners(Vec<OwnerReference>),
    /// The object waits in the foreground for these to go.
    DeleteDependents(Vec<Arc<Item>>),
    /// These are to lose this owner, which then goes.
    Orphan(Vec<Arc<Item>>),
    /// Nothing holds the object any more.
    LetGo,
}

/// Objects with owners, objects being deleted, and the names of everything else.
#[derive(Debug, Default)]
pub(super) struct Graph {
    items: HashMap<String, Arc<Item>>,
    /// uids of dependents by the uid of an owner.
    dependents: HashMap<String, BTreeSet<String>>,
    /// uids of objects that neither own-reference nor are being deleted, by kind: that they exist is all.
    plain: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Notes an object's state; the uids that may have something to do.
    pub(super) fn insert(&mut self, item: Item) -> Vec<String> {
        let uid = item.uid.clone();
        self.forget(&uid);
        if !item.matters() {
            self.plain.entry(item.kind.clone()).or_default().insert(uid);
            return Vec::new();
        }
        let mut affected = vec![uid.clone()];
        for owner in &item.owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.clone());
            affected.push(owner.uid.clone());
        }
        self.items.insert(uid, Arc::new(item));
        affected
    }

    /// Notes that an object is gone; the uids that may have something to do.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<String> {
        let owners: Vec<_> = self
            .items
            .get(uid)
            .into_iter()
            .flat_map(|i| i.owners.iter().map(|o| o.uid.clone()))
            .collect();
        self.forget(uid);
        let dependents = self.dependents.get(uid).into_iter().flatten().cloned();
        dependents.chain(owners).collect()
    }

    /// Notes all objects of a kind; the uids that may have something to do.
    pub(super) fn replace(&mut self, kind: &str, all: Vec<Item>) -> Vec<String> {
        let now: BTreeSet<_> = all.iter().map(|i| i.uid.clone()).collect();
        let of_kind = self
            .items
            .values()
            .filter(|i| i.kind == kind)
            .map(|i| i.uid.clone());
        let before: Vec<_> = of_kind
            .chain(self.plain.get(kind).into_iter().flatten().cloned())
            .collect();
        let mut affected = Vec::new();
        for gone in before.iter().filter(|u| !now.contains(*u)) {
            affected.extend(self.remove(gone));
        }
        for item in all {
            affected.extend(self.insert(item));
        }
        affected
    }

    fn forget(&mut self, uid: &str) {
        if let Some(old) = self.items.remove(uid) {
            for owner in &old.owners {
                if let Some(set) = self.dependents.get_mut(&owner.uid) {
                    set.remove(uid);
                    if set.is_empty() {
                        self.dependents.remove(&owner.uid);
                    }
                }
            }
        }
        for uids in self.plain.values_mut() {
            uids.remove(uid);
        }
    }

    fn knows(&self, uid: &str) -> bool {
        self.items.contains_key(uid) || self.plain.values().any(|uids| uids.contains(uid))
    }

    fn dependents_of(&self, uid: &str) -> Vec<Arc<Item>> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|u| self.items.get(u).cloned()).collect()
    }

    /// What is to be done about an object now, by what is known.
    pub(super) fn todo(&self, uid: &str) -> Option<(Arc<Item>, Todo)> {
        let item = self.items.get(uid)?.clone();
        if item.deleting && item.orphan {
            return Some((item, Todo::Orphan(self.dependents_of(uid))));
        }
        if item.deleting && item.foreground {
            let blocks = |d: &Arc<Item>| {
                d.owners
                    .iter()
                    .any(|o| o.uid == uid && o.block_owner_deletion == Some(true))
            };
            let dependents = self.dependents_of(uid);
            if !dependents.iter().any(blocks) {
                return Some((item, Todo::LetGo));
            }
            let waiting = dependents.into_iter().filter(|d| !d.deleting).collect();
            return Some((item, Todo::DeleteDependents(waiting)));
        }
        let orphaned = !item.owners.is_empty() && !item.owners.iter().any(|o| self.knows(&o.uid));
        (orphaned && !item.deleting).then(|| (item.clone(), Todo::CheckOwners(item.owners.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(uid: &str, owners: &[&str]) -> Item {
        let owner = |u: &&str| OwnerReference {
            uid: (*u).to_owned(),
            block_owner_deletion: Some(true),
            ..OwnerReference::default()
        };
        Item {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: "n".into(),
            name: uid.into(),
            uid: uid.into(),
            owners: owners.iter().map(owner).collect(),
            deleting: false,
            foreground: false,
            orphan: false,
        }
    }

    #[test]
    fn dependents_of_an_owner_that_went_are_checked() {
        let mut g = Graph::default();
        g.insert(item("set", &[]));
        g.insert(item("pod", &["set"]));
        assert_eq!(g.todo("pod"), None);
        assert_eq!(g.remove("set"), ["pod"]);
        assert!(matches!(g.todo("pod"), Some((_, Todo::CheckOwners(_)))));
    }

    #[test]
    fn one_living_owner_is_enough() {
        let mut g = Graph::default();
        g.insert(item("a", &[]));
        g.insert(item("pod", &["a", "b"]));
        assert_eq!(g.todo("pod"), None);
    }

    #[test]
    fn the_foreground_waits_for_its_dependents() {
        let mut g = Graph::default();
        g.insert(item("pod", &["set"]));
        g.insert(Item {
            deleting: true,
            foreground: true,
            ..item("set", &[])
        });
        assert!(matches!(g.todo("set"), Some((_, Todo::DeleteDependents(d))) if d.len() == 1));
        g.insert(Item {
            deleting: true,
            ..item("pod", &["set"])
        });
        assert!(matches!(g.todo("set"), Some((_, Todo::DeleteDependents(d))) if d.is_empty()));
        assert!(g.remove("pod").contains(&"set".to_owned()));
        assert!(matches!(g.todo("set"), Some((_, Todo::LetGo))));
    }

    #[test]
    fn orphans_are_disowned_before_the_owner_goes() {
        let mut g = Graph::default();
        g.insert(item("pod", &["set"]));
        g.insert(Item {
            deleting: true,
            orphan: true,
            ..item("set", &[])
        });
        assert!(matches!(g.todo("set"), Some((_, Todo::Orphan(d))) if d.len() == 1));
    }

    #[test]
    fn a_list_replaces_what_was_known_of_its_kind() {
        let mut g = Graph::default();
        g.insert(item("a", &[]));
        g.insert(item("b", &["a"]));
        let affected = g.replace("Pod", vec![item("b", &["a"])]);
        assert!(affected.contains(&"b".to_owned()));
        assert!(matches!(g.todo("b"), Some((_, Todo::CheckOwners(_)))));
    }
}
