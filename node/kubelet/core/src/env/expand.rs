//! `$(NAME)` in values, commands and arguments (upstream: `third_party/forked/golang/expansion`).

use super::Environment;

/// Replaces `$(NAME)` by the variable's value; unknown names stay as they are, `$$` is a `$`.
pub fn expand(text: &str, environment: &Environment) -> String {
    with(text, |name| environment.get(name).map(ToOwned::to_owned))
}

pub(super) fn with(text: &str, find: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('$') {
        out.push_str(&rest[..start]);
        let after = &rest[start + 1..];
        if let Some(more) = after.strip_prefix('$') {
            out.push('$');
            rest = more;
        } else if let Some((name, more)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match find(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&rest[start..rest.len() - more.len()]),
            }
            rest = more;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_replaced_and_others_stay() {
        let mut environment = Environment::default();
        environment.set("A", "1");
        for (text, expanded) in [
            ("$(A)-$(NOPE)-$$(A)", "1-$(NOPE)-$(A)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("$$$(A)", "$1"),
            ("plain", "plain"),
        ] {
            assert_eq!(expand(text, &environment), expanded, "{text}");
        }
    }
}
