//! Reads `go-facts.txt`.
use std::collections::BTreeMap;

use super::model::norm;

/// What the Go source says of a field.
#[derive(Clone, Debug, Default)]
pub struct Fact {
    pub omit_empty: bool,
    pub omit_zero: bool,
    pub pointer: bool,
    pub number: Option<u32>,
    pub go_type: Option<String>,
}

/// What the Go source says of a type.
#[derive(Clone, Debug, Default)]
pub struct TypeFacts {
    /// Has apiVersion and kind.
    pub meta: bool,
    pub fields: BTreeMap<String, Fact>,
    /// Names of inlined types, each with a number where k8s-pb lacks it.
    pub inlined: Vec<String>,
}

/// By group and compared name.
pub type Facts = BTreeMap<(String, String), TypeFacts>;

pub fn parse(text: &str) -> Facts {
    text.lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(line)
        .collect()
}

fn line(line: &str) -> Option<((String, String), TypeFacts)> {
    let mut words = line.split(' ');
    let (group, name) = words.next()?.rsplit_once('.')?;
    let mut facts = TypeFacts::default();
    for word in words {
        if word == "@" {
            facts.meta = true;
        } else if let Some(inlined) = word.strip_prefix('+') {
            facts
                .inlined
                .push(inlined.split(':').next().unwrap_or(inlined).into());
        } else {
            let (field, marks) = word.split_once(':').unwrap_or((word, ""));
            facts.fields.insert(field.into(), fact(marks));
        }
    }
    Some(((group.into(), norm(name)), facts))
}

fn fact(marks: &str) -> Fact {
    let (marks, go_type) = marks
        .split_once('=')
        .map_or((marks, None), |(m, g)| (m, Some(g.to_string())));
    let (flags, number) = marks
        .split_once('#')
        .map_or((marks, None), |(f, n)| (f, n.parse().ok()));
    Fact {
        omit_empty: flags.contains('e'),
        omit_zero: flags.contains('z'),
        pointer: flags.contains('p'),
        number,
        go_type,
    }
}
