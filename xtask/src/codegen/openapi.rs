//! Reads k8s-openapi's generated sources: JSON names and types.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;

use super::model::{Container, Shape, Type, norm};

/// One definition.
pub struct Definition {
    /// `core.v1`
    pub group: String,
    /// `PodSpec`
    pub name: String,
    pub fields: Vec<JsonField>,
    /// Whether it is a kind of its own.
    pub resource: bool,
}

pub struct JsonField {
    pub name: String,
    pub ty: Type,
    pub required: bool,
}

/// Every definition by group and compared name.
pub type Definitions = BTreeMap<(String, String), Definition>;

/// The directories that are read, with the group and version that their types are filed under.
const GROUPS: [&str; 22] = [
    "api/core/v1",
    "api/apps/v1",
    "api/batch/v1",
    "api/rbac/v1",
    "api/authentication/v1",
    "api/authorization/v1",
    "api/certificates/v1",
    "api/certificates/v1beta1",
    "api/coordination/v1",
    "api/discovery/v1",
    "api/events/v1",
    "api/policy/v1",
    "api/networking/v1",
    "api/storage/v1",
    "api/node/v1",
    "api/autoscaling/v1",
    "api/autoscaling/v2",
    "api/admissionregistration/v1",
    "api/scheduling/v1",
    "api/resource/v1",
    "apiextensions_apiserver/pkg/apis/apiextensions/v1",
    "apimachinery/pkg/apis/meta/v1",
];

/// Group and version of a directory: its last two parts.
pub fn group_of(directory: &str) -> String {
    let mut parts: Vec<&str> = directory.rsplit('/').take(2).collect();
    parts.reverse();
    parts.join(".")
}

/// The directories of the table's groups.
pub fn groups() -> impl Iterator<Item = &'static str> {
    GROUPS.into_iter()
}

/// Reads the groups below `root`.
pub fn read(root: &Path) -> anyhow::Result<Definitions> {
    let mut out = Definitions::new();
    for directory in GROUPS {
        let path = root.join(directory);
        let entries = fs::read_dir(&path).with_context(|| format!("read {}", path.display()))?;
        for entry in entries {
            let file = entry.context("read directory entry")?.path();
            let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            if let Some(definition) = definition(&text, &group_of(directory)) {
                out.insert((definition.group.clone(), norm(&definition.name)), definition);
            }
        }
    }
    Ok(out)
}

fn definition(text: &str, group: &str) -> Option<Definition> {
    let name = text.lines().find_map(|l| l.strip_prefix("pub struct "))?;
    let name = name
        .strip_suffix(" {")
        .or_else(|| name.strip_suffix(';'))?
        .to_string();
    let keys = json_names(text);
    let mut fields = Vec::new();
    let body = text.lines().skip_while(|l| !l.starts_with("pub struct ")).skip(1);
    for line in body.take_while(|l| *l != "}") {
        let Some((ident, ty)) = line.trim().strip_prefix("pub ").and_then(|l| l.split_once(": ")) else {
            continue;
        };
        let ty = ty.trim_end_matches(',');
        let required = !ty.starts_with("Option<");
        let json = keys.get(norm(ident).as_str());
        if let (Some(json), Some(ty)) = (json, type_of(ty)) {
            fields.push(JsonField {
                name: json.clone(),
                ty,
                required,
            });
        }
    }
    let resource = text.contains("impl crate::Resource for ");
    Some(Definition {
        group: group.into(),
        name,
        fields,
        resource,
    })
}

/// `"hostIP" => Field::Key_host_ip,` lines: compared identifier to JSON name.
fn json_names(text: &str) -> BTreeMap<String, String> {
    let pairs = text
        .lines()
        .filter_map(|l| l.trim().split_once("\" => Field::Key_"));
    pairs
        .map(|(json, key)| (norm(key), json.trim_start_matches('"').to_string()))
        .collect()
}

fn inner<'a>(text: &'a str, open: &str) -> Option<&'a str> {
    text.strip_prefix(open)?.strip_suffix('>')
}

fn type_of(text: &str) -> Option<Type> {
    let text = inner(text, "Option<").unwrap_or(text);
    let text = inner(text, "std::boxed::Box<").unwrap_or(text);
    let map = "std::collections::BTreeMap<std::string::String, ";
    let (container, element) = match (inner(text, map), inner(text, "std::vec::Vec<")) {
        (Some(element), _) => (Container::Map, element),
        (_, Some(element)) => (Container::List, element),
        _ => (Container::Single, text),
    };
    Some(Type {
        container,
        shape: shape(element)?,
    })
}

fn shape(text: &str) -> Option<Shape> {
    let scalar = match text {
        "std::string::String" => 's',
        "bool" => 'b',
        "i32" => 'i',
        "i64" => 'l',
        "f64" => 'd',
        "crate::ByteString" => 'y',
        "std::vec::Vec<std::string::String>" => 'L',
        _ => return named(text),
    };
    Some(Shape::Scalar(scalar))
}

fn named(text: &str) -> Option<Shape> {
    let (path, name) = text.strip_prefix("crate::")?.rsplit_once("::")?;
    Some(
        special(name, path)
            .unwrap_or_else(|| Shape::Message(group_of(&path.replace("::", "/")), name.into())),
    )
}

/// Types that are no objects in JSON.
pub fn special(name: &str, path: &str) -> Option<Shape> {
    let letter = match name {
        "Quantity" => 'q',
        "IntOrString" => 'x',
        "Time" => 't',
        "MicroTime" => 'u',
        "Duration" if path.contains("meta") => 'D',
        "RawExtension" => 'r',
        "FieldsV1" => 'f',
        "JSON"
        | "Json"
        | "JSONSchemaPropsOrArray"
        | "JSONSchemaPropsOrBool"
        | "JSONSchemaPropsOrStringArray" => 'j',
        "JsonSchemaPropsOrArray" | "JsonSchemaPropsOrBool" | "JsonSchemaPropsOrStringArray" => 'j',
        "ExtraValue" | "AttestationValue" | "Verbs" => 'L',
        _ => return None,
    };
    Some(Shape::Scalar(letter))
}
