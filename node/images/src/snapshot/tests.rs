//! Snapshots on real overlay mounts.

use std::fs;
use std::path::Path;

use knode_testkit::image::{ImageBuilder, Layer};

use crate::error::Error;
use crate::store::tests::Fixture;

fn layered() -> ImageBuilder {
    ImageBuilder::new("localhost/app:1")
        .layer(
            Layer::new()
                .dir("etc", 0o755)
                .file("etc/removed", 0o644, "old")
                .file("etc/kept", 0o644, "kept")
                .dir("data", 0o755)
                .file("data/old", 0o644, "old"),
        )
        .layer(
            Layer::new()
                .dir("etc", 0o755)
                .whiteout("etc/removed")
                .dir("data", 0o755)
                .opaque("data")
                .file("data/new", 0o644, "new"),
        )
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_snapshot_shows_the_image_and_takes_writes() {
    let fixture = Fixture::new();
    fixture.import(&layered()).await;
    let snapshots = fixture.store.snapshots();
    let one = snapshots.prepare("localhost/app:1", "one").unwrap();
    assert!(!one.mounted);
    let root = snapshots.mount("one").unwrap();
    assert_eq!(
        (root.clone(), snapshots.mount("one").unwrap()),
        (one.rootfs.clone(), one.rootfs)
    );
    assert_eq!(names(&root.join("etc")), ["kept"]);
    assert_eq!(names(&root.join("data")), ["new"]);
    fs::write(root.join("etc/kept"), "changed").unwrap();
    fs::write(root.join("written"), vec![1; 100_000]).unwrap();
    snapshots.prepare("localhost/app:1", "two").unwrap();
    let other = snapshots.mount("two").unwrap();
    assert_eq!(fs::read_to_string(other.join("etc/kept")).unwrap(), "kept");
    let usage = snapshots.usage("one").unwrap();
    assert!(usage.bytes >= 100_000 && usage.inodes == 4, "{usage:?}");
    snapshots.unmount("one").unwrap();
    assert_eq!(names(&root), Vec::<String>::new());
    snapshots.mount("one").unwrap();
    assert_eq!(fs::read_to_string(root.join("etc/kept")).unwrap(), "changed");
    assert_eq!(snapshots.teardown().len(), 0);
    assert_eq!(names(&fixture.store.root().join("s")), Vec::<String>::new());
}

#[tokio::test]
async fn snapshots_are_found_again_after_a_restart() {
    let fixture = Fixture::new();
    let image = fixture.import(&layered()).await;
    let snapshots = fixture.store.snapshots();
    for key in ["mounted", "prepared"] {
        snapshots.prepare("localhost/app:1", key).unwrap();
    }
    let root = snapshots.mount("mounted").unwrap();
    drop(snapshots);
    let fixture = fixture.reopen();
    let snapshots = fixture.store.snapshots();
    let found = snapshots.list().unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|snapshot| (snapshot.key.as_str(), snapshot.mounted))
        .collect();
    assert_eq!(told, [("mounted", true), ("prepared", false)]);
    assert_eq!(
        (&found[0].image, &found[0].rootfs),
        (&image.id.to_string(), &root)
    );
    assert_eq!(snapshots.get("mounted").as_ref(), Some(&found[0]));
    snapshots.remove("mounted").unwrap();
    snapshots.remove("mounted").unwrap();
    assert_eq!(snapshots.get("mounted"), None);
}

#[tokio::test]
async fn a_snapshot_keeps_the_layers_of_a_removed_image() {
    let fixture = Fixture::new();
    let image = fixture.import(&layered()).await;
    let snapshots = fixture.store.snapshots();
    snapshots.prepare("localhost/app:1", "c").unwrap();
    fixture.store.remove(image.id.as_str()).unwrap();
    let root = snapshots.mount("c").unwrap();
    assert_eq!(names(&root.join("etc")), ["kept"]);
    assert_eq!(fixture.trees(), 2);
    snapshots.remove("c").unwrap();
    assert_eq!(fixture.trees(), 0);
}

#[tokio::test]
async fn the_deepest_images_fit_the_mount_options() {
    let fixture = Fixture::new();
    let mut image = ImageBuilder::new("localhost/deep:1");
    for number in 0..127 {
        image = image.layer(Layer::new().file(&format!("f{number}"), 0o644, number.to_string()));
    }
    fixture.import(&image).await;
    let snapshots = fixture.store.snapshots();
    let key = "k".repeat(64);
    snapshots.prepare("localhost/deep:1", &key).unwrap();
    let root = snapshots.mount(&key).unwrap();
    assert_eq!(names(&root).len(), 127);
}

#[tokio::test]
async fn more_layers_than_a_page_of_options_holds_are_mounted() {
    let fixture = Fixture::new();
    fixture.store.inner.state().skip_layer_numbers(4_000_000_000);
    let mut image = ImageBuilder::new("localhost/deep:1");
    for number in 0..400 {
        image = image.layer(Layer::new().file(&format!("f{number}"), 0o644, number.to_string()));
    }
    fixture.import(&image).await;
    let snapshots = fixture.store.snapshots();
    let key = "k".repeat(200);
    snapshots.prepare("localhost/deep:1", &key).unwrap();
    let root = snapshots.mount(&key).unwrap();
    assert_eq!(names(&root).len(), 400);
    fs::write(root.join("f399"), "changed").unwrap();
    snapshots.unmount(&key).unwrap();
    snapshots.mount(&key).unwrap();
    assert_eq!(fs::read_to_string(root.join("f399")).unwrap(), "changed");
}

#[tokio::test]
async fn views_show_the_image_and_take_no_writes() {
    let fixture = Fixture::new();
    let single = ImageBuilder::new("localhost/single:1").layer(Layer::new().file("a", 0o666, "a"));
    let empty = ImageBuilder::new("localhost/empty:1");
    let expected = [
        (layered(), vec!["data", "etc"]),
        (single, vec!["a"]),
        (empty, vec![]),
    ];
    let snapshots = fixture.store.snapshots();
    for (number, (image, files)) in expected.into_iter().enumerate() {
        let (id, key) = (fixture.import(&image).await.id, number.to_string());
        let view = snapshots.prepare_view(id.as_str(), &key).unwrap();
        assert!(view.read_only);
        let root = snapshots.mount(&key).unwrap();
        assert_eq!(names(&root), files);
        let error = fs::write(root.join("new"), "x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        // Nor when it is mounted writable.
        let flags = nix::mount::MsFlags::MS_REMOUNT;
        let none: Option<&str> = None;
        if nix::mount::mount(none, &root, none, flags, none).is_ok() {
            assert!(fs::write(root.join("new"), "x").is_err());
        }
    }
    drop(snapshots);
    let fixture = fixture.reopen();
    let found = fixture.store.snapshots().list().unwrap();
    assert!(
        found.iter().all(|view| view.read_only && view.mounted),
        "{found:?}"
    );
    assert_eq!(fixture.store.snapshots().teardown().len(), 0);
}

#[tokio::test]
async fn odd_images_can_be_mounted() {
    let fixture = Fixture::new();
    let twice = Layer::new().file("same", 0o644, "same");
    let repeated = ImageBuilder::new("localhost/repeated:1")
        .layer(twice.clone())
        .layer(Layer::new().whiteout("same"))
        .layer(twice);
    let hiding = ImageBuilder::new("localhost/hiding:1")
        .layer(Layer::new().file("below", 0o644, "b"))
        .layer(Layer::new().opaque("").file("above", 0o644, "a"));
    let empty = ImageBuilder::new("localhost/empty:1");
    let expected = [(repeated, vec!["same"]), (hiding, vec!["above"]), (empty, vec![])];
    let snapshots = fixture.store.snapshots();
    for (number, (image, files)) in expected.into_iter().enumerate() {
        let id = fixture.import(&image).await.id;
        snapshots.prepare(id.as_str(), &number.to_string()).unwrap();
        assert_eq!(names(&snapshots.mount(&number.to_string()).unwrap()), files);
    }
}

#[tokio::test]
async fn keys_and_images_that_cannot_be_are_refused() {
    let fixture = Fixture::new();
    fixture.import(&layered()).await;
    let snapshots = fixture.store.snapshots();
    for key in ["", "..", "a/b", ".hidden", "a b"] {
        assert!(
            matches!(
                snapshots.prepare("localhost/app:1", key),
                Err(Error::SnapshotKey(_))
            ),
            "{key}"
        );
    }
    assert!(matches!(
        snapshots.prepare("localhost/none:1", "a"),
        Err(Error::ImageNotFound(_))
    ));
    snapshots.prepare("localhost/app:1", "a").unwrap();
    assert!(matches!(
        snapshots.prepare("localhost/app:1", "a"),
        Err(Error::SnapshotExists(_))
    ));
    assert!(snapshots.mount("none").unwrap_err().is_not_found());
    assert!(snapshots.usage("none").unwrap_err().is_not_found());
}
