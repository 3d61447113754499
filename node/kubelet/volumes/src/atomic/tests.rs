use std::collections::BTreeMap;

use super::*;
use crate::payload::PayloadFile;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("knode-atomic-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover scratch directory does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn payload(files: &[(&str, &str)]) -> Payload {
    let files = files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), PayloadFile::new(*text, 0o640)));
    files.collect::<BTreeMap<_, _>>()
}

fn put(target: &Path, files: &[(&str, &str)], at: i64) -> bool {
    write(
        target,
        &payload(files),
        Timestamp::from_second(at).unwrap(),
        |_| Ok(()),
    )
    .unwrap()
}

fn listing(target: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(target)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn files_are_links_through_the_data_link() {
    let scratch = Scratch::new("links");
    assert!(put(&scratch.0, &[("a", "1"), ("x/deep", "2")], 1_795_358_966));
    assert_eq!(
        listing(&scratch.0),
        ["..2026_11_22_14_49_26.0", "..data", "a", "x"]
    );
    assert_eq!(fs::read_link(scratch.0.join("a")).unwrap(), Path::new("..data/a"));
    assert_eq!(fs::read_to_string(scratch.0.join("x/deep")).unwrap(), "2");
    let mode = fs::metadata(scratch.0.join("a")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
}

#[test]
fn the_same_content_changes_nothing() {
    let scratch = Scratch::new("same");
    assert!(put(&scratch.0, &[("a", "1")], 1));
    let before = fs::read_link(scratch.0.join("..data")).unwrap();
    assert!(!put(&scratch.0, &[("a", "1")], 2));
    assert_eq!(fs::read_link(scratch.0.join("..data")).unwrap(), before);
}

#[test]
fn new_content_replaces_the_old_and_its_links() {
    let scratch = Scratch::new("new");
    put(&scratch.0, &[("a", "1"), ("gone", "x")], 1);
    assert!(put(&scratch.0, &[("a", "2"), ("b", "3")], 2));
    assert_eq!(
        listing(&scratch.0),
        ["..1970_01_01_00_00_02.0", "..data", "a", "b"]
    );
    assert_eq!(fs::read_to_string(scratch.0.join("a")).unwrap(), "2");
}

#[test]
fn a_failure_leaves_the_old_content() {
    let scratch = Scratch::new("failure");
    put(&scratch.0, &[("a", "1")], 1);
    let denied = |path: &Path| Err(VolumeError::StillMounted(path.to_owned()));
    let result = write(
        &scratch.0,
        &payload(&[("a", "2")]),
        Timestamp::from_second(2).unwrap(),
        denied,
    );
    assert!(result.is_err());
    assert_eq!(fs::read_to_string(scratch.0.join("a")).unwrap(), "1");
    assert_eq!(listing(&scratch.0), ["..1970_01_01_00_00_01.0", "..data", "a"]);
}
