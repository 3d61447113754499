//! The observed state of a pod.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ResourceRequirements;

use super::{Backoff, Probes};
use crate::resize::Wish;
use crate::status::{EVICTED, TERMINATED};

/// One sandbox of the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// The runtime's id.
    pub id: String,
    /// Counts the sandboxes of the pod from 0.
    pub attempt: u32,
    /// Whether it is ready.
    pub ready: bool,
    /// Its addresses; none on the node's network.
    pub ips: Vec<String>,
    /// When it was created.
    pub created_at: Timestamp,
}

/// State of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Runs.
    Running,
    /// Has ended.
    Exited,
    /// The runtime does not know.
    Unknown,
}

/// Who the container's first process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// User.
    pub uid: i64,
    /// Group.
    pub gid: i64,
    /// Further groups.
    pub groups: Vec<i64>,
}

/// One container that exists in the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRecord {
    /// The runtime's id.
    pub id: String,
    /// Name in the pod.
    pub name: String,
    /// The sandbox it belongs to.
    pub sandbox_id: String,
    /// Counts the restarts of the container from 0.
    pub attempt: u32,
    /// Its state.
    pub state: ContainerState,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was started, if it was.
    pub started_at: Option<Timestamp>,
    /// When it ended, if it has.
    pub finished_at: Option<Timestamp>,
    /// Exit code.
    pub exit_code: i32,
    /// The runtime's reason of the end (`OOMKilled`, `Error`, `Completed`).
    pub reason: String,
    /// The termination message.
    pub message: String,
    /// Image as the runtime names it.
    pub image: String,
    /// Reference of the image that is used.
    pub image_id: String,
    /// Hash of the container's definition when it was made, in hexadecimal.
    pub hash: String,
    /// Full path of its log file.
    pub log_path: String,
    /// Who it runs as.
    pub user: Option<Use>,
}

impl ContainerRecord {
    /// Whether it has ended, or has been made and never started.
    pub fn is_down(&self) -> bool {
        self.state != ContainerState::Running
    }

    /// When it ended, for back-off.
    pub fn down_since(&self) -> Timestamp {
        self.finished_at
            .filter(|at| *at > Timestamp::UNIX_EPOCH)
            .unwrap_or(self.created_at)
    }

    /// Whether it ended well.
    pub fn succeeded(&self) -> bool {
        self.state == ContainerState::Exited && self.exit_code == 0
    }
}

/// How far the pod's volumes are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum VolumeState {
    /// Not made yet.
    #[default]
    Missing,
    /// Could not be made.
    Failed {
        /// When to try again.
        retry_at: Timestamp,
        /// Failures in a row.
        failures: u32,
    },
    /// All there.
    Ready {
        /// When the content should be renewed, if ever.
        refresh_at: Option<Timestamp>,
    },
}

/// Why a container does not run (upstream: the kubelet's reason cache).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// `ErrImagePull`, `CrashLoopBackOff`, …
    pub reason: String,
    /// For a person.
    pub message: String,
    /// When it began.
    pub since: Timestamp,
    /// From when on the status shows it.
    pub visible_from: Timestamp,
    /// When the next try is due.
    pub until: Timestamp,
    /// Id of the ended container it is about; empty if none was made.
    pub about: String,
    /// Failures in a row.
    pub failures: u32,
    /// Reason and message shown until `visible_from`.
    pub previous: Option<(String, String)>,
}

/// A pod that this node does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// `OutOfcpu`, `NodeAffinity`, …
    pub reason: String,
    /// For a person.
    pub message: String,
}

/// A pod that the node ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    /// For a person: what is scarce, and what of it the pod used.
    pub message: String,
    /// Annotations of the Event that tells of it.
    pub marks: BTreeMap<String, String>,
    /// Seconds that its containers may take to end, at most; 0 leaves them the pod's own time.
    pub grace: i64,
    /// Whether it goes for what others need, which a condition says.
    pub for_others: bool,
    /// What the node ends it for.
    pub cause: Cause,
}

/// What the node ends pods for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cause {
    /// Something is scarce; critical pods stay.
    #[default]
    Scarcity,
    /// The machine shuts down; nobody stays.
    Shutdown,
}

impl Cause {
    /// The reason in the pod's status.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Scarcity => EVICTED,
            Self::Shutdown => TERMINATED,
        }
    }
}

/// A container that is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// Seconds it was given.
    pub grace: i64,
}

/// Work that is under way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Volumes are made or renewed.
    Volumes,
    /// A sandbox is made.
    Sandbox,
    /// The container of that name is started.
    Start(String),
    /// The container with that id is stopped.
    Stop(String),
    /// The sandbox with that id is stopped.
    StopSandbox(String),
    /// The container with that id is removed.
    Remove(String),
    /// The sandbox with that id is removed.
    RemoveSandbox(String),
    /// The limits of the container with that id are changed.
    Resize(String),
    /// A probe of the container with that id.
    Probe(String, super::ProbeKind),
    /// Everything of the pod is taken away.
    Release,
    /// The API is asked to delete the pod.
    Delete,
    /// The status is written.
    Status,
}

/// Everything known about a pod beside its object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// Sandboxes, newest first.
    pub sandboxes: Vec<Sandbox>,
    /// Containers, newest first.
    pub containers: Vec<ContainerRecord>,
    /// The pod's volumes.
    pub volumes: VolumeState,
    /// Why containers do not run, by name.
    pub waits: BTreeMap<String, Wait>,
    /// Back-off of restarts, by container name.
    pub restarts: BTreeMap<String, Backoff>,
    /// Back-off of pulls, by image.
    pub pulls: BTreeMap<String, Backoff>,
    /// When a sandbox may be tried again and how often it failed.
    pub sandbox_retry: Option<(Timestamp, u32)>,
    /// Probes, by container id.
    pub probes: BTreeMap<String, Probes>,
    /// What is under way.
    pub busy: BTreeSet<Op>,
    /// Containers being stopped, by id.
    pub stops: BTreeMap<String, Stop>,
    /// Containers that the kubelet stopped, by id.
    pub stopped: BTreeSet<String>,
    /// Containers from before the pod began anew in place, by id.
    pub void: BTreeSet<String>,
    /// The node refused the pod.
    pub rejected: Option<Rejection>,
    /// Other resources than those that the node has granted, which the API asks for.
    pub wish: Option<Wish>,
    /// When the wish is looked at; none if never again.
    pub judge_at: Option<Timestamp>,
    /// What running containers run with, by id.
    pub applied: BTreeMap<String, ResourceRequirements>,
    /// What the pod as a whole had when the limits of each running container were last set, by id.
    pub applied_whole: BTreeMap<String, Option<ResourceRequirements>>,
    /// The generation whose resources are granted and are not all in force yet.
    pub resizing: Option<i64>,
    /// When a change of limits that failed is tried again, and why it failed.
    pub resize_failed: Option<(Timestamp, String)>,
    /// The node ends the pod.
    pub evicted: Option<Eviction>,
    /// The event about the passed deadline has been written.
    pub deadline_noted: bool,
    /// The pod is gone from the API.
    pub removed: bool,
    /// When this node first saw the pod.
    pub start_time: Option<Timestamp>,
    /// Everything that the pod had on this node is gone; true in the second place if containers too.
    pub released: Option<bool>,
    /// What the API has of the final status is up to date.
    pub reported: bool,
    /// The node needs the space that a pod which has ended takes.
    pub cleared: bool,
    /// When taking away or deleting, having failed, may be tried again.
    pub end_retry: Option<Timestamp>,
}

impl Observed {
    /// The newest sandbox, if it is ready.
    pub fn ready_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|sandbox| sandbox.ready)
    }

    /// The newest container of that name.
    pub fn latest(&self, name: &str) -> Option<&ContainerRecord> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The newest container of that name, unless the pod has begun anew since.
    pub fn standing(&self, name: &str) -> Option<&ContainerRecord> {
        self.latest(name)
            .filter(|container| !self.void.contains(&container.id))
    }

    /// The newest container of that name that belongs to the newest sandbox, unless the pod has begun anew since.
    pub fn current(&self, name: &str) -> Option<&ContainerRecord> {
        let sandbox = self.sandboxes.first()?;
        self.standing(name)
            .filter(|container| container.sandbox_id == sandbox.id)
    }

    /// The one before the newest.
    pub fn previous(&self, name: &str) -> Option<&ContainerRecord> {
        self.containers
            .iter()
            .filter(|container| container.name == name)
            .nth(1)
    }

    /// A container by id.
    pub fn by_id(&self, id: &str) -> Option<&ContainerRecord> {
        self.containers.iter().find(|container| container.id == id)
    }

    /// Containers that run.
    pub fn running(&self) -> impl Iterator<Item = &ContainerRecord> {
        self.containers
            .iter()
            .filter(|container| container.state == ContainerState::Running)
    }

    /// Puts in a sandbox or what is new about it. One that is not ready never is again, however late an
    /// answer from before arrives.
    pub fn put_sandbox(&mut self, mut sandbox: Sandbox) {
        let down = self
            .sandboxes
            .iter()
            .any(|old| old.id == sandbox.id && !old.ready);
        sandbox.ready &= !down;
        self.sandboxes.retain(|old| old.id != sandbox.id);
        self.sandboxes.push(sandbox);
        self.sandboxes
            .sort_by_key(|one| std::cmp::Reverse((one.attempt, one.created_at)));
    }

    /// Puts in a container or what is new about it. A container that has ended does not run again, however
    /// late an answer from before its end arrives. Returns whether anything changed.
    pub fn put_container(&mut self, container: ContainerRecord) -> bool {
        if let Some(old) = self.containers.iter().position(|old| old.id == container.id) {
            let before = &self.containers[old];
            if *before == container || rank(before.state) > rank(container.state) {
                return false;
            }
            self.containers[old] = container;
        } else {
            self.containers.push(container);
            self.containers
                .sort_by_key(|one| std::cmp::Reverse((one.attempt, one.created_at)));
        }
        true
    }

    /// Takes out what the runtime no longer has.
    pub fn forget_container(&mut self, id: &str) {
        self.containers.retain(|container| container.id != id);
        self.probes.remove(id);
        self.applied.remove(id);
        self.applied_whole.remove(id);
        self.stops.remove(id);
        self.stopped.remove(id);
        self.void.remove(id);
    }

    /// Whether anything of this kind is under way.
    pub fn starting(&self) -> bool {
        self.busy
            .iter()
            .any(|op| matches!(op, Op::Start(_) | Op::Sandbox))
    }

    /// Counts a restart of `name` that is about to happen, whose predecessor ended at `ended`.
    pub fn note_restart(&mut self, name: &str, ended: Timestamp, now: Timestamp) {
        let next = Backoff::next(self.restarts.get(name).copied(), ended, now);
        self.restarts.insert(name.to_owned(), next);
    }

    /// Counts a failed pull and says when the next one is due.
    pub fn note_pull_failure(&mut self, image: &str, now: Timestamp) -> Timestamp {
        let next = Backoff::next(self.pulls.get(image).copied(), now, now);
        self.pulls.insert(image.to_owned(), next);
        now.checked_add(next.delay).unwrap_or(now)
    }
}

/// States only go up.
fn rank(state: ContainerState) -> u8 {
    match state {
        ContainerState::Created => 0,
        ContainerState::Unknown => 1,
        ContainerState::Running => 2,
        ContainerState::Exited => 3,
    }
}

/// `now` and some seconds.
pub(crate) fn after(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now)
}
