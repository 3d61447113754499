//! The PID namespace that containers of the pod share.

use std::io::{self, PipeWriter, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use knode_linux::process;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::protocol::Answer;
use super::streams::null;
use super::{Shim, now_nanos};
use crate::crash;
use crate::entry::pod;

/// The namespace's first process. It ends when this is dropped, or the shim dies, and all others with it.
pub(super) struct PodInit {
    pub(super) pid: i32,
    _alive: PipeWriter,
}

impl Shim {
    /// Makes the namespace, unless there is one.
    pub(super) fn pod_pid_namespace(&mut self, users: Option<&PathBuf>) -> Answer {
        crash::point("shim.namespace-asked");
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
        crash::point("shim.namespace-made");
        Answer::Started {
            pid,
            started_at: now_nanos(),
            oom_score_refused: false,
        }
    }
}

fn start(users: Option<&PathBuf>) -> io::Result<PodInit> {
    let (reader, alive) = io::pipe()?;
    let (mut told, teller) = io::pipe()?;
    let (reader, teller, null) = (OwnedFd::from(reader), OwnedFd::from(teller), null()?);
    let maker = process::fork(|| {
        let kept = process::keep_only([&null, &teller, &null], &reader);
        let made = kept.and_then(|alive| pod::init(users.map(PathBuf::as_path), &alive));
        i32::from(made.is_err())
    })?;
    drop((reader, teller));
    let mut text = String::new();
    let read = told.read_to_string(&mut text);
    // It ends with its last word; what it told counts, not how it ended.
    let _ = waitpid(Pid::from_raw(maker), None);
    read?;
    let failed = |_| match text.trim() {
        "" => io::Error::other("whoever made it ended without a word"),
        reason => io::Error::other(reason.to_owned()),
    };
    Ok(PodInit {
        pid: text.trim().parse().map_err(failed)?,
        _alive: alive,
    })
}
