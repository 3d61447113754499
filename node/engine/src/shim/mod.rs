//! The pod's shim: a small single-threaded process that outlives the daemon.
//!
//! It is the parent of the pod's containers, holds their pipes and terminals, writes their logs, reaps them
//! and records how they ended. The daemon asks it for things over a unix socket ([`protocol`]) and may come
//! and go. It waits in one `poll(2)` and owns no thread.

mod attach;
mod containers;
mod event_loop;
pub(crate) mod joined;
mod launch;
pub mod lines;
mod log;
mod peers;
mod pod;
pub mod protocol;
mod reap;
mod requests;
mod streams;
mod tree;

use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Instant;

use knode_linux::cgroup::Cgroups;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::crash;

/// What a shim is told on its command line; its listening socket is its standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShimArgs {
    /// Mount point of the control groups.
    pub cgroup_root: PathBuf,
}

/// The state of a shim.
struct Shim {
    listener: UnixListener,
    signals: SignalFd,
    cgroups: Cgroups,
    peers: peers::Peers,
    containers: containers::Containers,
    launches: Vec<launch::Launch>,
    execs: Vec<launch::Exec>,
    /// Who waits for the list of containers, by peer and request.
    lists: Vec<(u64, u64)>,
    /// Children that ended before it was known what they are.
    unclaimed: Vec<reap::Ended>,
    /// First process of the PID namespace that containers share, if there is one.
    pod_init: Option<pod::PodInit>,
    /// Who asked for the end, by peer and request: answered when nothing runs any more.
    end_asked: Option<(u64, u64)>,
    ending: bool,
    /// When memory is given back, if there may be some.
    rest_at: Option<Instant>,
}

/// Runs until the daemon ends it.
///
/// # Errors
/// Those of setting up; later errors are answers to requests.
pub fn run(args: &ShimArgs) -> io::Result<()> {
    crash::point("shim.begin");
    let listener = UnixListener::from(knode_linux::fds::inherited(0)?);
    listener.set_nonblocking(true)?;
    // The kernel knows it by a descriptor's number only.
    nix::sys::prctl::set_name(c"knode-shim")?;
    // A parent that leads its own session already is no reason to give up.
    let _ = nix::unistd::setsid();
    std::env::set_current_dir("/")?;
    // Orphans of containers without a PID namespace of their own are reaped here.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut shim = Shim {
        listener,
        signals: watch_signals()?,
        cgroups: Cgroups::detect(&args.cgroup_root)?,
        peers: peers::Peers::default(),
        containers: containers::Containers::default(),
        launches: Vec::new(),
        execs: Vec::new(),
        lists: Vec::new(),
        unclaimed: Vec::new(),
        pod_init: None,
        end_asked: None,
        ending: false,
        rest_at: None,
    };
    shim.work_came();
    crash::point("shim.ready");
    shim.serve()
}

/// Takes over the signals: only SIGCHLD means something, and nothing but SIGKILL ends a shim.
fn watch_signals() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        mask.add(signal);
    }
    mask.thread_block()?;
    Ok(SignalFd::with_flags(
        &mask,
        SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC,
    )?)
}

/// Nanoseconds since the epoch.
fn now_nanos() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}
