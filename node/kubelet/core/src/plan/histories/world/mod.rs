//! The machine, the kubelet that knows a part of it, and the API, driven by steps.

mod outcomes;

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Pod, PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::super::{Action, Stage, Timestamp, past_deadline, plan, reset, stage};
use super::machine::{Machine, Notice};
use super::steps::Step;
use crate::model::{
    ContainerRecord, ContainerState, Eviction, Observed, Op, Probes, Sandbox, Stop, VolumeState, after,
};
use crate::pod::PodExt;
use crate::status::{NodeFacts, status, status_patch};

/// After the last disturbance, until only probes may be run.
const QUIET_AFTER: i64 = 480;
/// After the last disturbance, until nobody looks any more.
const WATCHED_FOR: i64 = 1080;

/// Something that was begun and has not ended.
pub(super) struct Flight {
    work: Work,
    /// What it has done to the machine already.
    taken: Option<Taken>,
}

enum Work {
    Action(Action),
    Resize(String, ResourceRequirements),
    Status(Box<PodStatus>),
}

enum Taken {
    Sandbox(Sandbox),
    Container(Box<ContainerRecord>),
}

pub(super) struct World {
    pub(super) pod: Pod,
    pub(super) observed: Observed,
    pub(super) machine: Machine,
    pub(super) now: Timestamp,
    pub(super) flying: Vec<Flight>,
    wake: Option<Timestamp>,
    status_retry: Option<Timestamp>,
    pub(super) finished: bool,
    /// From then on nothing but probes may happen.
    pub(super) quiet_from: Option<Timestamp>,
    /// How far the pod has come since the kubelet began.
    pub(super) stage: u8,
    /// Ended containers of which it was said that they wait, and until when, since the kubelet began.
    pub(super) told: BTreeSet<(String, Timestamp)>,
    pub(super) deadline_told: bool,
    /// How long each container has to wait after an end, and since when, since the kubelet began.
    pub(super) delays: BTreeMap<String, (i64, Timestamp)>,
    /// How often containers for debugging were made.
    pub(super) debugged: u32,
    /// The first rule that was broken.
    pub(super) fault: Option<String>,
    pub(super) log: Vec<String>,
}

pub(super) fn facts() -> NodeFacts {
    NodeFacts {
        host_ips: vec!["10.99.0.1".to_owned()],
        runtime_name: "knode".to_owned(),
        recursive_read_only: false,
    }
}

impl World {
    pub(super) fn new(pod: Pod) -> Self {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let mut world = Self {
            pod,
            observed: Observed::default(),
            machine: Machine::default(),
            now,
            flying: Vec::new(),
            wake: None,
            status_retry: None,
            finished: false,
            quiet_from: None,
            stage: 0,
            told: BTreeSet::new(),
            deadline_told: false,
            delays: BTreeMap::new(),
            debugged: 0,
            fault: None,
            log: Vec::new(),
        };
        world.observed.start_time = Some(now);
        world
    }

    /// A rule is broken.
    pub(super) fn fault(&mut self, text: impl Into<String>) {
        self.fault.get_or_insert(text.into());
    }

    pub(super) fn is_over(&self) -> bool {
        self.finished || self.fault.is_some()
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        let second = self.now.as_second() - 1_000_000;
        self.log.push(format!("{second}: {}", text.into()));
    }

    /// As the worker does: reports and plans until there is nothing to do but wait.
    pub(super) fn advance(&mut self) {
        for round in 0.. {
            if round == 8 {
                return self.fault("the plan does not come to rest");
            }
            self.wake = None;
            self.report();
            self.check_stage();
            let mut again = false;
            for action in plan(&self.pod, &self.observed, self.now) {
                again |= self.begin(action);
            }
            if !again || self.is_over() {
                return;
            }
        }
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn report(&mut self) {
        let told = self.pod.is_deleted() || past_deadline(&self.pod, &self.observed, self.now);
        let soon = told
            && stage(&self.pod, &self.observed, self.now) == Stage::Ending
            && self.observed.running().next().is_none();
        if self.observed.removed || self.observed.busy.contains(&Op::Status) || soon {
            return;
        }
        if let Some(retry) = self.status_retry.filter(|retry| *retry > self.now) {
            return self.wake_at(retry);
        }
        let new = status(&self.pod, &self.observed, &facts(), self.now);
        let old = self.pod.status.clone().unwrap_or_default();
        self.observed.reported = status_patch("u", &old, &new).is_none();
        if !self.observed.reported {
            if self.quiet_from.is_some_and(|from| self.now > from) {
                let patch = status_patch("u", &old, &new);
                self.fault(format!("a status that changes by itself: {patch:?}"));
            }
            self.observed.busy.insert(Op::Status);
            self.fly(Work::Status(Box::new(new)));
        }
    }

    fn fly(&mut self, work: Work) {
        self.flying.push(Flight { work, taken: None });
    }

    fn begin(&mut self, action: Action) -> bool {
        if !matches!(action, Action::WakeAt(_) | Action::Probe { .. }) {
            self.note(format!("{action:?}").chars().take(160).collect::<String>());
        }
        self.check(&action);
        match action {
            Action::WakeAt(at) => self.wake_at(at),
            Action::Finish => self.finished = true,
            Action::Event(_) => {}
            Action::NoteDeadline => {
                self.observed.deadline_noted = true;
                return true;
            }
            Action::Wait { container, wait } => {
                self.observed.waits.insert(container, wait);
                return true;
            }
            Action::Reset => {
                let void: Vec<String> = reset(&self.pod, &self.observed).collect();
                self.observed.void.extend(void);
                return true;
            }
            other => self.launch(other),
        }
        false
    }

    fn launch(&mut self, action: Action) {
        let op = op(&action);
        let busy = self.observed.busy.contains(&op);
        match &action {
            Action::Stop { id, grace, .. } => {
                self.observed.stops.insert(id.clone(), Stop { grace: *grace });
                self.observed.stopped.insert(id.clone());
                if busy {
                    // The end that is under way comes sooner.
                    return;
                }
            }
            Action::Start {
                container,
                ended: Some(ended),
                ..
            } => self.observed.note_restart(container, *ended, self.now),
            _ => {}
        }
        if busy {
            self.fault(format!("{op:?} is under way already"));
        }
        self.observed.busy.insert(op);
        match action {
            Action::Resize { id, container } => {
                let container = self.pod.container(&container).map(|(_, one)| one.into_owned());
                let resources = container.and_then(|one| one.resources);
                self.fly(Work::Resize(id, resources.unwrap_or_default()));
            }
            other => self.fly(Work::Action(other)),
        }
    }

    /// Does one step, after everything that is planned was begun.
    pub(super) fn step(&mut self, step: &Step) {
        self.advance();
        if self.is_over() {
            return;
        }
        let before = self.log.len();
        match step {
            Step::Land { pick, fails } => self.land(*pick, *fails),
            Step::Take { pick } => self.take_one(*pick),
            Step::Exit { pick, code } => self.exit(*pick, *code),
            Step::Hear { pick } => self.hear(*pick),
            Step::Pass(seconds) => self.now = after(self.now, *seconds),
            Step::LoseSandbox => self.machine.lose_sandbox(self.now),
            Step::Image { pick } => self.change_image(*pick),
            Step::Resize { pick, milli } => self.change_limits(*pick, *milli),
            Step::Debug => self.debug(),
            Step::Content => {
                if let VolumeState::Ready { refresh_at } = &mut self.observed.volumes {
                    *refresh_at = Some(self.now);
                }
            }
            Step::Delete { grace } => self.delete(*grace),
            Step::Remove => self.observed.removed = true,
            Step::Evict if stage(&self.pod, &self.observed, self.now) != Stage::Ended => {
                self.observed.evicted.get_or_insert(Eviction {
                    message: "too little".to_owned(),
                    marks: Default::default(),
                    grace: 1,
                    for_others: true,
                    cause: Default::default(),
                });
            }
            Step::Evict => {}
            Step::Clear if stage(&self.pod, &self.observed, self.now) == Stage::Ended => {
                self.observed.cleared |= self.observed.released != Some(true);
            }
            Step::Clear => {}
            Step::Restart { effects } => self.restart(*effects),
        }
        if before == self.log.len() && !matches!(step, Step::Land { .. } | Step::Pass(_)) {
            self.note(format!("-- {step:?}"));
        }
    }

    fn choose<T>(all: &[T], pick: u64) -> Option<usize> {
        let count = u64::try_from(all.len()).unwrap();
        (count > 0).then(|| usize::try_from(pick % count).unwrap())
    }

    fn exit(&mut self, pick: u64, code: i32) {
        let ids: Vec<String> = self.machine.running().map(|one| one.id.clone()).collect();
        if let Some(at) = Self::choose(&ids, pick) {
            self.note(format!("-- {} ends with {code}", ids[at]));
            self.machine.exit(&ids[at], code, self.now);
        }
    }

    fn hear(&mut self, pick: u64) {
        let Some(at) = Self::choose(&self.machine.notices, pick) else {
            return;
        };
        match self.machine.notices.remove(at) {
            Notice::Ended(record) => self.know(*record),
            Notice::Lost(id) => self.lost(&id),
        }
    }

    fn know(&mut self, record: ContainerRecord) {
        self.observed.put_container(record);
        self.track();
    }

    fn lost(&mut self, id: &str) {
        for one in self.observed.sandboxes.iter_mut().filter(|one| one.id == id) {
            one.ready = false;
        }
    }

    /// As the worker does: running containers have probes, and run with what they were given.
    fn track(&mut self) {
        let running: Vec<ContainerRecord> = self.observed.running().cloned().collect();
        let runs = |id: &String| running.iter().any(|one| one.id == *id);
        self.observed.probes.retain(|id, _| runs(id));
        self.observed.applied.retain(|id, _| runs(id));
        for record in running {
            let Some((_, container)) = self.pod.container(&record.name) else {
                continue;
            };
            let container = container.into_owned();
            let known = self.reported(&record.id);
            let (was_started, was_ready) = known.map_or((false, false), |one| one);
            let probed = container.liveness_probe.is_some()
                || container.readiness_probe.is_some()
                || container.startup_probe.is_some();
            if probed && !self.observed.probes.contains_key(&record.id) {
                let started = record.started_at.unwrap_or(self.now);
                let probes = Probes::new(&container, started, self.now, was_started, was_ready);
                self.observed.probes.insert(record.id.clone(), probes);
            }
            let resources = container.resources.unwrap_or_default();
            self.observed.applied.entry(record.id).or_insert(resources);
        }
    }

    /// Whether the API says of this very container that it has started and is ready.
    fn reported(&self, id: &str) -> Option<(bool, bool)> {
        let status = self.pod.status.as_ref()?;
        let lists = [&status.init_container_statuses, &status.container_statuses];
        let mut all = lists.into_iter().flatten().flatten();
        let found = all.find(|one| {
            let full = one.container_id.as_deref();
            full.is_some_and(|full| full.ends_with(id))
        })?;
        Some((found.started.unwrap_or(false), found.ready))
    }

    fn change_image(&mut self, pick: u64) {
        let spec = self.pod.spec.get_or_insert_default();
        let at = Self::choose(&spec.containers, pick).unwrap();
        let image = spec.containers[at].image.get_or_insert_default();
        image.push('+');
    }

    fn change_limits(&mut self, pick: u64, milli: u64) {
        let spec = self.pod.spec.get_or_insert_default();
        let at = Self::choose(&spec.containers, pick).unwrap();
        let limits = json!({"limits": {"cpu": format!("{}m", 100 + milli)}});
        spec.containers[at].resources = Some(serde_json::from_value(limits).unwrap());
    }

    fn debug(&mut self) {
        let spec = self.pod.spec.get_or_insert_default();
        if spec.ephemeral_containers.is_none() {
            let debugger = json!([{"name": "debugger", "image": "busybox"}]);
            spec.ephemeral_containers = Some(serde_json::from_value(debugger).unwrap());
        }
    }

    fn delete(&mut self, grace: i64) {
        let shorter = self.pod.metadata.deletion_grace_period_seconds;
        self.pod.metadata.deletion_timestamp = Some(Time(self.now));
        self.pod.metadata.deletion_grace_period_seconds =
            Some(shorter.map_or(grace, |before| before.min(grace)));
    }

    /// A new kubelet knows what the machine and the API have.
    fn restart(&mut self, effects: u64) {
        for (at, flight) in std::mem::take(&mut self.flying).into_iter().enumerate() {
            if effects >> (at % 8) & 1 == 1 {
                self.had_effect(flight);
            }
        }
        let removed = self.observed.removed;
        self.observed = Observed {
            removed,
            start_time: Some(self.now),
            ..Observed::default()
        };
        self.machine.notices.clear();
        (self.stage, self.deadline_told, self.status_retry) = (0, false, None);
        self.told.clear();
        self.delays.clear();
        for sandbox in self.machine.sandboxes.clone() {
            self.observed.put_sandbox(sandbox);
        }
        for record in self.machine.containers.clone() {
            self.observed.put_container(record);
        }
        if removed {
            self.orphan();
        }
        self.track();
    }

    /// Of a pod that the API does not know any more there is what the runtime tells; where it tells nothing there is
    /// no pod.
    fn orphan(&mut self) {
        if self.machine.containers.is_empty() && self.machine.sandboxes.is_empty() {
            self.finished = true;
            return;
        }
        let mut names: Vec<&str> = self
            .machine
            .containers
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        let containers: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
        let meta = json!({"name": "p", "namespace": "n", "uid": "u"});
        let pod = json!({"metadata": meta, "spec": {"containers": containers}});
        self.pod = serde_json::from_value(pod).unwrap();
    }

    fn had_effect(&mut self, flight: Flight) {
        let now = self.now;
        match flight.work {
            Work::Action(Action::Stop { id, .. }) => drop(self.machine.end(&id, 137, now)),
            Work::Action(Action::StopSandbox { id }) => drop(self.machine.end_sandbox(&id, now)),
            Work::Action(Action::RemoveContainer { id }) => {
                self.machine.containers.retain(|one| one.id != id);
            }
            Work::Action(Action::RemoveSandbox { id }) => self.machine.sandboxes.retain(|one| one.id != id),
            Work::Action(Action::Release { all: true }) => {
                self.machine.containers.clear();
                self.machine.sandboxes.clear();
            }
            Work::Action(Action::Delete) => self.observed.removed = true,
            Work::Action(action) if flight.taken.is_none() => drop(self.take(&action)),
            Work::Status(new) => self.written(*new),
            Work::Action(_) | Work::Resize(..) => {}
        }
    }

    fn written(&mut self, new: PodStatus) {
        self.check_status(&new);
        self.pod.status = Some(new);
    }

    /// Nothing goes wrong any more: what is under way ends, and time passes. After a while nothing may be left to do
    /// but probes.
    pub(super) fn settle(&mut self) {
        self.quiet_from = Some(after(self.now, QUIET_AFTER));
        let end = after(self.now, WATCHED_FOR);
        for _ in 0..20_000 {
            while !self.machine.notices.is_empty() {
                self.hear(0);
            }
            self.advance();
            if self.is_over() {
                return;
            }
            let one_shot = |one: &&ContainerRecord| {
                let found = self.pod.container(&one.name);
                matches!(found, Some((crate::pod::ContainerKind::Init, _)))
            };
            let init = self.machine.running().find(one_shot).map(|one| one.id.clone());
            if !self.flying.is_empty() {
                self.land(0, false);
            } else if let Some(id) = init {
                self.machine.exit(&id, 0, self.now);
            } else {
                match self.wake {
                    None => return,
                    Some(wake) if wake > end => return,
                    Some(wake) if wake <= self.now => {
                        return self.fault("it wakes at a time that has passed");
                    }
                    Some(wake) => self.now = wake,
                }
            }
        }
        self.fault("it does not come to rest");
    }

    /// Seconds since the container ended.
    pub(super) fn since(&self, ended: Timestamp) -> i64 {
        self.now.duration_since(ended).max(SignedDuration::ZERO).as_secs()
    }

    /// Whether the machine runs exactly this container.
    pub(super) fn runs(&self, id: &str) -> bool {
        let found = self.machine.find(id);
        found.is_some_and(|one| one.state == ContainerState::Running)
    }
}

pub(super) fn op(action: &Action) -> Op {
    match action {
        Action::MountVolumes => Op::Volumes,
        Action::RunSandbox { .. } => Op::Sandbox,
        Action::Start { container, .. } => Op::Start(container.clone()),
        Action::Stop { id, .. } => Op::Stop(id.clone()),
        Action::StopSandbox { id } => Op::StopSandbox(id.clone()),
        Action::RemoveContainer { id } => Op::Remove(id.clone()),
        Action::RemoveSandbox { id } => Op::RemoveSandbox(id.clone()),
        Action::Resize { id, .. } => Op::Resize(id.clone()),
        Action::Probe { id, kind, .. } => Op::Probe(id.clone(), *kind),
        Action::Release { .. } => Op::Release,
        Action::Delete => Op::Delete,
        other => panic!("{other:?} takes no time"),
    }
}
