//! Archives good and bad.

use std::fs;
use std::path::Path;

use knode_testkit::image::{Image as Built, ImageBuilder, Layer, index_archive, tar};

use crate::store::tests::Fixture;

fn app() -> Built {
    ImageBuilder::new("localhost/app:1")
        .layer(Layer::new().file("a", 0o644, vec![b'a'; 20_000]))
        .layer(Layer::new().file("b", 0o644, "b"))
        .build()
}

async fn failure(fixture: &Fixture, path: &Path) -> String {
    let error = fixture.store.import_archive(path).await.unwrap_err().chain();
    assert_eq!(fixture.store.list(), [], "an image is left");
    assert_eq!(fixture.trees(), 0, "a layer is left");
    assert_eq!(
        fs::read_dir(fixture.store.root().join("tmp")).unwrap().count(),
        0,
        "a temporary file is left"
    );
    let prefix = format!("failed to import image archive {}: ", path.display());
    error
        .strip_prefix(&prefix)
        .unwrap_or_else(|| panic!("{error:?} does not name the file"))
        .to_owned()
}

#[tokio::test]
async fn both_kinds_and_every_compression_are_taken() {
    for kind in ["oci", "docker"] {
        for ending in ["tar", "tar.gz", "tar.zst"] {
            let fixture = Fixture::new();
            let path = fixture.scratch.join(format!("{kind}.{ending}"));
            match kind {
                "oci" => app().write_oci(&path),
                _ => app().write_docker(&path),
            }
            let images = fixture
                .store
                .import_archive(&path)
                .await
                .unwrap_or_else(|error| panic!("{}", error.chain()));
            assert_eq!(images.len(), 1);
            assert_eq!(images[0].id.as_str(), app().id());
            assert_eq!(images[0].repo_tags, ["localhost/app:1"]);
            let digests = format!("localhost/app@{}", app().manifest.digest);
            assert_eq!(images[0].repo_digests.contains(&digests), kind == "oci");
            assert_eq!(fixture.trees(), 2);
        }
    }
}

#[tokio::test]
async fn the_platform_of_this_machine_is_taken_of_an_index() {
    let fixture = Fixture::new();
    let foreign = ImageBuilder::new("x")
        .architecture("s390x")
        .layer(Layer::new().file("s", 0o644, "s"))
        .build();
    let path = fixture.scratch.join("index.tar");
    fs::write(&path, index_archive("localhost/app:1", &[foreign.clone(), app()])).unwrap();
    let images = fixture.store.import_archive(&path).await.unwrap();
    assert_eq!(images[0].id.as_str(), app().id());
    let fixture = Fixture::new();
    let path = fixture.scratch.join("foreign.tar");
    fs::write(&path, index_archive("localhost/app:1", &[foreign])).unwrap();
    assert_eq!(
        failure(&fixture, &path).await,
        "no image for platform linux/amd64"
    );
}

#[tokio::test]
async fn truncated_archives_are_told_from_damaged_ones() {
    let fixture = Fixture::new();
    let whole = app().oci_archive();
    let path = fixture.scratch.join("cut.tar");
    fs::write(&path, &whole[..700]).unwrap();
    let told = failure(&fixture, &path).await;
    assert!(
        told.starts_with("truncated: \"blobs/sha256/") && told.contains("bytes more than the file has"),
        "{told}"
    );
    // Cut between two members: what is missing is named.
    let cut = whole.len() - 1024 - 512 * 6;
    fs::write(&path, &whole[..cut]).unwrap();
    let told = failure(&fixture, &path).await;
    assert!(
        told.starts_with("truncated") || told.contains("neither an OCI layout"),
        "{told}"
    );
    let compressed = fixture.scratch.join("cut.tar.gz");
    app().write_oci(&compressed);
    let bytes = fs::read(&compressed).unwrap();
    fs::write(&compressed, &bytes[..bytes.len() / 2]).unwrap();
    let told = failure(&fixture, &compressed).await;
    assert!(
        told.starts_with("the compressed data is damaged or ends early: "),
        "{told}"
    );
}

#[tokio::test]
async fn damage_inside_is_named() {
    let fixture = Fixture::new();
    let mut bad = app();
    let layer = &mut bad.layers[1];
    let middle = layer.bytes.len() / 2;
    layer.bytes[middle] ^= 0x55;
    let name = layer.path().display().to_string();
    let path = fixture.scratch.join("bad.tar");
    bad.write_oci(&path);
    let told = failure(&fixture, &path).await;
    assert!(
        told.starts_with(&format!("layer {name:?}: digest of the blob is sha256:")),
        "{told}"
    );
    let mut bad = app();
    bad.config.bytes.push(b' ');
    bad.write_oci(&path);
    let told = failure(&fixture, &path).await;
    assert!(told.contains("is damaged: it has digest sha256:"), "{told}");
}

#[tokio::test]
async fn files_that_are_no_images_are_refused() {
    let fixture = Fixture::new();
    let path = fixture.scratch.join("no.tar");
    let cases: [(&[u8], &str); 4] = [
        (
            b"this is no archive, only some text that is longer than nothing",
            "not a readable tar archive: ",
        ),
        (
            &tar(&[("readme".to_owned(), b"hello".to_vec())]),
            "neither an OCI layout (index.json)",
        ),
        (
            &tar(&[("index.json".to_owned(), b"{".to_vec())]),
            "\"index.json\" is invalid: cannot read the manifest: ",
        ),
        (
            &tar(&[(
                "manifest.json".to_owned(),
                br#"[{"Config":"c.json","Layers":[]}]"#.to_vec(),
            )]),
            "\"c.json\" is missing",
        ),
    ];
    for (content, expected) in cases {
        fs::write(&path, content).unwrap();
        let told = failure(&fixture, &path).await;
        assert!(told.starts_with(expected), "{told}");
    }
    let told = failure(&fixture, Path::new("/nonexistent/a.tar")).await;
    assert_eq!(
        told,
        "cannot read the file: No such file or directory (os error 2)"
    );
    let escape = ImageBuilder::new("localhost/evil:1")
        .layer(Layer::new().file("../x", 0o644, "x"))
        .build();
    escape.write_oci(&path);
    let told = failure(&fixture, &path).await;
    assert!(told.ends_with("entry \"../x\" leads out of the image"), "{told}");
}

#[tokio::test]
async fn a_directory_is_imported_once() {
    let fixture = Fixture::new();
    let dir = fixture.scratch.join("images");
    assert_eq!(fixture.store.import_dir(&dir).await.unwrap().len(), 0);
    fs::create_dir(&dir).unwrap();
    app().write_oci(&dir.join("app.tar"));
    fs::write(dir.join("broken.tar"), "x").unwrap();
    fs::write(dir.join("readme.txt"), "x").unwrap();
    let outcomes = |reports: Vec<crate::DirectoryReport>| -> Vec<String> {
        let tell = |report: crate::DirectoryReport| match report.result {
            Ok(Some(images)) => format!("{} new", images.len()),
            Ok(None) => "known".to_owned(),
            Err(_) => "broken".to_owned(),
        };
        reports.into_iter().map(tell).collect()
    };
    assert_eq!(
        outcomes(fixture.store.import_dir(&dir).await.unwrap()),
        ["1 new", "broken"]
    );
    let fixture = fixture.reopen();
    assert_eq!(
        outcomes(fixture.store.import_dir(&dir).await.unwrap()),
        ["known", "broken"]
    );
    fixture.store.remove("localhost/app:1").unwrap();
    assert_eq!(
        outcomes(fixture.store.import_dir(&dir).await.unwrap()),
        ["1 new", "broken"]
    );
}

#[tokio::test]
async fn what_is_exported_can_be_imported_and_shows_the_same() {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let fixture = Fixture::new();
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(120));
    let base = Layer::new()
        .dir("etc", 0o711)
        .mtime(1000)
        .file("etc/suid", 0o4755, "x")
        .owner(7, 8)
        .extension("mtime", b"5000.25")
        .xattr("user.note", b"v")
        .hardlink("etc/alias", "etc/suid")
        .symlink("etc/link", "/absolute")
        .char_device("null", 1, 3)
        .fifo("pipe")
        .file(&long, 0o600, "long")
        .file("gone", 0o644, "g")
        .dir("data", 0o755)
        .file("data/old", 0o644, "o");
    let top = Layer::new()
        .whiteout("gone")
        .dir("data", 0o755)
        .opaque("data")
        .file("data/new", 0o644, "n");
    let built = ImageBuilder::new("localhost/app:1")
        .layer(base)
        .layer(top)
        .cmd(&["/a"]);
    let image = fixture.import(&built).await;
    let path = fixture.scratch.join("export.tar");
    let names = ["localhost/app:1".to_owned(), image.id.to_string()];
    fixture.store.export_archive(&names, &path).await.unwrap();
    let missing = fixture
        .store
        .export_archive(&["absent".to_owned()], &fixture.scratch.join("no.tar"))
        .await;
    assert!(missing.unwrap_err().is_not_found() && !fixture.scratch.join("no.tar").exists());
    let other = Fixture::new();
    let imported = other.store.import_archive(&path).await.unwrap();
    assert_eq!(imported.len(), 1);
    assert_eq!(
        (&imported[0].repo_tags, &imported[0].config),
        (&image.repo_tags, &image.config)
    );
    let snapshots = other.store.snapshots();
    snapshots.prepare("localhost/app:1", "c").unwrap();
    let root = snapshots.mount("c").unwrap();
    let meta = |name: &str| fs::symlink_metadata(root.join(name)).unwrap();
    let suid = meta("etc/suid");
    assert_eq!(
        (suid.mode() & 0o7777, suid.uid(), suid.gid(), suid.nlink()),
        (0o4755, 7, 8, 2)
    );
    assert_eq!((suid.mtime(), suid.mtime_nsec()), (5000, 250_000_000));
    let note = knode_linux::xattr::get(&root.join("etc/alias"), "user.note".as_ref()).unwrap();
    assert_eq!(note.as_deref(), Some(b"v".as_slice()));
    assert_eq!((meta("etc").mode() & 0o7777, meta("etc").mtime()), (0o711, 1000));
    assert_eq!(
        fs::read_link(root.join("etc/link")).unwrap().to_str(),
        Some("/absolute")
    );
    assert!(meta("null").rdev() == rustix::fs::makedev(1, 3) && meta("pipe").file_type().is_fifo());
    assert_eq!(fs::read_to_string(root.join(&long)).unwrap(), "long");
    assert!(!root.join("gone").exists() && !root.join("data/old").exists());
    assert_eq!(fs::read_to_string(root.join("data/new")).unwrap(), "n");
    // Exported again it is the same archive: nothing of it is by chance.
    let again = other.scratch.join("again.tar");
    other.store.export_archive(&names[..1], &again).await.unwrap();
    assert_eq!(
        other.store.import_archive(&again).await.unwrap()[0].id,
        imported[0].id
    );
}
