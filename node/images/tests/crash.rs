//! A store whose process is killed at any moment is whole when it is opened again.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use knode_images::{ImageStore, Registries, StoreConfig};
use knode_testkit::image::{ImageBuilder, Layer};
use knode_testkit::{Process, Scratch, require_root, wait_until};

const STORE: &str = "KNODE_CRASH_TEST";
const NAMES: [&str; 2] = ["localhost/one:1", "localhost/two:1"];

fn open(scratch: &Path) -> ImageStore {
    let config = StoreConfig {
        root: scratch.join("store"),
        registries: Registries::default(),
    };
    ImageStore::open(config).unwrap_or_else(|error| panic!("{}", error.chain()))
}

/// Not a test of its own: what the killed process does, over and over.
#[test]
fn busy() {
    let Ok(scratch) = std::env::var(STORE) else { return };
    let (scratch, runtime) = (Path::new(&scratch), tokio::runtime::Runtime::new().unwrap());
    let store = open(scratch);
    std::fs::write(scratch.join("started"), "").unwrap();
    for round in 0_u32.. {
        let archive = scratch.join(format!("{}.tar", round % 2));
        let images = runtime.block_on(store.import_archive(&archive)).unwrap();
        let snapshots = store.snapshots();
        snapshots
            .prepare(images[0].id.as_str(), &format!("c{round}"))
            .unwrap();
        snapshots.mount(&format!("c{round}")).unwrap();
        snapshots.remove(&format!("c{round}")).unwrap();
        store.remove(NAMES[round as usize % 2]).unwrap();
    }
}

fn image(name: &str) -> ImageBuilder {
    let shared = Layer::new()
        .dir("shared", 0o755)
        .file("shared/file", 0o644, vec![b's'; 50_000]);
    let files = (0..50).fold(Layer::new(), |layer, number| {
        layer.file(&format!("{number}"), 0o644, name)
    });
    ImageBuilder::new(name).layer(shared).layer(files)
}

fn killed_after(scratch: &Scratch, pause: Duration) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "busy", "--nocapture"])
        .env(STORE, scratch.path())
        .stdin(Stdio::null());
    let mut process = Process::spawn("busy", command);
    wait_until(
        "the store to be busy",
        Duration::from_secs(20),
        || match process.exited() {
            Some(status) => panic!("it ended by itself: {status}: {}", process.output()),
            None => scratch.join("started").exists(),
        },
    );
    let end = std::time::Instant::now() + pause;
    wait_until("the moment to kill", Duration::from_secs(5), || {
        std::time::Instant::now() >= end
    });
    process.signal(nix::sys::signal::Signal::SIGKILL);
    process.wait(Duration::from_secs(10));
    std::fs::remove_file(scratch.join("started")).unwrap();
}

fn assert_whole(store: &ImageStore) {
    let snapshots = store.snapshots();
    assert_eq!(snapshots.teardown().len(), 0);
    for image in store.list() {
        let name = image
            .repo_tags
            .first()
            .unwrap_or_else(|| panic!("{image:?} has lost its name"));
        snapshots.prepare(image.id.as_str(), "check").unwrap();
        let root = snapshots.mount("check").unwrap();
        assert_eq!(
            std::fs::read(root.join("shared/file")).unwrap(),
            vec![b's'; 50_000]
        );
        for number in 0..50 {
            assert_eq!(
                &std::fs::read_to_string(root.join(number.to_string())).unwrap(),
                name
            );
        }
        snapshots.remove("check").unwrap();
    }
    let names = |dir: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(store.root().join(dir)).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    };
    assert_eq!(names("tmp"), BTreeSet::new());
    assert_eq!(names("s"), BTreeSet::new());
    let records: BTreeSet<String> = names("layers")
        .iter()
        .map(|name| name.replace(".json", ""))
        .collect();
    assert_eq!(names("l"), records);
    assert_eq!(
        records.len(),
        match store.list().len() {
            0 => 0,
            images => images + 1,
        }
    );
}

#[test]
fn a_killed_store_is_whole_when_it_is_opened_again() {
    require_root();
    let scratch = Scratch::new("crash");
    for (number, name) in NAMES.iter().enumerate() {
        image(name)
            .build()
            .write_oci(&scratch.join(format!("{number}.tar")));
    }
    for round in 0..12 {
        killed_after(&scratch, Duration::from_millis(7 * round));
        assert_whole(&open(scratch.path()));
    }
}
