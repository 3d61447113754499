//! `knode dns`: the server alone, beside any control plane.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use knode_dns::{Config, Dns};

use super::DnsOptions;
use crate::dual::{Dual, Family};
use crate::{preflight, shutdown};

/// What `knode dns` is told.
#[derive(Args, Clone, Debug)]
pub struct DnsArgs {
    /// A kubeconfig with the right to list and watch Services, EndpointSlices and Namespaces (upstream's role
    /// `system:coredns`).
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// The addresses on which it answers, by UDP and TCP [default: those of the default route's interface].
    #[arg(long, value_name = "IP,...", value_delimiter = ',')]
    pub address: Vec<IpAddr>,
    /// The port on which it answers.
    #[arg(long, default_value_t = 53, value_name = "PORT")]
    pub port: u16,
    /// The cluster's domain.
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN")]
    pub cluster_domain: String,
    /// Seconds for which answers about the cluster are good.
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub ttl: u32,
    #[command(flatten)]
    pub forward: DnsOptions,
    /// The file that names the servers to ask about names outside of the cluster, unless --dns-forward does. It is
    /// followed.
    #[arg(long, default_value = "/etc/resolv.conf", value_name = "FILE")]
    pub resolv_conf: PathBuf,
    /// Where /health is served, or `none`.
    #[arg(long, default_value = "8080", value_name = "[IP:]PORT")]
    pub health: Place,
    /// Where /ready is served, or `none`.
    #[arg(long, default_value = "8181", value_name = "[IP:]PORT")]
    pub ready: Place,
    /// Where /metrics is served, or `none`.
    #[arg(long, default_value = "9153", value_name = "[IP:]PORT")]
    pub metrics: Place,
    /// How many seconds it goes on answering after it was told to end, and says that it is not healthy.
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    pub lameduck: u64,
}

/// An address to listen on, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(Option<SocketAddr>);

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self(None));
        }
        let port = text
            .parse()
            .map(|port: u16| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
        let place = port.or_else(|_| text.parse());
        place
            .map(|place| Self(Some(place)))
            .map_err(|_| format!("{text:?} is none of a port, an address with a port, and none"))
    }
}

/// Answers until a signal.
pub async fn run(args: DnsArgs) -> anyhow::Result<ExitCode> {
    let connected = knode_client::from_kubeconfig(&args.kubeconfig);
    let client = connected
        .with_context(|| format!("use --kubeconfig {}", args.kubeconfig.display()))?
        .client;
    let ips = match args.address.is_empty() {
        true => own_addresses()?,
        false => args.address,
    };
    let dns = Dns::open(Config {
        domain: args.cluster_domain,
        ttl: args.ttl,
        listen: ips.into_iter().map(|ip| SocketAddr::new(ip, args.port)).collect(),
        servers: args.forward.dns_forward,
        resolv_conf: args.resolv_conf,
        stubs: args.forward.dns_stub,
        health: args.health.0,
        ready: args.ready.0,
        metrics: args.metrics.0,
        lameduck: Duration::from_secs(args.lameduck),
        ..Config::new(client)
    })
    .await?;
    let mut synced = dns.synced();
    tokio::spawn(async move {
        if synced.wait_for(|synced| *synced).await.is_ok() {
            crate::service::ready();
        }
    });
    dns.run(async {
        match shutdown::asked_by_signal().await {
            Ok(signal) => tracing::info!(signal, "ending"),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot wait for signals"
            ),
        }
    })
    .await;
    Ok(ExitCode::SUCCESS)
}

/// The machine's address, and that of the other family if it has one.
fn own_addresses() -> anyhow::Result<Vec<IpAddr>> {
    let both = preflight::node_ips(None, &[Family::V4, Family::V6]);
    let found: Dual<IpAddr> = both.or_else(|_| preflight::node_ips(None, &[Family::V4]))?;
    Ok(found.iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_ports_addresses_or_none() {
        let shown = |text: &str| {
            text.parse::<Place>()
                .map(|place| place.0.map(|place| place.to_string()))
        };
        assert_eq!(shown("8080"), Ok(Some("0.0.0.0:8080".into())));
        assert_eq!(shown("[::1]:80"), Ok(Some("[::1]:80".into())));
        assert_eq!(shown("none"), Ok(None));
        assert!(shown("here").is_err());
    }
}
