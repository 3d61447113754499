//! Networks of pods: names, and ports that answer.

use std::net::SocketAddr;

use knode_cri::*;
use knode_testkit::wait::wait_until_async;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::case::Case;
use crate::support::BOUND;

pub async fn resolver(case: &Case<'_>) {
    let mut config = case.sandbox_config();
    config.dns_config = Some(DnsConfig {
        servers: vec!["10.10.10.10".into()],
        searches: vec!["google.com".into()],
        options: vec!["ndots:8".into()],
    });
    let pod = case.pod_of(config).await;
    let id = case.stays(&pod, |_| ()).await;
    let text = case.prints_inside(&id, &["cat", "/etc/resolv.conf"]).await;
    for line in ["nameserver 10.10.10.10", "search google.com", "options ndots:8"] {
        assert!(text.contains(line), "{text}");
    }
}

pub async fn hostname(case: &Case<'_>) {
    let mut config = case.sandbox_config();
    config.hostname = "test-hostname".into();
    let pod = case.pod_of(config).await;
    let id = case.stays(&pod, |_| ()).await;
    assert_eq!(case.prints_inside(&id, &["hostname"]).await, "test-hostname\n");
}

/// The port that the pod's server listens on.
pub const PORT: u16 = 80;

/// A pod with a web server.
pub async fn serving(case: &Case<'_>, port: u16, host_port: u16, network: NamespaceMode) -> String {
    let mut config = case.sandbox_config();
    config.port_mappings = vec![PortMapping {
        container_port: port.into(),
        host_port: host_port.into(),
        ..Default::default()
    }];
    let config = crate::support::sandbox_secured(config, |context| {
        context.namespace_options = Some(NamespaceOption {
            network: network as i32,
            ..Default::default()
        });
    });
    let pod = case.pod_of(config).await;
    let script = format!("echo the page > /tmp/index.html; exec busybox httpd -f -p {port} -h /tmp");
    let mut container = case.container(&["sh", "-c", &script]).await;
    if network == NamespaceMode::Node {
        container = crate::support::secured(container, |context| {
            context.namespace_options = Some(NamespaceOption {
                network: network as i32,
                ..Default::default()
            });
        });
    }
    case.run_config(&pod, container).await;
    pod
}

async fn page(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Waits until the page is served at the address.
pub async fn answers(address: SocketAddr) {
    wait_until_async("the page", BOUND, || async move {
        match page(address).await {
            Ok(answer) if answer.starts_with("HTTP/1.") && answer.contains(" 200 ") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn address_of(case: &Case<'_>, pod: &str) -> SocketAddr {
    let network = case.pod_status(pod).await.network.unwrap();
    SocketAddr::new(network.ip.parse().unwrap(), PORT)
}

pub async fn a_port_of_the_pod(case: &Case<'_>) {
    let pod = serving(case, PORT, 0, NamespaceMode::Pod).await;
    answers(address_of(case, &pod).await).await;
}

pub async fn a_port_of_the_host(case: &Case<'_>) {
    serving(case, PORT, 12_000, NamespaceMode::Pod).await;
    answers(SocketAddr::from(([127, 0, 0, 1], 12_000))).await;
}

/// As [`a_port_of_the_pod`], with another container beside the server's.
pub async fn several_containers(case: &Case<'_>) {
    let pod = serving(case, PORT, 0, NamespaceMode::Pod).await;
    case.stays(&pod, |_| ()).await;
    answers(address_of(case, &pod).await).await;
}
