//! Joins the sources to the table's rows.
use std::collections::BTreeMap;

use super::facts::{Fact, Facts, TypeFacts};
use super::model::{Container, Field, Merge, Row, Shape, Type, norm};
use super::openapi::{Definition, Definitions, JsonField};
use super::protobuf::{Message, Messages, WireField};

type Key = (String, String);

struct Joiner<'a> {
    openapi: &'a Definitions,
    protobuf: &'a Messages,
    facts: &'a Facts,
}

/// Rows by name; each type's fields stand in upstream's order.
pub fn join(openapi: &Definitions, protobuf: &Messages, facts: &Facts) -> Vec<Row> {
    let joiner = Joiner {
        openapi,
        protobuf,
        facts,
    };
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let keys = openapi.keys().chain(protobuf.keys());
    for key in keys {
        if let Some(row) = joiner.row(key) {
            rows.insert(row.name.clone(), row);
        }
    }
    rows.into_values().collect()
}

impl Joiner<'_> {
    fn row(&self, key: &Key) -> Option<Row> {
        let definition = self.openapi.get(key);
        let message = self.protobuf.get(key);
        let name = format!(
            "{}.{}",
            key.0,
            definition.map(|d| &d.name).or(message.map(|m| &m.name))?
        );
        let facts = self.facts.get(key).cloned().unwrap_or_default();
        let mut fields = match (definition, message) {
            (Some(definition), message) => self.fields(key, definition, message, &facts),
            (None, Some(message)) => self.wire_only(key, message, &facts)?,
            (None, None) => return None,
        };
        for field in &mut fields {
            self.canonical(&mut field.ty);
        }
        let resource = facts.meta
            || definition.is_some_and(|d| d.resource)
            || name.ends_with("List") && is_list(&fields);
        if resource {
            fields.retain(|f| f.name != "kind" && f.name != "apiVersion" || f.number != 0);
            fields.splice(0..0, [type_meta("kind"), type_meta("apiVersion")]);
        }
        (!fields.is_empty()).then_some(Row { name, fields })
    }

    /// Fields in protobuf's order, then those that only JSON has.
    fn fields(
        &self,
        key: &Key,
        definition: &Definition,
        message: Option<&Message>,
        facts: &TypeFacts,
    ) -> Vec<Field> {
        let mut out: Vec<Field> = Vec::new();
        let find = |ident: &str| definition.fields.iter().find(|f| norm(&f.name) == norm(ident));
        for wire in message.into_iter().flat_map(|m| &m.fields) {
            if let Some(json) = find(&wire.ident) {
                out.push(field(json, Some(wire), 0, facts.fields.get(&json.name)));
            } else {
                self.inlined(key, wire, definition, facts, &mut out);
            }
        }
        for json in &definition.fields {
            if !out.iter().any(|f| f.name == json.name) {
                let (via, fact) = self.late(key, json, facts, message);
                out.push(field(json, None, via, fact.as_ref()));
            }
        }
        out
    }

    /// A message that JSON has no field for: its own fields stand in its place.
    fn inlined(
        &self,
        key: &Key,
        wire: &WireField,
        definition: &Definition,
        facts: &TypeFacts,
        out: &mut Vec<Field>,
    ) {
        let Some(Type {
            container: Container::Single,
            shape: Shape::Message(group, name),
        }) = &wire.ty
        else {
            return;
        };
        if !facts.inlined.iter().any(|i| norm(i) == norm(name)) {
            return;
        }
        let inner_key = (group.clone(), norm(name));
        let inner_facts = self.facts.get(&inner_key).or_else(|| self.facts.get(key));
        for inner in self.protobuf.get(&inner_key).into_iter().flat_map(|m| &m.fields) {
            let json = definition
                .fields
                .iter()
                .find(|f| norm(&f.name) == norm(&inner.ident));
            if let Some(json) = json {
                let fact = inner_facts.and_then(|f| f.fields.get(&json.name));
                out.push(field(json, Some(inner), wire.number, fact));
            }
        }
    }

    /// A field newer than k8s-pb: its number stands in the facts, of the type itself or of an inlined one.
    fn late(
        &self,
        key: &Key,
        json: &JsonField,
        facts: &TypeFacts,
        message: Option<&Message>,
    ) -> (u32, Option<Fact>) {
        if let Some(fact) = facts.fields.get(&json.name) {
            return (0, Some(fact.clone()));
        }
        for inlined in &facts.inlined {
            let inner = self.facts.get(&(key.0.clone(), norm(inlined)));
            let fact = inner.and_then(|f| f.fields.get(&json.name));
            let wrapper = message.into_iter().flat_map(|m| &m.fields).find(|w| {
                matches!(&w.ty, Some(Type { shape: Shape::Message(_, name), .. }) if norm(name) == norm(inlined))
            });
            if let (Some(fact), Some(wrapper)) = (fact, wrapper) {
                return (wrapper.number, Some(fact.clone()));
            }
        }
        (0, None)
    }

    /// Types that JSON's schema leaves out: lists, options.
    fn wire_only(&self, key: &Key, message: &Message, facts: &TypeFacts) -> Option<Vec<Field>> {
        let wanted = message.name.ends_with("List") || key.0 == "meta.v1" || key.0 == "core.v1";
        if !wanted {
            return None;
        }
        let mut out = Vec::new();
        for wire in &message.fields {
            let name = facts.fields.keys().find(|n| norm(n) == norm(&wire.ident));
            let name = name.cloned().unwrap_or_else(|| camel(&wire.ident));
            if let Some(ty) = &wire.ty {
                let required = ty.container == Container::List && name == "items" || name == "metadata";
                let json = JsonField {
                    name,
                    ty: ty.clone(),
                    required,
                };
                out.push(field(&json, Some(wire), 0, facts.fields.get(&json.name)));
            }
        }
        Some(out)
    }

    /// The name that the table has for a type which the sources spell differently.
    fn canonical(&self, ty: &mut Type) {
        if let Shape::Message(group, name) = &mut ty.shape
            && let Some(definition) = self.openapi.get(&(group.clone(), norm(name)))
        {
            name.clone_from(&definition.name);
        }
    }
}

fn is_list(fields: &[Field]) -> bool {
    fields.iter().any(|f| f.name == "items") && fields.iter().any(|f| f.name == "metadata")
}

fn type_meta(name: &str) -> Field {
    let ty = Type {
        container: Container::Single,
        shape: Shape::Scalar('s'),
    };
    let name = name.to_string();
    Field {
        name,
        number: 0,
        via: 0,
        ty,
        pointer: false,
        always: false,
        merge: Merge::default(),
        go_type: None,
    }
}

/// Without a fact: what is required is written always, an optional message is a pointer.
fn field(json: &JsonField, wire: Option<&WireField>, via: u32, fact: Option<&Fact>) -> Field {
    let structure = json.ty.container == Container::Single && is_struct(&json.ty.shape);
    let guess = Fact {
        omit_empty: !json.required,
        pointer: !json.required && structure,
        ..Fact::default()
    };
    let fact = fact.unwrap_or(&guess);
    let wrapped = wire
        .and_then(|w| w.ty.as_ref())
        .filter(|t| t.shape == Shape::Scalar('L'));
    let ty = wrapped
        .filter(|w| w.container != Container::Map)
        .unwrap_or(&json.ty);
    let omitted = fact.omit_zero || fact.omit_empty && (fact.pointer || !structure);
    Field {
        name: json.name.clone(),
        number: wire.map(|w| w.number).or(fact.number).unwrap_or(0),
        via,
        ty: ty.clone(),
        pointer: fact.pointer,
        always: !omitted,
        merge: wire.map(|w| w.merge.clone()).unwrap_or_default(),
        go_type: fact.go_type.clone(),
    }
}

/// Whether Go has a struct for it, which `omitempty` does not leave out.
fn is_struct(shape: &Shape) -> bool {
    match shape {
        Shape::Message(..) => true,
        Shape::Scalar(letter) => "qxtuDrjf".contains(*letter),
    }
}

/// `remaining_item_count` to `remainingItemCount`.
fn camel(ident: &str) -> String {
    let mut out = String::new();
    let mut upper = false;
    for c in ident.trim_start_matches("r#").chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                out.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    out
}
