//! The store's life: what it keeps, what it removes, and what a crash may leave.

use std::fs;

use knode_testkit::image::{ImageBuilder, Layer};
use knode_testkit::{Scratch, require_root};

use super::*;
use crate::digest::Digest;

/// A store in a temporary directory, and archives to fill it.
pub(crate) struct Fixture {
    pub scratch: Scratch,
    pub store: ImageStore,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        require_root();
        let scratch = Scratch::new("images");
        let store = open(&scratch).unwrap();
        Self { scratch, store }
    }

    /// Closes the store and opens it anew, as after a restart.
    pub(crate) fn reopen(self) -> Self {
        let Self { scratch, store } = self;
        drop(store);
        let store = open(&scratch).unwrap();
        Self { scratch, store }
    }

    pub(crate) async fn import(&self, image: &ImageBuilder) -> Image {
        let path = self.scratch.join("import.tar");
        image.build().write_oci(&path);
        self.store
            .import_archive(&path)
            .await
            .unwrap_or_else(|error| panic!("{}", error.chain()))
            .remove(0)
    }

    pub(crate) fn trees(&self) -> usize {
        fs::read_dir(self.store.root().join("l")).unwrap().count()
    }
}

fn open(scratch: &Scratch) -> Result<ImageStore> {
    ImageStore::open(StoreConfig {
        root: scratch.join("store"),
        registries: Registries::default(),
    })
}

fn base() -> Layer {
    Layer::new().dir("etc", 0o755).file("etc/base", 0o644, "base")
}

fn two_layers(name: &str, top: &str) -> ImageBuilder {
    ImageBuilder::new(name)
        .layer(base())
        .layer(Layer::new().file("top", 0o644, top))
}

#[tokio::test]
async fn an_image_answers_to_every_form_of_its_name() {
    let fixture = Fixture::new();
    let built = ImageBuilder::new("docker.io/library/app:latest")
        .layer(base())
        .set("Env", serde_json::json!(["A=1"]))
        .set("User", "1003:users")
        .set("StopSignal", "SIGQUIT")
        .cmd(&["run"]);
    let image = fixture.import(&built).await;
    assert_eq!(image.repo_tags, ["docker.io/library/app:latest"]);
    assert_eq!(
        (image.config.cmd, image.config.env),
        (vec!["run".to_owned()], vec!["A=1".to_owned()])
    );
    assert_eq!(
        (image.config.user.as_str(), image.config.stop_signal.as_str()),
        ("1003:users", "SIGQUIT")
    );
    let id = image.id.to_string();
    let forms = [
        "app",
        "app:latest",
        "docker.io/app",
        &image.repo_digests[0],
        &id,
        image.id.hex(),
        &image.id.hex()[..12],
    ];
    for form in forms {
        assert_eq!(
            fixture.store.status(form).map(|found| found.id),
            Some(image.id.clone()),
            "{form}"
        );
    }
    for form in ["app:1", "other", "sha256:00", "", "localhost/app", "Bad Image"] {
        assert_eq!(fixture.store.status(form), None, "{form}");
    }
    assert_eq!(Digest::of(&fixture.store.config_blob("app").unwrap()), image.id);
}

#[tokio::test]
async fn images_survive_a_restart() {
    let fixture = Fixture::new();
    let image = fixture.import(&two_layers("localhost/a:1", "a")).await;
    fixture.store.set_pinned("localhost/a:1", true).unwrap();
    let fixture = fixture.reopen();
    let found = fixture.store.status("localhost/a:1").unwrap();
    assert!(found.pinned);
    assert_eq!(
        Image {
            pinned: false,
            ..found
        },
        image
    );
}

#[tokio::test]
async fn layers_are_stored_once_and_go_with_their_last_image() {
    let fixture = Fixture::new();
    let one = fixture.import(&two_layers("localhost/a:1", "a")).await;
    let two = fixture.import(&two_layers("localhost/b:1", "b")).await;
    assert_eq!(fixture.trees(), 3);
    fixture.store.remove(one.id.as_str()).unwrap();
    assert_eq!(fixture.trees(), 2);
    let usage = fixture.store.fs_usage().usage;
    assert!(usage.bytes > 0 && usage.inodes > 0, "{usage:?}");
    fixture.store.remove(two.id.as_str()).unwrap();
    assert_eq!(
        (fixture.trees(), fixture.store.fs_usage().usage),
        (0, crate::Usage::default())
    );
    assert_eq!(
        fs::read_dir(fixture.store.root().join("blobs/sha256"))
            .unwrap()
            .count(),
        0
    );
    fixture.store.remove(two.id.as_str()).unwrap();
}

#[tokio::test]
async fn a_tag_moves_to_the_image_that_came_last() {
    let fixture = Fixture::new();
    let old = fixture.import(&two_layers("localhost/a:1", "old")).await;
    let new = fixture.import(&two_layers("localhost/a:1", "new")).await;
    assert_eq!(fixture.store.status("localhost/a:1").unwrap().id, new.id);
    assert_eq!(
        fixture.store.status(old.id.as_str()).unwrap().repo_tags,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn removing_a_tag_leaves_the_others_and_removing_the_id_none() {
    let fixture = Fixture::new();
    let image = fixture.import(&two_layers("localhost/a:1", "x")).await;
    fixture.import(&two_layers("localhost/a:2", "x")).await;
    assert_eq!(
        fixture.store.status(image.id.as_str()).unwrap().repo_tags,
        ["localhost/a:1", "localhost/a:2"]
    );
    fixture.store.remove("localhost/a:1").unwrap();
    assert_eq!(
        fixture.store.status("localhost/a:2").unwrap().repo_tags,
        ["localhost/a:2"]
    );
    fixture.import(&two_layers("localhost/a:1", "x")).await;
    fixture.store.remove(image.id.as_str()).unwrap();
    assert_eq!(fixture.store.list(), []);
}

#[tokio::test]
async fn what_a_crash_leaves_is_removed_at_the_next_start() {
    let fixture = Fixture::new();
    fixture.import(&two_layers("localhost/a:1", "a")).await;
    let lost = fixture
        .import(&ImageBuilder::new("localhost/b:1").layer(Layer::new().file("b", 0o644, "b")))
        .await;
    let root = fixture.store.root().to_owned();
    fs::create_dir_all(root.join("tmp/7/half/made")).unwrap();
    fs::create_dir_all(root.join("l/900/tree-without-record")).unwrap();
    fs::write(root.join("layers/901.json"), "{\"number\":").unwrap();
    fs::write(root.join("images/half.tmp"), "{").unwrap();
    fs::create_dir_all(root.join("s/orphan/rootfs")).unwrap();
    fs::write(root.join("blobs/sha256").join("0".repeat(64)), "unused").unwrap();
    // A record whose layer is gone: the image cannot be whole.
    fs::remove_dir_all(root.join("l/3")).unwrap();
    let fixture = fixture.reopen();
    assert!(fixture.store.status("localhost/a:1").is_some());
    assert_eq!(fixture.store.status(lost.id.as_str()), None);
    for gone in [
        "tmp/7",
        "l/900",
        "layers/901.json",
        "layers/3.json",
        "images/half.tmp",
        "s/orphan",
    ] {
        assert!(!root.join(gone).exists(), "{gone} is still there");
    }
    assert!(!root.join("blobs/sha256").join("0".repeat(64)).exists());
    assert_eq!(fixture.trees(), 2);
}

#[tokio::test]
async fn a_store_is_open_once_and_only_in_its_own_format() {
    let fixture = Fixture::new();
    assert!(matches!(open(&fixture.scratch), Err(Error::InUse(_))));
    fs::write(fixture.store.root().join("format"), "99").unwrap();
    let Fixture { scratch, store } = fixture;
    drop(store);
    let error = open(&scratch).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("has format \"99\", this version reads \"1\""),
        "{error}"
    );
}
