//! `WWW-Authenticate` (RFC 9110, section 11.6.1). Pure.

use std::collections::BTreeMap;

/// One way in which a server wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    pub scheme: String,
    /// Names in lower case.
    pub parameters: BTreeMap<String, String>,
}

/// The challenges of one header; what cannot be read ends the list.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut rest = header;
    let mut found: Vec<Challenge> = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (name, after) = token(rest);
        if name.is_empty() {
            return found;
        }
        let spaced = after.trim_start_matches([' ', '\t']);
        match (spaced.strip_prefix('='), found.last_mut()) {
            (Some(value), Some(challenge)) => {
                let Some((value, after)) = parameter(value.trim_start_matches([' ', '\t'])) else {
                    return found;
                };
                challenge
                    .parameters
                    .entry(name.to_ascii_lowercase())
                    .or_insert(value);
                rest = after;
            }
            (Some(_), None) => return found,
            (None, _) => {
                found.push(Challenge {
                    scheme: name.to_owned(),
                    parameters: BTreeMap::new(),
                });
                rest = after;
            }
        }
    }
}

fn token(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)))
        .unwrap_or(text.len());
    text.split_at(end)
}

/// A token or quoted string, and what follows it.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(header: &str) -> Vec<String> {
        let one = |challenge: Challenge| {
            let parameters: Vec<_> = challenge
                .parameters
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            format!("{} {}", challenge.scheme, parameters.join(";"))
        };
        parse(header).into_iter().map(one).collect()
    }

    #[test]
    fn challenges_are_read_as_servers_write_them() {
        assert_eq!(
            told(
                r#"Bearer realm="https://a.io/token",service="a.io",scope="repository:x/y:pull,push", Error=invalid"#
            ),
            ["Bearer error=invalid;realm=https://a.io/token;scope=repository:x/y:pull,push;service=a.io"]
        );
        assert_eq!(
            told(r#"Basic realm="a \"b\"", Bearer realm=x"#),
            [r#"Basic realm=a "b""#, "Bearer realm=x"]
        );
        assert_eq!(told("Negotiate"), ["Negotiate "]);
    }

    #[test]
    fn garbage_is_no_challenge() {
        for garbage in ["", ",,,", "=", "\"", "realm=x", "Bearer realm=\"open", "Ω"] {
            assert!(
                parse(garbage)
                    .iter()
                    .all(|challenge| challenge.parameters.is_empty()),
                "{garbage}"
            );
        }
    }
}
