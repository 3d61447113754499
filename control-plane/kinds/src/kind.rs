//! What a row of the kind table says.
use knode_api::schema::{TypeId, schema};
use serde_json::Value;

use crate::strategy::Strategy;
use crate::table::Column;
use crate::value::{flag, text};

/// One kind of object, as discovery, the registry and `kubectl get` need it.
pub struct Kind {
    /// API group; the core group is `""`.
    pub group: &'static str,
    /// API version, `v1`.
    pub version: &'static str,
    /// `Pod`
    pub kind: &'static str,
    /// `PodList`
    pub list_kind: &'static str,
    /// `pods`
    pub plural: &'static str,
    /// `pod`
    pub singular: &'static str,
    /// `po`
    pub short_names: &'static [&'static str],
    /// `all`
    pub categories: &'static [&'static str],
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// As discovery lists them.
    pub verbs: &'static [&'static str],
    /// The resources below it.
    pub subresources: &'static [Subresource],
    /// Where its objects live.
    pub storage: Storage,
    /// Fields for field selectors beside `metadata.name` and `metadata.namespace`.
    pub selectable: &'static [SelectableField],
    /// Columns of `kubectl get`.
    pub columns: &'static [Column],
    /// How its objects are defaulted, checked and changed.
    pub strategy: &'static dyn Strategy,
}

/// Where objects of a kind live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In the store below this name; two kinds may share one (events).
    Stored(&'static str),
    /// Answered on the spot, never stored.
    Virtual,
}

/// A resource below a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// `status`
    pub name: &'static str,
    /// Group, version and kind of its body; an empty version means those of the resource itself.
    pub group: &'static str,
    /// See `group`.
    pub version: &'static str,
    /// See `group`.
    pub kind: &'static str,
    /// As discovery lists them.
    pub verbs: &'static [&'static str],
}

/// A field that field selectors may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectableField {
    /// `spec.nodeName`
    pub name: &'static str,
    at: Lookup,
}

/// Where the field's value stands, as JSON pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lookup {
    Text(&'static str),
    /// Printed `true` or `false`.
    Flag(&'static str),
    /// The second where the first is empty.
    Either(&'static str, &'static str),
}

impl SelectableField {
    pub(crate) const fn text(name: &'static str, pointer: &'static str) -> Self {
        SelectableField {
            name,
            at: Lookup::Text(pointer),
        }
    }

    pub(crate) const fn flag(name: &'static str, pointer: &'static str) -> Self {
        SelectableField {
            name,
            at: Lookup::Flag(pointer),
        }
    }

    pub(crate) const fn either(name: &'static str, first: &'static str, second: &'static str) -> Self {
        SelectableField {
            name,
            at: Lookup::Either(first, second),
        }
    }

    /// The field's value in an object; empty when absent.
    pub fn get<'a>(&self, object: &'a Value) -> &'a str {
        match self.at {
            Lookup::Text(pointer) => text(object, pointer),
            Lookup::Flag(pointer) if flag(object, pointer) => "true",
            Lookup::Flag(_) => "false",
            Lookup::Either(first, second) => match text(object, first) {
                "" => text(object, second),
                found => found,
            },
        }
    }
}

impl Kind {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.into()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The schema of its objects.
    pub fn schema(&self) -> Option<TypeId> {
        schema().kind(self.group, self.version, self.kind)
    }

    /// Whether a verb of discovery is there.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// A subresource by name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// The value of a selectable field, `None` if the kind doesn't know it.
    pub fn select<'a>(&self, object: &'a Value, field: &str) -> Option<&'a str> {
        match field {
            "metadata.name" => Some(text(object, "/metadata/name")),
            "metadata.namespace" if self.namespaced => Some(text(object, "/metadata/namespace")),
            _ => self
                .selectable
                .iter()
                .find(|f| f.name == field)
                .map(|f| f.get(object)),
        }
    }

    /// Whether field selectors may name this field.
    pub fn knows_field(&self, field: &str) -> bool {
        field == "metadata.name"
            || (field == "metadata.namespace" && self.namespaced)
            || self.selectable.iter().any(|f| f.name == field)
    }
}

/// Every kind, grouped as discovery lists them.
pub fn kinds() -> &'static [&'static Kind] {
    crate::rows::ALL
}

/// A kind by its resource name.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    kinds()
        .iter()
        .copied()
        .find(|k| k.plural == plural && k.group == group && k.version == version)
}

/// A kind by its object name.
pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    kinds()
        .iter()
        .copied()
        .find(|k| k.kind == kind && k.group == group && k.version == version)
}
