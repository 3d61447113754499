//! Exec, attach and port forwarding over the streaming server. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use knode_cri::*;
use knode_testkit::wait::wait_until_async;
use support::daemon::Daemon;
use support::spdy::{Process, forward, upgrade};
use support::websocket::{connect, listen, say, tunnel};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn exec(container: &str, script: &str) -> ExecRequest {
    ExecRequest {
        container_id: container.into(),
        cmd: ["sh", "-c", script].map(str::to_string).to_vec(),
        stdout: true,
        stderr: true,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_streams_over_websocket() {
    let daemon = Daemon::new("wsexec").await;
    let sandbox = daemon.sandbox().await;
    let id = daemon.run(&sandbox, "sleep 1000").await;
    let url = daemon
        .cri()
        .exec(exec(&id, "echo out; echo err >&2; exit 3"))
        .await
        .unwrap()
        .url;
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let mut client = connect(&url, "v5.channel.k8s.io").await;
    let said = listen(&mut client).await;
    assert_eq!((said[&1].as_str(), said[&2].as_str()), ("out\n", "err\n"));
    assert_eq!(
        said[&3],
        "{\"details\":{\"causes\":[{\"message\":\"3\",\"reason\":\"ExitCode\"}]},\
         \"message\":\"command terminated with non-zero exit code: command terminated with exit code 3\",\
         \"metadata\":{},\"reason\":\"NonZeroExitCode\",\"status\":\"Failure\"}"
    );
    let again = TcpStream::connect(url[7..].split('/').next().unwrap())
        .await
        .unwrap();
    let used = tokio_tungstenite::client_async(url.replace("http", "ws"), again).await;
    assert!(used.is_err(), "a token is good once");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_ends_when_the_client_says_so() {
    let daemon = Daemon::new("wsstdin").await;
    let sandbox = daemon.sandbox().await;
    let id = daemon.run(&sandbox, "sleep 1000").await;
    let url = daemon
        .cri()
        .exec(ExecRequest {
            stdin: true,
            ..exec(&id, "cat; echo end")
        })
        .await
        .unwrap()
        .url;
    let mut client = connect(&url, "v5.channel.k8s.io").await;
    say(&mut client, 0, b"hello\n").await;
    say(&mut client, 255, &[0]).await;
    let said = listen(&mut client).await;
    assert_eq!(said[&1], "hello\nend\n");
    assert_eq!(said[&3], "{\"metadata\":{},\"status\":\"Success\"}");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_a_size_and_echoes() {
    let daemon = Daemon::new("wstty").await;
    let sandbox = daemon.sandbox().await;
    terminal(&daemon, &sandbox, "0 0 4294967295").await;
    let mapping = vec![IdMapping {
        container_id: 0,
        host_id: 200_000,
        length: 65_536,
    }];
    let users = UserNamespace {
        mode: NamespaceMode::Pod as i32,
        uids: mapping.clone(),
        gids: mapping,
    };
    let mut config = daemon.sandbox_config();
    config.linux.get_or_insert_default().security_context = Some(LinuxSandboxSecurityContext {
        namespace_options: Some(NamespaceOption {
            pid: NamespaceMode::Container as i32,
            userns_options: Some(users),
            ..Default::default()
        }),
        ..Default::default()
    });
    let sandbox = daemon.run_sandbox(config).await.unwrap();
    terminal(&daemon, &sandbox, "0 200000 65536").await;
    daemon.end().await;
}

/// Runs a command on a terminal that sees these users.
async fn terminal(daemon: &Daemon, sandbox: &str, users: &str) {
    let id = daemon.run(sandbox, "sleep 1000").await;
    let request = ExecRequest {
        container_id: id.clone(),
        cmd: vec!["sh".into()],
        stdin: true,
        stdout: true,
        tty: true,
        ..Default::default()
    };
    let both = ExecRequest {
        stderr: true,
        ..request.clone()
    };
    assert_eq!(
        daemon.cri().exec(both).await.unwrap_err().code,
        Code::InvalidArgument
    );
    let url = daemon.cri().exec(request).await.unwrap().url;
    let mut client = connect(&url, "v4.channel.k8s.io").await;
    say(&mut client, 4, b"{\"Width\":91,\"Height\":37}").await;
    say(
        &mut client,
        0,
        b"sleep 0.2; busybox stty size; echo $(cat /proc/self/uid_map); test -t 0 && exit 5\r",
    )
    .await;
    let said = listen(&mut client).await;
    assert!(said[&1].contains("37 91\r\n"), "{said:?}");
    assert!(said[&1].contains(users), "{said:?}");
    assert!(said[&3].contains("\"message\":\"5\""), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_said_in_the_stream() {
    let daemon = Daemon::new("wsfail").await;
    let sandbox = daemon.sandbox().await;
    let id = daemon.run(&sandbox, "sleep 1000").await;
    let request = ExecRequest {
        cmd: vec!["/no/such".into()],
        ..exec(&id, "")
    };
    let url = daemon.cri().exec(request).await.unwrap().url;
    let said = listen(&mut connect(&url, "v5.channel.k8s.io").await).await;
    let text = "error executing command in container: failed to exec in container: failed to start exec";
    assert!(
        said[&3].contains("\"reason\":\"InternalError\"") && said[&3].contains(text),
        "{said:?}"
    );
    assert!(
        said[&3].contains("stat /no/such: no such file or directory"),
        "{said:?}"
    );
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attaching_reaches_the_containers_own_streams() {
    let daemon = Daemon::new("attach").await;
    let sandbox = daemon.sandbox().await;
    let mut config = shell("while read line; do echo got $line; echo err >&2; done; echo over");
    config.stdin = true;
    config.stdin_once = true;
    let id = daemon.create(&sandbox, config).await.unwrap();
    daemon.start_container(&id).await.unwrap();
    let request = AttachRequest {
        container_id: id.clone(),
        stdin: true,
        stdout: true,
        stderr: true,
        ..Default::default()
    };
    let url = daemon.cri().attach(request).await.unwrap().url;
    let mut client = connect(&url, "v5.channel.k8s.io").await;
    say(&mut client, 0, b"one\n").await;
    daemon.wait_log(&id, "got one").await;
    say(&mut client, 255, &[0]).await;
    let said = listen(&mut client).await;
    assert!(
        said[&1].starts_with("got one\n") && said[&2] == "err\n",
        "{said:?}"
    );
    assert_eq!(said[&3], "{\"metadata\":{},\"status\":\"Success\"}");
    let status = daemon.wait_exited(&id).await;
    assert_eq!(status.exit_code, 0);
    assert!(daemon.log(&id).await.contains("stdout F over"));
    daemon.end().await;
}

/// `kubectl run -i … < file` waits for what becomes of the file; `kubectl attach -i` to a container that goes on does not.
#[tokio::test(flavor = "multi_thread")]
async fn an_attached_client_that_has_said_all_stays_if_the_input_was_its_own() {
    let daemon = Daemon::new("attachend").await;
    let sandbox = daemon.sandbox().await;
    for (stdin, once, script) in [
        (true, true, "cat; sleep 1; echo late"),
        (false, false, "sleep 1; echo late"),
        (true, false, "read line; echo $line; sleep 1000"),
    ] {
        let mut config = shell(script);
        (config.stdin, config.stdin_once) = (stdin, once);
        let id = daemon.create(&sandbox, config).await.unwrap();
        daemon.start_container(&id).await.unwrap();
        let request = AttachRequest {
            container_id: id.clone(),
            stdin: true,
            stdout: true,
            ..Default::default()
        };
        let url = daemon.cri().attach(request).await.unwrap().url;
        let mut client = connect(&url, "v5.channel.k8s.io").await;
        say(&mut client, 0, b"early\n").await;
        say(&mut client, 255, &[0]).await;
        let said = listen(&mut client).await;
        assert_eq!(said[&3], "{\"metadata\":{},\"status\":\"Success\"}");
        let goes_on = script.ends_with("1000");
        let wanted = match (stdin, goes_on) {
            (true, true) => "early\n",
            (true, false) => "early\nlate\n",
            (false, _) => "late\n",
        };
        assert_eq!(said[&1], wanted, "{script}");
        if goes_on {
            let state = daemon.status(&id).await.state();
            assert_eq!(state, ContainerState::ContainerRunning, "{script}");
        } else {
            // Its streams end a moment before it has.
            assert_eq!(daemon.wait_exited(&id).await.exit_code, 0, "{script}");
        }
    }
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_on_a_terminal_logs_and_can_be_attached_to() {
    let daemon = Daemon::new("ttylog").await;
    let sandbox = daemon.sandbox().await;
    let mut config =
        shell("test -t 1 && echo terminal; read line; echo got $line; busybox stty size; exit 4");
    (config.tty, config.stdin) = (true, true);
    let id = daemon.create(&sandbox, config).await.unwrap();
    daemon.start_container(&id).await.unwrap();
    daemon.wait_log(&id, "stdout F terminal").await;
    let request = AttachRequest {
        container_id: id.clone(),
        stdin: true,
        stdout: true,
        tty: true,
        ..Default::default()
    };
    let url = daemon.cri().attach(request).await.unwrap().url;
    let mut client = connect(&url, "v5.channel.k8s.io").await;
    say(&mut client, 4, b"{\"Width\":91,\"Height\":37}").await;
    say(&mut client, 0, b"hello\n").await;
    let said = listen(&mut client).await;
    assert!(
        said[&1].contains("got hello\r\n") && said[&1].contains("37 91"),
        "{said:?}"
    );
    assert_eq!(daemon.wait_exited(&id).await.exit_code, 4);
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spdy_is_answered_as_upstream_does() {
    let daemon = Daemon::new("spdyhttp").await;
    let sandbox = daemon.sandbox().await;
    let id = daemon.run(&sandbox, "sleep 1000").await;
    let url = daemon.cri().exec(exec(&id, "true")).await.unwrap().url;
    let (address, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: v5.channel.k8s.io\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\
         Content-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("upgrade: spdy/3.1\r\n"), "{head}");
    assert!(
        head.contains("x-stream-protocol-version: v4.channel.k8s.io\r\n"),
        "{head}"
    );

    let url = daemon.cri().exec(exec(&id, "true")).await.unwrap().url;
    let mut plain = TcpStream::connect(address).await.unwrap();
    let path = url.trim_start_matches("http://").split_once('/').unwrap().1;
    plain
        .write_all(format!("GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_forwarded_over_spdy_and_by_a_websocket_tunnel() {
    let daemon = Daemon::new("forward").await;
    let sandbox = daemon.sandbox().await;
    let id = daemon
        .run(&sandbox, "echo up; while :; do nc -l -p 8080 -e /bin/cat; done")
        .await;
    daemon.wait_log(&id, "up").await;
    for websocket in [false, true] {
        wait_until_async("an echo by a forwarded port", BOUND, || async {
            let request = PortForwardRequest {
                pod_sandbox_id: sandbox.clone(),
                port: vec![8080],
            };
            let url = daemon.cri().port_forward(request).await.unwrap().url;
            let (said, errors) = if websocket {
                let client = connect(&url, "SPDY/3.1+portforward.k8s.io").await;
                forward(tunnel(client), 8080, "hello").await
            } else {
                forward(upgrade(&url, &["portforward.k8s.io"]).await.1, 8080, "hello").await
            };
            if said == "hello" {
                Ok(())
            } else {
                Err(format!("{said:?} {errors:?}"))
            }
        })
        .await;
    }
    let request = PortForwardRequest {
        pod_sandbox_id: sandbox.clone(),
        port: vec![8080],
    };
    let url = daemon.cri().port_forward(request).await.unwrap().url;
    let (said, errors) = forward(upgrade(&url, &["portforward.k8s.io"]).await.1, 22, "hello").await;
    assert!(said.is_empty() && errors.contains("22"), "{said:?} {errors:?}");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_streams_over_spdy() {
    let daemon = Daemon::new("spdyexec").await;
    let sandbox = daemon.sandbox().await;
    let id = daemon.run(&sandbox, "sleep 1000").await;
    let request = ExecRequest {
        stdin: true,
        ..exec(&id, "cat; echo err >&2; exit 3")
    };
    let url = daemon.cri().exec(request).await.unwrap().url;
    let mut process = Process::open(&url, &["stdin", "stdout", "stderr"]).await;
    process.say("stdin", "hello\n", true).await;
    let status = process.end().await;
    assert!(status.contains("\"message\":\"3\""), "{status}");
    assert_eq!(
        (process.said("stdout"), process.said("stderr")),
        ("hello\n".into(), "err\n".into())
    );

    let request = ExecRequest {
        container_id: id,
        cmd: vec!["sh".into()],
        stdin: true,
        stdout: true,
        tty: true,
        ..Default::default()
    };
    let url = daemon.cri().exec(request).await.unwrap().url;
    let mut process = Process::open(&url, &["stdin", "stdout", "resize"]).await;
    process.say("resize", "{\"Width\":91,\"Height\":37}", false).await;
    process
        .say(
            "stdin",
            "until busybox stty size | grep '37 91'; do :; done; exit 5\r",
            false,
        )
        .await;
    let status = process.end().await;
    assert!(
        process.said("stdout").contains("37 91\r\n"),
        "{}",
        process.said("stdout")
    );
    assert!(status.contains("\"message\":\"5\""), "{status}");
    daemon.end().await;
}
