//! `knode down`: ends the daemon, then takes down everything that it leaves running.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use knode_engine::EngineConfig;
use knode_engine::net::{NetError, NetRequest, NetResult, NetStatus, PodNetwork};
use knode_images::{ImageStore, Registries, StoreConfig};
use knode_linux::cgroup::{self, Cgroups};
use knode_overlay::NetConf;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cli::DownArgs;
use crate::cluster::State;
use crate::engine;
use crate::layout::Layout;
use crate::progress::Progress;
use crate::{install, lock, node, preflight};

/// How long the daemon may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(15);
const PACE: Duration = Duration::from_millis(20);

/// Ends what runs from a data directory. Goes on after errors; exit code 1 if there were any.
pub async fn run(args: DownArgs) -> anyhow::Result<ExitCode> {
    preflight::root("knode down")?;
    let progress = Progress::start();
    let layout = Layout::new(&args.data.data_dir);
    let state = State::load(&layout.state_file())?;
    end_daemon(&layout, &progress).await?;
    let mut errors = Vec::new();
    if state.node.is_some() || layout.engine_dir().exists() {
        // While the pods' namespaces are there: plugins look into them.
        errors.extend(node::detach_all(&layout).await);
        errors.extend(node::end_remote(&layout).await);
        if layout.engine_dir().exists() {
            errors.extend(end_pods(&layout).await);
        }
        errors.extend(unmount_below(&layout.kubelet_dir()));
        progress.done("pods ended");
        errors.extend(end_network(&layout));
        errors.extend(node::forget_masquerade());
        errors.extend(engine::forget_masquerade());
        progress.done("links, routes and rules removed");
        errors.extend(end_cgroups(&layout));
    }
    if args.purge {
        errors.extend(purge(&layout, &state));
        progress.done("data removed");
    }
    for e in &errors {
        eprintln!("down: {e}");
    }
    Ok(if errors.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

pub async fn end_daemon(layout: &Layout, progress: &Progress) -> anyhow::Result<()> {
    let Some(pid) = lock::holder(&layout.lock_file()) else {
        return Ok(());
    };
    if let Some(unit) = install::stop_service_of(pid)? {
        progress.done(format!(
            "{unit} is stopped; the next boot starts it unless it is disabled"
        ));
    } else {
        kill(Pid::from_raw(pid), Signal::SIGTERM).with_context(|| format!("end process {pid}"))?;
    }
    let started = tokio::time::Instant::now();
    let mut killed = false;
    while lock::holder(&layout.lock_file()) == Some(pid) {
        if started.elapsed() > PATIENCE && !killed {
            killed = true;
            progress.done(format!("process {pid} does not end by itself: killed"));
            kill(Pid::from_raw(pid), Signal::SIGKILL).with_context(|| format!("kill process {pid}"))?;
        }
        anyhow::ensure!(started.elapsed() < PATIENCE * 2, "process {pid} can't be ended");
        progress.waiting(format!("process {pid} to end"));
        tokio::time::sleep(PACE).await;
    }
    progress.done(format!("process {pid} ended"));
    Ok(())
}

/// A pod network for the engine's end: the links are taken down as a whole afterwards.
struct Gone;

#[async_trait]
impl PodNetwork for Gone {
    async fn add(&self, _: &NetRequest) -> Result<NetResult, NetError> {
        Err("the node is being taken down".into())
    }

    async fn remove(&self, _: &NetRequest) -> Result<(), NetError> {
        Ok(())
    }

    async fn status(&self) -> NetStatus {
        NetStatus::not_ready("the node is being taken down")
    }
}

pub async fn end_pods(layout: &Layout) -> Vec<String> {
    let store = StoreConfig {
        root: layout.engine_dir().join("images"),
        registries: Registries::default(),
    };
    let images = match ImageStore::open(store) {
        Ok(images) => images,
        Err(error) => return vec![format!("open the image store: {error}")],
    };
    let root = images.root().to_owned();
    let config = EngineConfig::new(
        layout.engine_dir(),
        layout.engine_run_dir(),
        images,
        Arc::new(Gone),
    );
    let mut errors: Vec<String> = knode_engine::teardown(config).await.iter().map(chain).collect();
    errors.extend(knode_images::teardown(&root).iter().map(chain));
    errors
}

/// Volumes of pods: what is mounted is unmounted, innermost first; nothing is deleted.
fn unmount_below(directory: &Path) -> Vec<String> {
    let mounted = match knode_linux::overlay::mount_points_below(directory) {
        Ok(mounted) => mounted,
        Err(e) => return vec![format!("list the mounts below {}: {e}", directory.display())],
    };
    let unmount = |path: &std::path::PathBuf| {
        let failed = knode_linux::overlay::unmount_all(path).err()?;
        Some(format!("unmount {}: {failed}", path.display()))
    };
    mounted.iter().rev().filter_map(unmount).collect()
}

fn end_network(layout: &Layout) -> Vec<String> {
    let mut errors: Vec<String> = node::remove_policies().iter().map(chain).collect();
    errors.extend(
        knode_proxy::teardown(&knode_proxy::table::TableConfig::default())
            .iter()
            .map(chain),
    );
    // The range does not matter for taking down: the device and its routes are known by name.
    let conf = NetConf::vxlan(ipnet::Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
    errors.extend(
        knode_overlay::teardown(&conf, &layout.subnet_file())
            .iter()
            .map(chain),
    );
    errors.extend(
        knode_podnet::teardown(&knode_podnet::Config::new(layout.podnet_dir()))
            .iter()
            .map(chain),
    );
    errors
}

fn end_cgroups(layout: &Layout) -> Option<String> {
    let all = Cgroups::detect(Path::new(cgroup::DEFAULT_ROOT)).ok()?;
    let root = layout.cgroup_root();
    let mut groups = vec![node::pods_cgroup(&root)];
    if root != "/" {
        groups.push(root);
    }
    groups.iter().find_map(|group| {
        let removed = node::remove_cgroup(&all, group);
        let error = removed.err()?;
        Some(format!("remove control group {group}: {error}"))
    })
}

fn purge(layout: &Layout, state: &State) -> Vec<String> {
    let mut errors = Vec::new();
    let mut gone = |path: &Path, removed: std::io::Result<()>| match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            errors.push(format!("remove {}: {e}", path.display()))
        }
        _ => {}
    };
    if let Some(control_plane) = &state.control_plane {
        let path = &control_plane.kubeconfig;
        gone(path, std::fs::remove_file(path));
        if let Some(dir) = path.parent() {
            // Others' files in it keep it.
            let _ = std::fs::remove_dir(dir);
        }
    }
    for path in layout.purge() {
        gone(&path, std::fs::remove_dir_all(&path));
    }
    errors
}

/// An error with its causes.
fn chain<E: std::error::Error + 'static>(error: &E) -> String {
    knode_client::brief(error)
}
