use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use knode_linux::filewatch::FileSystemUsage;

use super::ImageGcPolicy;
use super::census::{Candidate, Census, Listed, to_free};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn image(id: &str) -> Listed {
    Listed {
        id: id.into(),
        names: vec![format!("docker.io/library/{id}:1")],
        size: 10,
        pinned: id == "pinned",
    }
}

fn used(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn ids(candidates: &[Candidate]) -> Vec<&str> {
    candidates.iter().map(|one| one.id.as_str()).collect()
}

#[test]
fn unused_images_go_the_one_used_longest_ago_first() {
    let min_age = Duration::from_secs(120);
    let mut census = Census::default();
    let first = [image("never"), image("a"), image("b"), image("pinned")];
    census.take(&first, &used(&["a", "docker.io/library/b:1"]), at(0));
    assert_eq!(ids(&census.candidates(min_age, at(0))), ["never"]);
    let second = [
        image("never"),
        image("a"),
        image("b"),
        image("pinned"),
        image("new"),
    ];
    census.take(&second, &used(&["b"]), at(100));
    assert_eq!(ids(&census.candidates(min_age, at(100))), ["never", "a"]);
    census.take(&second, &used(&[]), at(219));
    assert_eq!(
        ids(&census.candidates(min_age, at(219))),
        ["never", "a", "b"],
        "the new one is too young"
    );
    assert_eq!(
        ids(&census.candidates(min_age, at(220))),
        ["never", "new", "a", "b"]
    );
    census.forget("never");
    census.take(&[image("a")], &used(&[]), at(300));
    assert_eq!(
        ids(&census.candidates(min_age, at(300))),
        ["a"],
        "what is gone is forgotten"
    );
}

#[test]
fn images_that_were_not_used_for_too_long_go() {
    let max_age = Duration::from_secs(100);
    let mut census = Census::default();
    let images = [image("never"), image("a"), image("b"), image("pinned")];
    census.take(&images, &used(&["a", "b"]), at(0));
    census.take(&images, &used(&["b"]), at(50));
    assert!(
        census.outdated(max_age, at(100)).is_empty(),
        "what was before is unknown"
    );
    assert_eq!(
        ids(&census.outdated(max_age, at(101))),
        ["a", "never"],
        "b is in use"
    );
    let more = [&images[..], &[image("new")]].concat();
    census.take(&more, &used(&[]), at(110));
    assert_eq!(
        ids(&census.outdated(max_age, at(150))),
        ["a", "never"],
        "b was until 50"
    );
    assert_eq!(ids(&census.outdated(max_age, at(151))), ["a", "b", "never"]);
    assert_eq!(
        ids(&census.outdated(max_age, at(211))),
        ["a", "b", "never", "new"]
    );
    assert!(
        census.outdated(Duration::ZERO, at(10_000)).is_empty(),
        "zero is never"
    );
}

#[test]
fn from_the_upper_mark_down_to_the_lower() {
    let policy = ImageGcPolicy::default();
    let disk = |capacity, available| FileSystemUsage {
        capacity,
        available,
        used: capacity - available,
        inodes: 0,
        inodes_free: 0,
    };
    let table = [
        (disk(1000, 500), None),
        // 84.1 % are more than 84 and less than 85.
        (disk(1000, 160), None),
        (disk(1000, 150), Some((50, 85))),
        (disk(1000, 0), Some((200, 100))),
        (disk(0, 0), None),
    ];
    for (usage, wanted) in table {
        assert_eq!(to_free(&policy, &usage), wanted, "{usage:?}");
    }
    let never = ImageGcPolicy { high: 100, ..policy };
    assert_eq!(to_free(&never, &disk(1000, 0)), None);
}
