//! The whole server before an API server that says nothing yet, and with name servers that change.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc::channel;

use crate::common::{BOUND, OURS, at, dig, dnsmasq, has, short};
use knode_dns::{Config, Dns};
use knode_testkit::{Host, Scratch, wait_until};
use tokio::sync::oneshot;

/// Where the pages are.
const HEALTH: ([u8; 4], u16) = ([127, 0, 0, 1], 8080);
const READY: ([u8; 4], u16) = ([127, 0, 0, 1], 8181);

/// A client whose requests are never answered.
fn silent() -> knode_client::Client {
    knode_client::from_service(tower::service_fn(|_: http::Request<kube::client::Body>| async {
        std::future::pending::<Result<http::Response<kube::client::Body>, Infallible>>().await
    }))
}

fn page(host: &Host, address: ([u8; 4], u16), path: &str) -> String {
    host.enter(|| {
        let mut stream = TcpStream::connect(SocketAddr::from(address)).expect("connect");
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("ask");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text
    })
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("write the file");
}

#[test]
fn before_the_first_lists_others_names_are_answered_and_the_clusters_are_not() {
    let host = Host::new("open");
    let _one = dnsmasq(&host, "127.0.0.2", &["--address=/example.com/192.0.2.1"]);
    let _two = dnsmasq(&host, "127.0.0.3", &["--address=/example.com/192.0.2.2"]);
    let scratch = Scratch::new("dns-open");
    let file = scratch.join("resolv.conf");
    write(&file, "nameserver 127.0.0.2\n");
    let (end, ended) = oneshot::channel::<()>();
    let (started, starts) = channel();
    let resolv_conf = file.clone();
    let server = host.enter(|| {
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let config = Config {
                    listen: vec![at(OURS)],
                    resolv_conf,
                    health: Some(HEALTH.into()),
                    ready: Some(READY.into()),
                    ..Config::new(silent())
                };
                let taken = Config {
                    listen: vec![],
                    ..config.clone()
                };
                let dns = Dns::open(config).await.expect("open");
                let error = Dns::open(taken).await.err().expect("the pages' ports are taken");
                assert!(error.to_string().contains("127.0.0.1:8080 for health"), "{error}");
                started.send(()).expect("the test waits");
                // Whoever waits no more ends it too.
                dns.run(async move { drop(ended.await) }).await;
            });
        })
    });
    starts.recv().expect("the server starts");

    has(&dig(&host, "web.ns.svc.cluster.local"), &["SERVFAIL"]);
    assert_eq!(short(&host, "a.example.com"), ["192.0.2.1"]);
    has(&page(&host, HEALTH, "/health"), &["200 OK"]);
    has(&page(&host, READY, "/ready"), &["503", "kubernetes"]);
    has(&page(&host, READY, "/health"), &["404"]);

    // Programs write the file in place, or put another in its place.
    write(&file, "nameserver 127.0.0.3\n");
    wait_until("the other name server", BOUND, || {
        let seen = short(&host, &format!("n{}.example.com", rand::random::<u32>()));
        if seen == ["192.0.2.2"] {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });
    let new = scratch.join("new");
    write(&new, "nameserver 127.0.0.2\n");
    std::fs::rename(&new, &file).expect("rename");
    wait_until("the first name server again", BOUND, || {
        let seen = short(&host, &format!("n{}.example.com", rand::random::<u32>()));
        if seen == ["192.0.2.1"] {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });

    drop(end);
    server.join().expect("the server ends");
}
