use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread;

use super::*;
use crate::{FIXED, Kind};

/// A manager that reads one call after the other and answers with these messages; it gives the calls.
fn played(name: &str, answers: Vec<Vec<Message>>) -> (PathBuf, thread::JoinHandle<Vec<Message>>) {
    let path = std::env::temp_dir().join(format!("knode-systemd-{name}-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let serve = move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let mut said = Vec::new();
        stream.read_until(b'\n', &mut said).unwrap();
        stream.get_mut().write_all(b"OK 0123\r\n").unwrap();
        stream.read_until(b'\n', &mut said).unwrap();
        let mut calls = Vec::new();
        for messages in answers {
            let mut start = [0; FIXED];
            stream.read_exact(&mut start).unwrap();
            let mut bytes = start.to_vec();
            bytes.resize(Message::size(&start).unwrap(), 0);
            stream.read_exact(&mut bytes[FIXED..]).unwrap();
            calls.push(Message::parse(&bytes).unwrap());
            for message in messages {
                stream.get_mut().write_all(&message.marshal()).unwrap();
            }
        }
        calls
    };
    (path, thread::spawn(serve))
}

fn answer(to: u32, text: &str) -> Message {
    let mut body = Writer::default();
    body.string(text);
    Message {
        serial: 1,
        reply_to: to,
        body: body.0,
        ..Message::new(Kind::Return)
    }
}

fn error(to: u32, name: &str, text: &str) -> Message {
    Message {
        kind: Kind::Error,
        error: format!("org.freedesktop.systemd1.{name}"),
        ..answer(to, text)
    }
}

fn removed(job: &str, unit: &str, result: &str) -> Message {
    let mut body = Writer::default();
    body.u32(12);
    for text in [job, unit, result] {
        body.string(text);
    }
    Message {
        serial: 1,
        member: "JobRemoved".to_owned(),
        body: body.0,
        ..Message::new(Kind::Signal)
    }
}

#[test]
fn jobs_are_waited_for_whenever_they_end() {
    let others = removed("/job/9", "other.scope", "failed");
    let (path, served) = played(
        "jobs",
        vec![
            // The end may be told before the answer, and after other things.
            vec![
                others.clone(),
                removed("/job/1", "a.slice", "done"),
                answer(1, "/job/1"),
            ],
            vec![
                answer(2, "/job/2"),
                others,
                removed("/job/2", "a.scope", "failed"),
            ],
            vec![answer(3, "/job/3"), removed("/job/3", "a.scope", "done")],
        ],
    );
    let mut systemd = Systemd::connect(&path).unwrap();
    let slice = [Property::bool("DefaultDependencies", false)];
    systemd.start_transient("a.slice", &slice).unwrap();
    let scope = [Property::text("Slice", "a.slice"), Property::pids(vec![7])];
    let failed = systemd.start_transient("a.scope", &scope).unwrap_err();
    assert_eq!(failed.to_string(), "systemd could not start a.scope: failed");
    systemd.stop("a.scope").unwrap();
    let calls = served.join().unwrap();
    assert_eq!(calls[0].signature, "ssa(sv)a(sa(sv))");
    assert_eq!(calls[2].member, "StopUnit");
    let mut arguments = calls[1].arguments();
    assert_eq!(arguments.string().unwrap(), "a.scope");
    assert_eq!(arguments.string().unwrap(), "replace");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn refusals_are_told_apart() {
    let (path, served) = played(
        "refusals",
        vec![
            vec![error(1, "UnitExists", "Unit a.slice was already loaded.")],
            vec![error(2, "NoSuchUnit", "Unit x.service not found.")],
            vec![error(3, "NoSuchUnit", "Unit x.scope not loaded.")],
            vec![error(4, "NoSuchUnit", "Unit x.scope not loaded.")],
            vec![error(5, "UnitMasked", "Unit x.scope is masked.")],
        ],
    );
    let mut systemd = Systemd::connect(&path).unwrap();
    let exists = systemd.start_transient("a.slice", &[]).unwrap_err();
    assert!(
        matches!(&exists, SystemdError::UnitExists { unit } if unit == "a.slice"),
        "{exists:?}"
    );
    let missing = systemd.queue(Job::Stop, "x.service").unwrap_err();
    assert_eq!(
        missing.to_string(),
        "systemd refuses StopUnit: Unit x.service not found."
    );
    systemd.stop("x.scope").unwrap();
    systemd.reset_failed("x.scope").unwrap();
    let refused = systemd.set_properties("x.scope", &[Property::number("TasksMax", 1)]);
    assert!(
        matches!(refused, Err(SystemdError::Refused { .. })),
        "{refused:?}"
    );
    assert_eq!(served.join().unwrap()[4].signature, "sba(sv)");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn of_a_slice_that_is_there_only_the_limits_change() {
    let (path, served) = played(
        "slice",
        vec![
            vec![error(1, "UnitExists", "Unit a.slice was already loaded.")],
            vec![answer(2, "")],
            vec![answer(3, "/job/1"), removed("/job/1", "a-b.slice", "done")],
        ],
    );
    let mut systemd = Systemd::connect(&path).unwrap();
    let limits = Limits {
        memory: Some(1 << 20),
        ..Limits::default()
    };
    for group in ["/a", "/a/b"] {
        let slice = Slice::of_group(Path::new(group)).unwrap();
        systemd.apply(&slice, &limits, Version::V2).unwrap();
    }
    let calls = served.join().unwrap();
    let members: Vec<&str> = calls.iter().map(|call| call.member.as_str()).collect();
    assert_eq!(
        members,
        ["StartTransientUnit", "SetUnitProperties", "StartTransientUnit"]
    );
    let has = |call: &Message, name: &str| call.body.windows(name.len()).any(|part| part == name.as_bytes());
    assert!(calls.iter().all(|call| has(call, "MemoryMax")));
    assert!(has(&calls[2], "DefaultDependencies") && !has(&calls[1], "DefaultDependencies"));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_bus_is_greeted_and_asked_for_jobs() {
    let greeted = vec![vec![answer(1, ":1.7")], vec![answer(2, "")], vec![answer(3, "")]];
    let (path, served) = played("bus", greeted);
    Systemd::on_bus(&path).unwrap();
    let calls = served.join().unwrap();
    let members: Vec<&str> = calls.iter().map(|call| call.member.as_str()).collect();
    assert_eq!(members, ["Hello", "AddMatch", "Subscribe"]);
    assert_eq!(calls[2].destination, DESTINATION);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn nobody_there() {
    let error = Systemd::connect(Path::new("/nonexistent/private")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/private"), "{error}");
}
