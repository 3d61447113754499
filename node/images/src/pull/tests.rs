//! Pulls from a real registry in a namespace of its own.

use std::fs;

use knode_testkit::image::{Compression, Image as Built, ImageBuilder, Layer};
use knode_testkit::{Host, Registry};

use super::*;
use crate::store::tests::Fixture;

fn app() -> Built {
    ImageBuilder::new("localhost/team/app:1")
        .layer_with(
            Layer::new().file("a", 0o644, "a").without_trailer(),
            Compression::None,
        )
        .layer_with(
            Layer::new().file("b", 0o644, vec![b'b'; 300_000]),
            Compression::Gzip,
        )
        .layer_with(Layer::new().file("c", 0o644, "c"), Compression::Zstd)
        .cmd(&["/a"])
        .build()
}

#[test]
fn a_pull_by_tag_brings_the_image_and_its_names() {
    let host = Host::new("pull");
    let registry = Registry::start(&host);
    let reference = registry.push(&app());
    let fixture = Fixture::new();
    let image = host
        .block_on(async || fixture.store.pull(&reference, &Auth::Anonymous).await)
        .unwrap();
    assert_eq!(image.id.as_str(), app().id());
    assert_eq!(image.repo_tags, std::slice::from_ref(&reference));
    let name = reference.strip_suffix(":1").unwrap();
    assert_eq!(image.repo_digests, [format!("{name}@{}", app().manifest.digest)]);
    assert_eq!(image.config.cmd, ["/a"]);
    let blobs: usize = app().blobs().map(|blob| blob.bytes.len()).sum();
    assert_eq!(image.size, blobs as u64);
    let snapshots = fixture.store.snapshots();
    snapshots.prepare(image.id.as_str(), "c").unwrap();
    let root = snapshots.mount("c").unwrap();
    let sizes = ["a", "b", "c"].map(|file| fs::metadata(root.join(file)).unwrap().len());
    assert_eq!(sizes, [1, 300_000, 1]);
}

#[test]
fn a_pull_by_digest_gives_no_tag_and_fetches_nothing_twice() {
    let host = Host::new("pull");
    let registry = Registry::start(&host);
    let reference = registry.push(&app());
    let fixture = Fixture::new();
    let name = reference.strip_suffix(":1").unwrap();
    let by_digest = format!("{name}@{}", app().manifest.digest);
    let image = host
        .block_on(async || fixture.store.pull(&by_digest, &Auth::Anonymous).await)
        .unwrap();
    assert_eq!(
        (image.repo_tags.len(), image.repo_digests),
        (0, vec![by_digest.clone()])
    );
    // Layers are here: their blobs are not asked for again.
    for layer in &app().layers {
        let hex = layer.digest.trim_start_matches("sha256:");
        fs::remove_file(
            registry
                .storage()
                .join("blobs/sha256")
                .join(&hex[..2])
                .join(hex)
                .join("data"),
        )
        .unwrap();
    }
    let image = host
        .block_on(async || fixture.store.pull(&reference, &Auth::Anonymous).await)
        .unwrap();
    assert_eq!(
        (image.repo_tags, image.repo_digests),
        (vec![reference], vec![by_digest])
    );
}

#[test]
fn an_index_gives_this_machine_s_image_under_the_index_s_digest() {
    let host = Host::new("pull");
    let registry = Registry::start(&host);
    let foreign = ImageBuilder::new("x")
        .architecture("s390x")
        .layer(Layer::new().file("s", 0o644, "s"))
        .build();
    let images = [foreign.clone(), app()];
    let reference = registry.push_index(&images, "multi", "2");
    let fixture = Fixture::new();
    let image = host
        .block_on(async || fixture.store.pull(&reference, &Auth::Anonymous).await)
        .unwrap();
    assert_eq!(image.id.as_str(), app().id());
    let index = knode_testkit::image::index(&images).digest;
    assert_eq!(
        image.repo_digests,
        [format!("{}/multi@{index}", registry.address())]
    );
    let only = registry.push_index(&[foreign], "foreign", "1");
    let told = host
        .block_on(async || fixture.store.pull(&only, &Auth::Anonymous).await)
        .unwrap_err()
        .chain();
    assert!(
        told.ends_with("no match for platform in manifest: linux/amd64: not found"),
        "{told}"
    );
}

#[test]
fn failures_carry_the_registry_s_reason() {
    let host = Host::new("pull");
    let registry = Registry::start(&host);
    registry.push(&app());
    let fixture = Fixture::new();
    let address = registry.address();
    let told = |reference: &str| {
        let reference = reference.to_owned();
        let failed = host.block_on(async || fixture.store.pull(&reference, &Auth::Anonymous).await);
        let error = failed.unwrap_err();
        assert_eq!(
            error.is_absent(),
            error.chain().contains("not found: manifest"),
            "{error:?}"
        );
        error.chain()
    };
    let expected = |name: &str, why: &str| {
        format!(
            "failed to pull and unpack image \"{address}/{name}\": failed to resolve image: {address}/{name}: not found: {why}"
        )
    };
    assert_eq!(
        told(&format!("{address}/team/app:9")),
        expected("team/app:9", "manifest unknown: manifest unknown")
    );
    assert_eq!(
        told(&format!("{address}/nothere:1")),
        expected("nothere:1", "manifest unknown: manifest unknown")
    );
    assert_eq!(
        told("127.0.0.1:1/x:1"),
        "failed to pull and unpack image \"127.0.0.1:1/x:1\": failed to resolve image: failed to do request: \
         Head \"http://127.0.0.1:1/v2/x/manifests/1\": Connection refused (os error 111)"
    );
    assert!(
        told("Bad Image").starts_with("couldn't parse image name \"Bad Image\": invalid reference format")
    );
    assert_eq!(fixture.store.list(), []);
}

#[test]
fn a_damaged_blob_leaves_nothing() {
    let host = Host::new("pull");
    let registry = Registry::start(&host);
    let reference = registry.push(&app());
    let hex = app().layers[1].digest.trim_start_matches("sha256:").to_owned();
    let path = registry
        .storage()
        .join("blobs/sha256")
        .join(&hex[..2])
        .join(&hex)
        .join("data");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::write(&path, bytes).unwrap();
    let fixture = Fixture::new();
    let told = host
        .block_on(async || fixture.store.pull(&reference, &Auth::Anonymous).await)
        .unwrap_err()
        .chain();
    assert!(told.contains(&hex), "{told}");
    assert_eq!((fixture.store.list().len(), fixture.trees()), (0, 0));
    assert_eq!(fs::read_dir(fixture.store.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn concurrent_pulls_of_one_image_are_one() {
    let host = Host::new("pull");
    let registry = Registry::start(&host);
    let reference = registry.push(&app());
    let fixture = Fixture::new();
    let results = host.block_on(async || {
        let pulls = (0..8).map(|_| fixture.store.pull(&reference, &Auth::Anonymous));
        futures::future::join_all(pulls).await
    });
    assert!(
        results
            .iter()
            .all(|result| result.as_ref().is_ok_and(|image| image.id.as_str() == app().id()))
    );
    assert_eq!(fixture.trees(), 3);
    assert!(format!("{:?}", fixture.store).contains("waiting: 0"));
}

/// User `me`, password `secret`.
const ME: &str = "me:$2y$05$Zr4Hd3dDJ5mCJUvZhFR5bOHsX77qnjhe97xyN2oZnZa0bSFo13SOO";

/// Kubelets pull an image anew to see whether a pod may have it.
#[test]
fn what_is_here_is_not_given_without_its_password() {
    let host = Host::new("pull");
    let mut registry = Registry::start_with_password(&host, ME);
    registry.sign_in("Basic bWU6c2VjcmV0");
    let by_tag = registry.push(&app());
    let by_digest = format!("{}@{}", by_tag.strip_suffix(":1").unwrap(), app().manifest.digest);
    let fixture = Fixture::new();
    let basic = |password: &str| Auth::Basic {
        username: "me".into(),
        password: password.into(),
    };
    let pull = |name: &str, auth: &Auth| host.block_on(async || fixture.store.pull(name, auth).await);
    for name in [&by_tag, &by_digest] {
        pull(name, &basic("secret")).unwrap();
        for auth in [Auth::Anonymous, basic("wrong")] {
            let told = pull(name, &auth).unwrap_err().chain();
            assert!(told.contains("authoriz"), "{name}: {told}");
        }
        pull(name, &basic("secret")).unwrap();
    }
    let nowhere = format!("{}@sha256:{}", by_tag.strip_suffix(":1").unwrap(), "0".repeat(64));
    let told = pull(&nowhere, &basic("secret")).unwrap_err().chain();
    assert!(told.contains("not found"), "{told}");
}

#[test]
fn passwords_open_a_registry_and_wrong_ones_do_not() {
    let host = Host::new("pull");
    let registry = Registry::start_with_password(&host, ME);
    let fixture = Fixture::new();
    let reference = format!("{}/team/app:1", registry.address());
    let told = host
        .block_on(async || fixture.store.pull(&reference, &Auth::Anonymous).await)
        .unwrap_err()
        .chain();
    assert!(
        told.contains("pull access denied, repository does not exist or may require authorization"),
        "{told}"
    );
    let auth = Auth::Basic {
        username: "me".into(),
        password: "wrong".into(),
    };
    let told = host
        .block_on(async || fixture.store.pull(&reference, &auth).await)
        .unwrap_err()
        .chain();
    assert!(
        told.contains("authorization failed") && !told.contains("wrong\""),
        "{told}"
    );
    assert_eq!(format!("{auth:?}"), "Basic(…)");
    let auth = Auth::Basic {
        username: "me".into(),
        password: "secret".into(),
    };
    let told = host
        .block_on(async || fixture.store.pull(&reference, &auth).await)
        .unwrap_err()
        .chain();
    assert!(told.contains("not found: manifest unknown"), "{told}");
}
