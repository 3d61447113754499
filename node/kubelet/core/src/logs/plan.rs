//! Names and numbers of rotated logs. Pure.

use jiff::Timestamp;

/// Ending of a compressed log.
pub(super) const COMPRESSED: &str = ".gz";
/// Ending of a file that is being compressed into.
pub(super) const UNFINISHED: &str = ".tmp";

/// What is to be done with a log's older files before it is rotated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tidying {
    /// Files that go.
    pub remove: Vec<String>,
    /// Files that are compressed.
    pub compress: Vec<String>,
}

/// `rotated` are the names of the older files of one log, `max_files` counts all files of it after the rotation
/// that is about to happen. What an earlier rotation left half done goes.
pub fn tidy(mut rotated: Vec<String>, max_files: usize) -> Tidying {
    rotated.sort();
    let done = |name: &String| rotated.contains(&format!("{name}{COMPRESSED}"));
    let (mut keep, mut remove) = (Vec::new(), Vec::new());
    for name in &rotated {
        let unused = name.ends_with(UNFINISHED) || done(name);
        if unused { &mut remove } else { &mut keep }.push(name.clone());
    }
    // One is written to, one comes into being by this rotation.
    let surplus = keep.len().saturating_sub(max_files.saturating_sub(2));
    remove.extend(keep.drain(..surplus));
    keep.retain(|name| !name.ends_with(COMPRESSED));
    Tidying {
        remove,
        compress: keep,
    }
}

/// The name that a log gets when it is rotated at `at`.
pub fn rotated_name(log: &str, at: Timestamp) -> String {
    let at = at.strftime("%Y%m%d-%H%M%S");
    format!("{log}.{at}")
}
