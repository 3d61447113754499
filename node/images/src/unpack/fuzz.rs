//! Mutated layers: whatever they are, unpacking ends with a tree or a typed error, and touches nothing else.

use std::fs;
use std::path::Path;

use knode_testkit::image::Layer;
use knode_testkit::{Scratch, require_root};

use super::*;
use crate::mutate::Random;

/// Layers of one seed each.
const ROUNDS: u64 = 600;

fn seeds(outside: &str) -> Vec<Vec<u8>> {
    let inside = outside.trim_start_matches('/');
    let every_kind = Layer::new()
        .dir("etc", 0o755)
        .file("etc/a", 0o640, "hello")
        .xattr("user.note", b"v")
        .extension("mtime", b"5000.25")
        .hardlink("etc/b", "etc/a")
        .symlink("etc/link", outside)
        .char_device("null", 1, 3)
        .fifo("pipe")
        .whiteout("etc/gone")
        .opaque("etc");
    let reaching = Layer::new()
        .dir(inside, 0o755)
        .symlink("d", outside)
        .hardlink("d/evil", "tool")
        .file("d/dir/x", 0o644, "x")
        .symlink("up", "../../../../../../../..")
        .file("up/etc/y", 0o644, "y");
    let long = Layer::new().file(&format!("{}/{}", "d".repeat(150), "f".repeat(200)), 0o600, "long");
    [every_kind, reaching, long].iter().map(Layer::bytes).collect()
}

/// Changes an archive where it matters: header fields with their checksum, blocks, names.
fn mutate(random: &mut Random, archive: &mut Vec<u8>, outside: &str) {
    let names = [
        "..",
        "/",
        "../../x",
        ".wh.",
        ".wh..wh..opq",
        ".wh...",
        "d/evil",
        "up/up/x",
        "",
        outside,
    ];
    for _ in 0..=random.below(4) {
        let blocks = (archive.len() / 512).max(1);
        let at = random.below(blocks) * 512;
        match random.below(8) {
            0 => archive.truncate(random.below(archive.len() + 1)),
            1 if at + 512 <= archive.len() => {
                let block = archive[at..at + 512].to_vec();
                let to = random.below(blocks) * 512;
                archive.splice(to..to, block);
            }
            2 if at + 512 <= archive.len() => drop(archive.drain(at..at + 512)),
            3 => {
                let name = names[random.below(names.len())];
                write(archive, at, name.as_bytes(), 100);
            }
            4 => {
                let name = names[random.below(names.len())];
                write(archive, at + 157, name.as_bytes(), 100);
            }
            5 => {
                let kinds = b"0123456789LKxgSVM\0";
                write(archive, at + 156, &[kinds[random.below(kinds.len())]], 1);
            }
            6 => {
                let sizes: [&[u8]; 4] = [
                    b"77777777777",
                    b"00000001000",
                    b"\x80\0\0\0\x7f\xff",
                    b"zzzzzzzzzzz",
                ];
                write(archive, at + 124, sizes[random.below(sizes.len())], 12);
            }
            _ => {
                let place = random.below(archive.len().max(1));
                if let Some(byte) = archive.get_mut(place) {
                    *byte = random.next() as u8;
                }
            }
        }
        checksum(archive, at);
    }
}

fn write(archive: &mut [u8], at: usize, bytes: &[u8], field: usize) {
    if let Some(place) = archive.get_mut(at..at + field) {
        place.fill(0);
        let count = bytes.len().min(field);
        place[..count].copy_from_slice(&bytes[..count]);
    }
}

fn checksum(archive: &mut [u8], at: usize) {
    let Some(block) = archive.get_mut(at..at + 512) else {
        return;
    };
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn listing(path: &Path) -> Vec<(String, u32)> {
    use std::os::unix::fs::MetadataExt;
    let mut found: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, entry.metadata().unwrap().mode())
        })
        .collect();
    found.sort();
    found
}

#[test]
fn mutated_layers_end_in_a_tree_or_an_error_and_nothing_outside_changes() {
    require_root();
    let outside = Scratch::new("fuzz-outside");
    fs::create_dir(outside.join("dir")).unwrap();
    fs::write(outside.join("file"), "untouched").unwrap();
    let before = listing(outside.path());
    let text = outside.path().display().to_string();
    let base = Scratch::new("fuzz-base");
    let lower = Layer::new()
        .file("tool", 0o4755, "binary")
        .dir("dir", 0o777)
        .symlink("etc", "/tool")
        .bytes();
    unpack(
        lower.as_slice(),
        &base.join("tree"),
        &Expected {
            blob: None,
            diff_id: Digest::of(&lower),
        },
    )
    .unwrap();
    let seeds = seeds(&text);
    let (mut good, mut bad) = (0, 0);
    for seed in 1..=ROUNDS {
        let mut random = Random::new(seed);
        let mut archive = seeds[random.below(seeds.len())].clone();
        mutate(&mut random, &mut archive, &text);
        let scratch = Scratch::new("fuzz");
        let expected = Expected {
            blob: None,
            diff_id: Digest::of(&archive),
        };
        let tree = scratch.join("tree");
        let result = unpack(archive.as_slice(), &tree, &expected)
            .and_then(|unpacked| settle(&tree, &unpacked, &[base.join("tree")]));
        match result {
            Ok(()) => good += 1,
            Err(_) => bad += 1,
        }
        assert!(
            listing(scratch.path()).len() <= 1,
            "seed {seed}: {:?}",
            listing(scratch.path())
        );
        assert_eq!(listing(outside.path()), before, "seed {seed}");
    }
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "untouched");
    // Both happen, or the mutations test nothing.
    assert!(good > 20 && bad > 20, "{good} good, {bad} bad");
}
