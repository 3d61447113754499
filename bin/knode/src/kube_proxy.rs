//! `knode kube-proxy`: the service proxy alone, with upstream's flags and configuration file; and
//! `knode proxy`, which tells what the kernel does with a packet.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Service;
use knode_client::{Access, Api, Client};
use knode_pki::kubeconfig::Kubeconfig;
use knode_proxy::config::{Action, Settings};
use knode_proxy::inspect::Inspection;
use knode_proxy::model::Protocol;
use knode_proxy::table::TableConfig;

use crate::cli::ProxyCommand;
use crate::{flanneld, preflight, service, shutdown, version};

/// Runs the proxy, or does the one thing that the flags ask for.
pub async fn run(args: &[String]) -> anyhow::Result<ExitCode> {
    let settings = Settings::parse(args, |path| std::fs::read_to_string(path))?;
    match settings.action {
        Action::Help => print!("{}", Settings::USAGE),
        Action::Version => println!("{}", version::FULL),
        Action::Cleanup => {
            preflight::root("knode kube-proxy --cleanup")?;
            let errors = knode_proxy::cleanup(&settings.table);
            if let Some(error) = errors.into_iter().next() {
                return Err(error).context("remove what a proxy has left");
            }
        }
        Action::Run => serve(&settings).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(settings: &Settings) -> anyhow::Result<()> {
    preflight::root("knode kube-proxy")?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let client = client(settings.kubeconfig.as_deref(), settings.master.as_deref())?;
    let name = preflight::node_name(settings.hostname_override.as_deref())?;
    let config = settings.proxy_config(client, name);
    let end = async {
        match shutdown::asked_by_signal().await {
            Ok(signal) => {
                service::stopping();
                tracing::info!("{signal}: shutting down; the tables stay");
            }
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot wait for signals"
            ),
        }
    };
    service::ready();
    tokio::select! {
        ended = knode_proxy::run(config, end) => ended.context("run the service proxy"),
        () = service::watchdog() => Ok(()),
    }
}

fn client(kubeconfig: Option<&Path>, master: Option<&str>) -> anyhow::Result<Client> {
    let mut access = match (kubeconfig, master) {
        // A kubeconfig that is renewed while the proxy runs is taken up.
        (Some(path), None) => {
            let connected = knode_client::from_kubeconfig(path);
            return Ok(connected
                .with_context(|| format!("use --kubeconfig {}", path.display()))?
                .client);
        }
        (Some(path), _) => {
            Kubeconfig::load_access(path).with_context(|| format!("use --kubeconfig {}", path.display()))?
        }
        (None, Some(master)) => anonymous(master),
        (None, None) => flanneld::account()?,
    };
    if let Some(master) = master {
        access.server = master.to_owned();
    }
    Ok(knode_client::connect(&access)
        .context("connect to the API server")?
        .client)
}

fn anonymous(server: &str) -> Access {
    Access {
        server: server.to_owned(),
        ca: None,
        tls_server_name: None,
        client_cert: None,
        client_key: None,
        token: None,
        namespace: None,
    }
}

/// Tells what the tables do.
pub async fn inspect(command: ProxyCommand) -> anyhow::Result<ExitCode> {
    preflight::root("knode proxy")?;
    let inspection = Inspection::read(&TableConfig::default()).context("read the proxy's tables")?;
    match command {
        ProxyCommand::Explain { service, kubeconfig } => {
            let (name, port) = split_port(&service)?;
            for address in addresses(&name, &kubeconfig).await? {
                for line in inspection.explain(address, port) {
                    println!("{line}");
                }
            }
        }
        ProxyCommand::Trace { source, to, protocol } => {
            let to: SocketAddr = to
                .parse()
                .with_context(|| format!("{to:?} is not an address with a port"))?;
            if source.is_ipv4() != to.is_ipv4() {
                bail!("{source} and {to} are of different families");
            }
            let protocol = Protocol::from_name(Some(&protocol.to_uppercase()));
            let protocol = protocol.context("the protocol is none of tcp, udp and sctp")?;
            print!("{}", inspection.trace(source, to, protocol));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The port behind the last colon; an IPv6 address with a port stands in brackets.
fn split_port(text: &str) -> anyhow::Result<(String, Option<u16>)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok((address.ip().to_string(), Some(address.port())));
    }
    match text.rsplit_once(':') {
        Some((name, port)) if text.parse::<IpAddr>().is_err() => {
            let port = port.parse().with_context(|| format!("{port:?} is not a port"))?;
            Ok((name.to_owned(), Some(port)))
        }
        _ => Ok((text.to_owned(), None)),
    }
}

/// An address, or those of the Service of this name.
async fn addresses(name: &str, kubeconfig: &Path) -> anyhow::Result<Vec<IpAddr>> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let client = client(Some(kubeconfig), None)?;
    let found = Api::<Service>::namespaced(client, namespace).get(name).await;
    let found = found.with_context(|| format!("look for the service {namespace}/{name}"))?;
    let spec = found.spec.unwrap_or_default();
    let texts = spec.cluster_ips.into_iter().chain(spec.external_ips).flatten();
    let addresses: Vec<IpAddr> = texts.filter_map(|text| text.parse().ok()).collect();
    if addresses.is_empty() {
        bail!("the service {namespace}/{name} has no addresses: no proxy is concerned with it");
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_may_follow() {
        let of = |text: &str| split_port(text).expect("understood");
        assert_eq!(of("10.96.0.1:443"), ("10.96.0.1".to_owned(), Some(443)));
        assert_eq!(of("[fd00::1]:80"), ("fd00::1".to_owned(), Some(80)));
        assert_eq!(of("fd00::1"), ("fd00::1".to_owned(), None));
        assert_eq!(of("kube-system/dns:53"), ("kube-system/dns".to_owned(), Some(53)));
        assert_eq!(of("web"), ("web".to_owned(), None));
        assert!(split_port("web:http").is_err());
    }
}
