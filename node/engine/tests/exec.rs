//! Commands in running containers. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use knode_cri::*;
use knode_testkit::wait::wait_until_async;
use support::daemon::Daemon;
use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn output_and_exit_code_come_back() {
    let daemon = Daemon::new("exec").await;
    let sandbox = daemon.sandbox().await;
    let id = daemon.run(&sandbox, "sleep 1000").await;
    let answer = daemon
        .exec(&id, &["sh", "-c", "echo out; echo err >&2; exit 5"])
        .await
        .unwrap();
    assert_eq!(
        (answer.stdout.as_slice(), answer.stderr.as_slice()),
        (&b"out\n"[..], &b"err\n"[..])
    );
    assert_eq!(answer.exit_code, 5);
    let big = daemon
        .exec(
            &id,
            &["sh", "-c", "dd if=/dev/zero bs=1024 count=3000 2>/dev/null"],
        )
        .await
        .unwrap();
    assert_eq!(big.stdout.len(), 3000 * 1024);
    let missing = daemon.exec(&id, &["nope"]).await.unwrap_err();
    assert!(
        missing
            .message
            .ends_with("exec: \"nope\": executable file not found in $PATH"),
        "{missing:?}"
    );
    let killed = daemon.exec(&id, &["sh", "-c", "kill -9 $$"]).await.unwrap();
    assert_eq!(killed.exit_code, 137);
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_past_its_time_leaves_no_process() {
    let daemon = Daemon::new("overdue").await;
    let sandbox = daemon.sandbox().await;
    let id = daemon.run(&sandbox, "sleep 1000").await;
    let start = Instant::now();
    let error = daemon
        .exec_for(&id, &["sh", "-c", "sleep 4321 & sleep 4321"], 1)
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::DeadlineExceeded, "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
    wait_until_async("the command to be gone", BOUND, || async {
        let processes = daemon.output(&id, "ps").await;
        if processes.contains("4321") {
            Err(processes)
        } else {
            Ok(())
        }
    })
    .await;
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_leaves_behind_does_not_hold_it_up() {
    let daemon = Daemon::new("background").await;
    let sandbox = daemon.sandbox().await;
    let id = daemon.run(&sandbox, "sleep 1000").await;
    let start = Instant::now();
    let answer = daemon
        .exec(&id, &["sh", "-c", "sleep 1000 & echo done"])
        .await
        .unwrap();
    assert_eq!(answer.stdout, b"done\n");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_does_not_run_takes_no_command() {
    let daemon = Daemon::new("noexec").await;
    let sandbox = daemon.sandbox().await;
    let id = daemon.create(&sandbox, shell("true")).await.unwrap();
    let error = daemon.exec(&id, &["true"]).await.unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition, "{error:?}");
    daemon.start_container(&id).await.unwrap();
    daemon.wait_exited(&id).await;
    assert_eq!(
        daemon.exec(&id, &["true"]).await.unwrap_err().code,
        Code::FailedPrecondition
    );
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_do_not_get_in_each_others_way() {
    let daemon = Daemon::new("parallel").await;
    let sandbox = daemon.sandbox().await;
    let id = daemon.run(&sandbox, "sleep 1000").await;
    let runs = (0..20).map(|number| {
        let (daemon, id) = (&daemon, &id);
        async move {
            let script = format!("echo {number}; exit {number}");
            (number, daemon.exec(id, &["sh", "-c", &script]).await)
        }
    });
    for (number, answer) in futures::future::join_all(runs).await {
        let answer = answer.unwrap();
        assert_eq!(answer.exit_code, number);
        assert_eq!(answer.stdout, format!("{number}\n").as_bytes());
    }
    daemon.end().await;
}
