//! The same tests where control groups are of version 2.

use std::path::Path;
use std::time::Duration;

use knode_testkit::machine;

const NAME: &str = "the_same_with_version_2_control_groups";

/// Runs the tests of this program whose names hold one of these words, or all, in a machine of its own.
pub fn again(words: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let console = machine::again(
        directory,
        &format!("--skip {NAME} {words}"),
        &[],
        Duration::from_secs(400),
    )
    .ok();
    assert!(!console.contains("running 0 tests"), "{console}");
}
