//! Field selectors (`k8s.io/apimachinery/pkg/fields`): `metadata.name=x,spec.nodeName!=y`.
use super::SelectorError;

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// The path, such as `spec.nodeName`.
    pub field: String,
    /// What it is compared with.
    pub value: String,
    /// `!=` instead of `=`.
    pub negated: bool,
}

/// All terms must hold; none matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Reads the string form.
    ///
    /// # Errors
    /// Upstream's words for a term without an operator or with a bad escape.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parts = split(text);
        parts.sort_unstable();
        let terms = parts.into_iter().filter(|p| !p.is_empty()).map(|p| term(text, p));
        Ok(FieldSelector {
            terms: terms.collect::<Result<_, _>>()?,
        })
    }

    /// The terms, sorted by their text.
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value that `field` must have, if it is asked for by `=`.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms
            .iter()
            .find(|t| t.field == field && !t.negated)
            .map(|t| t.value.as_str())
    }

    /// Fails for a field that is not among `known`, in upstream's words.
    ///
    /// # Errors
    /// `field label not supported: x`.
    pub fn check(&self, known: impl Fn(&str) -> bool) -> Result<(), SelectorError> {
        match self.terms.iter().find(|t| !known(&t.field)) {
            Some(t) => Err(SelectorError(format!("field label not supported: {}", t.field))),
            None => Ok(()),
        }
    }

    /// Whether an object is meant whose fields `get` looks up; an absent field is empty.
    pub fn matches<S: AsRef<str>>(&self, get: impl Fn(&str) -> S) -> bool {
        self.terms
            .iter()
            .all(|t| (get(&t.field).as_ref() == t.value) != t.negated)
    }
}

/// Splits at commas that no backslash precedes.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn term(whole: &str, part: &str) -> Result<FieldTerm, SelectorError> {
    let at = part
        .find(['=', '!'])
        .filter(|at| !part[*at..].starts_with('!') || part[*at..].starts_with("!="));
    let Some(at) = at else {
        return Err(SelectorError(format!(
            "invalid selector: '{whole}'; can't understand '{part}'"
        )));
    };
    let (field, rest) = part.split_at(at);
    let negated = rest.starts_with("!=");
    let value = rest
        .strip_prefix("!=")
        .or_else(|| rest.strip_prefix("=="))
        .unwrap_or_else(|| &rest[1..]);
    Ok(FieldTerm {
        field: field.into(),
        value: unescape(value)?,
        negated,
    })
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(e @ ('\\' | ',' | '=')) => out.push(e),
                Some(e) => return Err(SelectorError(format!("invalid escape sequence: \\{e}"))),
                None => return Err(SelectorError("invalid escape sequence: \\".into())),
            },
            ',' | '=' => {
                return Err(SelectorError(format!(
                    "invalid selector: unescaped character in value: {c}"
                )));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_matches() {
        let s = FieldSelector::parse("spec.nodeName=n1,status.phase!=Running,metadata.name==a\\,b").unwrap();
        assert_eq!(s.exact("spec.nodeName"), Some("n1"));
        assert_eq!(s.exact("metadata.name"), Some("a,b"));
        assert_eq!(s.exact("status.phase"), None);
        let get = |f: &str| match f {
            "spec.nodeName" => "n1",
            "metadata.name" => "a,b",
            _ => "",
        };
        assert!(s.matches(get));
        assert!(FieldSelector::parse("").unwrap().is_everything());
    }

    #[test]
    fn words_of_errors() {
        let e = FieldSelector::parse("spec.foo").unwrap_err();
        assert_eq!(
            e.to_string(),
            "invalid selector: 'spec.foo'; can't understand 'spec.foo'"
        );
        let s = FieldSelector::parse("spec.foo=x").unwrap();
        assert_eq!(
            s.check(|_| false).unwrap_err().to_string(),
            "field label not supported: spec.foo"
        );
    }
}
