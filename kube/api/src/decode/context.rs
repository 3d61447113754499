//! Where the decoder is in the document, and what it has found wrong.
use std::fmt::{self, Write};

use serde_json::Value;

use super::{DecodeError, Decoded};
use crate::decode::canonical;
use crate::schema::{Schema, TypeId, schema};

/// How many strict complaints are kept.
const MAX_STRICT: usize = 100;

pub(super) enum Step {
    Field(&'static str),
    Key(String),
    Index(usize),
}

pub(super) struct Context {
    pub schema: &'static Schema,
    pub path: Vec<Step>,
    /// The types on the way down.
    pub types: Vec<TypeId>,
    strict: Vec<String>,
    error: Option<String>,
}

impl Context {
    pub fn new() -> Self {
        Context {
            schema: schema(),
            path: Vec::new(),
            types: Vec::new(),
            strict: Vec::new(),
            error: None,
        }
    }

    pub fn unknown(&mut self, name: &str) {
        self.complain("unknown", name);
    }

    pub fn duplicate(&mut self, name: &str) {
        self.complain("duplicate", name);
    }

    fn complain(&mut self, what: &str, name: &str) {
        if self.strict.len() < MAX_STRICT {
            let mut path = Steps(&self.path).to_string();
            if !path.is_empty() {
                path.push('.');
            }
            self.strict.push(format!("{what} field \"{path}{name}\""));
        }
    }

    /// Notes a value of the wrong type and stops the decoder.
    pub fn wrong_type<E: serde::de::Error>(&mut self, found: &str, go_type: &str) -> E {
        let names: Vec<&str> = self
            .path
            .iter()
            .filter_map(|s| {
                if let Step::Field(name) = s {
                    Some(*name)
                } else {
                    None
                }
            })
            .collect();
        let place = match (self.types.last(), names.is_empty()) {
            (Some(ty), false) => {
                let name = self.schema.name(*ty);
                let structure = name.rsplit_once('.').map_or(name, |(_, last)| last);
                format!("struct field {structure}.{} of type {go_type}", names.join("."))
            }
            _ => format!("value of type {go_type}"),
        };
        self.fail(format!("json: cannot unmarshal {found} into Go {place}"))
    }

    /// Notes a message and stops the decoder.
    pub fn fail<E: serde::de::Error>(&mut self, message: String) -> E {
        self.error.get_or_insert(message);
        E::custom("wrong type")
    }

    pub fn finish<E: fmt::Display>(
        self,
        result: Result<Value, E>,
        ty: TypeId,
        syntax: impl FnOnce(String) -> DecodeError,
    ) -> Result<Decoded, DecodeError> {
        match (self.error, result) {
            (Some(message), _) => Err(DecodeError::Type(message)),
            (None, Err(e)) => Err(syntax(e.to_string())),
            (None, Ok(Value::Null)) => Ok(Decoded {
                value: canonical::zero_message(self.schema, ty),
                strict: self.strict,
            }),
            (None, Ok(value)) => Ok(Decoded {
                value,
                strict: self.strict,
            }),
        }
    }
}

struct Steps<'a>(&'a [Step]);

impl fmt::Display for Steps<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            if i > 0 && !matches!(step, Step::Index(_)) {
                f.write_char('.')?;
            }
            match step {
                Step::Field(name) => f.write_str(name)?,
                Step::Key(key) => f.write_str(key)?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
