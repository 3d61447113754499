use std::path::PathBuf;

use super::{Action, ConfigError, KubeProxyConfiguration};

pub(super) const USAGE: &str = "\
Usage: kube-proxy [flags]

  --config FILE                       a KubeProxyConfiguration; it takes the place of the other flags
  --kubeconfig FILE                   the way to the API server
  --master URL                        the API server, if not the kubeconfig's
  --hostname-override NAME            the node's name
  --bind-address IP                   decides about the family of the default addresses
  --healthz-bind-address IP:PORT      where /healthz and /livez are served (0.0.0.0:10256; empty: nowhere)
  --metrics-bind-address IP:PORT      where /metrics is served (127.0.0.1:10249; empty: nowhere)
  --proxy-mode MODE                   nftables, or iptables where a host demands it (needs iptables-restore)
  --cluster-cidr CIDR[,CIDR]          the pod networks
  --detect-local-mode MODE            ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix
  --pod-bridge-interface NAME         the bridge that pods come in by
  --pod-interface-name-prefix PREFIX  how the names of pods' interfaces begin
  --masquerade-all                    masquerade everything that goes to a cluster address
  --iptables-masquerade-bit BIT       the bit of the packet mark that asks for masquerading (14)
  --nodeport-addresses CIDR[,CIDR]    where node ports are served, or `primary`
  --conntrack-max-per-core N          tracked connections for each core (32768; 0 leaves the kernel's)
  --conntrack-min N                   tracked connections at least (131072)
  --conntrack-tcp-timeout-established DURATION, --conntrack-tcp-timeout-close-wait DURATION,
  --conntrack-udp-timeout DURATION, --conntrack-udp-timeout-stream DURATION, --conntrack-tcp-be-liberal
  --cleanup                           remove what this or another kube-proxy has made in the kernel, and end
  --v N                               how much is logged
  --version, --help
";

/// Flags without a value, or with true or false after an equals sign.
const SWITCHES: &[&str] = &[
    "cleanup",
    "version",
    "help",
    "masquerade-all",
    "conntrack-tcp-be-liberal",
    "logtostderr",
    "alsologtostderr",
    "bind-address-hard-fail",
    "profiling",
    "iptables-localhost-nodeports",
    "ipvs-strict-arp",
    "skip-headers",
    "skip-log-headers",
    "one-output",
    "add-dir-header",
    "init-only",
    "log-json-split-stream",
    "log-text-split-stream",
];

/// What says how to log or how often to look, which is done otherwise here.
const WITHOUT_MEANING: &[&str] = &[
    "logtostderr",
    "alsologtostderr",
    "bind-address-hard-fail",
    "profiling",
    "skip-headers",
    "skip-log-headers",
    "one-output",
    "add-dir-header",
    "log-json-split-stream",
    "log-text-split-stream",
    "log-json-info-buffer-size",
    "log-text-info-buffer-size",
    "log-dir",
    "log-file",
    "log-file-max-size",
    "log-flush-frequency",
    "log-backtrace-at",
    "logging-format",
    "stderrthreshold",
    "vmodule",
    "kube-api-qps",
    "kube-api-burst",
    "kube-api-content-type",
    "iptables-sync-period",
    "iptables-min-sync-period",
    "config-sync-period",
    "feature-gates",
    "show-hidden-metrics-for-version",
    "boot-id-file",
    "machine-id-file",
];

/// What is accepted and has no effect, said in a warning.
const WITHOUT_EFFECT: &[&str] = &[
    "iptables-localhost-nodeports",
    "ipvs-strict-arp",
    "ipvs-scheduler",
    "ipvs-sync-period",
    "ipvs-min-sync-period",
    "ipvs-exclude-cidrs",
    "ipvs-tcp-timeout",
    "ipvs-tcpfin-timeout",
    "ipvs-udp-timeout",
    "oom-score-adj",
    "proxy-port-range",
    "init-only",
    "write-config-to",
    "udp-timeout",
    "cleanup-ipvs",
    "resource-container",
];

/// The flags as they were given.
#[derive(Debug, Default)]
pub(super) struct CommandLine {
    pub config: KubeProxyConfiguration,
    pub config_file: Option<PathBuf>,
    pub master: Option<String>,
    pub action: Option<Action>,
    pub verbosity: u8,
    pub warnings: Vec<String>,
    /// Flags that a file takes the place of.
    settings: Vec<String>,
}

impl CommandLine {
    pub fn parse(args: &[String]) -> Result<Self, ConfigError> {
        let mut line = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let flag = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
            let Some(flag) = flag.filter(|flag| !flag.is_empty()) else {
                return Err(ConfigError::Argument(arg.clone()));
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let name = match name {
                "h" => "help".to_owned(),
                name => name.replace('_', "-"),
            };
            let value = match value {
                Some(value) => value,
                None if SWITCHES.contains(&name.as_str()) => "true".to_owned(),
                None => args
                    .next()
                    .cloned()
                    .ok_or_else(|| ConfigError::NoValue(name.clone()))?,
            };
            line.set(&name, value)?;
        }
        Ok(line)
    }

    /// Lets a file take the place of the flags; the node's name stays.
    pub fn take_file(&mut self, file: KubeProxyConfiguration) {
        if !self.settings.is_empty() {
            let flags = self.settings.join(", --");
            self.warnings
                .push(format!("--{flags}: not used, because --config is given"));
        }
        let name = self.config.hostname_override.take();
        self.config = file;
        if name.is_some() {
            self.config.hostname_override = name;
        }
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), ConfigError> {
        match name {
            "config" => self.config_file = Some(value.into()),
            "master" => self.master = Some(value),
            "v" => self.verbosity = number(name, &value)?,
            "hostname-override" => self.config.hostname_override = Some(value),
            "cleanup" | "version" | "help" => {
                let action = match name {
                    "cleanup" => Action::Cleanup,
                    "version" => Action::Version,
                    _ => Action::Help,
                };
                if switch(name, &value)? {
                    self.action = Some(action);
                }
            }
            name if WITHOUT_MEANING.contains(&name) => {}
            name if WITHOUT_EFFECT.contains(&name) => {
                self.warnings.push(format!("--{name} has no effect"));
            }
            name => {
                self.set_config(name, value)?;
                self.settings.push(name.to_owned());
            }
        }
        Ok(())
    }

    fn set_config(&mut self, name: &str, value: String) -> Result<(), ConfigError> {
        let config = &mut self.config;
        match name {
            "kubeconfig" => config.client_connection.kubeconfig = Some(value),
            "bind-address" => config.bind_address = Some(value),
            "healthz-bind-address" => config.healthz_bind_address = Some(value),
            "healthz-port" => config.healthz_bind_address = with_port(&config.healthz_bind_address, &value),
            "metrics-bind-address" => config.metrics_bind_address = Some(value),
            "metrics-port" => config.metrics_bind_address = with_port(&config.metrics_bind_address, &value),
            "proxy-mode" => config.mode = Some(value),
            "cluster-cidr" => config.cluster_cidr = Some(value),
            "detect-local-mode" => config.detect_local_mode = Some(value),
            "pod-bridge-interface" => config.detect_local.bridge_interface = Some(value),
            "pod-interface-name-prefix" => config.detect_local.interface_name_prefix = Some(value),
            "masquerade-all" => config.nftables.masquerade_all = Some(switch(name, &value)?),
            "iptables-masquerade-bit" | "nftables-masquerade-bit" => {
                config.nftables.masquerade_bit = Some(number(name, &value)?);
            }
            "nodeport-addresses" => {
                let listed = value.split(',').filter(|part| !part.is_empty());
                config.node_port_addresses = Some(listed.map(str::to_owned).collect());
            }
            "conntrack-max-per-core" => config.conntrack.max_per_core = Some(number(name, &value)?),
            "conntrack-min" => config.conntrack.min = Some(number(name, &value)?),
            "conntrack-tcp-timeout-established" => config.conntrack.tcp_established_timeout = Some(value),
            "conntrack-tcp-timeout-close-wait" => config.conntrack.tcp_close_wait_timeout = Some(value),
            "conntrack-tcp-be-liberal" => config.conntrack.tcp_be_liberal = Some(switch(name, &value)?),
            "conntrack-udp-timeout" => config.conntrack.udp_timeout = Some(value),
            "conntrack-udp-timeout-stream" => config.conntrack.udp_stream_timeout = Some(value),
            _ => return Err(ConfigError::UnknownFlag(name.to_owned())),
        }
        Ok(())
    }
}

/// The old flags that name a port alone; port 0 turns the server off.
fn with_port(address: &Option<String>, port: &str) -> Option<String> {
    if port == "0" {
        return Some(String::new());
    }
    let host = address.as_deref().unwrap_or("0.0.0.0");
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    Some(format!("{host}:{port}"))
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, ConfigError> {
    value.parse().map_err(|_| ConfigError::Value {
        name: format!("--{name}"),
        value: value.to_owned(),
        problem: "not a number in range".to_owned(),
    })
}

fn switch(name: &str, value: &str) -> Result<bool, ConfigError> {
    match value {
        "true" | "True" | "TRUE" | "t" | "1" => Ok(true),
        "false" | "False" | "FALSE" | "f" | "0" => Ok(false),
        _ => Err(ConfigError::Value {
            name: format!("--{name}"),
            value: value.to_owned(),
            problem: "neither true nor false".to_owned(),
        }),
    }
}
