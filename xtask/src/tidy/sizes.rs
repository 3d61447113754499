//! Sizes of files and functions.

use super::words::Source;

/// Lines that a file may have at most; of production files its unit tests are not counted.
const FILE_MAX: Limits = Limits {
    production: 600,
    tests: 900,
};
/// Nine in ten production files are at most this long.
const FILE_P90: usize = 300;
/// Half of the production files are at most this long.
const FILE_MEDIAN: usize = 150;
/// Lines that a function may have at most.
const FUNCTION_MAX: Limits = Limits {
    production: 100,
    tests: 200,
};
/// Nine in ten production functions are at most this long.
const FUNCTION_P90: usize = 30;

struct Limits {
    production: usize,
    tests: usize,
}

impl Limits {
    fn of(&self, source: &Source) -> usize {
        if source.is_test() {
            self.tests
        } else {
            self.production
        }
    }
}

/// Files and functions that are too long, and the spread over all of them.
pub fn check(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut files = Vec::new();
    let mut functions = Vec::new();
    for s in sources.iter().filter(|s| !s.text.starts_with("// @generated")) {
        let text = if s.is_test() {
            s.text.as_str()
        } else {
            s.production()
        };
        let (lines, most) = (text.lines().count(), FILE_MAX.of(s));
        if lines > most {
            findings.push(format!("{}: {lines} lines; more than {most}", s.path.display()));
        }
        let lengths = functions_of(text);
        let most = FUNCTION_MAX.of(s);
        findings.extend(
            lengths
                .iter()
                .filter(|(.., length)| *length > most)
                .map(|(name, at, length)| {
                    let path = s.path.display();
                    format!("{path}:{at}: function {name} has {length} lines; more than {most}")
                }),
        );
        if !s.is_test() {
            files.push(lines);
            functions.extend(lengths.iter().map(|(.., length)| length));
        }
    }
    findings.extend(spread("files", &mut files, 50, FILE_MEDIAN));
    findings.extend(spread("functions", &mut functions, 90, FUNCTION_P90));
    findings.extend(spread("files", &mut files, 90, FILE_P90));
    findings
}

fn spread(what: &str, values: &mut [usize], share: usize, limit: usize) -> Option<String> {
    values.sort_unstable();
    let found = *values.get((values.len() * share / 100).min(values.len().checked_sub(1)?))?;
    (found > limit).then(|| format!("{share} % of the {what} have up to {found} lines; the limit is {limit}"))
}

/// Name, line and length of each function, by the layout that rustfmt gives.
fn functions_of(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = line.len() - line.trim_start().len();
        let end = format!("{}}}", " ".repeat(indent));
        let length = lines[at..].iter().position(|l| *l == end).map_or(1, |n| n + 1);
        found.push((name, at + 1, length));
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let mut words = line.split_whitespace().peekable();
    while let Some(w) = words.next() {
        match w {
            "fn" => {
                return words
                    .next()
                    .map(|n| n.split(['(', '<']).next().unwrap_or(n).to_owned());
            }
            "pub" | "async" | "const" | "unsafe" | "extern" | "\"C\"" => {}
            w if w.starts_with("pub(") => {}
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_functions() {
        let text = "impl A {\n    pub async fn f<T>(x: T) {\n        g();\n    }\n}\nfn one() {}\n";
        assert_eq!(functions_of(text), vec![("f".into(), 2, 3), ("one".into(), 6, 1)]);
    }

    #[test]
    fn finds_what_is_too_long() {
        let found = |path: &str, lines: usize| {
            let body = "    x();\n".repeat(lines);
            let s = Source {
                path: path.into(),
                text: format!("fn long() {{\n{body}}}\n"),
            };
            check(&[s]).iter().any(|f| f.contains("function long"))
        };
        assert!(found("node/a/src/lib.rs", FUNCTION_MAX.production));
        assert!(!found("node/a/tests/it.rs", FUNCTION_MAX.production));
        assert!(found("node/a/tests/it.rs", FUNCTION_MAX.tests));
    }
}
