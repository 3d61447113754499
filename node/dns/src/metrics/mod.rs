//! What was answered, under CoreDNS' names.

mod histogram;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::wire::Transport;
pub(crate) use histogram::Histogram;

/// Types that are counted by name, as CoreDNS does; all others count as `other`.
const TYPES: [RecordType; 14] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::CNAME,
    RecordType::DNSKEY,
    RecordType::DS,
    RecordType::HTTPS,
    RecordType::MX,
    RecordType::NAPTR,
    RecordType::NS,
    RecordType::PTR,
    RecordType::SOA,
    RecordType::SRV,
    RecordType::TXT,
    RecordType::ANY,
];
const CODES: [(ResponseCode, &str); 7] = [
    (ResponseCode::NoError, "NOERROR"),
    (ResponseCode::FormErr, "FORMERR"),
    (ResponseCode::ServFail, "SERVFAIL"),
    (ResponseCode::NXDomain, "NXDOMAIN"),
    (ResponseCode::NotImp, "NOTIMP"),
    (ResponseCode::Refused, "REFUSED"),
    (ResponseCode::BADVERS, "BADVERS"),
];
const KINDS: usize = TYPES.len() + 1;
const PROTOCOLS: [&str; 2] = ["udp", "tcp"];
const FAMILIES: [&str; 2] = ["1", "2"];

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plugin {
    /// The cluster's names.
    Kubernetes,
    /// Others, or the memory of what they said.
    Forward,
    /// Nowhere: the question was refused.
    None,
}

const PLUGINS: [&str; 3] = ["kubernetes", "forward", ""];

/// Counts since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// By protocol, family and type.
    requests: [[[AtomicU64; KINDS]; 2]; 2],
    /// By code and origin.
    responses: [[AtomicU64; 3]; CODES.len() + 1],
    durations: Histogram,
    pub cache_successes: AtomicU64,
    pub cache_denials: AtomicU64,
    pub cache_misses: AtomicU64,
    pub forward_rejects: AtomicU64,
    pub checks_broken: AtomicU64,
}

/// A server that is asked, and what came of it.
pub(crate) struct Forwarded<'a> {
    pub to: SocketAddr,
    pub durations: &'a Histogram,
    pub failed_checks: u64,
}

/// What others keep.
pub(crate) struct Sizes<'a> {
    pub cached: usize,
    pub upstreams: &'a [Forwarded<'a>],
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Metrics {
    pub fn request(&self, transport: Transport, client: SocketAddr, kind: RecordType) {
        let protocol = usize::from(transport == Transport::Tcp);
        let kind = TYPES
            .iter()
            .position(|known| *known == kind)
            .unwrap_or(TYPES.len());
        count(&self.requests[protocol][usize::from(!is_ipv4(client))][kind]);
    }

    pub fn response(&self, code: ResponseCode, plugin: Plugin, took: Duration) {
        let code = CODES
            .iter()
            .position(|(known, _)| *known == code)
            .unwrap_or(CODES.len());
        count(&self.responses[code][plugin as usize]);
        self.durations.observe(took);
    }

    /// The text of `/metrics`.
    pub fn text(&self, sizes: &Sizes<'_>) -> String {
        let mut out = String::with_capacity(8 << 10);
        self.write_requests(&mut out);
        self.write_responses(&mut out);
        let server = "server=\"dns\",zone=\".\",view=\"\"";
        let name = "coredns_dns_request_duration_seconds";
        head(&mut out, name, "histogram", "Time that answers took.");
        self.durations.write(&mut out, name, server);
        self.write_cache(&mut out, sizes.cached);
        self.write_forward(&mut out, sizes.upstreams);
        out
    }

    fn write_requests(&self, out: &mut String) {
        let name = "coredns_dns_requests_total";
        head(out, name, "counter", "Questions by protocol, family and type.");
        for (protocol, families) in PROTOCOLS.iter().zip(&self.requests) {
            for (family, kinds) in FAMILIES.iter().zip(families) {
                for (at, count) in kinds.iter().enumerate() {
                    let kind = TYPES
                        .get(at)
                        .map_or_else(|| "other".to_owned(), ToString::to_string);
                    let labels = format!(
                        "server=\"dns\",zone=\".\",view=\"\",proto=\"{protocol}\",family=\"{family}\",type=\"{kind}\""
                    );
                    nonzero(out, name, &labels, count);
                }
            }
        }
    }

    fn write_responses(&self, out: &mut String) {
        let name = "coredns_dns_responses_total";
        head(out, name, "counter", "Answers by their code and origin.");
        for (at, plugins) in self.responses.iter().enumerate() {
            let code = CODES.get(at).map_or("other", |(_, code)| code);
            for (plugin, count) in PLUGINS.iter().zip(plugins) {
                let labels =
                    format!("server=\"dns\",zone=\".\",view=\"\",rcode=\"{code}\",plugin=\"{plugin}\"");
                nonzero(out, name, &labels, count);
            }
        }
    }

    fn write_cache(&self, out: &mut String, entries: usize) {
        let name = "coredns_cache_hits_total";
        head(out, name, "counter", "Answers from the memory.");
        for (kind, count) in [
            ("success", &self.cache_successes),
            ("denial", &self.cache_denials),
        ] {
            let labels = format!("server=\"dns\",type=\"{kind}\",zones=\".\",view=\"\"");
            sample(out, name, &labels, count.load(Ordering::Relaxed));
        }
        let labels = "server=\"dns\",zones=\".\",view=\"\"";
        let name = "coredns_cache_misses_total";
        head(
            out,
            name,
            "counter",
            "Questions whose answer was not in the memory.",
        );
        sample(out, name, labels, self.cache_misses.load(Ordering::Relaxed));
        let name = "coredns_cache_entries";
        head(out, name, "gauge", "Answers in the memory.");
        sample(out, name, labels, u64::try_from(entries).unwrap_or(u64::MAX));
    }

    fn write_forward(&self, out: &mut String, upstreams: &[Forwarded<'_>]) {
        for (name, help, count) in [
            (
                "coredns_forward_max_concurrent_rejects_total",
                "Questions refused as too many were under way.",
                &self.forward_rejects,
            ),
            (
                "coredns_forward_healthcheck_broken_total",
                "Questions when every server was down.",
                &self.checks_broken,
            ),
        ] {
            head(out, name, "counter", help);
            sample(out, name, "", count.load(Ordering::Relaxed));
        }
        let name = "coredns_proxy_healthcheck_failures_total";
        head(out, name, "counter", "Checks of servers that failed.");
        for Forwarded {
            to, failed_checks, ..
        } in upstreams
        {
            sample(
                out,
                name,
                &format!("proxy_name=\"forward\",to=\"{to}\""),
                *failed_checks,
            );
        }
        let name = "coredns_proxy_request_duration_seconds";
        head(out, name, "histogram", "Time that servers took to answer.");
        for Forwarded { to, durations, .. } in upstreams {
            durations.write(out, name, &format!("proxy_name=\"forward\",to=\"{to}\""));
        }
    }
}

fn is_ipv4(client: SocketAddr) -> bool {
    client.ip().to_canonical().is_ipv4()
}

/// Writing to a String cannot fail.
fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(out: &mut String, name: &str, labels: &str, value: u64) {
    let _ = match labels {
        "" => writeln!(out, "{name} {value}"),
        labels => writeln!(out, "{name}{{{labels}}} {value}"),
    };
}

/// A combination that was never seen is no sample.
fn nonzero(out: &mut String, name: &str, labels: &str, value: &AtomicU64) {
    let value = value.load(Ordering::Relaxed);
    if value > 0 {
        sample(out, name, labels, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_are_told_under_coredns_names() {
        let metrics = Metrics::default();
        let (four, six) = (
            SocketAddr::from(([10, 0, 0, 1], 9)),
            SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, 1], 9)),
        );
        metrics.request(Transport::Udp, four, RecordType::A);
        metrics.request(Transport::Tcp, six, RecordType::Unknown(4711));
        metrics.response(
            ResponseCode::NXDomain,
            Plugin::Kubernetes,
            Duration::from_micros(300),
        );
        let durations = Histogram::default();
        durations.observe(Duration::from_millis(3));
        let upstreams = [Forwarded {
            to: four,
            durations: &durations,
            failed_checks: 2,
        }];
        let text = metrics.text(&Sizes {
            cached: 4,
            upstreams: &upstreams,
        });
        for line in [
            "coredns_dns_requests_total{server=\"dns\",zone=\".\",view=\"\",proto=\"udp\",family=\"1\",type=\"A\"} 1",
            "coredns_dns_requests_total{server=\"dns\",zone=\".\",view=\"\",proto=\"tcp\",family=\"2\",type=\"other\"} 1",
            "coredns_dns_responses_total{server=\"dns\",zone=\".\",view=\"\",rcode=\"NXDOMAIN\",plugin=\"kubernetes\"} 1",
            "coredns_dns_request_duration_seconds_bucket{server=\"dns\",zone=\".\",view=\"\",le=\"0.0005\"} 1",
            "coredns_cache_entries{server=\"dns\",zones=\".\",view=\"\"} 4",
            "coredns_proxy_healthcheck_failures_total{proxy_name=\"forward\",to=\"10.0.0.1:9\"} 2",
            "coredns_proxy_request_duration_seconds_count{proxy_name=\"forward\",to=\"10.0.0.1:9\"} 1",
        ] {
            assert!(text.lines().any(|known| known == line), "no {line} in\n{text}");
        }
        assert_eq!(text.matches("coredns_dns_requests_total{").count(), 2);
    }
}
