//! The table of behaviours and the tests that cover them.

use std::collections::BTreeSet;
use std::path::Path;

const TABLE: &str = include_str!("../../data/conformance.txt");

#[test]
fn every_behaviour_is_covered_by_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut known = BTreeSet::new();
    for line in TABLE
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (behaviour, places) = line
            .split_once(" | ")
            .unwrap_or_else(|| panic!("no place: {line:?}"));
        assert!(known.insert(behaviour), "twice: {behaviour}");
        for place in places.split(' ') {
            let (file, what) = place
                .split_once("::")
                .unwrap_or_else(|| panic!("no test: {line:?}"));
            let path = root.join(file);
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let there = text.contains(&format!("fn {what}(")) || text.contains(&format!("\"{what}\""));
            assert!(there, "no {what} in {file}");
        }
    }
    assert!(known.len() > 90, "only {} behaviours", known.len());
}
