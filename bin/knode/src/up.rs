//! `knode up`, `knode server`, `knode node`: the long-running commands.

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use crate::cli::{CniOptions, ControlPlaneOptions, NodeArgs, NodeOptions, ServerArgs, UpArgs};
use crate::cluster::{self, State};
use crate::dns::{DnsOptions, DnsWish};
use crate::dual::{Dual, Family};
use crate::layout::Layout;
use crate::lock;
use crate::node::{KubeletOptions, Node, PolicyOptions, RuntimeOptions};
use crate::progress::{Progress, READY};
use crate::server::ControlPlane;
use crate::shutdown;
use crate::upgrade::life;
use crate::{node, preflight, server, service};

/// A node that is not Ready after this long is reported; it goes on trying.
const READY_BOUND: Duration = Duration::from_secs(300);
/// How long the parts may take to end.
const END_BOUND: Duration = Duration::from_secs(10);

/// Directories of a long-running command, and what is remembered of earlier ones.
struct Site {
    layout: Layout,
    state: State,
    name: String,
    ips: Dual<IpAddr>,
}

impl Site {
    /// Takes the data directory. `check` runs before anything is made in it; `families` are those of which the machine
    /// needs an address.
    fn take(
        data_dir: &Path,
        options: &NodeOptions,
        families: &[Family],
        check: impl FnOnce(&Layout, &str, Dual<IpAddr>, &State) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let layout = Layout::new(data_dir);
        let state = State::load(&layout.state_file())?;
        let asked = options.node_ip.or(state.node.as_ref().map(|n| n.ip));
        let (name, ips) = (
            preflight::node_name(options.node_name.as_deref())?,
            preflight::node_ips(asked, families)?,
        );
        if let Some(holder) = lock::holder(&layout.lock_file()) {
            anyhow::bail!(lock::LockError::Held {
                dir: data_dir.to_owned(),
                pid: holder.to_string()
            });
        }
        check(&layout, &name, ips, &state)?;
        lock::take(&layout.lock_file())?.hold_to_the_end();
        Ok(Self {
            layout,
            state,
            name,
            ips,
        })
    }

    fn remember_control_plane(&mut self, options: &ControlPlaneOptions) {
        self.state.control_plane = Some(cluster::ControlPlane {
            pod_cidr: options.pod_cidr,
            service_cidr: options.service_cidr,
            listen: options.listen,
            kubeconfig: std::path::absolute(&options.write_kubeconfig)
                .unwrap_or(options.write_kubeconfig.clone()),
        });
    }

    fn remember_node(&mut self) {
        self.state.node = Some(cluster::Node {
            name: self.name.clone(),
            ip: self.ips,
        });
    }

    fn save(&self) -> anyhow::Result<()> {
        Ok(self.state.save(&self.layout.state_file())?)
    }
}

/// Control plane and node in this process.
pub async fn up(args: UpArgs) -> anyhow::Result<ExitCode> {
    preflight::root("knode up")?;
    let progress = Progress::start();
    let options = &args.control_plane;
    let families = options.pod_cidr.families();
    let mut site = Site::take(
        &args.data.data_dir,
        &args.node,
        &families,
        |layout, name, ips, state| {
            state.agree(options)?;
            server_plan(layout, options, name, ips).check()?;
            Ok(up_node(layout, &args, name, ips).check()?)
        },
    )?;
    site.remember_control_plane(options);
    site.remember_node();
    site.save()?;
    let (trigger, end) = shutdown::channel();
    let control_plane = server_plan(&site.layout, options, &site.name, site.ips)
        .start(&progress, &end)
        .await?;
    let node = up_node(&site.layout, &args, &site.name, site.ips)
        .start(&progress, &end)
        .await?;
    run(Some(control_plane), Some(node), &progress, trigger).await
}

fn server_plan<'a>(
    layout: &'a Layout,
    options: &'a ControlPlaneOptions,
    name: &'a str,
    ips: Dual<IpAddr>,
) -> server::Plan<'a> {
    server::Plan {
        layout,
        options,
        ips,
        name,
    }
}

fn up_node<'a>(layout: &'a Layout, args: &UpArgs, name: &str, ips: Dual<IpAddr>) -> node::Plan<'a> {
    node::Plan {
        layout,
        name: name.to_owned(),
        ips,
        bootstrap_kubeconfig: Some(layout.bootstrap_kubeconfig()),
        proxy_kubeconfig: None,
        kubelet: args.node.kubelet.clone(),
        runtime: args.node.runtime.clone(),
        cni: args.node.cni.dirs(layout),
        policy: args.node.policy,
        dns: DnsWish {
            cluster: args.control_plane.cluster_dns,
            options: args.node.dns.clone(),
        },
        ranges: Some(node::Ranges {
            pods: args.control_plane.pod_cidr,
            services: args.control_plane.service_cidr,
        }),
    }
}

/// The control plane alone.
pub async fn server(args: ServerArgs) -> anyhow::Result<ExitCode> {
    preflight::root("knode server")?;
    let progress = Progress::start();
    let options = &args.control_plane;
    let asked = NodeOptions {
        node_name: None,
        node_ip: args.advertise_address.map(Dual::single),
        kubelet: KubeletOptions::default(),
        runtime: RuntimeOptions::default(),
        cni: CniOptions::default(),
        policy: PolicyOptions::default(),
        dns: DnsOptions::default(),
    };
    let families = [Family::of(&options.service_cidr.primary())];
    if let Some(address) = args.advertise_address {
        preflight::advertised(address, families[0])?;
    }
    let mut site = Site::take(
        &args.data.data_dir,
        &asked,
        &families,
        |layout, name, ips, state| {
            state.agree(options)?;
            Ok(server_plan(layout, options, name, ips).check()?)
        },
    )?;
    site.remember_control_plane(options);
    site.save()?;
    let (trigger, end) = shutdown::channel();
    let control_plane = server_plan(&site.layout, options, &site.name, site.ips)
        .start(&progress, &end)
        .await?;
    if let Some(path) = &args.write_bootstrap_kubeconfig {
        let text =
            std::fs::read(site.layout.bootstrap_kubeconfig()).context("read the bootstrap kubeconfig")?;
        knode_pki::files::write_atomic(path, &text, knode_pki::files::PRIVATE)?;
        progress.done(format!("bootstrap kubeconfig: {}", path.display()));
    }
    let _control = crate::control::serve_alone(&site.layout.control_socket())?;
    tokio::spawn(crate::lean::after_start());
    run(Some(control_plane), None, &progress, trigger).await
}

/// The node alone.
pub async fn node(args: NodeArgs) -> anyhow::Result<ExitCode> {
    preflight::root("knode node")?;
    let progress = Progress::start();
    let families = args.pod_cidr.families();
    let mut site = Site::take(
        &args.data.data_dir,
        &args.node,
        &families,
        |layout, name, ips, _| Ok(node_plan(&args, layout, name, ips).check()?),
    )?;
    site.remember_node();
    site.save()?;
    let (trigger, end) = shutdown::channel();
    let node = node_plan(&args, &site.layout, &site.name, site.ips)
        .start(&progress, &end)
        .await?;
    run(None, Some(node), &progress, trigger).await
}

fn node_plan<'a>(args: &NodeArgs, layout: &'a Layout, name: &str, ips: Dual<IpAddr>) -> node::Plan<'a> {
    node::Plan {
        layout,
        name: name.to_owned(),
        ips,
        bootstrap_kubeconfig: Some(args.bootstrap_kubeconfig.clone()),
        proxy_kubeconfig: args.proxy_kubeconfig.clone(),
        kubelet: args.node.kubelet.clone(),
        runtime: args.node.runtime.clone(),
        cni: args.node.cni.dirs(layout),
        policy: args.node.policy,
        dns: DnsWish {
            cluster: args.cluster_dns,
            options: args.node.dns.clone(),
        },
        ranges: Some(node::Ranges {
            pods: args.pod_cidr,
            services: args.service_cidr,
        }),
    }
}

/// Runs until a signal, or until a part ends that should not.
async fn run(
    mut control_plane: Option<ControlPlane>,
    mut node: Option<Node>,
    progress: &Progress,
    trigger: shutdown::Trigger,
) -> anyhow::Result<ExitCode> {
    let ready = async {
        if let Some(node) = &node {
            node.ready(progress, READY_BOUND).await?;
            progress.done("the node is Ready");
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ready = ready => report_ready(ready, progress),
        signal = shutdown::asked_by_signal() => return end(control_plane, node, trigger, signal?).await,
    }
    let broken = async {
        let server = async {
            match &mut control_plane {
                Some(c) => c.broken().await,
                None => std::future::pending().await,
            }
        };
        let node = async {
            match &mut node {
                Some(n) => n.broken().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! { how = server => how, how = node => how }
    };
    let how = tokio::select! {
        how = broken => Err(how),
        () = service::watchdog() => Err("the watchdog ended".into()),
        signal = shutdown::asked_by_signal() => Ok(signal?),
    };
    match how {
        Ok(signal) => end(control_plane, node, trigger, signal).await,
        Err(how) => anyhow::bail!("{how}; pods go on running: start knode again"),
    }
}

fn report_ready(ready: anyhow::Result<()>, progress: &Progress) {
    match ready {
        Ok(()) => {
            progress.done(READY);
            life::ready();
            service::ready();
        }
        Err(error) => tracing::error!(error = format!("{error:#}"), "not Ready yet; still trying"),
    }
}

async fn end(
    control_plane: Option<ControlPlane>,
    node: Option<Node>,
    trigger: shutdown::Trigger,
    signal: &str,
) -> anyhow::Result<ExitCode> {
    service::stopping();
    tracing::info!(signal, "ending; pods go on running");
    trigger.end();
    if let Some(node) = node {
        node.release();
    }
    if let Some(control_plane) = control_plane
        && tokio::time::timeout(END_BOUND, control_plane.ended())
            .await
            .is_err()
    {
        tracing::warn!("the control plane took longer than {END_BOUND:?} to end");
    }
    Ok(ExitCode::SUCCESS)
}
