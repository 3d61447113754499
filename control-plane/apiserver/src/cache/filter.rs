//! Which objects a list or watch is about.

use knode_api::selector::{FieldSelector, LabelSelector};
use knode_kinds::{Kind, Storage};

use super::Object;

/// A namespace (or all), a name (or all), and selectors.
#[derive(Clone)]
pub(crate) struct Filter {
    pub kind: &'static Kind,
    /// Empty for all.
    pub namespace: String,
    /// Empty for all.
    pub name: String,
    pub labels: LabelSelector,
    pub fields: FieldSelector,
}

impl Filter {
    /// Whether nothing but the namespace narrows it.
    pub fn is_unselective(&self) -> bool {
        self.name.is_empty() && self.labels.is_everything() && self.fields.is_everything()
    }

    /// The beginning of all keys it can match, below the storage name.
    pub fn prefix(&self) -> String {
        match self.namespace.as_str() {
            "" => String::new(),
            namespace => format!("{namespace}/"),
        }
    }

    pub fn matches(&self, object: &Object) -> bool {
        (self.namespace.is_empty() || object.namespace() == self.namespace)
            && (self.name.is_empty() || object.name() == self.name)
            && self.labels.matches_with(|name| object.label(name))
            && self.matches_fields(object)
    }

    fn matches_fields(&self, object: &Object) -> bool {
        if self.fields.is_everything() {
            return true;
        }
        let canonical = canonical(self.kind);
        if std::ptr::eq(canonical, self.kind) {
            return self.fields.matches(|name| object.field(self.kind, name));
        }
        // Fields are named by the kind and looked up in what is stored.
        let value = object.value();
        self.fields
            .matches(|name| self.kind.select(&value, name).unwrap_or_default())
    }
}

/// The kind in whose form the objects of a storage name are kept: the first in the table.
pub(crate) fn canonical(kind: &'static Kind) -> &'static Kind {
    match kind.storage {
        Storage::Stored(name) => knode_kinds::kinds()
            .iter()
            .copied()
            .find(|other| other.storage == Storage::Stored(name))
            .unwrap_or(kind),
        Storage::Virtual => kind,
    }
}
