use std::fmt;
use std::hash::{Hash, Hasher};

use knode_api::selector::LabelSelector;

use super::{Labels, Name, identity};

/// In which namespaces a selector looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespaces {
    /// In this one.
    One(Name),
    /// In those with such labels; an empty selector means all.
    Matching(LabelSelector),
}

impl Namespaces {
    /// Whether it looks into the namespace; `labels` are `None` as long as the namespace itself is not known.
    pub fn hold(&self, name: &str, labels: Option<&Labels>) -> bool {
        match self {
            Self::One(one) => **one == *name,
            Self::Matching(selector) if selector.is_everything() => true,
            Self::Matching(selector) => labels.is_some_and(|labels| matches(selector, labels)),
        }
    }

    /// Whether the labels of namespaces must be known.
    pub fn need_labels(&self) -> bool {
        matches!(self, Self::Matching(selector) if !selector.is_everything())
    }
}

/// A peer by selectors: pods with such labels in such namespaces.
#[derive(Debug)]
pub struct Selector {
    /// In which namespaces.
    pub namespaces: Namespaces,
    /// Which pods there.
    pub pods: LabelSelector,
    name: Box<str>,
}

impl Selector {
    /// A selector.
    pub fn new(namespaces: Namespaces, pods: LabelSelector) -> Self {
        let space = match &namespaces {
            Namespaces::One(name) => format!("in {name}"),
            Namespaces::Matching(selector) => format!("{:?}", selector.requirements()),
        };
        let name = identity("pods", [space, format!("{:?}", pods.requirements())]);
        Self {
            namespaces,
            pods,
            name,
        }
    }

    /// What it is called in the kernel; selectors that ask the same have the same name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it selects a pod with these labels in a namespace that it looks into.
    pub fn selects(&self, labels: &Labels) -> bool {
        matches(&self.pods, labels)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |selector: &LabelSelector| match selector.is_everything() {
            true => "all".to_owned(),
            false => selector.to_string(),
        };
        match &self.namespaces {
            Namespaces::One(name) => write!(f, "pods {} in {name}", all(&self.pods)),
            Namespaces::Matching(spaces) => {
                write!(f, "pods {} in namespaces {}", all(&self.pods), all(spaces))
            }
        }
    }
}

/// Whether labels satisfy a selector.
pub(super) fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    selector.matches_with(|key| labels.get(key))
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Selector {}

impl Hash for Selector {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}
