//! What is to be measured.

use std::net::SocketAddr;
use std::str::FromStr;

use crate::objects::{Cluster, ENDPOINTS};

/// How the program is used.
pub const USAGE: &str = "\
options, each also from the environment (KNODE_BENCH_SIZES, _LARGE, _NFT_MAX, _IPTABLES_MAX, _SECONDS):
  --sizes N,N       numbers of Services with three endpoints each [1000,5000,10000,30000]
  --large N         endpoints of the one large Service, 0 for none [5000]
  --nft-max N       up to how many Services upstream's layout is loaded by nft [5000]
  --iptables-max N  up to how many Services the proxy is measured in its mode iptables too [1000]
  --seconds N       how long a hundred changes a second are made [10]";

/// Starts this program as the proxy under measurement.
pub const PROXY: &str = "--proxy";

/// What this process is.
pub enum Role {
    /// It measures.
    Measure(Options),
    /// It is the proxy, fed by this server, in this mode.
    Proxy(SocketAddr, String),
}

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Options {
    sizes: Vec<u32>,
    large: u32,
    /// Up to how many Services upstream's layout is loaded.
    pub nft_max: u32,
    /// Up to how many Services the mode iptables is measured.
    pub iptables_max: u32,
    /// How long a hundred changes a second are made.
    pub seconds: u32,
}

impl Options {
    /// Understands arguments, which go before the environment.
    pub fn read(
        mut arguments: impl Iterator<Item = String>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Role, String> {
        let mut options = Self {
            sizes: vec![1_000, 5_000, 10_000, 30_000],
            large: 5_000,
            nft_max: 5_000,
            iptables_max: 1_000,
            seconds: 10,
        };
        for name in ["sizes", "large", "nft-max", "iptables-max", "seconds"] {
            let variable = format!("KNODE_BENCH_{}", name.to_uppercase().replace('-', "_"));
            if let Some(value) = environment(&variable) {
                options.set(name, &value)?;
            }
        }
        while let Some(argument) = arguments.next() {
            // What cargo adds.
            if argument == "--bench" {
                continue;
            }
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.strip_prefix("--") {
                Some(_) if argument == PROXY => {
                    return Ok(Role::Proxy(parse(&argument, &value()?)?, value()?));
                }
                Some(name) => options.set(name, &value()?)?,
                None => return Err(format!("unexpected argument {argument:?}")),
            }
        }
        Ok(Role::Measure(options))
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "sizes" => {
                let numbers = value.split(',').filter(|number| !number.is_empty());
                self.sizes = numbers
                    .map(|number| parse(name, number))
                    .collect::<Result<_, _>>()?;
            }
            "large" => self.large = parse(name, value)?,
            "nft-max" => self.nft_max = parse(name, value)?,
            "iptables-max" => self.iptables_max = parse(name, value)?,
            "seconds" => self.seconds = parse(name, value)?,
            _ => return Err(format!("unknown option --{name}")),
        }
        Ok(())
    }

    /// Whether the cluster is small enough for what is measured up to so many Services with three endpoints.
    pub fn allows(limit: u32, cluster: &Cluster) -> bool {
        cluster.services * cluster.endpoints <= limit.saturating_mul(ENDPOINTS)
    }

    /// What is measured, one after another.
    pub fn clusters(&self) -> Vec<Cluster> {
        let many = self.sizes.iter().map(|services| Cluster::many(*services));
        let large = (self.large > 0).then(|| Cluster::large(self.large));
        many.chain(large).collect()
    }
}

fn parse<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("{name}: {value:?} is not understood"))
}
