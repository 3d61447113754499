//! The screen; pure.

use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};

use super::model::{Certificate, Node, Pod, Services, Status};

/// Certificates with fewer days left are shown with a mark.
const SOON: i64 = 30;
/// Images and peers beyond these are counted only.
const IMAGES: usize = 10;
const PEERS: usize = 20;
const MISSING: usize = 5;

/// Everything as text.
pub fn render(status: &Status, now: Timestamp) -> String {
    let mut text = String::new();
    let mut put = |title: &str, lines: Vec<String>| {
        for (n, line) in lines.iter().enumerate() {
            let head = if n == 0 { title } else { "" };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{}", format!("{head:13} {line}").trim_end());
        }
    };
    put("NOT REACHED", status.unreached.clone());
    put("DAEMON", daemon(status, now));
    put(
        "NODE",
        status.node.iter().flat_map(|node| of_node(node, now)).collect(),
    );
    put("PEERS", peers(status));
    put("SERVICES", status.services.iter().flat_map(services).collect());
    put("PODS", pods(&status.pods));
    put("IMAGES", images(&status.images));
    put(
        "CERTIFICATES",
        status.certificates.iter().map(certificate).collect(),
    );
    put("WARNINGS", warnings(status, now));
    text
}

fn daemon(status: &Status, now: Timestamp) -> Vec<String> {
    let line = status.daemon.as_ref().map(|daemon| {
        let ready = if daemon.ready { "ready" } else { "starting" };
        let since = age(daemon.since, now);
        format!(
            "{ready}, version {}, process {}, for {since}",
            daemon.version, daemon.pid
        )
    });
    line.into_iter().collect()
}

fn of_node(node: &Node, now: Timestamp) -> Vec<String> {
    let mut head = format!("{} {} {}", node.name, node.addresses.join(","), node.version);
    if !node.pod_cidrs.is_empty() {
        head += &format!(", pods {}", node.pod_cidrs.join(","));
    }
    if node.unschedulable {
        head += ", cordoned";
    }
    let mut lines = vec![head];
    let (well, ill): (Vec<_>, Vec<_>) = node.conditions.iter().partition(|c| c.is_well());
    let well: Vec<String> = well.iter().map(|c| format!("{}={}", c.kind, c.status)).collect();
    if !well.is_empty() {
        lines.push(well.join(" "));
    }
    lines.extend(
        ill.iter()
            .map(|c| format!("! {}={}: {}", c.kind, c.status, c.message)),
    );
    lines.extend(
        node.renewed
            .map(|at| format!("lease renewed {} ago", age(at, now))),
    );
    lines
}

fn peers(status: &Status) -> Vec<String> {
    let line = |peer: &super::model::Peer| {
        let mark = if peer.ready { "" } else { "  ! not Ready" };
        format!(
            "{} by {}, pods {}{mark}",
            peer.name,
            peer.address,
            peer.pod_cidrs.join(",")
        )
    };
    let mut lines: Vec<String> = status.peers.iter().take(PEERS).map(line).collect();
    lines.extend(more(status.peers.len(), PEERS));
    lines
}

fn services(services: &Services) -> Vec<String> {
    let Services {
        services,
        ports,
        programmed,
        missing,
    } = services;
    let mut lines = vec![format!(
        "{services} with {ports} ports, {programmed} of them in the kernel"
    )];
    lines.extend(
        missing
            .iter()
            .take(MISSING)
            .map(|port| format!("! {port} is not")),
    );
    lines.extend(more(missing.len(), MISSING));
    lines
}

fn more(all: usize, shown: usize) -> Option<String> {
    (all > shown).then(|| format!("and {} more", all - shown))
}

fn pods(pods: &[Pod]) -> Vec<String> {
    let names: Vec<String> = pods
        .iter()
        .map(|pod| format!("{}/{}", pod.namespace, pod.name))
        .collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let lines = pods.iter().zip(&names).map(|(pod, name)| {
        let memory = pod
            .memory
            .map_or("-".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
        let restarts = if pod.restarts == 0 {
            String::new()
        } else {
            format!("  ! {} restarts", pod.restarts)
        };
        let ready = format!("{}/{}", pod.ready, pod.containers);
        format!(
            "{name:width$}  {ready:>5} {:10} {:15} {memory:>9}{restarts}",
            pod.phase, pod.ip
        )
    });
    lines.collect()
}

fn images(images: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = images.iter().take(IMAGES).cloned().collect();
    lines.extend(more(images.len(), IMAGES));
    lines
}

fn certificate(certificate: &Certificate) -> String {
    let mark = if certificate.days_left < SOON { "! " } else { "" };
    format!(
        "{mark}{} days left: {} ({})",
        certificate.days_left, certificate.subject, certificate.file
    )
}

fn warnings(status: &Status, now: Timestamp) -> Vec<String> {
    let line = |warning: &super::model::Warning| {
        let when = warning.last.map_or("?".to_owned(), |at| age(at, now));
        let times = if warning.count > 1 {
            format!(" ({} times)", warning.count)
        } else {
            String::new()
        };
        format!(
            "{when} ago {} {}: {}{times}",
            warning.object, warning.reason, warning.message
        )
    };
    status.warnings.iter().map(line).collect()
}

/// `3d`, `5h`, `12m`, `40s`.
fn age(since: Timestamp, now: Timestamp) -> String {
    let age = now.duration_since(since).max(SignedDuration::ZERO);
    match (age.as_hours(), age.as_mins()) {
        (hours, _) if hours >= 48 => format!("{}d", hours / 24),
        (hours, _) if hours > 0 => format!("{hours}h"),
        (_, minutes) if minutes > 0 => format!("{minutes}m"),
        _ => format!("{}s", age.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::model::{Condition, Peer, Warning};

    fn condition(kind: &str, status: &str) -> Condition {
        Condition {
            kind: kind.into(),
            status: status.into(),
            message: "too little".into(),
        }
    }

    #[test]
    fn what_is_not_well_stands_out() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let before = |seconds| now - SignedDuration::from_secs(seconds);
        let status = Status {
            node: Some(Node {
                name: "n1".into(),
                version: "v1".into(),
                addresses: vec!["192.0.2.1".into()],
                pod_cidrs: vec!["172.30.0.0/24".into()],
                conditions: vec![condition("Ready", "True"), condition("DiskPressure", "True")],
                renewed: Some(before(3)),
                ..Node::default()
            }),
            peers: vec![Peer {
                name: "n2".into(),
                address: "192.0.2.2".into(),
                pod_cidrs: vec!["172.30.1.0/24".into()],
                ready: false,
            }],
            services: Some(Services {
                services: 2,
                ports: 3,
                programmed: 2,
                missing: vec!["default/web:80".into()],
            }),
            pods: vec![Pod {
                namespace: "default".into(),
                name: "web".into(),
                phase: "Running".into(),
                ready: 1,
                containers: 2,
                restarts: 4,
                ip: "172.30.0.2".into(),
                memory: Some(7 << 20),
            }],
            certificates: vec![Certificate {
                file: "/pki/a.pem".into(),
                subject: "a".into(),
                not_after: now,
                days_left: 3,
            }],
            warnings: vec![Warning {
                last: Some(before(7200)),
                object: "pod/web".into(),
                reason: "BackOff".into(),
                message: "again".into(),
                count: 5,
            }],
            unreached: vec!["the daemon: none runs from /d".into()],
            ..Status::default()
        };
        let expected = "\
NOT REACHED   the daemon: none runs from /d
NODE          n1 192.0.2.1 v1, pods 172.30.0.0/24
              Ready=True
              ! DiskPressure=True: too little
              lease renewed 3s ago
PEERS         n2 by 192.0.2.2, pods 172.30.1.0/24  ! not Ready
SERVICES      2 with 3 ports, 2 of them in the kernel
              ! default/web:80 is not
PODS          default/web    1/2 Running    172.30.0.2          7 MiB  ! 4 restarts
CERTIFICATES  ! 3 days left: a (/pki/a.pem)
WARNINGS      2h ago pod/web BackOff: again (5 times)
";
        assert_eq!(render(&status, now), expected);
    }

    #[test]
    fn long_lists_are_counted() {
        let images: Vec<String> = (0..13).map(|n| format!("i{n}")).collect();
        let lines = super::images(&images);
        assert_eq!((lines.len(), lines[10].as_str()), (11, "and 3 more"));
    }
}
