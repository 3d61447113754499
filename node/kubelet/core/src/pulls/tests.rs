use std::path::PathBuf;

use super::*;

const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(NOW + second).unwrap()
}

/// A kubelet's directory, which goes with it.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("knode-pulls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn open(&self) -> Arc<PullRecords> {
        Arc::new(PullRecords::open(&self.0, PullVerification::NeverPreloaded).unwrap())
    }

    fn files(&self, dir: &str) -> Vec<String> {
        let dir = self.0.join("image_manager").join(dir);
        let names = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = names
            .map(|one| one.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn secret(uid: &str, hash: &str) -> PullSecret {
    PullSecret {
        namespace: "ns".into(),
        name: "s".into(),
        uid: uid.into(),
        credential_hash: hash.into(),
    }
}

fn of(uid: &str, hash: &str) -> Source {
    Source::Secret(secret(uid, hash))
}

fn has(look: &Look, uid: &str, hash: &str) -> bool {
    matches!(look, Look::Compare(known) if known.kubernetes_secrets.contains(&secret(uid, hash)))
}

fn listed(id: &str, names: &[&str]) -> Image {
    Image {
        id: id.to_owned(),
        repo_tags: names.iter().map(|&name| name.to_owned()).collect(),
        ..Image::default()
    }
}

#[tokio::test]
async fn a_pull_is_written_down_before_and_after() {
    let root = Root::new("whole");
    let records = root.open();
    assert_eq!(records.look("reg.io/a:1", "id"), Look::Open, "nobody pulled it");
    let pull = records.begin("reg.io/a:1").await.unwrap();
    assert_eq!(root.files("pulling"), [file_name("reg.io/a:1")]);
    assert_eq!(records.look("reg.io/a:1", "id"), Look::Verify);
    pull.succeeded("id", of("u", "h"), at(0)).await;
    assert!(root.files("pulling").is_empty());
    assert_eq!(root.files("pulled"), [file_name("id")]);
    records.learn("reg.io/a:2", "id", of("v", "h"), at(1)).await;
    for records in [records, root.open()] {
        let look = records.look("reg.io/a:3", "id");
        assert!(has(&look, "u", "h") && has(&look, "v", "h"), "{look:?}");
        assert_eq!(records.look("other.io/a:1", "id"), Look::Verify);
    }
}

#[tokio::test]
async fn pulls_of_one_image_are_counted() {
    let root = Root::new("count");
    let records = root.open();
    let (one, other) = (
        records.begin("a").await.unwrap(),
        records.begin("a").await.unwrap(),
    );
    one.failed().await;
    assert_eq!(root.files("pulling").len(), 1, "the other goes on");
    assert_eq!(records.look("a", "id"), Look::Verify);
    other.failed().await;
    assert!(root.files("pulling").is_empty());
    assert_eq!(records.look("a", "id"), Look::Open);
}

#[tokio::test]
async fn a_pull_that_nobody_waits_for_stays_written_down() {
    let root = Root::new("dropped");
    let records = root.open();
    drop(records.begin("a").await.unwrap());
    records.begin("a").await.unwrap().failed().await;
    assert_eq!(records.look("a", "id"), Look::Verify, "it may still come");
    assert_eq!(root.files("pulling").len(), 1);
    records
        .begin("a")
        .await
        .unwrap()
        .succeeded("id", Source::Node, at(0))
        .await;
    assert!(root.files("pulling").is_empty());
    assert_eq!(records.look("a", "id"), Look::Open);
}

#[tokio::test]
async fn pulls_of_the_last_kubelet_are_nobodys() {
    let root = Root::new("adopt");
    let records = root.open();
    for image in ["busybox", "reg.io/a:1", "reg.io/missing:1"] {
        std::mem::forget(records.begin(image).await.unwrap());
    }
    let records = root.open();
    let images = [
        listed("id-busybox", &["docker.io/library/busybox:latest"]),
        listed("id-a", &["reg.io/b:1", "reg.io/a:1"]),
    ];
    assert!(records.has_begun());
    records.adopt(&images, at(0)).await;
    assert_eq!(root.files("pulling"), [file_name("reg.io/missing:1")]);
    for (image, id) in [
        ("busybox", "id-busybox"),
        ("reg.io/a:1", "id-a"),
        ("reg.io/b:1", "id-a"),
    ] {
        assert_eq!(records.look(image, id), Look::Verify, "{image}");
    }
    records.begin("reg.io/missing:1").await.unwrap().failed().await;
    assert!(
        root.files("pulling").is_empty(),
        "the pull ended with its kubelet"
    );
}

#[tokio::test]
async fn adopting_takes_nothing_away() {
    let root = Root::new("again");
    let records = root.open();
    let pull = records.begin("reg.io/a:1").await.unwrap();
    pull.succeeded("id", of("u", "h"), at(0)).await;
    std::mem::forget(records.begin("reg.io/a:1").await.unwrap());
    let records = root.open();
    records.adopt(&[listed("id", &["reg.io/a:1"])], at(9)).await;
    assert!(has(&records.look("reg.io/a:1", "id"), "u", "h"));
}

#[tokio::test]
async fn images_that_are_gone_are_forgotten() {
    let root = Root::new("prune");
    let records = root.open();
    for (id, second) in [("kept", 0), ("gone", 0), ("young", 10)] {
        let pull = records.begin("a").await.unwrap();
        pull.succeeded(id, of("u", "h"), at(second)).await;
    }
    // A record that says the second may have been written at its end.
    let asked = at(10) + Duration::from_millis(500);
    records.prune(&BTreeSet::from(["kept".to_owned()]), asked).await;
    let mut left = [file_name("kept"), file_name("young")];
    left.sort();
    assert_eq!(root.files("pulled"), left);
    assert_eq!(records.look("a", "gone"), Look::Open);
    assert!(has(&records.look("a", "young"), "u", "h"));
}

#[tokio::test]
async fn an_image_that_came_back_meanwhile_is_not_forgotten() {
    let root = Root::new("back");
    let records = root.open();
    for second in [0, 20] {
        let pull = records.begin("a").await.unwrap();
        pull.succeeded("id", of("u", "h"), at(second)).await;
    }
    records.prune(&BTreeSet::new(), at(10)).await;
    assert!(has(&records.look("a", "id"), "u", "h"));
}

#[tokio::test]
async fn what_cannot_be_read_is_verified_until_it_is_written_anew() {
    let root = Root::new("broken");
    drop(root.open());
    let path = root.0.join("image_manager/pulled").join(file_name("id"));
    std::fs::write(&path, "{\"kind\":").unwrap();
    std::fs::write(path.with_extension("tmp"), "half").unwrap();
    let records = root.open();
    assert_eq!(records.look("a", "id"), Look::Verify);
    let pull = records.begin("a").await.unwrap();
    pull.succeeded("id", Source::Node, at(0)).await;
    assert_eq!(records.look("a", "id"), Look::Open);
    assert_eq!(root.open().look("a", "id"), Look::Open);
}

#[tokio::test]
async fn what_cannot_be_written_is_not_pulled() {
    let root = Root::new("full");
    let records = root.open();
    let dir = root.0.join("image_manager/pulling");
    std::fs::remove_dir(&dir).unwrap();
    std::fs::write(&dir, "").unwrap();
    let error = records.begin("a").await.unwrap_err();
    assert!(error.to_string().contains("cannot open"), "{error}");
    assert_eq!(records.look("a", "id"), Look::Open);
}
