//! `knode kubelet`: engine and kubelet, with the flags, files and log lines of upstream's program. Overlay and service
//! proxy are programs of their own beside it (`flanneld`, `kube-proxy`), as the CNI configuration and upstream's have it.

mod host;
mod place;
mod warnings;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use knode_kubelet_config::{Command, CommandLine, Effective, Own, Sources, parse_flags, settle, usage};
use knode_pki::kubeconfig::Kubeconfig;

use crate::layout::{DEFAULT_DATA_DIR, Layout};
use crate::lock::{self, LockError};
use crate::node::{KubeletOptions, Node, Plan, PolicyOptions, RuntimeOptions, config_files};
use crate::progress::Progress;
use crate::{cluster, preflight, service, shutdown, version};

pub use warnings::of_shared as shared_key;

/// From this verbosity on, debugging texts are logged.
const TALKATIVE: u8 = 4;

/// Whether the flags ask for debugging texts; those that can't be read are told of later.
pub fn is_talkative(args: &[String]) -> bool {
    let line = parse_flags(args).ok();
    let level = line
        .as_ref()
        .and_then(|line| line.own(Own::Verbosity)?.parse::<u8>().ok());
    level.is_some_and(|level| level >= TALKATIVE)
}

/// Runs the kubelet, or does the one thing that the flags ask for.
pub async fn run(args: &[String]) -> anyhow::Result<ExitCode> {
    let line = parse_flags(args).context("failed to parse kubelet flag")?;
    match line.command {
        Command::Help => print!("{}", usage()),
        Command::Version => println!("Kubernetes {}", version::GIT_VERSION),
        Command::Run => return serve(&line).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(line: &CommandLine) -> anyhow::Result<ExitCode> {
    preflight::root("kubelet")?;
    let effective = effective(line)?;
    host::check(&effective.settings)?;
    let layout = Layout::new(Path::new(DEFAULT_DATA_DIR)).with_kubelet(place::files(line)?);
    tell(line, &layout);
    let name = preflight::node_name(line.own(Own::HostnameOverride))?;
    let ips = place::addresses(line.own(Own::NodeIp), &name)?;
    let plan = Plan {
        layout: &layout,
        name,
        ips,
        bootstrap_kubeconfig: line.own(Own::BootstrapKubeconfig).map(Into::into),
        kubelet: KubeletOptions {
            image_credential_provider_config: line.own(Own::ProviderConfig).map(Into::into),
            image_credential_provider_bin_dir: line.own(Own::ProviderBinDir).map(Into::into),
            ..KubeletOptions::settled(effective)
        },
        runtime: RuntimeOptions::default(),
        cni: place::cni(line, &layout),
        policy: PolicyOptions {
            network_policy: false,
        },
        dns: crate::dns::DnsWish::default(),
        proxy_kubeconfig: None,
        ranges: None,
    };
    take(&plan)?;
    tokio::select! {
        ended = work(&plan) => ended,
        signal = shutdown::asked_by_signal() => Ok(ending(signal?)),
        () = service::watchdog() => Ok(ExitCode::FAILURE),
    }
}

fn effective(line: &CommandLine) -> anyhow::Result<Effective> {
    let (file, dir) = (line.own(Own::Config), line.own(Own::ConfigDir));
    let files = config_files::read(file.map(Path::new), dir.map(Path::new))?;
    let sources = Sources {
        files: &files,
        ..Sources::default()
    };
    settle(line, sources).context("the kubelet's configuration can't be used")
}

/// Says what is not as those who wrote the unit expect it.
fn tell(line: &CommandLine, layout: &Layout) {
    if !line.docker.is_empty() {
        tracing::info!(
            "{}: docker isn't used: pods run in the engine of this process unless --container-runtime-endpoint names another",
            line.docker.join(", ")
        );
    }
    for warning in warnings::of_own_unit() {
        tracing::warn!("{warning}");
    }
    if let Some(file) = line.own(Own::BootstrapKubeconfig).map(Path::new)
        && !layout.kubelet_kubeconfig().exists()
        && let Ok(access) = Kubeconfig::load_access(file)
        && let Some(warning) = warnings::of_bootstrap(file, &access)
    {
        tracing::warn!("{warning}");
    }
}

/// Takes the data directory, once nothing stands in the way.
fn take(plan: &Plan<'_>) -> anyhow::Result<()> {
    let layout = plan.layout;
    if let Some(holder) = lock::holder(&layout.lock_file()) {
        anyhow::bail!(LockError::Held {
            dir: layout.data_dir().to_owned(),
            pid: holder.to_string()
        });
    }
    plan.check()?;
    lock::take(&layout.lock_file())?.hold_to_the_end();
    let mut state = cluster::State::load(&layout.state_file())?;
    state.node = Some(cluster::Node {
        name: plan.name.clone(),
        ip: plan.ips,
    });
    Ok(state.save(&layout.state_file())?)
}

/// Runs until a part ends that should not.
async fn work(plan: &Plan<'_>) -> anyhow::Result<ExitCode> {
    let (_trigger, end) = shutdown::channel();
    service::status("starting; a certificate request may have to be approved");
    let mut node: Node = plan.start(&Progress::logged(), &end).await?;
    service::ready();
    service::status("running");
    tracing::info!("Started kubelet");
    let how = node.broken().await;
    anyhow::bail!("{how}; pods go on running")
}

fn ending(signal: &str) -> ExitCode {
    service::stopping();
    tracing::info!("{signal}: ending; pods go on running");
    ExitCode::SUCCESS
}
