//! Images of real programs, run from their snapshots.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use knode_testkit::image::{busybox, nginx};
use knode_testkit::{Host, Registry};

use crate::Auth;
use crate::store::tests::Fixture;

fn chroot(root: &Path, words: &[&str]) -> Output {
    Command::new("chroot").arg(root).args(words).output().unwrap()
}

#[tokio::test]
async fn busybox_runs_from_its_snapshot() {
    let fixture = Fixture::new();
    let image = fixture.import(&busybox()).await;
    let snapshots = fixture.store.snapshots();
    snapshots.prepare(image.id.as_str(), "c").unwrap();
    let root = snapshots.mount("c").unwrap();
    let output = chroot(
        &root,
        &[
            "/bin/sh",
            "-c",
            "echo hello > /tmp/x; cat /tmp/x; ls -ld /tmp; id -un",
        ],
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.starts_with("hello\ndrwxrwxrwt") && text.ends_with("root\n"),
        "{output:?}"
    );
}

#[test]
fn nginx_is_pulled_and_finds_everything_it_needs() {
    let host = Host::new("nginx");
    let registry = Registry::start(&host);
    let reference = registry.push(&nginx().build());
    let fixture = Fixture::new();
    let image = host
        .block_on(async || fixture.store.pull(&reference, &Auth::Anonymous).await)
        .unwrap();
    assert_eq!(image.config.stop_signal, "SIGQUIT");
    let snapshots = fixture.store.snapshots();
    snapshots.prepare(&reference, "c").unwrap();
    let root = snapshots.mount("c").unwrap();
    // `/dev/stderr` is a file here; in a container it is the log.
    std::fs::create_dir_all(root.join("dev")).unwrap();
    let output = chroot(&root, &["/usr/sbin/nginx", "-t"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn a_snapshot_is_ready_in_milliseconds() {
    let fixture = Fixture::new();
    let image = fixture.import(&busybox()).await;
    let snapshots = fixture.store.snapshots();
    let mut times: Vec<Duration> = Vec::new();
    for number in 0..20 {
        let (key, start) = (number.to_string(), Instant::now());
        snapshots.prepare(image.id.as_str(), &key).unwrap();
        snapshots.mount(&key).unwrap();
        times.push(start.elapsed());
        snapshots.remove(&key).unwrap();
    }
    times.sort();
    // A generous bound for a busy machine; it is far below one when nothing else runs.
    assert!(times[10] < Duration::from_millis(20), "median {:?}", times[10]);
    println!("prepare and mount: median {:?}, worst {:?}", times[10], times[19]);
}
