//! The PID namespace that containers of the pod share.

use std::io::{self, PipeWriter};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::protocol::Answer;
use super::{Shim, now_nanos};
use crate::entry::args::pod_init_command_line;

/// The namespace's first process. It ends when this is dropped, or the shim dies, and all others with it.
pub(super) struct PodInit {
    pid: i32,
    _alive: PipeWriter,
}

impl Shim {
    /// Makes the namespace, unless there is one.
    pub(super) fn pod_pid_namespace(&mut self, users: Option<&PathBuf>) -> Answer {
        let pid = match &self.pod_init {
            Some(init) => init.pid,
            None => match start(users) {
                Ok(init) => self.pod_init.insert(init).pid,
                Err(error) => {
                    return Answer::Failed {
                        message: format!("making a PID namespace: {error}"),
                    };
                }
            },
        };
        Answer::Started {
            pid,
            started_at: now_nanos(),
            oom_score_refused: false,
        }
    }
}

fn start(users: Option<&PathBuf>) -> io::Result<PodInit> {
    let (reader, alive) = io::pipe()?;
    let output = Command::new("/proc/self/exe")
        .args(pod_init_command_line(users))
        .env_clear()
        .stdin(Stdio::from(reader))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let failed = |_| io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned());
    Ok(PodInit {
        pid: text.trim().parse().map_err(failed)?,
        _alive: alive,
    })
}
