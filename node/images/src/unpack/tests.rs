//! Layers with everything that layers have, and with what they must not have.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use knode_testkit::image::{Compression, Layer};
use knode_testkit::{Scratch, require_root};

use super::*;

struct Tree {
    scratch: Scratch,
    unpacked: Unpacked,
}

impl Tree {
    fn path(&self, name: &str) -> PathBuf {
        self.scratch.join("tree").join(name)
    }

    fn opaque(&self, name: &str) -> bool {
        let key = OsStr::new("trusted.overlay.opaque");
        knode_linux::xattr::get(&self.path(name), key).unwrap() == Some(b"y".to_vec())
    }
}

fn expected(tar: &[u8], blob: &[u8]) -> Expected {
    Expected {
        blob: Some(Digest::of(blob)),
        diff_id: Digest::of(tar),
    }
}

fn try_unpack(layer: &Layer) -> Result<Tree, UnpackError> {
    require_root();
    let scratch = Scratch::new("unpack");
    let tar = layer.bytes();
    let unpacked = unpack(tar.as_slice(), &scratch.join("tree"), &expected(&tar, &tar))?;
    Ok(Tree { scratch, unpacked })
}

fn unpacked(layer: &Layer) -> Tree {
    try_unpack(layer).unwrap_or_else(|error| panic!("{error:?}"))
}

#[test]
fn every_kind_of_file_comes_out_as_it_went_in() {
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(200));
    let tree = unpacked(
        &Layer::new()
            .dir("etc", 0o711)
            .mtime(1000)
            .file("etc/a", 0o640, "hello")
            .owner(12, 34)
            .extension("mtime", b"5000.25")
            .xattr("user.note", b"v")
            .file("etc/suid", 0o4755, "x")
            .owner(7, 7)
            .xattr(
                "security.capability",
                &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            )
            .hardlink("etc/b", "etc/a")
            .symlink("etc/link", "/absolute/target")
            .dir("dev", 0o755)
            .char_device("dev/null", 1, 3)
            .fifo("dev/pipe")
            .file(&long, 0o600, "long"),
    );
    let a = fs::metadata(tree.path("etc/a")).unwrap();
    assert_eq!(
        (a.uid(), a.gid(), a.mode() & 0o7777, a.nlink()),
        (12, 34, 0o640, 2)
    );
    assert_eq!((a.mtime(), a.mtime_nsec()), (5000, 250_000_000));
    assert_eq!(
        knode_linux::xattr::get(&tree.path("etc/a"), OsStr::new("user.note"))
            .unwrap()
            .unwrap(),
        b"v"
    );
    let suid = tree.path("etc/suid");
    assert_eq!(fs::metadata(&suid).unwrap().mode() & 0o7777, 0o4755);
    assert!(
        knode_linux::xattr::get(&suid, OsStr::new("security.capability"))
            .unwrap()
            .is_some()
    );
    assert_eq!(fs::metadata(tree.path("etc/b")).unwrap().ino(), a.ino());
    assert_eq!(
        fs::read_link(tree.path("etc/link")).unwrap(),
        PathBuf::from("/absolute/target")
    );
    let null = fs::metadata(tree.path("dev/null")).unwrap();
    assert!(null.file_type().is_char_device() && null.rdev() == rustix::fs::makedev(1, 3));
    assert!(fs::metadata(tree.path("dev/pipe")).unwrap().file_type().is_fifo());
    assert_eq!(fs::read_to_string(tree.path(&long)).unwrap(), "long");
    let etc = fs::metadata(tree.path("etc")).unwrap();
    assert_eq!((etc.mode() & 0o7777, etc.mtime()), (0o711, 1000));
}

#[test]
fn whiteouts_take_the_form_of_overlayfs() {
    let tree = unpacked(
        &Layer::new()
            .dir("a", 0o755)
            .whiteout("a/gone")
            .opaque("a")
            .whiteout("b")
            .dir("b", 0o755)
            .dir("c", 0o755)
            .whiteout("c")
            .file("keep", 0o644, "k")
            .whiteout("keep"),
    );
    let gone = fs::metadata(tree.path("a/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert!(tree.opaque("a") && tree.opaque("b") && tree.opaque("c"));
    assert_eq!(fs::read_to_string(tree.path("keep")).unwrap(), "k");
    assert!(!tree.unpacked.opaque);
    assert!(unpacked(&Layer::new().opaque("")).unpacked.opaque);
}

#[test]
fn names_never_lead_out_of_the_tree() {
    for layer in [
        Layer::new().file("../evil", 0o644, "x"),
        Layer::new().file("a/../../evil", 0o644, "x"),
        Layer::new()
            .file("a", 0o644, "x")
            .hardlink("b", "../../../etc/passwd"),
    ] {
        assert!(matches!(try_unpack(&layer), Err(UnpackError::Escape(_))));
    }
}

#[test]
fn links_are_followed_inside_the_tree_only() {
    let tree = unpacked(
        &Layer::new()
            .symlink("up", "../../../../../../..")
            .file("up/climbed", 0o644, "x")
            .symlink("abs", "/inner")
            .dir("inner", 0o755)
            .file("abs/file", 0o644, "y")
            .symlink("passwd", "/etc/knode-evil")
            .file("passwd", 0o644, "mine"),
    );
    assert_eq!(fs::read_to_string(tree.path("climbed")).unwrap(), "x");
    assert_eq!(fs::read_to_string(tree.path("inner/file")).unwrap(), "y");
    assert!(!fs::symlink_metadata(tree.path("passwd")).unwrap().is_symlink());
    assert!(!PathBuf::from("/etc/knode-evil").exists());
    let outside = Layer::new()
        .symlink("out", "/proc/self/root/etc")
        .hardlink("stolen", "out/passwd");
    let links = unpacked(&outside).unpacked.links;
    assert_eq!(
        links.get(std::path::Path::new("stolen")),
        Some(&PathBuf::from("out/passwd"))
    );
}

#[test]
fn an_image_cannot_speak_to_overlayfs() {
    let tree = unpacked(
        &Layer::new()
            .dir("a", 0o755)
            .xattr("trusted.overlay.redirect", b"/x")
            .opaque("b"),
    );
    let attributes = knode_linux::xattr::all(&tree.path("a")).unwrap();
    assert!(
        attributes
            .iter()
            .all(|(name, _)| name != "trusted.overlay.redirect"),
        "{attributes:?}"
    );
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let tree = unpacked(
        &Layer::new()
            .dir("x", 0o755)
            .file("x/inside", 0o644, "1")
            .file("x", 0o644, "file now")
            .file("y", 0o644, "1")
            .dir("y", 0o700)
            .file("y/z", 0o644, "2"),
    );
    assert_eq!(fs::read_to_string(tree.path("x")).unwrap(), "file now");
    assert_eq!(fs::read_to_string(tree.path("y/z")).unwrap(), "2");
}

#[test]
fn every_compression_is_told_from_the_content() {
    let tar = Layer::new().file("a", 0o644, "content").bytes();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let scratch = Scratch::new("unpack");
        let blob = compression.compress(&tar);
        unpack(blob.as_slice(), &scratch.join("tree"), &expected(&tar, &blob)).unwrap();
        assert_eq!(fs::read_to_string(scratch.join("tree/a")).unwrap(), "content");
    }
}

#[test]
fn archives_without_trailer_and_empty_ones_are_taken() {
    assert_eq!(
        fs::read_to_string(unpacked(&Layer::new().file("a", 0o644, "b").without_trailer()).path("a"))
            .unwrap(),
        "b"
    );
    assert_eq!(unpacked(&Layer::new()).unpacked, Unpacked::default());
}

#[test]
fn damage_is_found_and_named() {
    let tar = Layer::new()
        .file("a", 0o644, vec![b'x'; 10_000])
        .file("b", 0o644, vec![b'y'; 10_000])
        .bytes();
    let gzip = Compression::Gzip.compress(&tar);
    let attempt = |blob: &[u8], expected: &Expected| {
        let scratch = Scratch::new("unpack");
        unpack(blob, &scratch.join("tree"), expected).map_err(|error| format!("{error}"))
    };
    let good = expected(&tar, &gzip);
    let mut flipped = gzip.clone();
    flipped[gzip.len() / 2] ^= 0xff;
    assert!(
        attempt(&flipped, &good)
            .unwrap_err()
            .starts_with("digest of the blob is sha256:")
    );
    assert!(
        attempt(&gzip[..gzip.len() - 9], &good)
            .unwrap_err()
            .starts_with("digest of the blob is sha256:")
    );
    let wrong = Expected {
        diff_id: Digest::of(b"else"),
        ..good.clone()
    };
    assert!(
        attempt(&gzip, &wrong)
            .unwrap_err()
            .starts_with("diff id of the layer is sha256:")
    );
    let cut = &tar[..tar.len() / 2];
    let unverified = Expected {
        blob: None,
        diff_id: Digest::of(cut),
    };
    assert!(attempt(cut, &unverified).is_err());
    let unknown = Expected {
        blob: None,
        diff_id: Digest::of(&[7; 4096]),
    };
    assert_eq!(attempt(&[7; 4096], &unknown).unwrap_err(), "reading the archive");
}

#[test]
fn implied_directories_take_over_what_is_below() {
    let base = unpacked(
        &Layer::new()
            .dir("home", 0o711)
            .dir("home/me", 0o750)
            .owner(5, 6)
            .mtime(77),
    );
    let top = unpacked(&Layer::new().file("home/me/file", 0o644, "x"));
    assert!(top.unpacked.depends_on_lower());
    settle(&top.path(""), &top.unpacked, &[base.path("")]).unwrap();
    let me = fs::metadata(top.path("home/me")).unwrap();
    assert_eq!(
        (me.uid(), me.gid(), me.mode() & 0o7777, me.mtime()),
        (5, 6, 0o750, 77)
    );
    assert_eq!(fs::metadata(top.path("home")).unwrap().mode() & 0o7777, 0o711);
}

#[test]
fn hard_links_into_lower_layers_become_copies() {
    let base = unpacked(
        &Layer::new()
            .file("tool", 0o755, "binary")
            .owner(3, 3)
            .file("old", 0o644, "old"),
    );
    let middle = unpacked(&Layer::new().whiteout("old"));
    let lower = [middle.path(""), base.path("")];
    let top = unpacked(&Layer::new().hardlink("alias", "tool"));
    settle(&top.path(""), &top.unpacked, &lower).unwrap();
    assert_eq!(fs::read_to_string(top.path("alias")).unwrap(), "binary");
    assert_eq!(fs::metadata(top.path("alias")).unwrap().uid(), 3);
    let hidden = unpacked(&Layer::new().hardlink("alias", "old"));
    let error = settle(&hidden.path(""), &hidden.unpacked, &lower).unwrap_err();
    assert_eq!(
        error.to_string(),
        "hard link \"alias\" to \"old\", which is not in the image"
    );
}

#[test]
fn what_lies_behind_a_link_of_a_lower_layer_goes_where_it_leads() {
    let base = unpacked(
        &Layer::new()
            .dir("usr", 0o755)
            .dir("usr/lib", 0o711)
            .symlink("lib", "usr/lib")
            .symlink("usr/deep", "../../../../lib"),
    );
    let top = unpacked(
        &Layer::new()
            .file("lib/x/file", 0o644, "x")
            .file("usr/deep/other", 0o644, "y"),
    );
    settle(&top.path(""), &top.unpacked, &[base.path("")]).unwrap();
    assert_eq!(fs::read_to_string(top.path("usr/lib/x/file")).unwrap(), "x");
    assert_eq!(fs::read_to_string(top.path("usr/lib/other")).unwrap(), "y");
    assert!(!top.path("lib").exists() && !top.path("usr/deep").exists());
    assert_eq!(fs::metadata(top.path("usr/lib")).unwrap().mode() & 0o7777, 0o711);
}

#[test]
fn links_of_lower_layers_in_a_circle_are_refused() {
    let base = unpacked(&Layer::new().symlink("a", "b").symlink("b", "a"));
    let top = unpacked(&Layer::new().file("a/file", 0o644, "x"));
    let error = settle(&top.path(""), &top.unpacked, &[base.path("")]).unwrap_err();
    assert!(matches!(error, UnpackError::ThroughLink(_)), "{error}");
}

/// A directory outside of every tree, and layers that try to reach it when they are settled on the layers below.
#[test]
fn settling_leads_nowhere_outside_either() {
    let outside = Scratch::new("outside");
    fs::create_dir(outside.join("dir")).unwrap();
    fs::set_permissions(
        outside.join("dir"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    let target = outside.path().display().to_string();
    let inside = target.trim_start_matches('/').to_owned();
    let base = unpacked(
        &Layer::new()
            .file("tool", 0o4755, "binary")
            .dir("a", 0o777)
            .dir("a/dir", 0o777)
            .dir(&inside, 0o777)
            .dir(&format!("{inside}/dir"), 0o777),
    );
    let lower = [base.path("")];
    // A hard link whose directory is a link of the same layer.
    let link = unpacked(
        &Layer::new()
            .dir(&inside, 0o755)
            .symlink("d", &target)
            .hardlink("d/evil", "tool"),
    );
    settle(&link.path(""), &link.unpacked, &lower).unwrap();
    assert_eq!(
        fs::read_to_string(link.path(&format!("{inside}/evil"))).unwrap(),
        "binary"
    );
    // An implied directory that a link replaces, and one behind a link.
    let replaced = unpacked(&Layer::new().file("a/dir/x", 0o644, "x").symlink("a", &target));
    settle(&replaced.path(""), &replaced.unpacked, &lower).unwrap();
    let behind = unpacked(
        &Layer::new()
            .dir(&inside, 0o755)
            .symlink("b", &target)
            .file("b/dir/x", 0o644, "x"),
    );
    settle(&behind.path(""), &behind.unpacked, &lower).unwrap();
    let dir = fs::metadata(behind.path(&format!("{inside}/dir"))).unwrap();
    assert_eq!(dir.mode() & 0o777, 0o777);
    let found: Vec<_> = fs::read_dir(outside.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(found, ["dir"]);
    assert_eq!(fs::metadata(outside.join("dir")).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn hard_links_to_pipes_and_devices_of_lower_layers_are_made_anew() {
    let base = unpacked(
        &Layer::new()
            .fifo("pipe")
            .char_device("null", 1, 3)
            .symlink("link", "x"),
    );
    let top = unpacked(
        &Layer::new()
            .hardlink("p", "pipe")
            .hardlink("n", "null")
            .hardlink("l", "link")
            .hardlink("later", "link")
            .file("later", 0o644, "a later entry"),
    );
    settle(&top.path(""), &top.unpacked, &[base.path("")]).unwrap();
    assert!(fs::metadata(top.path("p")).unwrap().file_type().is_fifo());
    assert_eq!(
        fs::metadata(top.path("n")).unwrap().rdev(),
        rustix::fs::makedev(1, 3)
    );
    assert_eq!(fs::read_link(top.path("l")).unwrap(), PathBuf::from("x"));
    assert_eq!(fs::read_to_string(top.path("later")).unwrap(), "a later entry");
}

/// A header of 512 bytes for a GNU archive.
fn header(kind: u8, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_path("big").unwrap();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header
}

fn unpack_bytes(bytes: &[u8]) -> (Scratch, Result<Unpacked, UnpackError>) {
    require_root();
    let scratch = Scratch::new("unpack");
    let result = unpack(bytes, &scratch.join("tree"), &expected(bytes, bytes));
    (scratch, result)
}

/// An archive with a sparse file of `claim` bytes, of which the last 512 are there.
fn sparse(claim: u64) -> Vec<u8> {
    let mut header = header(b'S', 512);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
    // Beyond octal digits: base 256.
    for (field, value) in [
        (&mut gnu.realsize, claim),
        (&mut gnu.sparse[0].offset, claim - 512),
    ] {
        field[0] = 0x80;
        field[1..4].fill(0);
        field[4..].copy_from_slice(&value.to_be_bytes());
    }
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend([7; 512]);
    bytes
}

#[test]
fn a_sparse_claim_of_gigabytes_takes_no_disk() {
    for claim in [1 << 30, 10 << 30] {
        let (scratch, result) = unpack_bytes(&sparse(claim));
        match result {
            // The machine's disk is smaller than the claim.
            Err(UnpackError::TooBig { size, .. }) if claim > 1 << 30 => assert_eq!(size, claim),
            Ok(unpacked) => {
                let meta = fs::metadata(scratch.join("tree/big")).unwrap();
                assert_eq!(meta.len(), claim);
                assert!(
                    meta.blocks() * 512 <= 1 << 20 && unpacked.usage.bytes <= 1 << 20,
                    "{unpacked:?}"
                );
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn claims_without_content_are_refused() {
    let (_scratch, result) = unpack_bytes(header(b'0', 10 << 20).as_bytes());
    assert!(
        matches!(result, Err(UnpackError::Truncated { .. } | UnpackError::Read(_))),
        "{result:?}"
    );
    let (_scratch, result) = unpack_bytes(header(b'0', 1 << 60).as_bytes());
    assert!(matches!(result, Err(UnpackError::TooBig { .. })), "{result:?}");
}

#[test]
fn endless_extended_headers_are_refused_before_they_fill_the_memory() {
    for kind in [b'L', b'K', b'x'] {
        let start = header(kind, 1 << 40);
        let endless = start.as_bytes().as_slice().chain(io::repeat(b'a').take(64 << 20));
        let scratch = Scratch::new("unpack");
        let nothing = Expected {
            blob: None,
            diff_id: Digest::of(b""),
        };
        let error = unpack_archive(endless, &scratch.join("tree"), &nothing.diff_id).unwrap_err();
        let told = crate::error::chain(&error);
        assert!(told.contains("an extended header of 1099511627776"), "{told}");
    }
    // A size in an extended header is followed: what comes after the content is a header again.
    let record = b"16 size=1048576\n";
    let mut bytes = header(b'x', record.len() as u64).as_bytes().to_vec();
    bytes.extend(record);
    bytes.resize(1024, 0);
    bytes.extend(header(b'0', 0).as_bytes());
    bytes.resize(bytes.len() + (1 << 20), b'c');
    bytes.extend(header(b'L', 1 << 40).as_bytes());
    let (_scratch, result) = unpack_bytes(&bytes);
    let told = crate::error::chain(&result.unwrap_err());
    assert!(told.contains("an extended header of"), "{told}");
}

#[test]
fn paths_up_to_the_kernel_s_bound_are_taken_and_longer_ones_refused() {
    let name = |parts: usize| vec!["d".repeat(200); parts].join("/");
    let tree = unpacked(&Layer::new().file(&format!("{}/file", name(19)), 0o644, "deep"));
    let mut file = tree.path("");
    file.push(name(10));
    // Longer than one path may be with the tree's own before it, so it is looked at in two steps.
    let dir = fs::File::open(&file).unwrap();
    let rest = format!("{}/file", name(9));
    let found = rustix::fs::openat(
        &dir,
        rest.as_str(),
        rustix::fs::OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    );
    let mut text = String::new();
    fs::File::from(found.unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "deep");
    let error = try_unpack(&Layer::new().file(&format!("{}/file", name(21)), 0o644, "x"))
        .err()
        .unwrap();
    assert!(
        matches!(&error, UnpackError::Io { source, .. } if source.raw_os_error() == Some(36)),
        "{error:?}"
    );
}
