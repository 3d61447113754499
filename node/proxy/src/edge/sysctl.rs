//! The limits of connection tracking that upstream sets.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many connections are tracked and for how long; `None` leaves the kernel's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConntrackLimits {
    /// Connections for each core.
    pub max_per_core: Option<u32>,
    /// At least so many, whatever the number of cores.
    pub min: u32,
    /// How long an idle established TCP connection is remembered.
    pub established: Option<Duration>,
    /// How long a TCP connection in CLOSE_WAIT is remembered.
    pub close_wait: Option<Duration>,
    /// Whether TCP packets outside the window are let through.
    pub be_liberal: bool,
    /// How long a UDP flow without answers is remembered.
    pub udp: Option<Duration>,
    /// How long a UDP flow with answers is remembered.
    pub udp_stream: Option<Duration>,
}

impl Default for ConntrackLimits {
    /// Upstream's: 32768 a core, at least 131072; a day and an hour; the rest as the kernel has it.
    fn default() -> Self {
        Self {
            max_per_core: Some(32768),
            min: 131_072,
            established: Some(Duration::from_secs(86400)),
            close_wait: Some(Duration::from_secs(3600)),
            be_liberal: false,
            udp: None,
            udp_stream: None,
        }
    }
}

/// A value below `/proc/sys/net/netfilter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting {
    name: &'static str,
    value: u64,
    /// Whether a higher value that is there already stays.
    at_least: bool,
}

fn settings(limits: &ConntrackLimits, cores: u32) -> Vec<Setting> {
    let max = limits
        .max_per_core
        .filter(|per_core| *per_core > 0)
        .map(|per_core| u64::from(per_core.saturating_mul(cores).max(limits.min)));
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs()).filter(|time| *time > 0);
    let wanted = [
        ("nf_conntrack_max", max, true),
        (
            "nf_conntrack_tcp_timeout_established",
            seconds(limits.established),
            false,
        ),
        (
            "nf_conntrack_tcp_timeout_close_wait",
            seconds(limits.close_wait),
            false,
        ),
        (
            "nf_conntrack_tcp_be_liberal",
            limits.be_liberal.then_some(1),
            false,
        ),
        ("nf_conntrack_udp_timeout", seconds(limits.udp), false),
        (
            "nf_conntrack_udp_timeout_stream",
            seconds(limits.udp_stream),
            false,
        ),
    ];
    let known = |(name, value, at_least)| {
        let value: Option<u64> = value;
        value.map(|value| Setting {
            name,
            value,
            at_least,
        })
    };
    wanted.into_iter().filter_map(known).collect()
}

/// Sets what differs; what cannot be set (in a network namespace of its own, say) is logged.
pub(super) fn apply(limits: &ConntrackLimits) {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    for setting in settings(limits, cores) {
        let path: PathBuf = Path::new("/proc/sys/net/netfilter").join(setting.name);
        let current = std::fs::read_to_string(&path)
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok());
        let enough = |current: u64| current == setting.value || (setting.at_least && current > setting.value);
        if current.is_some_and(enough) {
            continue;
        }
        match std::fs::write(&path, setting.value.to_string()) {
            Ok(()) => tracing::info!(sysctl = setting.name, value = setting.value, "set"),
            Err(error) => tracing::warn!(
                sysctl = setting.name,
                value = setting.value,
                error = &error as &dyn std::error::Error,
                "cannot set"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_connections_grows_with_the_cores() {
        let of = |cores| settings(&ConntrackLimits::default(), cores)[0].value;
        assert_eq!((of(1), of(4), of(16)), (131_072, 131_072, 524_288));
        let found: Vec<(&str, u64)> = settings(&ConntrackLimits::default(), 2)
            .iter()
            .map(|setting| (setting.name, setting.value))
            .collect();
        assert_eq!(
            found,
            [
                ("nf_conntrack_max", 131_072),
                ("nf_conntrack_tcp_timeout_established", 86400),
                ("nf_conntrack_tcp_timeout_close_wait", 3600)
            ]
        );
        let none = ConntrackLimits {
            max_per_core: Some(0),
            established: None,
            close_wait: None,
            be_liberal: true,
            ..ConntrackLimits::default()
        };
        let names: Vec<&str> = settings(&none, 2).iter().map(|setting| setting.name).collect();
        assert_eq!(names, ["nf_conntrack_tcp_be_liberal"]);
    }
}
