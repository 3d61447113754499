//! Name rules (`k8s.io/apimachinery/pkg/util/validation`) with upstream's messages. A rule returns what is
//! wrong, nothing when all is well.

/// The letters of generated suffixes: no vowels, so that no words come out.
pub const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of a generated suffix.
pub const SUFFIX_LEN: usize = 5;
/// A generated name's stem is cut to this many bytes before the suffix goes on.
pub const MAX_GENERATED_STEM: usize = 63 - SUFFIX_LEN;

const LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL_1035_FMT: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE_FMT: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const CONFIG_KEY_FMT: &str = "[-._a-zA-Z0-9]+";

/// `stem` and a suffix made of `random` (each byte picks a letter), as generateName wants it.
pub fn generate_name(stem: &str, random: [u8; SUFFIX_LEN]) -> String {
    let mut end = stem.len().min(MAX_GENERATED_STEM);
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    let mut out = String::with_capacity(end + SUFFIX_LEN);
    out.push_str(&stem[..end]);
    for b in random {
        out.push(char::from(
            SUFFIX_ALPHABET[usize::from(b) % SUFFIX_ALPHABET.len()],
        ));
    }
    out
}

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} bytes")
}

fn regex_message(words: &str, regex: &str, examples: &[&str]) -> String {
    let quoted: Vec<_> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!(
        "{words} (e.g. {}regex used for validation is '{regex}')",
        quoted.join(" or ")
    )
}

fn lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Whether `s` starts and ends with `edge` and holds only `inner` bytes.
fn shaped(s: &str, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    match s.as_bytes() {
        [] => false,
        [one] => edge(*one),
        [first, middle @ .., last] => edge(*first) && edge(*last) && middle.iter().all(|b| inner(*b)),
    }
}

fn is_label(s: &str) -> bool {
    shaped(s, lower_alnum, |b| lower_alnum(b) || b == b'-')
}

fn is_qualified_part(s: &str) -> bool {
    shaped(
        s,
        |b| b.is_ascii_alphanumeric(),
        |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b),
    )
}

/// RFC 1123 label: at most 63 of `[-a-z0-9]`.
pub fn dns1123_label(s: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if s.len() > 63 {
        errors.push(too_long(63));
    }
    if !is_label(s) {
        let words = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
                     and must start and end with an alphanumeric character";
        if is_subdomain(s) {
            errors.push("must not contain dots".into());
        } else {
            errors.push(regex_message(words, LABEL_FMT, &["my-name", "123-abc"]));
        }
    }
    errors
}

fn is_subdomain(s: &str) -> bool {
    s.split('.').all(is_label)
}

/// RFC 1123 subdomain: labels joined by dots, at most 253 bytes.
pub fn dns1123_subdomain(s: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if s.len() > 253 {
        errors.push(too_long(253));
    }
    if !is_subdomain(s) {
        let words = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
                     '.', and must start and end with an alphanumeric character";
        errors.push(regex_message(words, SUBDOMAIN_FMT, &["example.com"]));
    }
    errors
}

/// RFC 1035 label: starts with a letter. Names of services.
pub fn dns1035_label(s: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if s.len() > 63 {
        errors.push(too_long(63));
    }
    if !is_label(s) || !s.starts_with(|c: char| c.is_ascii_lowercase()) {
        let words = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                     alphabetic character, and end with an alphanumeric character";
        errors.push(regex_message(words, LABEL_1035_FMT, &["my-name", "abc-123"]));
    }
    errors
}

/// Label key, annotation key (lower-cased first by the caller), finalizer: `[prefix/]name`.
pub fn qualified_name(s: &str) -> Vec<String> {
    let words = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                 alphanumeric character";
    let regex = |prefix: &str| {
        regex_message(
            &format!("{prefix}{words}"),
            QUALIFIED_FMT,
            &["MyName", "my.name", "123-abc"],
        )
    };
    let mut errors = Vec::new();
    let parts: Vec<&str> = s.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".into());
            } else {
                errors.extend(
                    dns1123_subdomain(prefix)
                        .into_iter()
                        .map(|e| format!("prefix part {e}")),
                );
            }
            name
        }
        _ => {
            let tail = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("{}{tail}", regex("a valid label key "))];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".into());
    } else if name.len() > 63 {
        errors.push(format!("name part {}", too_long(63)));
    }
    if !is_qualified_part(name) {
        errors.push(regex("name part "));
    }
    errors
}

/// Label value: empty, or at most 63 of `[-_.A-Za-z0-9]`.
pub fn label_value(s: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if s.len() > 63 {
        errors.push(too_long(63));
    }
    if !s.is_empty() && !is_qualified_part(s) {
        let words = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
                     '.', and must start and end with an alphanumeric character";
        errors.push(regex_message(
            words,
            LABEL_VALUE_FMT,
            &["MyValue", "my_value", "12345"],
        ));
    }
    errors
}

/// Key of a ConfigMap or Secret.
pub fn config_map_key(s: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if s.len() > 253 {
        errors.push("must be no more than 253 characters".into());
    }
    if s.is_empty()
        || !s
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    {
        let words = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        errors.push(regex_message(
            words,
            CONFIG_KEY_FMT,
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match s {
        "." => errors.push("must not be '.'".into()),
        ".." => errors.push("must not be '..'".into()),
        _ if s.starts_with("..") => errors.push("must not start with '..'".into()),
        _ => {}
    }
    errors
}

/// Environment variable name: printable ASCII without `=`.
pub fn env_var_name(s: &str) -> Vec<String> {
    if s.is_empty() {
        return vec!["environment variable name must be non-empty".into()];
    }
    if s.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
            .into(),
    ]
}

/// Name of a port: at most 15 of `[-a-z0-9]`, with a letter.
pub fn port_name(s: &str) -> Vec<String> {
    let mut errors: Vec<String> = Vec::new();
    if s.len() > 15 {
        errors.push("must be no more than 15 characters".into());
    }
    if !s.bytes().all(|b| lower_alnum(b) || b == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !s.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".into());
    }
    if s.contains("--") {
        errors.push("must not contain consecutive hyphens".into());
    }
    if s.starts_with('-') || s.ends_with('-') {
        errors.push("must not begin or end with a hyphen".into());
    }
    errors
}

/// Port number.
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".into()]
    }
}

/// Path segment: what RBAC objects may be called.
pub fn path_segment(s: &str) -> Vec<String> {
    if s == "." || s == ".." {
        return vec![format!("may not be '{s}'")];
    }
    ['/', '%']
        .iter()
        .filter(|c| s.contains(**c))
        .map(|c| format!("may not contain '{c}'"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names() {
        assert_eq!(generate_name("g-", [0, 26, 27, 1, 255]), "g-b9bcq");
        assert_eq!(generate_name(&"x".repeat(80), [0; 5]).len(), 63);
    }

    #[test]
    fn accepts_and_refuses() {
        assert!(dns1123_label("a-1").is_empty());
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(dns1123_label("X y").len(), 1);
        assert!(dns1123_subdomain("a.b-c.d").is_empty());
        assert_eq!(dns1123_subdomain("Bad_Name").len(), 1);
        assert!(qualified_name("example.com/My_name").is_empty());
        assert_eq!(qualified_name("/x"), ["prefix part must be non-empty"]);
        assert!(label_value("").is_empty());
        assert_eq!(label_value(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert!(
            config_map_key("..x")
                .iter()
                .any(|e| e == "must not start with '..'")
        );
        assert_eq!(port_number(0).len(), 1);
        assert!(port_name("http-2").is_empty());
    }

    #[test]
    fn messages() {
        assert_eq!(
            dns1123_label("X y")[0],
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        );
        assert_eq!(
            qualified_name("k/ /")[0],
            "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        );
    }
}
