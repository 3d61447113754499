//! Each call and each field of the CRI has a test that looks at it, or a reason why it has none. A new one fails this
//! until somebody has named it in `data/fields.txt`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const PROTO: &str = include_str!("../../cri/proto/api.proto");
const TABLE: &str = include_str!("data/fields.txt");

/// `Message.field` and `Service.Call` of everything in the definitions.
fn defined() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut within: Vec<(&str, &str)> = Vec::new();
    for line in PROTO.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [kind @ ("message" | "enum" | "service"), name, rest @ ..] if !rest.contains(&"{}") => {
                if !name.ends_with("{}") {
                    within.push((kind, name));
                }
            }
            ["}", ..] => drop(within.pop()),
            ["rpc", call, ..] => {
                let name = call.split('(').next().unwrap();
                found.insert(format!("{}.{name}", within.last().unwrap().1));
            }
            _ => {
                let field = line
                    .split_once(" = ")
                    .and_then(|(left, _)| left.split(' ').next_back());
                if let (Some(field), Some(("message", message))) = (field, within.last()) {
                    found.insert(format!("{message}.{field}"));
                }
            }
        }
    }
    found
}

/// A name as it is written in Rust: `uidMappings` and `CDI_devices` as `uid_mappings` and `cdi_devices`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    let mut lower = false;
    for c in name.chars() {
        if c.is_uppercase() && lower {
            snake.push('_');
        }
        lower = c.is_lowercase() || c.is_ascii_digit();
        snake.extend(c.to_lowercase());
    }
    snake
}

/// What a call is named here, where that is not its own name.
fn method(word: &str) -> &str {
    match word {
        "get_container_events" => "container_events",
        other => other,
    }
}

/// Texts of the test programs by name: a file, or all files of a directory.
fn tests() -> BTreeMap<String, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = |directory: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let mut texts = BTreeMap::new();
    for path in files(&directory) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let sources = if path.is_dir() { files(&path) } else { vec![path] };
        let sources = sources
            .iter()
            .filter(|path| path.extension().is_some_and(|end| end == "rs"));
        let text: String = sources
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect();
        texts.insert(name, text);
    }
    texts
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .any(|found| found == word)
}

#[test]
fn every_call_and_field_has_a_test_or_a_reason() {
    let tests = tests();
    let mut rows = BTreeSet::new();
    let mut wrong = Vec::new();
    for line in TABLE
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (name, place) = line.split_once(' ').unwrap_or((line, ""));
        let word = snake(name.rsplit('.').next().unwrap());
        match place.split_once(' ') {
            Some(("-", reason)) if reason.len() > 10 => {}
            None if tests.get(place).is_some_and(|text| has_word(text, method(&word))) => {}
            _ => wrong.push(format!("{line}: no test of that name uses {word}")),
        }
        if !rows.insert(name.to_owned()) {
            wrong.push(format!("{name} is there twice"));
        }
    }
    let defined = defined();
    assert!(defined.len() > 400, "{} are defined", defined.len());
    wrong.extend(defined.difference(&rows).map(|name| format!("{name} has no row")));
    wrong.extend(
        rows.difference(&defined)
            .map(|name| format!("{name} is not defined")),
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}
