//! The store as its callers see it: revisions, conditions, ranges, watches, compaction, reopening.

use std::sync::Arc;

use knode_store::{Change, Error, Expect, Range, Store};

/// A directory that goes away with the value.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("knode-store-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Self(path)
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.join("state.db")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A directory left behind does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn put(store: &Store, key: &str, value: &str) -> u64 {
    store
        .put(key, value.as_bytes().to_vec(), Expect::Any)
        .await
        .expect("a put")
        .revision
}

fn keys(changes: &[Arc<Change>]) -> Vec<(u64, &str)> {
    changes.iter().map(|c| (c.revision, c.key.as_str())).collect()
}

#[tokio::test]
async fn writes_count_up_and_conditions_compare_with_the_last_write() {
    let dir = Scratch::new("cas");
    let store = Store::open(dir.file()).await.unwrap();
    let first = store.put("a", b"1".to_vec(), Expect::Absent).await.unwrap();
    assert_eq!((first.revision, first.created, first.previous), (1, 1, None));
    let second = store.put("a", b"2".to_vec(), Expect::Revision(1)).await.unwrap();
    assert_eq!(
        (second.revision, second.created, second.previous),
        (2, 1, Some(1))
    );
    for (expect, actual) in [(Expect::Absent, Some(2)), (Expect::Revision(1), Some(2))] {
        let error = store.put("a", b"3".to_vec(), expect).await.unwrap_err();
        assert!(
            matches!(error, Error::Conflict { actual: a, .. } if a == actual),
            "{error:?}"
        );
    }
    let error = store.delete("b", Expect::Any).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { actual: None, .. }), "{error:?}");
    assert_eq!(store.delete("a", Expect::Revision(2)).await.unwrap().revision, 3);
    assert_eq!(store.get("a", None).await.unwrap(), None);
    let again = store.put("a", b"4".to_vec(), Expect::Absent).await.unwrap();
    assert_eq!((again.revision, again.created, again.previous), (4, 4, None));
    assert_eq!(store.get("a", Some(2)).await.unwrap().unwrap().value, "2");
}

#[tokio::test]
async fn a_stamped_value_carries_its_own_revision() {
    let dir = Scratch::new("stamp");
    let store = Store::open(dir.file()).await.unwrap();
    put(&store, "x", "y").await;
    let value = knode_store::Value::Stamped {
        head: "<".into(),
        tail: ">".into(),
    };
    let change = store.put("a", value, Expect::Absent).await.unwrap();
    assert_eq!(change.value.as_deref(), Some(&b"<2>"[..]));
    assert_eq!(store.get("a", None).await.unwrap().unwrap().value, "<2>");
}

#[tokio::test]
async fn ranges_are_pages_of_one_revision() {
    let dir = Scratch::new("range");
    let store = Store::open(dir.file()).await.unwrap();
    for key in ["/p/a", "/p/b", "/p/c", "/q/a", "/p"] {
        put(&store, key, key).await;
    }
    let range = Range {
        prefix: "/p/".into(),
        limit: 2,
        ..Range::default()
    };
    let page = store.range(range.clone()).await.unwrap();
    assert_eq!(
        page.entries.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(),
        ["/p/a", "/p/b"]
    );
    assert!(page.more);
    store.delete("/p/c", Expect::Any).await.unwrap();
    put(&store, "/p/d", "new").await;
    let next = Range {
        after: Some("/p/b".into()),
        revision: Some(page.revision),
        ..range
    };
    let page = store.range(next).await.unwrap();
    assert_eq!(
        page.entries.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(),
        ["/p/c"]
    );
    assert!(!page.more);
    let now = store
        .range(Range {
            prefix: "/p/".into(),
            ..Range::default()
        })
        .await
        .unwrap();
    assert_eq!(now.entries.len(), 3);
    let future = store
        .range(Range {
            revision: Some(99),
            ..Range::default()
        })
        .await;
    assert!(
        matches!(
            future,
            Err(Error::Future {
                requested: 99,
                latest: 7
            })
        ),
        "{future:?}"
    );
}

#[tokio::test]
async fn a_watch_sees_past_and_future_in_order() {
    let dir = Scratch::new("watch");
    let store = Store::open(dir.file()).await.unwrap();
    put(&store, "/a/1", "x").await;
    put(&store, "/b/1", "x").await;
    store.delete("/a/1", Expect::Any).await.unwrap();
    let mut watch = store.watch("/a/", 0);
    let seen = watch.next().await.unwrap();
    assert_eq!(keys(&seen), [(1, "/a/1"), (3, "/a/1")]);
    assert_eq!((seen[1].value.as_ref(), seen[1].previous), (None, Some(1)));
    assert_eq!(store.at(1).await.unwrap().unwrap().value, "x");
    let writer = store.clone();
    let write = tokio::spawn(async move { put(&writer, "/a/2", "y").await });
    assert_eq!(keys(&watch.next().await.unwrap()), [(4, "/a/2")]);
    write.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_watch_reads_the_file_and_misses_nothing() {
    const WRITES: u64 = 2_000;
    let dir = Scratch::new("slow");
    let store = Store::open(dir.file()).await.unwrap();
    let mut watch = store.watch("/", 0);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8u64 {
        let store = store.clone();
        tasks.spawn(async move {
            for n in 0..WRITES / 8 {
                put(&store, &format!("/{task}/{}", n % 50), "some value").await;
            }
        });
    }
    let mut next = 1;
    while next <= WRITES {
        for change in watch.next().await.unwrap() {
            assert_eq!(change.revision, next);
            next += 1;
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(store.revision(), WRITES);
}

#[tokio::test]
async fn compaction_forgets_what_only_old_revisions_need() {
    let dir = Scratch::new("compact");
    let store = Store::open(dir.file()).await.unwrap();
    for n in 0..10 {
        put(&store, "/a", &n.to_string()).await;
    }
    put(&store, "/b", "kept").await;
    store.delete("/a", Expect::Any).await.unwrap();
    put(&store, "/c", "last").await;
    store.compact(12).await.unwrap();
    assert_eq!(store.oldest(), 12);
    let old = store.get("/a", Some(5)).await;
    assert!(
        matches!(
            old,
            Err(Error::Compacted {
                requested: 5,
                oldest: 12
            })
        ),
        "{old:?}"
    );
    let old = store.watch("/", 5).next().await;
    assert!(matches!(old, Ok(_) | Err(Error::Compacted { .. })), "{old:?}");
    let all = store
        .range(Range {
            revision: Some(12),
            ..Range::default()
        })
        .await
        .unwrap();
    assert_eq!(
        all.entries
            .iter()
            .map(|e| (e.key.as_str(), e.revision))
            .collect::<Vec<_>>(),
        [("/b", 11)]
    );
    assert_eq!(store.at(9).await.unwrap(), None);
    store.close().await;
    let store = Store::open(dir.file()).await.unwrap();
    assert_eq!((store.oldest(), store.revision()), (12, 13));
    let old = store.watch("/", 5).next().await;
    assert!(
        matches!(
            old,
            Err(Error::Compacted {
                requested: 5,
                oldest: 12
            })
        ),
        "{old:?}"
    );
    assert_eq!(keys(&store.watch("/", 12).next().await.unwrap()), [(13, "/c")]);
}

#[tokio::test]
async fn compaction_never_takes_the_counter_back() {
    let dir = Scratch::new("counter");
    let store = Store::open(dir.file()).await.unwrap();
    put(&store, "/a", "x").await;
    store.delete("/a", Expect::Any).await.unwrap();
    store.compact(2).await.unwrap();
    store.close().await;
    let store = Store::open(dir.file()).await.unwrap();
    assert_eq!(put(&store, "/b", "y").await, 3);
}

#[tokio::test]
async fn a_closed_store_ends_watches_and_refuses_writes() {
    let dir = Scratch::new("closed");
    let store = Store::open(dir.file()).await.unwrap();
    let mut watch = store.watch("/", 0);
    let waiting = tokio::spawn(async move { watch.next().await });
    store.close().await;
    assert!(matches!(waiting.await.unwrap(), Err(Error::Closed)));
    assert!(matches!(
        store.delete("/a", Expect::Any).await,
        Err(Error::Closed)
    ));
}

#[tokio::test]
async fn the_process_that_has_the_file_is_named() {
    let dir = Scratch::new("in-use");
    let _store = Store::open(dir.file()).await.unwrap();
    let error = Store::open(dir.file()).await.unwrap_err();
    let wanted = format!("(pid {})", std::process::id());
    assert!(
        matches!(&error, Error::InUse { holder, .. } if holder.ends_with(&wanted)),
        "{error}"
    );
}

#[tokio::test]
async fn damage_and_foreign_files_are_told() {
    let dir = Scratch::new("damage");
    std::fs::write(dir.file(), vec![b'x'; 8192]).unwrap();
    let error = Store::open(dir.file()).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    let other = dir.0.join("other.db");
    rusqlite::Connection::open(&other)
        .unwrap()
        .pragma_update(None, "user_version", 7)
        .unwrap();
    let error = Store::open(&other).await.unwrap_err();
    assert!(matches!(error, Error::Format { found: 7, .. }), "{error}");
    let whole = dir.0.join("whole.db");
    let store = Store::open(&whole).await.unwrap();
    for n in 0..400 {
        put(&store, &format!("/{n}"), &"v".repeat(300)).await;
    }
    store.close().await;
    let mut bytes = std::fs::read(&whole).unwrap();
    bytes[4096..40_960].fill(0xff);
    std::fs::write(&whole, bytes).unwrap();
    let error = Store::open(&whole).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

/// Needs the right to mount: a small tmpfs stands for the disk.
#[tokio::test]
async fn a_full_disk_is_told_and_later_writes_work_again() {
    use nix::mount::{MsFlags, mount, umount};
    let dir = Scratch::new("full");
    mount(
        Some("tmpfs"),
        &dir.0,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=3m"),
    )
    .expect("this test mounts a tmpfs and needs root");
    let result = fill_and_recover(&dir).await;
    umount(&dir.0).expect("the tmpfs is unmounted");
    result.unwrap();
}

async fn fill_and_recover(dir: &Scratch) -> Result<(), String> {
    let filler = dir.0.join("filler");
    std::fs::write(&filler, vec![0; 1 << 20]).map_err(|e| e.to_string())?;
    let store = Store::open(dir.file()).await.map_err(|e| format!("{e:?}"))?;
    let mut written = 0u64;
    let error = loop {
        match store
            .put(format!("/{written}"), vec![b'v'; 20_000], Expect::Absent)
            .await
        {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        if written > 1_000 {
            return Err("the disk never got full".to_owned());
        }
    };
    if !matches!(error, Error::Full { .. }) {
        return Err(format!("{error:?}"));
    }
    let kept = store
        .range(Range::default())
        .await
        .map_err(|e| format!("{e:?}"))?;
    if (kept.entries.len() as u64, store.revision()) != (written, written) {
        return Err(format!(
            "{written} written, {} kept, {}",
            kept.entries.len(),
            store.revision()
        ));
    }
    std::fs::remove_file(&filler).map_err(|e| e.to_string())?;
    let change = store
        .put("/more", vec![b'v'; 20_000], Expect::Absent)
        .await
        .map_err(|e| format!("{e:?}"))?;
    store.close().await;
    let store = Store::open(dir.file()).await.map_err(|e| format!("{e:?}"))?;
    let kept = store
        .range(Range::default())
        .await
        .map_err(|e| format!("{e:?}"))?;
    store.close().await;
    match (
        change.revision == written + 1,
        kept.entries.len() as u64 == written + 1,
    ) {
        (true, true) => Ok(()),
        _ => Err(format!(
            "revision {} after {written}, {} kept",
            change.revision,
            kept.entries.len()
        )),
    }
}

/// The process is killed while it writes; what it acknowledged is there.
#[test]
fn a_killed_process_loses_nothing_it_acknowledged() {
    if let Ok(path) = std::env::var("KNODE_STORE_TEST_WRITE") {
        return write_until_killed(&path);
    }
    let dir = Scratch::new("killed");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_killed_process_loses_nothing_it_acknowledged",
            "--nocapture",
        ])
        .env("KNODE_STORE_TEST_WRITE", dir.file())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = 0u64;
    for line in std::io::BufRead::lines(output) {
        if let Some(n) = line.unwrap().strip_prefix("acknowledged ") {
            acknowledged = n.parse().unwrap();
        }
        if acknowledged == 200 {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged >= 200, "{acknowledged}");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(dir.file()).await.unwrap();
        assert!(
            store.revision() >= acknowledged,
            "{} < {acknowledged}",
            store.revision()
        );
        let page = store.range(Range::default()).await.unwrap();
        assert_eq!(page.entries.len() as u64, store.revision());
    });
}

fn write_until_killed(path: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("the child works");
    runtime.block_on(async {
        let store = Store::open(path).await.expect("the child works");
        for n in 0..100_000 {
            let revision = put(&store, &format!("/{n}"), "value").await;
            println!("acknowledged {revision}");
        }
    });
}
