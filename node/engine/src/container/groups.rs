//! Ending what is left in a control group.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use knode_linux::cgroup::Cgroups;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How long killed processes may take to leave their group: the kernel has to free what they had.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two tries when there is no process to wait for: one may be on its way from one hierarchy to another.
const PAUSE: u16 = 10;

/// Kills all processes of a group and removes it, waiting for those that take their time. Blocks.
///
/// # Errors
/// Those of the kernel, `ResourceBusy` after ten seconds.
pub(crate) fn end(cgroups: &Cgroups, group: &Path) -> io::Result<()> {
    let start = Instant::now();
    loop {
        cgroups.kill(group)?;
        match cgroups.remove(group) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && start.elapsed() < PATIENCE => {
                wait_for_one(&cgroups.processes(group)?);
            }
            other => return other,
        }
    }
}

/// Waits a moment for one of the processes to end.
fn wait_for_one(processes: &[i32]) {
    let open = |pid: &i32| Pid::from_raw(*pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let handle = processes.iter().find_map(open);
    let mut polled: Vec<PollFd<'_>> = handle
        .iter()
        .map(|handle| PollFd::new(std::os::fd::AsFd::as_fd(handle), PollFlags::POLLIN))
        .collect();
    // Whatever comes of it, the group is looked at again.
    let _ = poll(
        &mut polled,
        PollTimeout::from(if handle.is_some() { PAUSE * 10 } else { PAUSE }),
    );
}
