//! The command line and environment of upstream's `flanneld` (`main.go`); pure.

mod syntax;
mod table;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::etcd::{Access, Credentials, Tls};
use crate::masquerade::Rules;
use crate::store::Prefix;
use syntax::{Values, invalid, usage};
use table::FLAGS;

pub use syntax::FlagError;

/// Upstream's prefix of environment variables.
const ENVIRONMENT: &str = "FLANNELD";
/// Minutes in a lease.
const LEASE_MINUTES: u64 = 24 * 60;

/// What flanneld is asked for.
#[derive(Debug, Clone)]
pub enum Invocation {
    /// Run.
    Run(Box<Flags>),
    /// `-version`.
    Version,
}

/// How flanneld is to run.
#[derive(Debug, Clone)]
pub struct Flags {
    /// Where leases are kept.
    pub leases: LeasesIn,
    /// Which interface leads to the other nodes; the first that can be found.
    pub interfaces: Interfaces,
    /// Address to tell the others instead of the interface's.
    pub public_ip: Option<Ipv4Addr>,
    /// Likewise for IPv6.
    pub public_ipv6: Option<Ipv6Addr>,
    /// Where to write the subnet file.
    pub subnet_file: PathBuf,
    /// Masquerade what leaves the pod network.
    pub masquerade: bool,
    /// How, and whether to let its packets pass.
    pub rules: Rules,
    /// Drop what goes to addresses of the own subnet that nobody has.
    pub blackhole: bool,
    /// Where to answer `/healthz`.
    pub healthz: Option<SocketAddr>,
    /// Upstream's `-v`: from 1 on more is logged.
    pub verbosity: u8,
}

/// Where leases are kept.
#[derive(Debug, Clone)]
pub enum LeasesIn {
    /// etcd v3, the network's configuration too.
    Etcd {
        /// Where it is and who asks.
        access: Access,
        /// Where in it.
        prefix: Prefix,
        /// How long before its end a lease is renewed.
        renew_margin: Duration,
    },
    /// The Kubernetes API.
    Kubernetes {
        /// The kubeconfig; without it the pod's own account.
        kubeconfig: Option<PathBuf>,
        /// The API server, whatever the kubeconfig says; without one nobody is identified.
        server: Option<String>,
        /// The file with the network's configuration.
        net_config: PathBuf,
        /// What the names of the nodes' annotations begin with.
        prefix: String,
        /// Tell the cluster when the network works.
        announce: bool,
    },
}

/// What the administrator says of interfaces, in the order in which it is tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// Names or addresses.
    pub named: Vec<String>,
    /// Patterns that a name or an address has to match.
    pub patterns: Vec<String>,
    /// An address that must be reached through it.
    pub can_reach: Option<Ipv4Addr>,
}

impl Flags {
    /// Reads arguments (without the program's name) and environment.
    ///
    /// # Errors
    /// [`FlagError`]; [`FlagError::Help`] asks for [`Self::usage`].
    pub fn parse(args: &[String], env: impl Fn(&str) -> Option<String>) -> Result<Invocation, FlagError> {
        let (values, _) = Values::parse(FLAGS, args, env, ENVIRONMENT)?;
        if values.is(FLAGS, "version") {
            return Ok(Invocation::Version);
        }
        let given = Given(values);
        Ok(Invocation::Run(Box::new(Self {
            leases: given.leases()?,
            interfaces: Interfaces {
                named: given.0.list("iface"),
                patterns: given.0.list("iface-regex"),
                can_reach: given.optional("iface-can-reach")?,
            },
            public_ip: given.optional("public-ip")?,
            public_ipv6: given.optional("public-ipv6")?,
            subnet_file: given.text("subnet-file").into(),
            masquerade: given.0.is(FLAGS, "ip-masq"),
            rules: Rules {
                forward: given.0.is(FLAGS, "iptables-forward-rules"),
                random_ports: !given.0.is(FLAGS, "ip-masq-fully-random-disable"),
            },
            blackhole: given.0.is(FLAGS, "ip-blackhole-route"),
            healthz: given.healthz()?,
            verbosity: given.optional("v")?.unwrap_or(0),
        })))
    }

    /// Reads the flags of etcd alone, for commands on the leases; what is left over comes back.
    ///
    /// # Errors
    /// [`FlagError`].
    pub fn parse_etcd(
        args: &[String],
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<(Access, Prefix, Vec<String>), FlagError> {
        let (values, rest) = Values::parse(FLAGS, args, env, ENVIRONMENT)?;
        let given = Given(values);
        Ok((given.access(), Prefix::new(given.text("etcd-prefix")), rest))
    }

    /// What to print on `-help`.
    pub fn usage(program: &str) -> String {
        usage(program, FLAGS)
    }
}

struct Given(Values);

impl Given {
    fn text(&self, name: &str) -> &str {
        self.0.text(FLAGS, name)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.text(name)).filter(|t| !t.is_empty()).map(PathBuf::from)
    }

    fn optional<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, FlagError>
    where
        T::Err: std::fmt::Display,
    {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|error: T::Err| invalid(name, text, error.to_string()))
    }

    fn leases(&self) -> Result<LeasesIn, FlagError> {
        let minutes: u64 = self.optional("subnet-lease-renew-margin")?.unwrap_or(0);
        if minutes == 0 || minutes >= LEASE_MINUTES {
            let problem = format!("out of range, it must be 1 to {} minutes", LEASE_MINUTES - 1);
            return Err(invalid(
                "subnet-lease-renew-margin",
                &minutes.to_string(),
                problem,
            ));
        }
        if self.0.is(FLAGS, "kube-subnet-mgr") {
            return Ok(LeasesIn::Kubernetes {
                kubeconfig: self.path("kubeconfig-file"),
                server: Some(self.text("kube-api-url").to_owned()).filter(|url| !url.is_empty()),
                net_config: self.text("net-config-path").into(),
                prefix: self.text("kube-annotation-prefix").to_owned(),
                announce: self.0.is(FLAGS, "set-node-network-unavailable"),
            });
        }
        Ok(LeasesIn::Etcd {
            access: self.access(),
            prefix: Prefix::new(self.text("etcd-prefix")),
            renew_margin: Duration::from_secs(minutes * 60),
        })
    }

    fn access(&self) -> Access {
        let user = self.text("etcd-username");
        Access {
            endpoints: self
                .text("etcd-endpoints")
                .split(',')
                .map(str::to_owned)
                .collect(),
            tls: Tls {
                authorities: self.path("etcd-cafile"),
                certificate: self.path("etcd-certfile"),
                key: self.path("etcd-keyfile"),
            },
            credentials: (!user.is_empty()).then(|| Credentials {
                user: user.to_owned(),
                password: self.text("etcd-password").to_owned(),
            }),
        }
    }

    fn healthz(&self) -> Result<Option<SocketAddr>, FlagError> {
        let port: u16 = self.optional("healthz-port")?.unwrap_or(0);
        let ip = self.optional::<IpAddr>("healthz-ip")?;
        Ok(ip.filter(|_| port > 0).map(|ip| SocketAddr::new(ip, port)))
    }
}
