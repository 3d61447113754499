//! `schema.txt` to table. A line `= core.v1.Pod` begins a type; each line after it is a field:
//! `name number type marks…`, where type is `[` (list) or `{` (map) or nothing before a one-letter scalar or a
//! type's name, and marks are `p`ointer, `a`lways written, `m`erge, `r`etain keys, `k=` merge key, `v=` number of
//! the wrapping message, `g=` Go type. Types are sorted by name.
use super::{Container, Field, Scalar, Schema, Shape, Type, TypeId};

struct Loader {
    schema: Schema,
    /// Type names at the time of reading; references are settled by them.
    names: Vec<&'static str>,
}

/// Reads the table. What cannot be read is left out; the tests see to it that nothing is.
pub(super) fn parse(text: &'static str) -> Schema {
    let names: Vec<&'static str> = text.lines().filter_map(|l| l.strip_prefix("= ")).collect();
    let fields = text.lines().count() - names.len();
    let schema = Schema {
        types: Vec::with_capacity(names.len()),
        fields: Vec::with_capacity(fields),
        wire: Vec::new(),
        words: vec![""],
    };
    let mut loader = Loader { schema, names };
    for line in text.lines() {
        loader.line(line);
    }
    loader.finish()
}

impl Loader {
    fn line(&mut self, line: &'static str) {
        let at = u32::try_from(self.schema.fields.len()).unwrap_or(u32::MAX);
        if let Some(name) = line.strip_prefix("= ") {
            self.schema.types.push(Type {
                name,
                first: at,
                end: at,
            });
        } else if let Some(field) = self.field(line)
            && let Some(ty) = self.schema.types.last_mut()
        {
            self.schema.fields.push(field);
            ty.end = at + 1;
        }
    }

    fn field(&mut self, line: &'static str) -> Option<Field> {
        let mut words = line.split(' ');
        let name = words.next().filter(|n| *n != "#")?;
        let number = words.next()?.parse().ok()?;
        let (container, shape) = self.type_of(words.next()?)?;
        let mut field = Field {
            name,
            number,
            via: 0,
            shape,
            container,
            pointer: false,
            always: false,
            merge: false,
            retain_keys: false,
            key: 0,
            go_type: 0,
        };
        for mark in words {
            self.mark(&mut field, mark)?;
        }
        Some(field)
    }

    fn mark(&mut self, field: &mut Field, mark: &'static str) -> Option<()> {
        match mark.split_once('=') {
            None => match mark {
                "p" => field.pointer = true,
                "a" => field.always = true,
                "m" => field.merge = true,
                "r" => field.retain_keys = true,
                _ => return None,
            },
            Some(("k", key)) => field.key = self.word(key)?,
            Some(("v", via)) => field.via = via.parse().ok()?,
            Some(("g", go_type)) => field.go_type = self.word(go_type)?,
            Some(_) => return None,
        }
        Some(())
    }

    fn word(&mut self, word: &'static str) -> Option<u16> {
        let words = &mut self.schema.words;
        let at = words.iter().position(|w| *w == word).unwrap_or_else(|| {
            words.push(word);
            words.len() - 1
        });
        u16::try_from(at).ok()
    }

    fn type_of(&self, text: &str) -> Option<(Container, Shape)> {
        let (container, element) = match text.as_bytes().first()? {
            b'[' => (Container::List, &text[1..]),
            b'{' => (Container::Map, &text[1..]),
            _ => (Container::Single, text),
        };
        let shape = match scalar(element) {
            Some(scalar) => Shape::Scalar(scalar),
            None => {
                let at = self.names.binary_search(&element).ok()?;
                Shape::Message(TypeId(u16::try_from(at).ok()?))
            }
        };
        Some((container, shape))
    }

    fn finish(mut self) -> Schema {
        self.schema.wire.reserve_exact(self.schema.fields.len());
        for ty in &self.schema.types {
            let fields = &self.schema.fields[ty.first as usize..ty.end as usize];
            let mut order: Vec<u16> = (0..u16::try_from(fields.len()).unwrap_or(0)).collect();
            order.sort_by_key(|i| {
                let f = &fields[usize::from(*i)];
                if f.via == 0 {
                    (f.number, 0)
                } else {
                    (f.via, f.number)
                }
            });
            self.schema.wire.extend(order);
        }
        self.schema.words.shrink_to_fit();
        self.schema
    }
}

fn scalar(letter: &str) -> Option<Scalar> {
    Some(match letter {
        "s" => Scalar::String,
        "b" => Scalar::Bool,
        "i" => Scalar::Int32,
        "l" => Scalar::Int64,
        "d" => Scalar::Double,
        "y" => Scalar::Bytes,
        "q" => Scalar::Quantity,
        "x" => Scalar::IntOrString,
        "t" => Scalar::Time,
        "u" => Scalar::MicroTime,
        "D" => Scalar::Duration,
        "r" => Scalar::RawExtension,
        "j" => Scalar::Json,
        "f" => Scalar::FieldsV1,
        "L" => Scalar::StringList,
        _ => return None,
    })
}
