//! Streams over SPDY, as upstream's suite opens them.

use std::net::SocketAddr;

use knode_cri::*;
use knode_testkit::wait::wait_until_async;

use crate::case::Case;
use crate::networking::{self, PORT, answers, serving};
use crate::support::BOUND;
use crate::support::spdy::{Process, forward, upgrade};

pub async fn a_command(case: &Case<'_>) {
    let pod = case.pod().await;
    let id = case.stays(&pod, |_| ()).await;
    let request = ExecRequest {
        container_id: id,
        cmd: ["echo", "-n", "hello"].map(str::to_owned).to_vec(),
        stdout: true,
        stderr: true,
        ..Default::default()
    };
    let url = case.cri().exec(request).await.unwrap().url;
    let mut process = Process::open(&url, &["stdout", "stderr"]).await;
    process.end().await;
    assert_eq!(
        (process.said("stdout").as_str(), process.said("stderr").as_str()),
        ("hello", "")
    );
}

pub async fn a_command_on_a_terminal(case: &Case<'_>) {
    let pod = case.pod().await;
    let id = case.stays(&pod, |_| ()).await;
    let request = ExecRequest {
        container_id: id,
        cmd: ["echo", "-n", "hello"].map(str::to_owned).to_vec(),
        stdin: true,
        stdout: true,
        tty: true,
        ..Default::default()
    };
    let url = case.cri().exec(request).await.unwrap().url;
    let mut process = Process::open(&url, &["stdin", "stdout", "resize"]).await;
    process.end().await;
    assert!(
        process.said("stdout").contains("hello"),
        "{}",
        process.said("stdout")
    );
}

pub async fn a_containers_own(case: &Case<'_>) {
    let pod = case.pod().await;
    let id = case
        .stays(&pod, |config| {
            config.command = vec!["/bin/sh".into()];
            (config.stdin, config.stdin_once) = (true, true);
        })
        .await;
    let request = AttachRequest {
        container_id: id,
        stdin: true,
        stdout: true,
        stderr: true,
        ..Default::default()
    };
    let url = case.cri().attach(request).await.unwrap().url;
    let mut process = Process::open(&url, &["stdin", "stdout", "stderr"]).await;
    process.say("stdin", "echo -n hello\n", false).await;
    process.until_said("stdout", "hello").await;
    process.say("stdin", "", true).await;
    process.end().await;
    assert_eq!(
        (process.said("stdout").as_str(), process.said("stderr").as_str()),
        ("hello", "")
    );
}

async fn forwards(case: &Case<'_>, pod: &str, port: u16) {
    wait_until_async("the page by a forwarded port", BOUND, || async {
        let request = PortForwardRequest {
            pod_sandbox_id: pod.into(),
            ..Default::default()
        };
        let url = case.cri().port_forward(request).await.unwrap().url;
        let (head, stream) = upgrade(&url, &["portforward.k8s.io"]).await;
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        let (said, errors) = forward(stream, port, "GET / HTTP/1.0\r\n\r\n").await;
        if said.contains(" 200 ") {
            Ok(())
        } else {
            Err(format!("{said:?} {errors:?}"))
        }
    })
    .await;
}

pub async fn a_port(case: &Case<'_>) {
    let pod = serving(case, PORT, 0, NamespaceMode::Pod).await;
    forwards(case, &pod, PORT).await;
}

pub async fn a_port_of_the_hosts_network(case: &Case<'_>) {
    let port = 12_003;
    let pod = networking::serving(case, port, 0, NamespaceMode::Node).await;
    answers(SocketAddr::from(([127, 0, 0, 1], port))).await;
    forwards(case, &pod, port).await;
}
