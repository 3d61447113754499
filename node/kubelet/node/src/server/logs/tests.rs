use std::future::{pending, ready};
use std::io::{Cursor, Write};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::tail::tail_start;
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn parse(query: &str) -> Result<LogOptions, BadOptions> {
    let pairs = query.split('&').filter(|part| !part.is_empty());
    let pairs: Vec<_> = pairs
        .filter_map(|part| part.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    LogOptions::parse(&pairs, "2026-11-22T12:00:00Z".parse().unwrap())
}

#[test]
fn options_are_upstreams_with_upstreams_errors() {
    let options =
        parse("follow=true&tailLines=3&limitBytes=10&sinceSeconds=60&timestamps=1&stream=Stderr").unwrap();
    assert!(options.follow && options.timestamps && !options.previous);
    assert_eq!(
        (options.tail, options.limit, options.stream),
        (Some(3), Some(10), StreamKind::Stderr)
    );
    assert_eq!(
        options.since,
        Some("2026-11-22T11:59:00Z".parse::<Timestamp>().unwrap())
    );
    assert_eq!(
        parse("sinceTime=2026-01-01T00:00:00Z").unwrap().since,
        "2026-01-01T00:00:00Z".parse().ok()
    );
    assert!(!parse("follow=false").unwrap().follow);
    assert_eq!(parse("tailLines=all").unwrap().tail, None);
    assert_eq!(parse("tailLines=x"), Err(BadOptions::Query));
    let message = |query: &str| parse(query).unwrap_err().to_string();
    assert_eq!(
        message("tailLines=-1"),
        "tailLines: Invalid value: -1: must be greater than or equal to 0"
    );
    assert_eq!(
        message("limitBytes=0"),
        "limitBytes: Invalid value: 0: must be greater than 0"
    );
    assert!(message("sinceTime=2026-01-01T00:00:00Z&sinceSeconds=1").contains("at most one of"));
}

fn written(options: &LogOptions, lines: &[&str]) -> String {
    let mut writer = LogWriter::new(options);
    let mut out = Vec::new();
    for line in lines {
        writer.write(line.as_bytes(), &mut out);
    }
    String::from_utf8(out).unwrap()
}

const LINES: [&str; 4] = [
    "2026-11-22T10:00:00.5Z stdout F one",
    "2026-11-22T10:00:01.123456789Z stderr P tw",
    "2026-11-22T10:00:01.2Z stderr F o",
    "not a line of a log",
];

#[test]
fn lines_are_shown_as_asked() {
    let options = LogOptions::default();
    assert_eq!(written(&options, &LINES), "one\ntwo\n");
    let stamped = LogOptions {
        timestamps: true,
        ..options.clone()
    };
    assert_eq!(
        written(&stamped, &LINES),
        "2026-11-22T10:00:00.500000000Z one\n2026-11-22T10:00:01.123456789Z two\n"
    );
    let late = LogOptions {
        since: "2026-11-22T10:00:01Z".parse().ok(),
        ..options.clone()
    };
    assert_eq!(written(&late, &LINES), "two\n");
    let stdout = LogOptions {
        stream: StreamKind::Stdout,
        ..options.clone()
    };
    assert_eq!(written(&stdout, &LINES), "one\n");
    let short = LogOptions {
        limit: Some(6),
        ..options
    };
    assert_eq!(written(&short, &LINES), "one\ntw");
    assert_eq!(
        written(&LogOptions::default(), &["2026-11-22T10:00:00Z stdout F"]),
        "\n"
    );
}

#[test]
fn lines_come_whole_from_any_pieces() {
    let text = b"alpha\nbeta\n\ngamma";
    for size in 1..text.len() {
        let mut splitter = LineSplitter::default();
        let mut lines = Vec::new();
        for piece in text.chunks(size) {
            splitter.push(piece, |line| lines.push(line.to_vec()));
        }
        assert_eq!(
            lines,
            [b"alpha".to_vec(), b"beta".to_vec(), Vec::new()],
            "pieces of {size}"
        );
        assert_eq!(splitter.take_rest(), b"gamma");
    }
}

#[test]
fn the_tail_begins_at_a_line() {
    let start = |text: &str, lines| tail_start(&mut Cursor::new(text.as_bytes()), lines).unwrap();
    assert_eq!(start("a\nb\nc\n", 0), 6);
    assert_eq!(start("a\nb\nc\n", 1), 4);
    assert_eq!(start("a\nb\nc\n", 2), 2);
    assert_eq!(start("a\nb\nc\n", 9), 0);
    assert_eq!(start("a\nb\nc", 1), 4);
    assert_eq!(start("", 3), 0);
    let long: String = (0..5000).map(|number| format!("line {number}\n")).collect();
    let from = usize::try_from(start(&long, 700)).unwrap();
    assert!(
        long[from..].starts_with("line 4300\n"),
        "{}",
        &long[from..from + 20]
    );
}

fn append(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    let line = format!("2026-11-22T10:00:00Z stdout F {text}\n");
    file.write_all(line.as_bytes()).unwrap();
}

async fn collect(mut receiver: mpsc::Receiver<std::io::Result<Bytes>>) -> String {
    let mut all = Vec::new();
    while let Some(piece) = receiver.recv().await {
        all.extend_from_slice(&piece.unwrap());
    }
    String::from_utf8(all).unwrap()
}

async fn receive(receiver: &mut mpsc::Receiver<std::io::Result<Bytes>>) -> String {
    let piece = tokio::time::timeout(PATIENCE, receiver.recv())
        .await
        .expect("a piece comes")
        .unwrap()
        .unwrap();
    String::from_utf8(piece.to_vec()).unwrap()
}

#[tokio::test]
async fn a_log_is_read_to_its_end_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    ["one", "two", "three"]
        .iter()
        .for_each(|text| append(&path, text));
    let link = dir.path().join("link.log");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let options = LogOptions {
        tail: Some(2),
        ..LogOptions::default()
    };
    let (sender, receiver) = mpsc::channel(8);
    let copying = tokio::spawn(async move { copy_log(&link, &options, pending(), &sender).await });
    assert_eq!(collect(receiver).await, "two\nthree\n");
    copying.await.unwrap().unwrap();
}

#[tokio::test]
async fn following_goes_across_rotation_and_ends_with_the_container() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    append(&path, "one");
    let options = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let (sender, mut receiver) = mpsc::channel(8);
    let (end, ended) = oneshot::channel::<()>();
    let followed = path.clone();
    let copying = tokio::spawn(async move {
        let ended = async {
            let _ = ended.await;
        };
        copy_log(&followed, &options, ended, &sender).await
    });
    assert_eq!(receive(&mut receiver).await, "one\n");
    append(&path, "two");
    assert_eq!(receive(&mut receiver).await, "two\n");
    std::fs::rename(&path, dir.path().join("0.log.20261122-100000")).unwrap();
    append(&path, "three");
    assert_eq!(receive(&mut receiver).await, "three\n");
    append(&path, "last");
    end.send(()).unwrap();
    assert_eq!(collect(receiver).await, "last\n");
    tokio::time::timeout(PATIENCE, copying)
        .await
        .expect("copying ends")
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_following_and_a_missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    append(&path, "one");
    let options = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let (sender, mut receiver) = mpsc::channel(8);
    let (followed, asked) = (path.clone(), options.clone());
    let copying = tokio::spawn(async move { copy_log(&followed, &asked, pending(), &sender).await });
    assert_eq!(receive(&mut receiver).await, "one\n");
    drop(receiver);
    tokio::time::timeout(PATIENCE, copying)
        .await
        .expect("copying ends")
        .unwrap()
        .unwrap();
    let (sender, _receiver) = mpsc::channel(8);
    let error = copy_log(&dir.path().join("none"), &options, ready(()), &sender)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("failed to try resolving symlinks"),
        "{error}"
    );
}
