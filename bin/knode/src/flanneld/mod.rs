//! `knode flanneld`: the overlay alone, with the flags, files and log lines of upstream's daemon.

mod config;
mod health;
mod kubernetes;

pub use kubernetes::account;

use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use knode_overlay::{
    Access, Config, Etcd, EtcdConfig, EtcdLeases, FlagError, Flags, Invocation, Kernel, LeaseStore, LeasesIn,
    NetConf, Overlay, Prefix, Underlay, Wish, read_config,
};

use knode_pki::Certificate;

use crate::{fast_path, lean, service, shutdown};

/// How often the network's configuration is asked for while there is none.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// What Go's flag package ends with after a wrong flag.
const WRONG_FLAG: u8 = 2;

/// Runs the daemon, or a command on its configuration.
pub async fn run(args: &[String]) -> anyhow::Result<ExitCode> {
    let env = |key: &str| std::env::var(key).ok();
    if let Some(done) = config::command(args, env).await {
        return done;
    }
    let flags = match Flags::parse(args, env) {
        Ok(Invocation::Run(flags)) => *flags,
        Ok(Invocation::Version) => {
            eprintln!("{}", crate::version::FULL);
            return Ok(ExitCode::SUCCESS);
        }
        Err(FlagError::Help) => {
            eprint!("{}", Flags::usage("flanneld"));
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => {
            eprintln!("{error}\n{}", Flags::usage("flanneld"));
            return Ok(ExitCode::from(WRONG_FLAG));
        }
    };
    let (overlay, health) = tokio::select! {
        prepared = prepare(&flags) => prepared?,
        signal = shutdown::asked_by_signal() => return Ok(ending(signal?)),
    };
    let subnet = overlay.subnet();
    tokio::spawn(settle(subnet.clone()));
    tokio::select! {
        ended = overlay.run() => ended.map(|()| ExitCode::FAILURE).map_err(Into::into),
        () = report(subnet, &flags.subnet_file) => Ok(ExitCode::FAILURE),
        ended = health::serve(health) => ended.map(|()| ExitCode::FAILURE),
        () = service::watchdog() => Ok(ExitCode::FAILURE),
        never = fast_path::run(overlay.subnet()) => match never {},
        signal = shutdown::asked_by_signal() => {
            let code = ending(signal?);
            overlay.shutdown().await?;
            Ok(code)
        }
    }
}

/// Says so when the certificate for etcd is one that servers on other machines have too.
fn told_of_shared_key(access: &Access, underlay: &Underlay) {
    let Some(file) = &access.tls.certificate else {
        return;
    };
    // What can't be read is told of when it is used.
    let certificate = knode_pki::files::read(file).and_then(|text| Certificate::from_pem(&text));
    let own: Vec<IpAddr> = std::iter::once(underlay.ip.into())
        .chain(underlay.ipv6.map(|net| net.addr().into()))
        .collect();
    if let Ok(certificate) = certificate
        && let Some(warning) = crate::kubelet_role::shared_key(file, &certificate, &own)
    {
        tracing::warn!("{warning}");
    }
}

fn ending(signal: &str) -> ExitCode {
    service::stopping();
    tracing::info!("{signal}: shutting down; what the pods need stays");
    ExitCode::SUCCESS
}

async fn prepare(flags: &Flags) -> anyhow::Result<(Overlay, Option<TcpListener>)> {
    // Where health is to be asked for it is answered from the beginning, as upstream does.
    let health = flags.healthz.map(health::bind).transpose()?;
    let kernel = Kernel::open().context("look at the network")?;
    let underlay = kernel
        .underlay_among(&flags.interfaces)
        .context("find an interface")?;
    tracing::info!(
        "Using interface with name {} and address {}",
        underlay.name,
        underlay.ip
    );
    let told = flags.public_ip.unwrap_or(underlay.ip);
    tracing::info!("Using {told} as external address");
    if let LeasesIn::Etcd { access, .. } = &flags.leases {
        told_of_shared_key(access, &underlay);
    }
    let (conf, store) = leases(flags).await?;
    if conf.ipv6.is_some() {
        let told = flags.public_ipv6.or(underlay.ipv6.map(|net| net.addr()));
        let told = told.map_or("no address".to_owned(), |ip| ip.to_string());
        tracing::info!("Using {told} as external address for IPv6");
    }
    let config = Config {
        conf,
        wish: Wish {
            public_ip: flags.public_ip,
            public_ipv6: flags.public_ipv6,
            ..Wish::default()
        },
        masquerade: flags.masquerade,
        subnet_file: flags.subnet_file.clone(),
    };
    let overlay = Overlay::over(config, store, underlay)?
        .with_rules(flags.rules)
        .with_blackhole(flags.blackhole);
    Ok((overlay, health))
}

/// Gives back what only the start needed, once the daemon has settled.
async fn settle(mut subnet: tokio::sync::watch::Receiver<Option<knode_overlay::Subnet>>) {
    // It ends with the overlay, which says itself why.
    if subnet.wait_for(Option::is_some).await.is_ok() {
        lean::after_start().await;
    }
}

/// Says when the subnet is there, to the log and to the service manager.
async fn report(mut subnet: tokio::sync::watch::Receiver<Option<knode_overlay::Subnet>>, file: &Path) {
    loop {
        if let Some(subnet) = *subnet.borrow_and_update() {
            tracing::info!("Wrote subnet file to {}", file.display());
            tracing::info!("Lease acquired: {}", subnet.ipv4);
            if let Some(ipv6) = subnet.ipv6 {
                tracing::info!("IPv6 lease acquired: {ipv6}");
            }
            service::ready();
        }
        if subnet.changed().await.is_err() {
            // The overlay has ended, which says itself why.
            return std::future::pending().await;
        }
    }
}

async fn leases(flags: &Flags) -> anyhow::Result<(NetConf, Arc<dyn LeaseStore>)> {
    match &flags.leases {
        LeasesIn::Etcd {
            access,
            prefix,
            renew_margin,
        } => {
            let (etcd, conf) = network(access, prefix).await?;
            let mut config = EtcdConfig::new(prefix.clone(), conf.clone(), flags.subnet_file.clone());
            config.renew_margin = *renew_margin;
            Ok((conf, Arc::new(EtcdLeases::start(etcd, config))))
        }
        LeasesIn::Kubernetes {
            kubeconfig,
            server,
            net_config,
            prefix,
            announce,
        } => {
            let text = std::fs::read_to_string(net_config);
            let text = text.with_context(|| format!("read {}", net_config.display()))?;
            let conf = NetConf::parse_assigned(&text)?;
            let store =
                kubernetes::leases(kubeconfig.as_deref(), server.as_deref(), prefix, *announce).await?;
            Ok((conf, Arc::new(store)))
        }
    }
}

/// Asks etcd for the network's configuration until it has one.
async fn network(access: &Access, prefix: &Prefix) -> anyhow::Result<(Etcd, NetConf)> {
    let etcd = Etcd::new(access.clone())?;
    loop {
        match read_config(&etcd, prefix).await {
            Ok(Some(text)) => {
                let conf = NetConf::parse(&text);
                return Ok((
                    etcd,
                    conf.with_context(|| format!("use the key {}", prefix.config()))?,
                ));
            }
            Ok(None) => tracing::warn!(
                "Couldn't fetch network config: there is no key {}",
                prefix.config()
            ),
            Err(error) if error.is_permanent() => return Err(error.into()),
            Err(error) => tracing::error!("Couldn't fetch network config: {}", knode_client::brief(&error)),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
