use std::time::Duration;

use super::*;
use crate::edge::ProxyMode;
use crate::table::Locality;

fn parse(line: &str, file: &str) -> Result<Settings, ConfigError> {
    let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    Settings::parse(&args, |_| Ok(file.to_owned()))
}

#[test]
fn the_seeds_flags_are_understood() {
    let line = "--bind-address=192.0.2.1 --hostname-override=192.0.2.1 --cluster-cidr=10.254.0.0/16 \
                --kubeconfig=/etc/kubernetes/kube-proxy.kubeconfig --logtostderr=true --v=2";
    let settings = parse(line, "").expect("understood");
    assert_eq!(settings.hostname_override.as_deref(), Some("192.0.2.1"));
    assert_eq!(
        settings.kubeconfig.as_deref(),
        Some("/etc/kubernetes/kube-proxy.kubeconfig".as_ref())
    );
    assert_eq!(
        settings.table.locality,
        Locality::Cidrs(vec!["10.254.0.0/16".parse().expect("cidr")])
    );
    assert_eq!((settings.verbosity, settings.action), (2, Action::Run));
    assert_eq!(
        settings.health.map(|address| address.to_string()).as_deref(),
        Some("0.0.0.0:10256")
    );
    assert_eq!(
        settings.metrics.map(|address| address.to_string()).as_deref(),
        Some("127.0.0.1:10249")
    );
    assert_eq!(
        settings.warnings.len(),
        1,
        "the mode alone: {:?}",
        settings.warnings
    );
    assert!(
        !settings.options.node_ports_on_primary,
        "as upstream's default mode"
    );
}

const FILE: &str = "
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: \"::\"
clientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 0, burst: 0}
clusterCIDR: 10.244.0.0/16,fd10:244::/56
configSyncPeriod: 0s
conntrack: {maxPerCore: 0, min: null, tcpCloseWaitTimeout: 1h30m0s, tcpEstablishedTimeout: 0s, udpTimeout: 250ms}
detectLocalMode: \"\"
detectLocal: {bridgeInterface: \"\", interfaceNamePrefix: \"\"}
healthzBindAddress: \"\"
metricsBindAddress: 10.0.0.1
hostnameOverride: Node-A
iptables: {masqueradeAll: true, masqueradeBit: 7, localhostNodePorts: null, syncPeriod: 0s}
mode: nftables
nodePortAddresses: null
oomScoreAdj: null
sprockets: 3
";

#[test]
fn a_file_takes_the_place_of_flags() {
    let settings = parse("--config /f --cluster-cidr 10.9.0.0/16", FILE).expect("understood");
    let networks = ["10.244.0.0/16", "fd10:244::/56"].map(|net| net.parse().expect("cidr"));
    assert_eq!(settings.table.locality, Locality::Cidrs(networks.into()));
    assert_eq!(
        (settings.table.masquerade_bit, settings.table.masquerade_all),
        (7, true)
    );
    assert_eq!(settings.health, None);
    assert_eq!(settings.metrics, "10.0.0.1:10249".parse().ok());
    assert_eq!(settings.hostname_override.as_deref(), Some("node-a"));
    assert!(settings.options.node_ports_on_primary, "as upstream in this mode");
    let limits = settings.options.conntrack.expect("limits");
    assert_eq!((limits.max_per_core, limits.min), (Some(0), 131_072));
    assert_eq!(limits.established, None);
    assert_eq!(limits.close_wait, Some(Duration::from_secs(5400)));
    assert_eq!(limits.udp, Some(Duration::from_millis(250)));
    let warned = settings.warnings.join("; ");
    assert!(
        warned.contains("--cluster-cidr: not used") && warned.contains("sprockets"),
        "{warned}"
    );
    let named = parse("--config /f --hostname-override b", FILE).expect("understood");
    assert_eq!(
        named.hostname_override.as_deref(),
        Some("b"),
        "the name may be a flag"
    );
}

#[test]
fn iptables_are_taken_where_they_are_demanded() {
    let settings = parse("--proxy-mode iptables --cluster-cidr 10.0.0.0/16,fd00::/64", "");
    let settings = settings.expect("understood");
    assert_eq!(settings.options.mode, ProxyMode::Iptables);
    assert!(
        !settings.options.node_ports_on_primary,
        "as upstream in this mode"
    );
    let file = FILE.replace("mode: nftables", "mode: iptables\nnftables: {masqueradeBit: 9}");
    let settings = parse("--config /f", &file).expect("understood");
    assert_eq!(settings.options.mode, ProxyMode::Iptables);
    assert_eq!(settings.table.masquerade_bit, 7, "of its own section");
}

#[test]
fn modes_tell_pods_in_their_way() {
    let of = |line: &str| parse(&format!("--proxy-mode nftables {line}"), "").expect("understood");
    let bridge = of("--detect-local-mode BridgeInterface --pod-bridge-interface cni0");
    assert_eq!(bridge.table.locality, Locality::Bridge("cni0".to_owned()));
    let prefix = of("--detect-local-mode=InterfaceNamePrefix --pod_interface_name_prefix=veth");
    assert_eq!(
        prefix.table.locality,
        Locality::InterfacePrefix("veth".to_owned())
    );
    assert!(of("--detect-local-mode NodeCIDR").options.locality_from_node);
    let listed = of("--nodeport-addresses 10.0.0.0/8,fd00::/8");
    assert_eq!(listed.table.node_port_addresses.len(), 2);
    assert!(!listed.options.node_ports_on_primary);
    assert!(
        of("").warnings[0].contains("no cluster CIDR"),
        "what that means is said"
    );
}

#[test]
fn what_cannot_be_followed_is_named() {
    for (line, said) in [
        (
            "--proxy-mode ipvs",
            "proxy mode ipvs (use nftables, or iptables where a host demands it) is not supported",
        ),
        ("--proxy-mode userspace", "proxy mode userspace (use nftables"),
        (
            "--proxy-mode ebpf",
            "invalid value \"ebpf\" for mode: expected nftables or iptables",
        ),
        (
            "--proxy-mode iptables --cluster-cidr 10.0.0.0/16,10.1.0.0/16",
            "more than one cluster CIDR of a family in the mode iptables is not supported",
        ),
        (
            "--cluster-cidr 10.0.0.1",
            "invalid value \"10.0.0.1\" for clusterCIDR",
        ),
        ("--frobnicate 1", "unknown flag: --frobnicate"),
        ("--kubeconfig", "flag needs an argument: --kubeconfig"),
        ("serve", "unexpected argument \"serve\""),
        (
            "--masquerade-all=perhaps",
            "invalid value \"perhaps\" for --masquerade-all",
        ),
        ("--conntrack-udp-timeout 3", "invalid value \"3\" for udpTimeout"),
        (
            "--detect-local-mode BridgeInterface",
            "invalid value \"\" for bridgeInterface",
        ),
    ] {
        let error = parse(line, "").expect_err(line).to_string();
        assert!(error.starts_with(said), "{line}: {error}");
    }
    let other = parse("--config /f", "kind: KubeletConfiguration\n").expect_err("another kind");
    assert!(
        other.to_string().contains("expected KubeProxyConfiguration"),
        "{other}"
    );
}
