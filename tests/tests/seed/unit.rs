//! The part of unit files that starts programs.

use std::collections::BTreeMap;
use std::path::Path;

/// The commands of a service, variables filled in, in words.
pub struct Unit {
    pub start: Vec<String>,
    pub start_post: Vec<Vec<String>>,
}

impl Unit {
    /// Reads `tests/data/seed/NAME.service`.
    #[track_caller]
    pub fn read(name: &str, variables: &BTreeMap<&str, String>) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data/seed/{name}.service"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self::parse(&text, variables)
    }

    fn parse(text: &str, variables: &BTreeMap<&str, String>) -> Self {
        let joined = text.replace("\\\n", " ");
        let of = |key: &str| -> Vec<Vec<String>> {
            let lines = joined
                .lines()
                .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            lines.map(|line| words(line, variables)).collect()
        };
        Self {
            start: of("ExecStart").remove(0),
            start_post: of("ExecStartPost"),
        }
    }
}

fn words(line: &str, variables: &BTreeMap<&str, String>) -> Vec<String> {
    let mut line = line.to_owned();
    for (name, value) in variables {
        line = line
            .replace(&format!("${{{name}}}"), value)
            .replace(&format!("${name}"), value);
    }
    assert!(!line.contains('$'), "a variable is not filled in: {line}");
    line.split_whitespace().map(str::to_owned).collect()
}
