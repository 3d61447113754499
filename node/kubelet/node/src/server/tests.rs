use super::auth::subresources;
use super::route::{Route, first, query, route};
use super::streams::Streams;

#[test]
fn paths_lead_where_upstreams_lead() {
    assert_eq!(route("/healthz/syncloop"), Route::Healthz);
    assert_eq!(route("/runningpods/"), Route::RunningPods);
    assert_eq!(route("/metrics/resource"), Route::ResourceMetrics);
    assert_eq!(route("/spec/"), Route::Unknown);
    assert_eq!(route("/"), Route::Unknown);
    let Route::Exec(target) = route("/exec/ns/pod/uid-1/c") else {
        panic!("exec with uid")
    };
    assert_eq!(
        (
            target.namespace.as_str(),
            target.pod.as_str(),
            target.container.as_str()
        ),
        ("ns", "pod", "c")
    );
    assert_eq!(target.uid.as_deref(), Some("uid-1"));
    let Route::ContainerLogs(target) = route("/containerLogs/ns/pod/c") else {
        panic!("logs")
    };
    assert_eq!((target.uid, target.container.as_str()), (None, "c"));
    assert!(matches!(route("/portForward/ns/pod"), Route::PortForward(_)));
    assert_eq!(route("/logs/a%20b+c/d"), Route::SystemLogs("a b+c/d".to_owned()));
    assert_eq!(route("/metrics/cadvisor"), Route::CadvisorMetrics);
    assert!(matches!(route("/checkpoint/n/p/c"), Route::Checkpoint(_)));
    assert_eq!(route("/checkpoint/n/p"), Route::Unknown);
}

#[test]
fn queries_are_decoded_in_order() {
    let query = query(Some("command=sh&command=-c&command=echo%20a%2Bb+c&x&tty=1"));
    let commands: Vec<_> = query
        .iter()
        .filter(|(key, _)| key == "command")
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(commands, ["sh", "-c", "echo a+b c"]);
    assert_eq!(first(&query, "x"), Some(""));
    assert_eq!(first(&query, "none"), None);
    assert_eq!(
        super::route::query(Some("a=%zz%4")),
        [("a".to_owned(), "%zz%4".to_owned())]
    );
}

#[test]
fn a_terminal_has_no_second_output() {
    let parse = |text: &str| Streams::parse(&query(Some(text)));
    assert_eq!(parse("tty=1"), None);
    let streams = parse("input=1&output=1&error=1&tty=1").unwrap();
    assert!(streams.stdin && streams.stdout && streams.tty && !streams.stderr);
    assert!(parse("error=1").unwrap().stderr);
    assert_eq!(parse("output=true"), None);
}

/// recordings: kubelet-authn
#[test]
fn permissions_are_asked_as_upstream_asks() {
    assert_eq!(subresources("/pods"), ["pods", "proxy"]);
    assert_eq!(subresources("/runningpods/"), ["pods", "proxy"]);
    assert_eq!(subresources("/metrics/resource"), ["metrics"]);
    assert_eq!(subresources("/stats/summary"), ["stats"]);
    assert_eq!(subresources("/logs/"), ["log"]);
    assert_eq!(subresources("/healthz/ping"), ["healthz", "proxy"]);
    assert_eq!(subresources("/configz"), ["configz", "proxy"]);
    assert_eq!(subresources("/exec/ns/p/c"), ["proxy"]);
    assert_eq!(subresources("/podsextra"), ["proxy"]);
}
