//! `knode upgrade`: another binary in the running one's place, without touching pods.

mod check;
mod daemon;
mod follow;
pub mod life;
mod swap;

use std::path::PathBuf;
use std::process::{Child, ExitCode};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use tokio::time::Instant;

use crate::cli::DataDir;
use crate::install::BINARY;
use crate::layout::Layout;
use crate::progress::Progress;
use crate::{control, lock, preflight, version};

use check::Version;
use daemon::Daemon;
use follow::{Seen, Stage};
use life::Life;
use swap::Swap;

/// How often is looked; nobody tells of processes that are not one's own.
const PACE: Duration = Duration::from_millis(50);
/// A daemon that does not end by itself in this time is killed.
const END_BOUND: Duration = Duration::from_secs(20);
/// The old daemon has been ready before: it is given this time at least.
const BACK_BOUND: Duration = Duration::from_secs(120);
/// How long a service manager may take before it starts a service again.
const SUPERVISOR_BOUND: Duration = Duration::from_secs(15);

/// What `knode upgrade` can be told.
#[derive(Args, Clone, Debug)]
pub struct UpgradeArgs {
    /// The new binary.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub data: DataDir,
    /// The file that is replaced [default: the one that the daemon runs, or /usr/local/bin/knode].
    #[arg(long, value_name = "FILE")]
    pub target: Option<PathBuf>,
    /// Take an older version too. What a newer one has written may mean nothing to it.
    #[arg(long)]
    pub allow_downgrade: bool,
    /// How long the new daemon may take until its node is Ready, in seconds; then the old one comes back.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub timeout: u64,
}

/// Checks, replaces, starts again, waits; and takes it back when the new one does not come up.
pub async fn run(args: UpgradeArgs) -> anyhow::Result<ExitCode> {
    preflight::root("knode upgrade")?;
    let progress = Progress::start();
    let layout = Layout::new(&args.data.data_dir);
    let old = lock::holder(&layout.lock_file()).map(Daemon::of).transpose()?;
    let running = running_version(&layout).await;
    check::program(&args.file)?;
    let new = check::version(&args.file).await?;
    check::not_older(&new, &running, args.allow_downgrade)?;
    progress.done(format!("{running} is to become {new}"));
    let target = args.target.clone().unwrap_or_else(|| match &old {
        Some(daemon) => daemon.program.clone(),
        None => BINARY.into(),
    });
    let swap = Swap::make(&args.file, &target)?;
    progress.done(format!("{} is replaced", target.display()));
    let Some(old) = old else {
        progress.done("no daemon runs from this data directory: nothing was restarted");
        return Ok(ExitCode::SUCCESS);
    };
    let bound = Duration::from_secs(args.timeout);
    match restart(&layout, &old, bound, &progress).await {
        Ok(life) => {
            progress.done(format!("version {} is ready", life.version));
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let why = knode_client::brief(error.as_ref());
            progress.done(format!("the new one did not come up: {why}"));
            take_back(&layout, &old, swap, bound.max(BACK_BOUND), &progress).await?;
            bail!(
                "the upgrade was taken back: {why}; its log: {}",
                logged(&layout, &old)
            );
        }
    }
}

fn logged(layout: &Layout, old: &Daemon) -> String {
    if old.is_supervised() {
        "journalctl --unit knode.service --unit knode-server.service".to_owned()
    } else {
        layout.log_file().display().to_string()
    }
}

/// The running daemon's version; this binary's own where none answers.
async fn running_version(layout: &Layout) -> Version {
    let said = ask(layout).await.map(|life| life.version);
    let read = said.as_deref().and_then(Version::read);
    read.or_else(|| Version::read(version::FULL))
        .expect("a build's version has three numbers")
}

/// What the daemon behind the control socket says of itself.
pub async fn ask(layout: &Layout) -> Option<Life> {
    let socket = layout.control_socket();
    let asked = control::ask(&socket, &control::Request::Life);
    // A daemon that hangs answers as little as one that is not there.
    let lines = tokio::time::timeout(Duration::from_secs(2), asked)
        .await
        .ok()?
        .ok()?;
    serde_json::from_str(lines.first()?).ok()
}

/// Ends the daemon and follows its successor until that is ready.
async fn restart(
    layout: &Layout,
    old: &Daemon,
    bound: Duration,
    progress: &Progress,
) -> anyhow::Result<Life> {
    end(layout, old, progress).await?;
    let mut child = if old.is_supervised() {
        None
    } else {
        Some(old.start_again(&layout.log_file())?)
    };
    let mut between = Some(Instant::now() + SUPERVISOR_BOUND);
    let until = Instant::now() + bound;
    let mut stage = Stage::Between;
    while !stage.is_final() {
        stage = stage.step(&look(layout, child.as_mut()).await);
        if let Stage::Starting { pid } = stage {
            progress.waiting(format!("process {pid} to be ready"));
        }
        if stage == Stage::Between && child.is_none() && between.is_some_and(|end| end < Instant::now()) {
            progress.done("no service manager has started it again");
            child = Some(old.start_again(&layout.log_file())?);
            between = None;
        }
        if until < Instant::now() && !stage.is_final() {
            return Err(give_up(stage, child, bound));
        }
        tokio::time::sleep(PACE).await;
    }
    match stage {
        Stage::Ready(life) => Ok(life),
        Stage::Failed(how) => bail!("{how}"),
        other => bail!("{other:?}"),
    }
}

/// A process that is not ready in time is ended, so that the old one finds the data directory free.
fn give_up(stage: Stage, child: Option<Child>, bound: Duration) -> anyhow::Error {
    if let Some(mut child) = child {
        // One that has ended meanwhile can't be killed.
        let _ = child.kill().and_then(|()| child.wait());
    } else if let Stage::Starting { pid } = stage
        && let Err(error) = Daemon::of(pid).and_then(|daemon| daemon.kill())
    {
        tracing::warn!(error = &error as &dyn std::error::Error, "the new daemon runs on");
    }
    anyhow::anyhow!("it was not ready in {} s", bound.as_secs())
}

async fn look(layout: &Layout, child: Option<&mut Child>) -> Seen {
    let ended = child.and_then(|child| child.try_wait().ok().flatten());
    let holder = lock::holder(&layout.lock_file());
    Seen {
        holder,
        life: if holder.is_some() { ask(layout).await } else { None },
        ended: ended.map(|status| format!("it ended with {status}")),
    }
}

/// Ends a daemon; returns when the data directory is free.
async fn end(layout: &Layout, daemon: &Daemon, progress: &Progress) -> anyhow::Result<()> {
    if lock::holder(&layout.lock_file()) != Some(daemon.pid) {
        // Gone already; its number may be somebody else's by now.
        return Ok(());
    }
    daemon.end()?;
    let (started, mut killed) = (Instant::now(), false);
    while lock::holder(&layout.lock_file()) == Some(daemon.pid) {
        if started.elapsed() > END_BOUND && !killed {
            killed = true;
            progress.done(format!("process {} does not end by itself: killed", daemon.pid));
            daemon.kill()?;
        }
        if started.elapsed() > END_BOUND * 2 {
            bail!("process {} can't be ended", daemon.pid);
        }
        tokio::time::sleep(PACE).await;
    }
    progress.done(format!("process {} ended; pods go on running", daemon.pid));
    Ok(())
}

/// Puts the old binary back and starts it.
async fn take_back(
    layout: &Layout,
    old: &Daemon,
    swap: Swap,
    bound: Duration,
    progress: &Progress,
) -> anyhow::Result<()> {
    swap.back()?;
    progress.done("the old binary is back");
    // A service manager may have started the new binary again meanwhile.
    let running = lock::holder(&layout.lock_file()).unwrap_or(old.pid);
    let life = restart(layout, &old.as_process(running), bound, progress)
        .await
        .context("start the old binary again")?;
    progress.done(format!("version {} is ready again", life.version));
    Ok(())
}
