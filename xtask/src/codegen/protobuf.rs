//! Reads k8s-pb's generated sources: protobuf numbers, order of fields, patch marks.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;

use super::model::{Container, Merge, Shape, Type, norm};
use super::openapi::{group_of, groups, special};

/// A message with its fields in order.
pub struct Message {
    pub name: String,
    pub fields: Vec<WireField>,
}

pub struct WireField {
    pub ident: String,
    pub number: u32,
    pub ty: Option<Type>,
    pub merge: Merge,
}

/// Every message by group and compared name.
pub type Messages = BTreeMap<(String, String), Message>;

/// Reads the groups below `root`.
pub fn read(root: &Path) -> anyhow::Result<Messages> {
    let mut out = Messages::new();
    for directory in groups() {
        let path = root.join(directory).join("mod.rs");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let group = group_of(directory);
        for message in messages(&text, &group) {
            out.insert((group.clone(), norm(&message.name)), message);
        }
    }
    Ok(out)
}

#[derive(Default)]
struct Pending {
    merge: Merge,
    attribute: String,
}

fn messages(text: &str, group: &str) -> Vec<Message> {
    let mut out: Vec<Message> = Vec::new();
    let mut pending = Pending::default();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("pub struct ") {
            let name = rest.trim_end_matches([' ', '{', '}']).to_string();
            out.push(Message {
                name,
                fields: Vec::new(),
            });
            pending = Pending::default();
        } else if let Some(mark) = line.strip_prefix("/// +") {
            note(&mut pending.merge, mark);
        } else if line.starts_with("#[prost(") {
            pending.attribute = line.to_string();
        } else if let Some((ident, ty)) = line.strip_prefix("pub ").and_then(|l| l.split_once(':')) {
            let mut ty = ty.trim().to_string();
            while !ty.ends_with(',') {
                ty.push_str(lines.next().unwrap_or(",").trim());
            }
            let done = std::mem::take(&mut pending);
            if let (Some(message), Some(number)) = (out.last_mut(), number(&done.attribute)) {
                let ty = type_of(ty.trim_end_matches(','), &done.attribute, group);
                message.fields.push(WireField {
                    ident: ident.into(),
                    number,
                    ty,
                    merge: done.merge,
                });
            }
        }
    }
    out
}

fn note(merge: &mut Merge, mark: &str) {
    if let Some(key) = mark.strip_prefix("patchMergeKey=") {
        merge.key = Some(key.trim().to_string());
    } else if let Some(strategy) = mark.strip_prefix("patchStrategy=") {
        merge.merge = strategy.contains("merge");
        merge.retain_keys = strategy.contains("retainKeys");
    }
}

fn number(attribute: &str) -> Option<u32> {
    attribute
        .split_once("tag = \"")?
        .1
        .split_once('"')?
        .0
        .parse()
        .ok()
}

fn type_of(text: &str, attribute: &str, group: &str) -> Option<Type> {
    let spec = attribute.strip_prefix("#[prost(")?;
    if let Some(entry) = spec.strip_prefix("btree_map = \"string, ") {
        let element = text
            .rsplit_once(", ")
            .map_or("", |(_, e)| e)
            .trim_end_matches('>');
        let word = entry.split('"').next()?;
        return Some(Type {
            container: Container::Map,
            shape: shape(word, element, group)?,
        });
    }
    let word = spec.split([',', '=']).next()?.trim();
    let container = if spec.contains("repeated") {
        Container::List
    } else {
        Container::Single
    };
    let element = text
        .rsplit_once('<')
        .map_or(text, |(_, e)| e)
        .trim_end_matches('>');
    Some(Type {
        container,
        shape: shape(word, element, group)?,
    })
}

fn shape(word: &str, element: &str, group: &str) -> Option<Shape> {
    let scalar = match word {
        "string" => 's',
        "bool" => 'b',
        "int32" => 'i',
        "int64" => 'l',
        "double" => 'd',
        "bytes" => 'y',
        "message" => return Some(message(element, group)),
        _ => return None,
    };
    Some(Shape::Scalar(scalar))
}

fn message(path: &str, group: &str) -> Shape {
    let (directory, name) = path.rsplit_once("::").unwrap_or(("", path));
    if let Some(shape) = special(name, if directory.is_empty() { group } else { directory }) {
        return shape;
    }
    let group = if directory.is_empty() {
        group.to_string()
    } else {
        group_of(&directory.replace("::", "/"))
    };
    Shape::Message(group, name.into())
}
