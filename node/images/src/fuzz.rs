//! Functions that take whatever others send, for fuzzing: none panics, and what must hold they assert.

use std::path::Path;

use crate::digest::Digest;
use crate::pull::{Kind, choose, diff_ids};
use crate::reference::Reference;
use crate::registry;
use crate::unpack::{Expected, settle, unpack};

/// A manifest, index or configuration, as a registry answers.
pub fn manifest(bytes: &[u8]) {
    match Kind::parse(bytes) {
        Ok(Kind::Image(manifest)) => assert!(manifest.size() >= manifest.config.size, "sums do not wrap"),
        Ok(Kind::Index(index)) => drop(choose(&index)),
        Err(_) => {}
    }
    drop(diff_ids(1, bytes));
}

/// A layer, compressed or not, unpacked in the directory `scratch`, which is empty before and after. Needs root.
///
/// # Panics
/// When the layer has made anything outside its tree, or its tree cannot be removed.
pub fn layer(bytes: &[u8], scratch: &Path) {
    let tree = scratch.join("tree");
    let expected = Expected {
        blob: None,
        diff_id: Digest::of(bytes),
    };
    // Whether it is refused does not matter here.
    drop(unpack(bytes, &tree, &expected).and_then(|unpacked| settle(&tree, &unpacked, &[])));
    if tree.exists() {
        std::fs::remove_dir_all(&tree).expect("a tree of our own making can be removed");
    }
    let left = std::fs::read_dir(scratch).map_or(0, Iterator::count);
    assert_eq!(left, 0, "something was made beside the tree");
}

/// A `hosts.toml`.
pub fn hosts(bytes: &[u8]) {
    registry::fuzz_hosts(&String::from_utf8_lossy(bytes));
}

/// Docker's `config.json`, asked for the credentials of a reference.
pub fn credentials(bytes: &[u8]) {
    let reference = Reference::parse("registry.example.com:5000/team/app:1").expect("a normal reference");
    if let Ok(config) = serde_json::from_slice::<registry::DockerConfig>(bytes) {
        drop(config.auth(&reference));
    }
}

/// A registry's `WWW-Authenticate`.
pub fn challenge(bytes: &[u8]) {
    registry::fuzz_challenge(&String::from_utf8_lossy(bytes));
}

/// An image reference: what is taken has one normal form, which is safe in URLs and as names of directories.
///
/// # Panics
/// When it has not.
pub fn reference(bytes: &[u8]) {
    let Ok(reference) = Reference::parse(&String::from_utf8_lossy(bytes)) else {
        return;
    };
    let normal = reference.to_string();
    assert_eq!(
        Reference::parse(&normal).ok(),
        Some(reference.clone()),
        "{normal:?}"
    );
    let strange = [' ', '?', '#', '%', '\\', '\0'];
    assert!(normal.is_ascii() && !normal.contains(strange), "{normal:?}");
    assert!(
        !reference.domain.contains('/') && reference.domain != "..",
        "{normal:?}"
    );
    let mut parts = reference.path.split('/');
    assert!(parts.all(|part| !matches!(part, "" | "." | "..")), "{normal:?}");
}
