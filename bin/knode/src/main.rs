//! A Kubernetes node in one binary.

mod background;
mod cli;
mod cluster;
mod cni;
mod control;
mod dns;
mod doctor;
mod down;
mod dual;
mod engine;
mod fast_path;
mod flanneld;
mod http1;
mod install;
mod join;
mod klog;
mod kube_proxy;
mod kubelet_role;
mod layout;
mod lean;
mod lock;
mod mk_docker_opts;
mod node;
mod output;
mod pki;
mod preflight;
mod progress;
mod rbac;
mod role;
mod server;
mod service;
mod shutdown;
mod status;
mod token;
mod up;
mod upgrade;
mod verify;
mod version;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    // Shims and creators must stay small: nothing may come before this.
    if let Some(code) = knode_engine::entry::dispatch(std::env::args_os().skip(1)) {
        return u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from);
    }
    let cli = Cli::parse_from(role::arguments(
        std::env::args_os(),
        std::env::var_os("CNI_COMMAND").is_some(),
    ));
    if let Err(error) = log(&filter(&cli), is_role(&cli.command)) {
        eprintln!("knode: {error:#}");
        return ExitCode::FAILURE;
    }
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("knode: {}", knode_client::brief(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Whether the command takes another program's part, and logs as that does.
fn is_role(command: &Command) -> bool {
    matches!(
        command,
        Command::Flanneld(_) | Command::KubeProxy(_) | Command::Kubelet(_)
    )
}

fn filter(cli: &Cli) -> String {
    match &cli.command {
        Command::Kubelet(role) if kubelet_role::is_talkative(&role.args) => format!("{},debug", cli.log),
        _ => cli.log.clone(),
    }
}

fn log(filter: &str, upstreams_form: bool) -> anyhow::Result<()> {
    let filter: EnvFilter = filter.parse()?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    if upstreams_form {
        log.event_format(klog::Klog).init();
    } else {
        log.init();
    }
    Ok(())
}

/// Two workers do: the parts wait most of the time, and memory is dear.
const WORKERS: usize = 2;
/// One heap for all threads would make them wait for one another.
const HEAPS: u8 = 2;

fn run(command: Command) -> anyhow::Result<ExitCode> {
    if let Command::Up(args) = &command
        && args.background
    {
        preflight::root("knode up")?;
        return background::start(&args.data);
    }
    // The process keeps one TLS implementation; a second call would find the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    knode_linux::memory::share_heaps(HEAPS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?;
    let code = runtime.block_on(dispatch(command));
    // Blocking work that is still under way must not hold the end up.
    runtime.shutdown_background();
    code
}

async fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => up::up(args).await,
        Command::Server(args) => up::server(args).await,
        Command::Node(args) => up::node(args).await,
        Command::Join(args) => join::run(args).await,
        Command::Token(command) => token::run(command).await,
        Command::Pki(command) => pki::run(command),
        Command::Down(args) => down::run(args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::Flanneld(args) => flanneld::run(&args.args).await,
        Command::MkDockerOpts(args) => mk_docker_opts::run(&args.args),
        Command::Cni => cni::run().await,
        Command::Dns(args) => dns::run(args).await,
        Command::Install(args) => install::install(&args),
        Command::Uninstall(args) => install::uninstall(args).await,
        Command::Upgrade(args) => upgrade::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::KubeProxy(args) => kube_proxy::run(&args.args).await,
        Command::Kubelet(args) => kubelet_role::run(&args.args).await,
        Command::Rbac(args) => rbac::run(args).await,
        Command::Proxy(command) => kube_proxy::inspect(command).await,
        Command::Engine(args) => engine::run(args).await,
    }
}
