//! Real questions over UDP and TCP, by dig; forwarding to a real server.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::common::{BOUND, OURS, at, dig, dnsmasq, has, model, serve, shared, short};
use knode_dns::SharedModel;
use knode_dns::forward::Stub;
use knode_testkit::{Host, wait_until};
use tokio::sync::oneshot;

/// A server of ours in a host; it ends when this is dropped.
struct Site {
    host: Host,
    model: SharedModel,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Site {
    fn new(name: &str, endpoints: u16, stubs: &[&str], servers: &[&str]) -> Self {
        Self::on(Host::new(name), endpoints, stubs, servers)
    }

    fn on(host: Host, endpoints: u16, stubs: &[&str], servers: &[&str]) -> Self {
        let model = shared(model(endpoints));
        let stubs: Vec<Stub> = stubs.iter().map(|text| text.parse().expect("a stub")).collect();
        let servers: Vec<SocketAddr> = servers.iter().map(|text| at(text)).collect();
        let (end, ended) = oneshot::channel::<()>();
        let (started, starts) = channel();
        let inside = model.clone();
        let thread = host.enter(|| {
            // A thread belongs to the namespace of the one that starts it.
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(async move {
                    let _forwarder = serve(OURS, inside, &stubs, &servers, true).await;
                    started.send(()).expect("the test waits");
                    // Whoever waits no more ends it too.
                    let _ = ended.await;
                });
            })
        });
        starts.recv().expect("the server starts");
        Self {
            host,
            model,
            end: Some(end),
            thread: Some(thread),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(Err(_)) = self.thread.take().map(std::thread::JoinHandle::join) {
            eprintln!("the server panicked");
        }
    }
}

#[test]
fn dig_gets_the_clusters_names_by_udp_and_tcp() {
    let site = Site::new("dns", 300, &[], &[]);
    let host = &site.host;
    for way in ["+notcp", "+tcp"] {
        assert_eq!(
            short(host, &format!("{way} web.ns.svc.cluster.local A")),
            ["10.254.0.10"]
        );
        assert_eq!(
            short(host, &format!("{way} web.ns.svc.cluster.local AAAA")),
            ["fd00:254::a"]
        );
        assert_eq!(
            short(host, &format!("{way} -x 10.254.0.10")),
            ["web.ns.svc.cluster.local."]
        );
        let text = dig(host, &format!("{way} _http._tcp.web.ns.svc.cluster.local SRV"));
        has(
            &text,
            &[
                "NOERROR",
                "aa rd ra",
                "0 50 80 web.ns.svc.cluster.local.",
                "ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 3",
            ],
        );
        let text = dig(host, &format!("{way} web.ns.svc.cluster.local MX"));
        has(
            &text,
            &[
                "NOERROR",
                "ANSWER: 0, AUTHORITY: 1",
                "SOA\tns.dns.cluster.local. hostmaster.cluster.local.",
            ],
        );
        has(
            &dig(host, &format!("{way} no.ns.svc.cluster.local A")),
            &["NXDOMAIN", "AUTHORITY: 1"],
        );
    }
    has(&dig(host, "-c CH version.bind TXT"), &["REFUSED"]);
    has(&dig(host, "cluster.local AXFR +notcp"), &[]);
    has(&dig(host, "+opcode=notify web.ns.svc.cluster.local"), &["NOTIMP"]);
    has(
        &dig(host, "+edns=1 +noednsneg web.ns.svc.cluster.local"),
        &["BADVERS"],
    );

    // 300 addresses need more than a datagram: the client comes back by TCP.
    let cut = dig(host, "+ignore +noedns many.ns.svc.cluster.local");
    has(&cut, &["flags: qr aa tc rd ra"]);
    let cut = cut.lines().filter(|line| line.contains("\tA\t")).count();
    assert!((25..32).contains(&cut), "{cut} records in 512 bytes");
    let more = dig(host, "+ignore +bufsize=4096 many.ns.svc.cluster.local");
    let more = more.lines().filter(|line| line.contains("\tA\t")).count();
    assert!(more > 2 * cut && more < 300, "{more} records in 4096 bytes");
    assert_eq!(short(host, "many.ns.svc.cluster.local").len(), 300);

    // What changes is told at once.
    site.model.write().expect("lock").set_service("ns/web", None);
    has(&dig(host, "web.ns.svc.cluster.local"), &["NXDOMAIN"]);
    // There is nobody to ask.
    has(&dig(host, "www.example.com"), &["SERVFAIL"]);
}

#[test]
fn everything_else_is_asked_of_others() {
    let host = Host::new("forward");
    let one = dnsmasq(
        &host,
        "127.0.0.2",
        &[
            "--host-record=www.example.com,192.0.2.80,300",
            "--txt-record=txt.example.com,hello",
            "--ptr-record=9.9.9.9.in-addr.arpa,nine.example.com",
            "--address=/no.example.com/",
        ],
    );
    let stub = dnsmasq(&host, "127.0.0.3", &["--host-record=a.corp.example,192.0.2.33"]);
    let site = Site::on(host, 3, &["corp.example=127.0.0.3"], &["127.0.0.2"]);
    let host = &site.host;
    assert_eq!(short(host, "www.example.com"), ["192.0.2.80"]);
    assert_eq!(short(host, "+tcp txt.example.com TXT"), ["\"hello\""]);
    assert_eq!(
        short(host, "-x 9.9.9.9"),
        ["nine.example.com."],
        "addresses of others fall through"
    );
    assert_eq!(short(host, "a.CORP.example"), ["192.0.2.33"], "the stub's server");
    has(&dig(host, "no.example.com"), &["NXDOMAIN"]);
    has(&dig(host, "other.test"), &["REFUSED"]);
    assert_eq!(
        short(host, "out.ns.svc.cluster.local"),
        ["192.0.2.80", "www.example.com."]
    );

    // The second question is answered from memory, by the time that is left.
    let asked = || one.output().matches("query[A] www.example.com").count();
    let before = asked();
    let text = dig(host, "www.example.com");
    let ttl = text
        .lines()
        .find(|line| line.contains("192.0.2.80"))
        .and_then(|line| line.split_whitespace().nth(1));
    let ttl: u32 = ttl
        .and_then(|ttl| ttl.parse().ok())
        .unwrap_or_else(|| panic!("no TTL in {text}"));
    assert!((1..=30).contains(&ttl), "at most thirty seconds: {ttl}");
    assert_eq!(asked(), before, "{}", one.output());
    assert!(!stub.output().contains("www.example.com"), "{}", stub.output());
}

#[test]
fn a_server_that_is_gone_is_gone_around() {
    let host = Host::new("failover");
    let one = dnsmasq(&host, "127.0.0.2", &["--address=/example.com/192.0.2.1"]);
    let two = dnsmasq(&host, "127.0.0.3", &["--address=/example.com/192.0.2.2"]);
    let site = Site::on(host, 3, &[], &["127.0.0.2", "127.0.0.3"]);
    let seen = |site: &Site, n: u32| short(&site.host, &format!("n{n}.example.com"));
    let answers: std::collections::BTreeSet<_> = (0..40).map(|n| seen(&site, n)).collect();
    assert_eq!(answers.len(), 2, "both are asked: {answers:?}");
    drop(two);
    for n in 100..120 {
        assert_eq!(seen(&site, n), ["192.0.2.1"], "question {n}");
    }
    drop(one);
    let began = Instant::now();
    has(&dig(&site.host, "gone.example.com"), &["SERVFAIL"]);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(short(&site.host, "web.ns.svc.cluster.local"), ["10.254.0.10"]);
    let back = dnsmasq(&site.host, "127.0.0.3", &["--address=/example.com/192.0.2.2"]);
    wait_until("the server that is back to be asked", BOUND, || {
        let answer = seen(&site, 200);
        if answer == ["192.0.2.2"] {
            Ok(())
        } else {
            Err(format!("{answer:?}\n{}", back.output()))
        }
    });
}

#[test]
fn a_server_that_asks_us_is_left_out() {
    let host = Host::new("loop");
    // It asks whom it is told, which is us.
    let back = dnsmasq(&host, "127.0.0.2", &["--server=127.0.0.1"]);
    let _good = dnsmasq(&host, "127.0.0.3", &["--address=/example.com/192.0.2.2"]);
    let site = Site::on(host, 3, &[], &["127.0.0.2", "127.0.0.3"]);
    wait_until("the loop to be noticed", BOUND, || {
        let text = back.output();
        if text.contains("query[HINFO]") || text.contains("query[type=13]") {
            Ok(())
        } else {
            Err(text)
        }
    });
    let before = back.output().len();
    for n in 0..20 {
        assert_eq!(short(&site.host, &format!("n{n}.example.com")), ["192.0.2.2"]);
    }
    let after = back.output();
    assert!(
        !after[before..].contains("example.com"),
        "it is not asked any more: {after}"
    );
}
