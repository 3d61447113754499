//! What daemon and shim say to each other over the shim's socket.
//!
//! A frame is a little-endian `u32` length and that many bytes of JSON. File descriptors travel with the
//! first byte of the request that needs them, in the order that the request's documentation names.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::runtime::OciProgram;
use crate::scope::Scope;

/// Largest frame either side accepts, in bytes.
pub const MAX_FRAME: usize = 4 * 1024 * 1024;

/// Everything a shim needs to know to start a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartContainer {
    /// Container id.
    pub id: String,
    /// Directory with `config.json`.
    pub bundle: PathBuf,
    /// Directory below which libcontainer keeps its state.
    pub runtime_root: PathBuf,
    /// Control group of the container, as in its specification.
    pub cgroup: PathBuf,
    /// Where the exit is recorded.
    pub exit_file: PathBuf,
    /// Log file; `None` discards what the container prints.
    pub log_file: Option<PathBuf>,
    /// The container runs on a terminal.
    pub tty: bool,
    /// Input stays open for attached clients; else it is empty.
    pub stdin: bool,
    /// Input ends when the first attached client's input ends.
    pub stdin_once: bool,
    /// Score for the kernel's out-of-memory killer.
    pub oom_score_adj: Option<i32>,
    /// The OCI runtime, `None` for the linked-in one.
    #[serde(default)]
    pub program: Option<OciProgram>,
    /// The scope of systemd's that it is, `None` for a control group by its path.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// Directories with mounts of all pods.
    #[serde(default)]
    pub secluded: Vec<OwnMounts>,
    /// Whose PID namespace it is made in, if its specification names one of this pod.
    #[serde(default)]
    pub joins: Option<Joins>,
    /// The SELinux label of the pod's message queues, `None` to leave them as they are.
    #[serde(default)]
    pub queues_label: Option<String>,
}

/// Whose PID namespace a container joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Joins {
    /// The one that containers of the pod share.
    Pod,
    /// That of another container, by its id.
    Container(String),
}

/// The mounts of one pod, or one container, in a directory with those of all: it is made without the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnMounts {
    /// The directory.
    pub directory: PathBuf,
    /// Mount id of the directory.
    pub mount: u64,
    /// Its entry in it.
    pub name: String,
}

/// Everything a shim needs to know to run a command in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartExec {
    /// Id of the command, unique in the sandbox.
    pub id: String,
    /// Container to run it in.
    pub container: String,
    /// Directory below which libcontainer keeps its state.
    pub runtime_root: PathBuf,
    /// File with the process as in an OCI specification.
    pub process_file: PathBuf,
    /// It may be killed with all that it has started.
    #[serde(default)]
    pub keeps_orphans: bool,
    /// On a terminal: one descriptor comes along, a socket that is sent the terminal's master. Otherwise
    /// three: standard input, output and error of the command.
    pub tty: bool,
    /// Score for the kernel's out-of-memory killer.
    pub oom_score_adj: Option<i32>,
    /// The OCI runtime that made the container, `None` for the linked-in one.
    #[serde(default)]
    pub program: Option<OciProgram>,
}

/// Which streams an attach request brings descriptors for, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Container to attach to.
    pub container: String,
    /// A pipe that the client's input is read from.
    pub stdin: bool,
    /// A pipe that output is written to.
    pub stdout: bool,
    /// A pipe that error output is written to.
    pub stderr: bool,
}

/// What the daemon asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Starts a container; answered by `Started` or `Failed` once the program runs.
    Start(Box<StartContainer>),
    /// Runs a command; answered like `Start`, its end is told as `ExecExited`.
    Exec(Box<StartExec>),
    /// Sends a signal to the container's first process, or to all of its control group.
    Signal {
        /// Container id.
        container: String,
        /// Signal number.
        signal: i32,
        /// All processes of its control group.
        all: bool,
    },
    /// Sends a signal to the process group of a command.
    SignalExec {
        /// Id of the command.
        exec: String,
        /// Signal number.
        signal: i32,
    },
    /// Opens the log file anew.
    ReopenLog {
        /// Container id.
        container: String,
    },
    /// Copies the container's streams to and from the descriptors that come along.
    Attach(Attach),
    /// Sets the size of the container's terminal.
    Resize {
        /// Container id.
        container: String,
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// Keeps a process as the first of a PID namespace of the pod; answered by `Started`.
    PodPidNamespace,
    /// The same for a pod with users of its own.
    PodPidNamespaceOf {
        /// The pod's user namespace.
        users: PathBuf,
    },
    /// Lists the containers once none is being started; answered by `Containers`.
    List,
    /// Lists the containers that run by now; answered by `Containers`.
    ListNow,
    /// Ends the shim. Refused while a container runs.
    Shutdown,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Number that the answer repeats.
    pub seq: u64,
    /// What to do.
    pub command: Command,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code, 128 + signal for a killed process.
    pub code: i32,
    /// When, in nanoseconds since the epoch.
    pub finished_at: i64,
    /// The kernel killed one of its processes for want of memory.
    pub oom_killed: bool,
}

/// A container as its shim knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Container id.
    pub container: String,
    /// Its first process.
    pub pid: i32,
    /// When it was started, in nanoseconds since the epoch.
    pub started_at: i64,
    /// How it ended, `None` while it runs.
    pub exit: Option<Exit>,
}

/// Answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Done.
    Done,
    /// The program runs.
    Started {
        /// Its process.
        pid: i32,
        /// When, in nanoseconds since the epoch.
        started_at: i64,
        /// The out-of-memory score could not be set.
        oom_score_refused: bool,
    },
    /// It did not work.
    Failed {
        /// Why.
        message: String,
    },
    /// The sandbox has no such container, or no such command runs.
    Unknown,
    /// Containers that were started and not yet forgotten.
    Containers(Vec<Running>),
}

/// What a shim sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The answer to the request with this number.
    Answer {
        /// Number of the request.
        seq: u64,
        /// The answer.
        answer: Answer,
    },
    /// A container ended.
    Exited {
        /// Container id.
        container: String,
        /// How.
        exit: Exit,
    },
    /// A command ended.
    ExecExited {
        /// Id of the command.
        exec: String,
        /// Exit code, 128 + signal for a killed process.
        code: i32,
    },
}

/// Appends `message` as a frame to `buffer`.
///
/// # Errors
/// When the message cannot be encoded or is larger than [`MAX_FRAME`].
pub fn encode<T: Serialize>(message: &T, buffer: &mut Vec<u8>) -> std::io::Result<()> {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    serde_json::to_writer(&mut *buffer, message)?;
    let length = buffer.len() - start - 4;
    let Some(length) = u32::try_from(length)
        .ok()
        .filter(|length| *length as usize <= MAX_FRAME)
    else {
        buffer.truncate(start);
        return Err(std::io::Error::other(format!(
            "a message of {length} bytes is too large"
        )));
    };
    buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Takes the first whole frame out of `buffer`; `None` when there is none yet.
///
/// # Errors
/// When the frame is too large or is not such a message: the connection is of no use any more.
pub fn decode<T: for<'de> Deserialize<'de>>(buffer: &mut Vec<u8>) -> std::io::Result<Option<T>> {
    let Some(head) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*head) as usize;
    if length > MAX_FRAME {
        return Err(std::io::Error::other(format!(
            "a frame of {length} bytes is too large"
        )));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    let message = serde_json::from_slice(&buffer[4..4 + length])?;
    buffer.drain(..4 + length);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_being_cut_anywhere() {
        let mut wire = Vec::new();
        let first = Request {
            seq: 1,
            command: Command::List,
        };
        let second = Request {
            seq: 2,
            command: Command::ReopenLog {
                container: "c".into(),
            },
        };
        encode(&first, &mut wire).unwrap();
        encode(&second, &mut wire).unwrap();
        let mut got = Vec::new();
        let mut buffer = Vec::new();
        for byte in wire {
            buffer.push(byte);
            while let Some(request) = decode::<Request>(&mut buffer).unwrap() {
                got.push(request);
            }
        }
        assert_eq!(got, [first, second]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn an_absurd_length_ends_the_connection() {
        assert!(decode::<Request>(&mut vec![0xff; 8]).is_err());
    }
}
