use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use knode_api::time::parse_duration;

use super::file::Conntrack;
use super::flags::CommandLine;
use super::{Action, ConfigError, KubeProxyConfiguration, Settings};
use crate::edge::{ConntrackLimits, ProxyMode, ProxyOptions};
use crate::table::{Locality, TableConfig};

const HEALTH_PORT: u16 = 10256;
const METRICS_PORT: u16 = 10249;
const PRIMARY: &str = "primary";
/// Fields of the file that say how to log or how often to look, which is done otherwise here.
const WITHOUT_MEANING: &[&str] = &[
    "logging",
    "featureGates",
    "configSyncPeriod",
    "enableProfiling",
    "showHiddenMetricsForVersion",
    "bindAddressHardFail",
    "windowsRunAsService",
    "winkernel",
    "ipvs",
    "oomScoreAdj",
    "portRange",
    "udpIdleTimeout",
    "resourceContainer",
];

/// Resolves the defaults and checks every value.
pub(super) fn settle(line: CommandLine) -> Result<Settings, ConfigError> {
    let CommandLine {
        config,
        master,
        action,
        verbosity,
        mut warnings,
        ..
    } = line;
    let unknown = config
        .other
        .keys()
        .filter(|name| !WITHOUT_MEANING.contains(&name.as_str()));
    warnings.extend(unknown.map(|name| format!("unknown field {name:?} in the configuration")));
    let (mode, is_named) = mode(config.mode.as_deref(), &mut warnings)?;
    let six = family_is_six(&config)?;
    let (table, mut options) = table(&config, mode, &mut warnings)?;
    options.mode = mode;
    let addresses = config.node_port_addresses.as_deref().unwrap_or_default();
    // As upstream: this mode alone serves node ports on the primary addresses unless told otherwise.
    options.node_ports_on_primary = match addresses {
        [] => is_named && mode == ProxyMode::Nftables,
        listed => listed.iter().any(|one| one == PRIMARY),
    };
    options.conntrack = Some(conntrack(&config.conntrack)?);
    let (any, own): (IpAddr, IpAddr) = if six {
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into())
    } else {
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into())
    };
    let health = &config.healthz_bind_address;
    let metrics = &config.metrics_bind_address;
    Ok(Settings {
        action: action.unwrap_or(Action::Run),
        kubeconfig: non_empty(&config.client_connection.kubeconfig).map(Into::into),
        master,
        hostname_override: non_empty(&config.hostname_override).map(|name| name.trim().to_lowercase()),
        health: listen("healthzBindAddress", health, SocketAddr::new(any, HEALTH_PORT))?,
        metrics: listen("metricsBindAddress", metrics, SocketAddr::new(own, METRICS_PORT))?,
        table,
        options,
        verbosity,
        warnings,
    })
}

fn non_empty(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

fn invalid(name: &str, value: &str, problem: &str) -> ConfigError {
    ConfigError::Value {
        name: name.to_owned(),
        value: value.to_owned(),
        problem: problem.to_owned(),
    }
}

/// The mode, and whether it was asked for by name.
fn mode(mode: Option<&str>, warnings: &mut Vec<String>) -> Result<(ProxyMode, bool), ConfigError> {
    match mode {
        Some("nftables") => Ok((ProxyMode::Nftables, true)),
        Some("iptables") => Ok((ProxyMode::Iptables, true)),
        None | Some("") => {
            warnings.push("no proxy mode is given; it is nftables, where upstream's is iptables".to_owned());
            Ok((ProxyMode::Nftables, false))
        }
        Some(other @ ("ipvs" | "userspace" | "kernelspace")) => Err(ConfigError::Unsupported(format!(
            "proxy mode {other} (use nftables, or iptables where a host demands it)"
        ))),
        Some(other) => Err(invalid("mode", other, "expected nftables or iptables")),
    }
}

/// A rule of iptables holds one network; upstream takes no more either.
fn one_a_family(nets: Vec<IpNet>, mode: ProxyMode) -> Result<Vec<IpNet>, ConfigError> {
    let many = |six: bool| nets.iter().filter(|net| net.addr().is_ipv6() == six).count() > 1;
    if mode == ProxyMode::Iptables && (many(false) || many(true)) {
        let what = "more than one cluster CIDR of a family in the mode iptables";
        return Err(ConfigError::Unsupported(what.to_owned()));
    }
    Ok(nets)
}

fn family_is_six(config: &KubeProxyConfiguration) -> Result<bool, ConfigError> {
    let Some(text) = non_empty(&config.bind_address) else {
        return Ok(false);
    };
    let address: Result<IpAddr, _> = text.parse();
    address
        .map(|address| address.is_ipv6())
        .map_err(|_| invalid("bindAddress", text, "not an address"))
}

fn listen(name: &str, text: &Option<String>, default: SocketAddr) -> Result<Option<SocketAddr>, ConfigError> {
    let Some(text) = text else {
        return Ok(Some(default));
    };
    if text.is_empty() {
        return Ok(None);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Some(address));
    }
    if let Some(Ok(port)) = text.strip_prefix(':').map(str::parse) {
        return Ok(Some(SocketAddr::new(default.ip(), port)));
    }
    let address: Result<IpAddr, _> = text.parse();
    address
        .map(|address| Some(SocketAddr::new(address, default.port())))
        .map_err(|_| invalid(name, text, "not an address with a port"))
}

fn nets(name: &str, texts: &[&str]) -> Result<Vec<IpNet>, ConfigError> {
    let parse = |text: &&str| {
        text.trim()
            .parse()
            .map_err(|_| invalid(name, text, "not a network"))
    };
    texts.iter().map(parse).collect()
}

fn table(
    config: &KubeProxyConfiguration,
    mode: ProxyMode,
    warnings: &mut Vec<String>,
) -> Result<(TableConfig, ProxyOptions), ConfigError> {
    let (nft, ipt) = match mode {
        ProxyMode::Nftables => (&config.nftables, &config.iptables),
        ProxyMode::Iptables => (&config.iptables, &config.nftables),
    };
    let default = TableConfig::default();
    let bit = nft
        .masquerade_bit
        .or(ipt.masquerade_bit)
        .unwrap_or(default.masquerade_bit);
    if bit > 31 {
        return Err(invalid("masqueradeBit", &bit.to_string(), "expected 0 to 31"));
    }
    let mut options = ProxyOptions::default();
    let listed = config.node_port_addresses.iter().flatten().map(String::as_str);
    let listed: Vec<&str> = listed.filter(|text| *text != PRIMARY).collect();
    let table = TableConfig {
        locality: locality(config, mode, &mut options, warnings)?,
        node_port_addresses: nets("nodePortAddresses", &listed)?,
        masquerade_bit: bit,
        masquerade_all: nft.masquerade_all.or(ipt.masquerade_all).unwrap_or(false),
        ..default
    };
    Ok((table, options))
}

fn locality(
    config: &KubeProxyConfiguration,
    mode: ProxyMode,
    options: &mut ProxyOptions,
    warnings: &mut Vec<String>,
) -> Result<Locality, ConfigError> {
    let missing = |name: &str| Err(invalid(name, "", "needed by the mode by which pods are told"));
    let detect = &config.detect_local;
    match config.detect_local_mode.as_deref() {
        None | Some("" | "ClusterCIDR") => {
            let listed = non_empty(&config.cluster_cidr).unwrap_or_default();
            let listed: Vec<&str> = listed.split(',').filter(|part| !part.is_empty()).collect();
            if listed.is_empty() {
                warnings.push(
                    "no cluster CIDR is given: pods cannot be told from clients outside, so nothing that goes to \
                     a cluster address is masqueraded"
                        .to_owned(),
                );
                return Ok(Locality::Unknown);
            }
            let nets = nets("clusterCIDR", &listed)?;
            Ok(Locality::Cidrs(one_a_family(nets, mode)?))
        }
        Some("NodeCIDR") => {
            options.locality_from_node = true;
            Ok(Locality::Unknown)
        }
        Some("BridgeInterface") => match non_empty(&detect.bridge_interface) {
            Some(name) => Ok(Locality::Bridge(interface("bridgeInterface", name)?)),
            None => missing("bridgeInterface"),
        },
        Some("InterfaceNamePrefix") => match non_empty(&detect.interface_name_prefix) {
            Some(prefix) => Ok(Locality::InterfacePrefix(interface(
                "interfaceNamePrefix",
                prefix,
            )?)),
            None => missing("interfaceNamePrefix"),
        },
        Some(other) => Err(invalid(
            "detectLocalMode",
            other,
            "expected ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix",
        )),
    }
}

/// The kernel's names of interfaces have fifteen bytes at most.
fn interface(name: &str, value: &str) -> Result<String, ConfigError> {
    if value.len() > 15 {
        return Err(invalid(name, value, "longer than an interface's name can be"));
    }
    Ok(value.to_owned())
}

fn conntrack(config: &Conntrack) -> Result<ConntrackLimits, ConfigError> {
    let default = ConntrackLimits::default();
    let time = |name: &str, text: &Option<String>, default: Option<Duration>| match non_empty(text) {
        None => Ok(default),
        Some(text) => match parse_duration(text) {
            Some(time) => Ok((!time.is_zero()).then_some(time)),
            None => Err(invalid(name, text, "not a duration such as 1h30m")),
        },
    };
    Ok(ConntrackLimits {
        max_per_core: config.max_per_core.or(default.max_per_core),
        min: config.min.unwrap_or(default.min),
        established: time(
            "tcpEstablishedTimeout",
            &config.tcp_established_timeout,
            default.established,
        )?,
        close_wait: time(
            "tcpCloseWaitTimeout",
            &config.tcp_close_wait_timeout,
            default.close_wait,
        )?,
        be_liberal: config.tcp_be_liberal.unwrap_or(default.be_liberal),
        udp: time("udpTimeout", &config.udp_timeout, default.udp)?,
        udp_stream: time("udpStreamTimeout", &config.udp_stream_timeout, default.udp_stream)?,
    })
}
