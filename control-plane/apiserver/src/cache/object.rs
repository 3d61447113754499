//! One object as it is kept: its JSON, and what selectors look at.

use bytes::Bytes;
use knode_api::encode;
use knode_kinds::Kind;
use knode_store::{Revision, Value as StoreValue};
use serde_json::Value;

/// An object at one revision.
#[derive(Debug)]
pub(crate) struct Object {
    /// `namespace/name`, or `name`.
    pub key: Box<str>,
    pub revision: Revision,
    /// The whole object with its resourceVersion, fields in upstream's order.
    pub json: Bytes,
    labels: Box<[(Box<str>, Box<str>)]>,
    /// Values of the kind's selectable fields, in the order of the kind's list.
    fields: Box<[Box<str>]>,
}

impl Object {
    /// Takes in what the store holds.
    pub fn new(kind: &Kind, key: &str, revision: Revision, json: Bytes) -> Result<Self, serde_json::Error> {
        let value: Value = serde_json::from_slice(&json)?;
        let labels = value.pointer("/metadata/labels").and_then(Value::as_object);
        let labels = labels.into_iter().flatten();
        Ok(Self {
            key: key.into(),
            revision,
            labels: labels
                .map(|(k, v)| (k.as_str().into(), v.as_str().unwrap_or_default().into()))
                .collect(),
            fields: kind
                .selectable
                .iter()
                .map(|field| field.get(&value).into())
                .collect(),
            json,
        })
    }

    /// The object parsed. It was written by this server, so a failure means damage: it reads as null.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or_default()
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(k, _)| &**k == name)
            .map(|(_, value)| &**value)
    }

    /// The value of a selectable field of the kind.
    pub fn field(&self, kind: &Kind, name: &str) -> &str {
        match name {
            "metadata.name" => self.name(),
            "metadata.namespace" => self.namespace(),
            _ => match kind.selectable.iter().position(|field| field.name == name) {
                Some(index) => self.fields.get(index).map_or("", |value| value),
                None => "",
            },
        }
    }

    pub fn name(&self) -> &str {
        self.key.rsplit_once('/').map_or(&self.key, |(_, name)| name)
    }

    pub fn namespace(&self) -> &str {
        self.key.rsplit_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// The same object with another resourceVersion: what a deletion leaves for its watchers.
    pub fn restamped(&self, revision: Revision) -> Self {
        Self {
            key: self.key.clone(),
            revision,
            json: restamp(&self.json, self.revision, revision),
            labels: self.labels.clone(),
            fields: self.fields.clone(),
        }
    }
}

/// Replaces the resourceVersion, the first in upstream's order of fields.
fn restamp(json: &Bytes, from: Revision, to: Revision) -> Bytes {
    let old = format!("\"resourceVersion\":\"{from}\"");
    match find(json, old.as_bytes()) {
        Some(at) => {
            let new = format!("\"resourceVersion\":\"{to}\"");
            [&json[..at], new.as_bytes(), &json[at + old.len()..]]
                .concat()
                .into()
        }
        None => json.clone(),
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// An object made ready for the store, with a hole where the revision of its write goes.
pub(crate) struct Stamp {
    head: Bytes,
    tail: Bytes,
}

/// Can't be part of an object's name, namespace or uid, which are all that stands before the revision.
const HOLE: &str = "\u{1}revision\u{1}";
const HOLE_JSON: &str = "\"\\u0001revision\\u0001\"";

impl Stamp {
    /// Encodes an object; its resourceVersion doesn't matter.
    pub fn new(value: &mut Value) -> Self {
        value["metadata"]["resourceVersion"] = HOLE.into();
        let json = encode::object(value);
        let at = find(&json, HOLE_JSON.as_bytes()).unwrap_or(json.len());
        let json = Bytes::from(json);
        let quote = 1;
        let end = (at + HOLE_JSON.len() - quote).min(json.len());
        Self {
            head: json.slice(..(at + quote).min(json.len())),
            tail: json.slice(end..),
        }
    }

    /// Whether the object's JSON at that revision is this.
    pub fn equals(&self, object: &Object) -> bool {
        let digits = object.revision.to_string();
        let json = &object.json;
        json.len() == self.head.len() + digits.len() + self.tail.len()
            && json.starts_with(&self.head)
            && json.ends_with(&self.tail)
            && &json[self.head.len()..self.head.len() + digits.len()] == digits.as_bytes()
    }
}

impl From<Stamp> for StoreValue {
    fn from(stamp: Stamp) -> Self {
        StoreValue::Stamped {
            head: stamp.head,
            tail: stamp.tail,
        }
    }
}
