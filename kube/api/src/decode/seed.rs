//! The walk down a document beside its type.
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::canonical;
use super::context::{Context, Step};
use super::element;
use crate::schema::{Container, Field, Scalar, Shape, TypeId};

/// What may stand at a place of the document.
#[derive(Clone, Copy)]
pub(super) enum Slot {
    /// An object of a type.
    Message(TypeId),
    /// The whole of a field: a list or map where it is one.
    Field(&'static Field),
    /// One value of a field.
    Element(&'static Field),
    /// A string in a `StringList`.
    Text,
    /// Anything.
    Any,
}

pub(super) struct Seed<'c> {
    pub context: &'c mut Context,
    pub slot: Slot,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A slot without its outer list or map.
enum Expected {
    Message(TypeId),
    List(&'static Field),
    Map(&'static Field),
    Scalar(Scalar),
    Any,
}

impl Seed<'_> {
    fn expected(&self) -> Expected {
        match self.slot {
            Slot::Message(ty) => Expected::Message(ty),
            Slot::Any => Expected::Any,
            Slot::Text => Expected::Scalar(Scalar::String),
            Slot::Field(f) if f.container == Container::List => Expected::List(f),
            Slot::Field(f) if f.container == Container::Map => Expected::Map(f),
            Slot::Field(f) | Slot::Element(f) => match f.shape {
                Shape::Message(ty) => Expected::Message(ty),
                Shape::Scalar(Scalar::RawExtension | Scalar::Json | Scalar::FieldsV1) => Expected::Any,
                Shape::Scalar(scalar) => Expected::Scalar(scalar),
            },
        }
    }

    fn wrong<E: de::Error>(self, found: &str) -> E {
        let schema = self.context.schema;
        let go_type = match self.slot {
            Slot::Message(ty) => schema.go_name(ty),
            Slot::Field(f) => schema.go_container_type(f),
            Slot::Element(f) => schema.go_type(f),
            Slot::Text | Slot::Any => "string".into(),
        };
        self.context.wrong_type(found, &go_type)
    }

    fn number<E: de::Error>(self, number: Number) -> Result<Value, E> {
        match self.expected() {
            Expected::Any => Ok(Value::Number(number)),
            Expected::Scalar(scalar) => match element::number(scalar, number) {
                Ok(value) => Ok(value),
                Err(element::Refused::Type(found)) => Err(self.wrong(&found)),
                Err(element::Refused::Message(m)) => Err(self.context.fail(m)),
            },
            _ => Err(self.wrong("number")),
        }
    }

    fn string<E: de::Error>(self, text: String) -> Result<Value, E> {
        match self.expected() {
            Expected::Any => Ok(Value::String(text)),
            Expected::Scalar(scalar) => match element::string(scalar, text) {
                Ok(value) => Ok(value),
                Err(element::Refused::Type(found)) => Err(self.wrong(&found)),
                Err(element::Refused::Message(m)) => Err(self.context.fail(m)),
            },
            _ => Err(self.wrong("string")),
        }
    }

    fn list<'de, A: SeqAccess<'de>>(
        self,
        mut seq: A,
        slot: Slot,
        field: Option<&Field>,
    ) -> Result<Value, A::Error> {
        let context = self.context;
        let mut out = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(1024));
        context.path.push(Step::Index(0));
        while let Some(value) = seq.next_element_seed(Seed {
            context: &mut *context,
            slot,
        })? {
            let value = match (value, field) {
                (Value::Null, Some(field)) => canonical::zero_element(context.schema, field),
                (value, _) => value,
            };
            out.push(value);
            if let Some(last) = context.path.last_mut() {
                *last = Step::Index(out.len());
            }
        }
        context.path.pop();
        Ok(Value::Array(out))
    }

    fn entries<'de, A: MapAccess<'de>>(
        self,
        mut map: A,
        field: Option<&'static Field>,
    ) -> Result<Value, A::Error> {
        let context = self.context;
        let slot = field.map_or(Slot::Any, Slot::Element);
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if out.contains_key(&key) {
                context.duplicate(&key);
            }
            context.path.push(Step::Key(key.clone()));
            let value = map.next_value_seed(Seed {
                context: &mut *context,
                slot,
            })?;
            context.path.pop();
            let value = match (value, field) {
                (Value::Null, Some(field)) => canonical::zero_element(context.schema, field),
                (value, _) => value,
            };
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }

    fn message<'de, A: MapAccess<'de>>(self, mut map: A, ty: TypeId) -> Result<Value, A::Error> {
        let context = self.context;
        let schema = context.schema;
        let mut out = Map::new();
        let mut seen: Vec<&'static str> = Vec::with_capacity(map.size_hint().unwrap_or(8));
        context.types.push(ty);
        while let Some(key) = map.next_key::<String>()? {
            let Some(field) = schema.field(ty, &key) else {
                context.unknown(&key);
                map.next_value::<de::IgnoredAny>()?;
                continue;
            };
            if seen.contains(&field.name) {
                context.duplicate(field.name);
            }
            seen.push(field.name);
            context.path.push(Step::Field(field.name));
            let value = map.next_value_seed(Seed {
                context: &mut *context,
                slot: Slot::Field(field),
            })?;
            context.path.pop();
            match canonical::settle(schema, field, value) {
                Some(value) => out.insert(key, value),
                None => out.remove(&key),
            };
        }
        context.types.pop();
        canonical::complete(schema, ty, &mut out);
        Ok(Value::Object(out))
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Kubernetes object")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, b: bool) -> Result<Value, E> {
        match self.expected() {
            Expected::Any | Expected::Scalar(Scalar::Bool) => Ok(Value::Bool(b)),
            Expected::Scalar(Scalar::IntOrString) => Err(self
                .context
                .fail("json: cannot unmarshal bool into Go value of type int32".into())),
            _ => Err(self.wrong("bool")),
        }
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<Value, E> {
        self.number(n.into())
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<Value, E> {
        self.number(n.into())
    }

    fn visit_f64<E: de::Error>(self, n: f64) -> Result<Value, E> {
        match Number::from_f64(n) {
            Some(number) => self.number(number),
            None => Err(self.wrong("number")),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        self.string(text.to_string())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Value, E> {
        self.string(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Value, A::Error> {
        match self.expected() {
            Expected::Any => self.list(seq, Slot::Any, None),
            Expected::List(field) => self.list(seq, Slot::Element(field), Some(field)),
            Expected::Scalar(Scalar::StringList) => self.list(seq, Slot::Text, None),
            _ => Err(self.wrong("array")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        match self.expected() {
            Expected::Any => self.entries(map, None),
            Expected::Map(field) => self.entries(map, Some(field)),
            Expected::Message(ty) => self.message(map, ty),
            _ => Err(self.wrong("object")),
        }
    }
}
