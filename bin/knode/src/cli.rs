//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use knode_pki::BootstrapToken;

use crate::dns::{ClusterDns, DnsArgs, DnsOptions};
use crate::dual::Dual;
use crate::engine::EngineArgs;
use crate::layout::{DEFAULT_DATA_DIR, Layout};
use crate::node::{CniDirs, KubeletOptions, PolicyOptions, RuntimeOptions};
use crate::pki::{CertificateOptions, PkiCommand};
use crate::rbac::RbacArgs;

/// Where the administrator's kubeconfig lies unless told otherwise.
const ADMIN_KUBECONFIG: &str = "/etc/knode/admin.kubeconfig";

/// A Kubernetes node in one binary: container engine, kubelet, flannel-compatible overlay network and
/// service proxy, with a control plane of its own when there is no other.
#[derive(Debug, Parser)]
#[command(name = "knode", version = crate::version::FULL, disable_help_subcommand = true)]
pub struct Cli {
    /// What goes to the log: error, warn, info, debug, trace, or directives such as `info,knode_proxy=debug`.
    #[arg(
        long,
        global = true,
        env = "KNODE_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log: String,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a one-machine cluster: control plane and node in this process.
    ///
    /// On a machine that has a cluster of ours in the data directory it takes that one up again, with the
    /// pods that run there.
    Up(UpArgs),
    /// End what runs from a data directory: pods, links, rules, mounts and control groups.
    Down(DownArgs),
    /// The control plane alone.
    Server(ServerArgs),
    /// The node part alone, joined to the API server that a bootstrap kubeconfig names.
    Node(NodeArgs),
    /// Make this machine a node of a cluster: `knode token create` on its control plane prints the line.
    ///
    /// Finds out which cluster it is and verifies that by the token and the hash, keeps the bootstrap credential
    /// in the data directory, and goes on as `knode node`. A machine that has joined before is taken up again.
    Join(JoinArgs),
    /// The tokens with which machines join.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Certificates and kubeconfigs as files: made, renewed and shown.
    #[command(subcommand)]
    Pki(PkiCommand),
    /// Check a cluster: an nginx-like DaemonSet behind a NodePort Service, asked from every side.
    Verify(VerifyArgs),
    /// Make a service of this binary: units for systemd, kernel settings and modules, directories.
    ///
    /// `knode install -- up --node-name edge-1` makes a service of that command line. A second time it takes up what
    /// has changed; a failure leaves everything as it was.
    Install(crate::install::InstallArgs),
    /// End the service and take away everything that `knode install` and its service have made, pods and data too.
    Uninstall(crate::install::UninstallArgs),
    /// Replace the running binary by another one and start the daemon again; pods run on meanwhile.
    ///
    /// Works under systemd and for `knode up --background`. The old binary is kept beside the new one, and comes back
    /// by itself when the new daemon does not become ready.
    Upgrade(crate::upgrade::UpgradeArgs),
    /// Look at this machine: what would keep a node from running well, and the mend.
    Doctor(crate::doctor::DoctorArgs),
    /// What runs here, on one screen.
    Status(crate::status::StatusArgs),
    /// The overlay alone, with upstream flanneld's flags and environment (`-help` lists them), or
    /// `config set JSON`, `config get`, `config leases` for what etcd holds.
    #[command(disable_help_flag = true)]
    Flanneld(RoleArgs),
    /// Make dockerd's options from the overlay's subnet file, with upstream's flags (`-h` lists them).
    #[command(name = "mk-docker-opts", disable_help_flag = true)]
    MkDockerOpts(RoleArgs),
    /// The pod network as a CNI plugin, for other container engines: reads the specification's environment
    /// and standard input. Called without arguments where `CNI_COMMAND` is set, the binary does this.
    Cni,
    /// The cluster's DNS alone, beside any control plane. The nodes of a knode control plane answer names without it.
    Dns(DnsArgs),
    /// The service proxy alone, with upstream kube-proxy's flags and configuration file (`--help` lists them).
    #[command(name = "kube-proxy", disable_help_flag = true)]
    KubeProxy(RoleArgs),
    /// Engine and kubelet alone, with upstream kubelet's flags and configuration files (`--help` lists them).
    #[command(disable_help_flag = true)]
    Kubelet(RoleArgs),
    /// What proxy, overlay and network policies of nodes need on a control plane that is not knode's: prints the
    /// manifest, or applies it.
    Rbac(RbacArgs),
    /// What the service proxy has told the kernel, in words.
    #[command(subcommand)]
    Proxy(ProxyCommand),
    /// The container engine alone, serving CRI v1 on a socket; or a command to an engine that runs, also to that of
    /// `knode up`.
    Engine(EngineArgs),
}

/// Where a knode keeps its data.
#[derive(Args, Clone, Debug)]
pub struct DataDir {
    /// Where the cluster's data lies. With another directory than the default everything of this knode
    /// lies below it, so that several can share a machine.
    #[arg(long, default_value = DEFAULT_DATA_DIR, value_name = "DIR")]
    pub data_dir: PathBuf,
}

/// What the control plane can be told.
#[derive(Args, Clone, Debug)]
pub struct ControlPlaneOptions {
    /// The addresses of pods: an IPv4 network, or an IPv4 and an IPv6 network with a comma between them, of which
    /// the first is the primary one. Each node gets a part of each. Must not overlap the service ranges or a
    /// route of the host. Fixed when the cluster is made.
    #[arg(long, default_value = "172.30.0.0/16", value_name = "CIDR[,CIDR]")]
    pub pod_cidr: Dual<IpNet>,
    /// The addresses of services: a network, or one of each family, of which services get addresses of the first
    /// unless they ask for others. Fixed when the cluster is made.
    #[arg(long, default_value = "10.254.0.0/16", value_name = "CIDR[,CIDR]")]
    pub service_cidr: Dual<IpNet>,
    /// Prefix length of a node's part of the IPv4 pod addresses [default: 24, or the whole of a smaller range].
    #[arg(long, value_name = "LENGTH", value_parser = clap::value_parser!(u8).range(1..=30))]
    pub node_cidr_mask_size_ipv4: Option<u8>,
    /// Prefix length of a node's part of the IPv6 pod addresses [default: 64, or the whole of a smaller range].
    #[arg(long, value_name = "LENGTH", value_parser = clap::value_parser!(u8).range(1..=126))]
    pub node_cidr_mask_size_ipv6: Option<u8>,
    /// Where pods ask for names, or `none`: the address of the Service kube-dns, which is made unless there is one, and
    /// whose endpoints are all nodes [default: the second address of each range of services].
    #[arg(long, value_name = "IP[,IP]")]
    pub cluster_dns: Option<ClusterDns>,
    /// The ports of NodePort services, first and last.
    #[arg(long, default_value = "30000-32767", value_name = "FIRST-LAST", value_parser = parse_port_range)]
    pub node_port_range: PortRange,
    /// The address and port, or the port alone, on which the API server listens.
    #[arg(long, default_value = "6443", value_name = "[IP:]PORT", value_parser = parse_listen)]
    pub listen: SocketAddr,
    /// Where the administrator's kubeconfig is written (mode 0600).
    #[arg(long, default_value = ADMIN_KUBECONFIG, value_name = "FILE")]
    pub write_kubeconfig: PathBuf,
    #[command(flatten)]
    pub certificates: CertificateOptions,
}

/// What a node can be told.
#[derive(Args, Clone, Debug)]
pub struct NodeOptions {
    /// The node's name in the cluster [default: the host name, lower case].
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// The address by which other nodes reach this one, or one of each family with a comma between them, of which
    /// the first is the primary one [default: those of the default route's interface, or the only global ones; IPv6
    /// where pods have IPv6 addresses].
    #[arg(long, value_name = "IP[,IP]")]
    pub node_ip: Option<Dual<IpAddr>>,
    #[command(flatten)]
    pub kubelet: KubeletOptions,
    #[command(flatten)]
    pub runtime: RuntimeOptions,
    #[command(flatten)]
    pub cni: CniOptions,
    #[command(flatten)]
    pub policy: PolicyOptions,
    #[command(flatten)]
    pub dns: DnsOptions,
}

/// Pod networks of other people's plugins.
#[derive(Args, Clone, Debug, Default)]
pub struct CniOptions {
    /// Where network configurations (CNI) are looked for, or `none`. The first usable one in lexical order is
    /// executed for each new pod; without any, or if it names nothing but the plugin `knode`, pods get the built-in
    /// network. The directory is followed while running; pods keep the network that they have [default:
    /// /etc/cni/net.d; with another --data-dir than the default, `cni/net.d` in it].
    #[arg(long, value_name = "DIR")]
    pub cni_conf_dir: Option<PathBuf>,
    /// The directories of CNI plugins, in the order of search.
    #[arg(
        long,
        value_name = "DIR[:DIR...]",
        value_delimiter = ':',
        default_value = "/opt/cni/bin:/usr/lib/cni"
    )]
    pub cni_bin_dir: Vec<PathBuf>,
}

impl CniOptions {
    /// The directories that are meant, absolute.
    pub fn dirs(&self, layout: &Layout) -> CniDirs {
        let absolute = |dir: &PathBuf| std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
        let conf = match &self.cni_conf_dir {
            Some(dir) if dir.as_os_str() == "none" => None,
            Some(dir) => Some(absolute(dir)),
            None => Some(layout.cni_conf_dir()),
        };
        CniDirs {
            conf,
            bin: self.cni_bin_dir.iter().map(absolute).collect(),
        }
    }
}

#[derive(Args, Clone, Debug)]
pub struct UpArgs {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub control_plane: ControlPlaneOptions,
    #[command(flatten)]
    pub node: NodeOptions,
    /// Start in the background, show the steps, and return when the node is Ready. The log goes to
    /// `knode.log` in the data directory.
    #[arg(long)]
    pub background: bool,
}

#[derive(Args, Clone, Debug)]
pub struct DownArgs {
    #[command(flatten)]
    pub data: DataDir,
    /// Remove the data too: images, volumes, certificates, the store, logs and the kubeconfig.
    #[arg(long)]
    pub purge: bool,
}

#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub control_plane: ControlPlaneOptions,
    /// The address that nodes and the service `kubernetes` reach the API server by [default: as --node-ip
    /// of `knode up`].
    #[arg(long, value_name = "IP")]
    pub advertise_address: Option<IpAddr>,
    /// Write a kubeconfig with a bootstrap token, for `knode node --bootstrap-kubeconfig` (mode 0600).
    #[arg(long, value_name = "FILE")]
    pub write_bootstrap_kubeconfig: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct NodeArgs {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub node: NodeOptions,
    /// The kubeconfig with the bootstrap credential. Read until the node has its own certificate.
    #[arg(long, value_name = "FILE")]
    pub bootstrap_kubeconfig: PathBuf,
    /// The kubeconfig of the proxy and the overlay. Without it they use the node's own identity, which
    /// needs the additive permissions that a knode control plane grants, and `knode rbac` prints for others.
    #[arg(long, value_name = "FILE")]
    pub proxy_kubeconfig: Option<PathBuf>,
    /// The cluster's pod addresses, as its control plane was told.
    #[arg(long, default_value = "172.30.0.0/16", value_name = "CIDR[,CIDR]")]
    pub pod_cidr: Dual<IpNet>,
    /// The cluster's service addresses, as its control plane was told.
    #[arg(long, default_value = "10.254.0.0/16", value_name = "CIDR[,CIDR]")]
    pub service_cidr: Dual<IpNet>,
    /// Where pods ask for names, or `none` [default: the address of the Service kube-dns in kube-system, if there is
    /// one when the node starts].
    #[arg(long, value_name = "IP[,IP]")]
    pub cluster_dns: Option<ClusterDns>,
}

#[derive(Args, Clone, Debug)]
pub struct JoinArgs {
    /// The API server, `https://HOST:PORT`.
    #[arg(value_name = "URL")]
    pub server: String,
    /// The token that the control plane's side has made.
    #[arg(long, value_name = "ID.SECRET")]
    pub token: BootstrapToken,
    /// The SHA-256 hash of the public key of the cluster's authority; may be given several times, of which one must
    /// fit.
    #[arg(
        long,
        value_name = "sha256:HEX",
        required_unless_present = "unsafe_skip_ca_hash"
    )]
    pub ca_hash: Vec<String>,
    /// Join without --ca-hash: whoever knows the token can then pretend to be the cluster.
    #[arg(long, conflicts_with = "ca_hash")]
    pub unsafe_skip_ca_hash: bool,
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub node: NodeOptions,
    /// The kubeconfig of the proxy and the overlay; see `knode node --help`.
    #[arg(long, value_name = "FILE")]
    pub proxy_kubeconfig: Option<PathBuf>,
    /// The cluster's pod addresses [default: what the cluster says, in ConfigMap knode-config or kubeadm-config of
    /// kube-system].
    #[arg(long, value_name = "CIDR")]
    pub pod_cidr: Option<String>,
    /// The cluster's service addresses [default: as of --pod-cidr].
    #[arg(long, value_name = "CIDR")]
    pub service_cidr: Option<String>,
    /// Where pods ask for names; see `knode node --help`.
    #[arg(long, value_name = "IP[,IP]")]
    pub cluster_dns: Option<ClusterDns>,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print the line that a new machine is given.
    Create(TokenCreate),
    /// List the tokens, without their secret halves.
    List {
        /// An administrator's kubeconfig.
        #[arg(long, default_value = ADMIN_KUBECONFIG, value_name = "FILE")]
        kubeconfig: PathBuf,
    },
    /// Delete tokens: nobody joins with them any more. Machines that have joined stay.
    Delete {
        /// Tokens, or their first halves.
        #[arg(required = true, value_name = "TOKEN")]
        tokens: Vec<String>,
        /// An administrator's kubeconfig.
        #[arg(long, default_value = ADMIN_KUBECONFIG, value_name = "FILE")]
        kubeconfig: PathBuf,
    },
}

#[derive(Args, Clone, Debug)]
pub struct TokenCreate {
    /// The token [default: a random one].
    #[arg(value_name = "ID.SECRET")]
    pub token: Option<BootstrapToken>,
    /// How long it can be used, such as 24h or 90m; 0 for ever.
    #[arg(long, default_value = "24h", value_name = "DURATION", value_parser = crate::token::parse_ttl)]
    pub ttl: std::time::Duration,
    /// What it is for.
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub description: String,
    /// An administrator's kubeconfig.
    #[arg(long, default_value = ADMIN_KUBECONFIG, value_name = "FILE")]
    pub kubeconfig: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub data: DataDir,
    /// The kubeconfig to use [default: the one that `knode up` wrote].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The image to run instead of the small web server that this binary carries; it must serve HTTP on
    /// port 80.
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// How long each wait may take, in seconds.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub timeout: u64,
}

/// Arguments in another program's form.
#[derive(Args, Clone, Debug)]
pub struct RoleArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub args: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub enum ProxyCommand {
    /// What becomes of packets to a Service.
    Explain {
        /// An address or `[NAMESPACE/]NAME`, and a port if only that one is meant.
        #[arg(value_name = "SERVICE[:PORT]")]
        service: String,
        /// The kubeconfig to look names up with.
        #[arg(long, default_value = ADMIN_KUBECONFIG, value_name = "FILE")]
        kubeconfig: PathBuf,
    },
    /// Which way the first packet of a connection takes.
    Trace {
        /// The client's address.
        #[arg(value_name = "SRC")]
        source: IpAddr,
        /// Where it connects to.
        #[arg(value_name = "DST:PORT")]
        to: String,
        /// tcp, udp or sctp.
        #[arg(long, default_value = "tcp")]
        protocol: String,
    },
}

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

pub fn parse_port_range(text: &str) -> Result<PortRange, String> {
    let (a, b) = text
        .split_once('-')
        .ok_or("expected FIRST-LAST, for example 30000-32767")?;
    let port = |s: &str| {
        s.trim()
            .parse::<u16>()
            .map_err(|_| format!("{s:?} is not a port (1-65535)"))
    };
    let range = PortRange {
        first: port(a)?,
        last: port(b)?,
    };
    if range.first == 0 || range.first > range.last {
        return Err(format!(
            "{text:?}: the first port must be at least 1 and not above the last"
        ));
    }
    Ok(range)
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([0, 0, 0, 0], port)));
    }
    text.parse()
        .map_err(|_| format!("{text:?} is neither a port nor an address with a port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn network_configurations_lie_where_the_option_or_the_data_directory_says() {
        let conf = |data: &str, options: &[&str]| {
            let line = [&["knode", "up", "--data-dir", data], options].concat();
            let Command::Up(args) = Cli::try_parse_from(line).unwrap().command else {
                panic!("up is meant");
            };
            args.node.cni.dirs(&Layout::new(&args.data.data_dir))
        };
        let default = conf(DEFAULT_DATA_DIR, &[]);
        assert_eq!(default.conf, Some("/etc/cni/net.d".into()));
        assert_eq!(
            default.bin,
            [PathBuf::from("/opt/cni/bin"), "/usr/lib/cni".into()]
        );
        assert_eq!(conf("/srv/a", &[]).conf, Some("/srv/a/cni/net.d".into()));
        assert_eq!(conf("/srv/a", &["--cni-conf-dir", "none"]).conf, None);
        let named = conf("/srv/a", &["--cni-conf-dir=/x", "--cni-bin-dir=/b:/c"]);
        assert_eq!((named.conf, named.bin.len()), (Some("/x".into()), 2));
    }

    #[test]
    fn port_ranges() {
        assert_eq!(
            parse_port_range("30000-32767"),
            Ok(PortRange {
                first: 30000,
                last: 32767
            })
        );
        assert!(parse_port_range("30000").is_err());
        assert!(parse_port_range("5-4").is_err());
        assert!(parse_port_range("1-70000").unwrap_err().contains("70000"));
    }

    #[test]
    fn listen_takes_a_port_or_an_address() {
        assert_eq!(parse_listen("7443").unwrap().to_string(), "0.0.0.0:7443");
        assert_eq!(
            parse_listen("10.0.0.1:6443").unwrap().to_string(),
            "10.0.0.1:6443"
        );
        assert!(parse_listen("here").is_err());
    }
}
