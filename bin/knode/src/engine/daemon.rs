//! The engine as a process of its own.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, ensure};
use knode_dbus::systemd;
use knode_podnet::Subnet;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::cli::{CgroupDriver, DaemonArgs};
use super::start::{self, Plan};
use super::{config, stop, subnet};
use crate::layout::Layout;
use crate::lean;
use crate::lock::{self, LockError};
use crate::node::{CniDirs, Networks};
use crate::progress::{Progress, READY};
use crate::shutdown::{self, Shutdown};
use crate::{preflight, shutdown::Trigger};

/// Runs until a signal; pods go on running.
pub async fn run(args: DaemonArgs) -> anyhow::Result<ExitCode> {
    preflight::root("knode engine")?;
    let progress = Progress::start();
    let layout = Layout::new(&args.data.data_dir);
    if args.stop_all {
        return stop::all(&layout, &progress).await;
    }
    let cgroup_driver = driver(args.cgroup_driver, Path::new(systemd::PRIVATE))?;
    let runtimes = config::runtimes(args.config.as_deref(), &layout)?;
    take(&layout)?;
    let (trigger, end) = shutdown::channel();
    let mut tasks = JoinSet::new();
    let socket = args.socket.clone().unwrap_or_else(|| layout.cri_socket());
    let (told, seen) = watch::channel(None);
    let told = Arc::new(told);
    let file = known_subnet(&args, &layout, &told)?;
    let images = start::open_images(&layout, start::registries(args.registry_config_path.clone()))?;
    start::import_ready(&images, &layout).await?;
    let dirs = args.cni.dirs(&layout);
    let plan = Plan {
        layout: &layout,
        socket: absolute(&socket),
        images,
        cni: dirs.open(&layout)?,
        cni_conf: dirs.conf.clone(),
        runtimes,
        cgroup_driver,
        selinux: args.selinux,
        subnet: seen.clone(),
    };
    let engine = start_engine(plan, told, file, &mut tasks, &end).await?;
    tasks.spawn(subnet::masquerade(seen));
    link_usual(&layout, &absolute(&socket))?;
    let own = engine.clone();
    tasks.spawn(async move { match lean::keep(own).await {} });
    tell_ready(&progress, &socket, &dirs);
    let how = until_the_end(&mut tasks, trigger).await;
    drop(engine);
    how
}

/// Who makes control groups; systemd only where there is one.
fn driver(asked: CgroupDriver, socket: &Path) -> anyhow::Result<knode_engine::CgroupDriver> {
    match asked {
        CgroupDriver::Cgroupfs => Ok(knode_engine::CgroupDriver::Cgroupfs),
        CgroupDriver::Systemd => {
            ensure!(
                systemd::listens(socket),
                "--cgroup-driver systemd: no systemd runs here ({} is missing)",
                socket.display()
            );
            Ok(knode_engine::CgroupDriver::Systemd)
        }
    }
}

/// One daemon a data directory.
fn take(layout: &Layout) -> anyhow::Result<()> {
    if let Some(holder) = lock::holder(&layout.lock_file()) {
        anyhow::bail!(LockError::Held {
            dir: layout.data_dir().to_owned(),
            pid: holder.to_string()
        });
    }
    lock::take(&layout.lock_file())?.hold_to_the_end();
    Ok(())
}

/// Tells what is known of the pods' addresses; gives the file for what the kubelet will tell, if it is to be asked.
fn known_subnet(
    args: &DaemonArgs,
    layout: &Layout,
    told: &watch::Sender<Option<Subnet>>,
) -> anyhow::Result<Option<PathBuf>> {
    match &args.pod_subnet {
        Some(networks) => {
            told.send_replace(Some(subnet::of(networks)?));
            Ok(None)
        }
        None => {
            let file = layout.pod_subnet_file();
            told.send_replace(subnet::remembered(&file));
            Ok(Some(file))
        }
    }
}

async fn start_engine(
    plan: Plan<'_>,
    told: Arc<watch::Sender<Option<Subnet>>>,
    file: Option<PathBuf>,
    tasks: &mut JoinSet<String>,
    end: &Shutdown,
) -> anyhow::Result<Arc<knode_engine::Engine>> {
    let wrap = |inner: Arc<Networks>| {
        let listening = subnet::Told {
            inner,
            subnet: told,
            file,
        };
        (Arc::new(listening) as Arc<dyn knode_engine::net::PodNetwork>, ())
    };
    let (engine, ()) = plan.start(wrap, tasks, end).await?;
    Ok(engine)
}

fn absolute(path: &Path) -> PathBuf {
    let path = path
        .to_str()
        .and_then(|p| p.strip_prefix("unix://"))
        .map_or(path, Path::new);
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Commands find the engine by its data directory wherever its socket is.
fn link_usual(layout: &Layout, socket: &Path) -> anyhow::Result<()> {
    let usual = layout.cri_socket();
    if usual == socket {
        return Ok(());
    }
    let link = || {
        match std::fs::remove_file(&usual) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::os::unix::fs::symlink(socket, &usual)
    };
    link().with_context(|| format!("link {} to {}", usual.display(), socket.display()))
}

fn tell_ready(progress: &Progress, socket: &Path, dirs: &CniDirs) {
    let conf = dirs
        .conf
        .as_ref()
        .map_or("none".into(), |dir| dir.display().to_string());
    tracing::info!(socket = %socket.display(), network_configurations = conf, "the engine serves CRI v1");
    progress.done(READY);
    // Without a service manager there is nobody to notify.
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::debug!(%error, "no service manager was notified");
    }
}

async fn until_the_end(tasks: &mut JoinSet<String>, trigger: Trigger) -> anyhow::Result<ExitCode> {
    tokio::select! {
        signal = shutdown::asked_by_signal() => {
            tracing::info!(signal = signal?, "ending; pods go on running");
            trigger.end();
            Ok(ExitCode::SUCCESS)
        }
        part = tasks.join_next() => match part {
            Some(Ok(how)) => anyhow::bail!("{how}; pods go on running: start the engine again"),
            Some(Err(error)) => anyhow::bail!("a part of the engine ended badly: {error}"),
            None => anyhow::bail!("the engine has no parts"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_makes_control_groups_only_where_it_runs() {
        let missing = Path::new("/nonexistent/private");
        let refused = driver(CgroupDriver::Systemd, missing).unwrap_err().to_string();
        assert!(refused.contains("/nonexistent/private"), "{refused}");
        let there = driver(CgroupDriver::Systemd, Path::new("/proc/self/exe")).unwrap();
        assert_eq!(there, knode_engine::CgroupDriver::Systemd);
        let files = driver(CgroupDriver::Cgroupfs, missing).unwrap();
        assert_eq!(files, knode_engine::CgroupDriver::Cgroupfs);
    }
}
