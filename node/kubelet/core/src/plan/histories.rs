//! Histories: whatever happens in whatever order, the plan never says anything twice, never breaks the order of a pod's
//! life, and comes to rest where the pod should be once nothing more happens.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::model::{ContainerRecord, ContainerState, Eviction, Op, Sandbox, Stop, VolumeState, Wait, after};
use crate::pod::{ContainerKind, PodExt};

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.next(sides) == 0
    }
}

struct World {
    pod: Pod,
    observed: Observed,
    now: Timestamp,
    dice: Dice,
    flying: Vec<Action>,
    wake: Option<Timestamp>,
    finished: bool,
    /// For messages.
    log: Vec<String>,
}

fn pod(policy: &str, inits: &[&str]) -> Pod {
    let init = |name: &&str| match name.strip_prefix("side") {
        Some(_) => json!({"name": name, "restartPolicy": "Always"}),
        None => json!({"name": name}),
    };
    let spec = json!({
        "restartPolicy": policy,
        "containers": [{"name": "a"}, {"name": "b"}],
        "initContainers": inits.iter().map(init).collect::<Vec<Value>>(),
    });
    let meta = json!({"name": "p", "namespace": "n", "uid": "u"});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
}

impl World {
    fn new(seed: u64, pod: Pod) -> Self {
        Self {
            pod,
            observed: Observed::default(),
            now: Timestamp::from_second(1_000_000).unwrap(),
            dice: Dice(seed),
            flying: Vec::new(),
            wake: None,
            finished: false,
            log: Vec::new(),
        }
    }

    /// As the worker does: plans until there is nothing to do but wait.
    fn advance(&mut self) {
        for round in 0.. {
            assert!(round < 8, "the plan does not come to rest: {:#?}", self.log);
            self.wake = None;
            let mut again = false;
            for action in plan(&self.pod, &self.observed, self.now) {
                again |= self.begin(action);
            }
            if !again {
                return;
            }
        }
    }

    fn begin(&mut self, action: Action) -> bool {
        if !matches!(action, Action::WakeAt(_)) {
            self.log.push(format!("{:?}", action).chars().take(120).collect());
        }
        match action {
            Action::WakeAt(at) => self.wake = Some(self.wake.map_or(at, |wake| wake.min(at))),
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
            other => self.launch(other),
        }
        false
    }

    fn launch(&mut self, action: Action) {
        let op = op(&action);
        let busy = self.observed.busy.contains(&op);
        match &action {
            // A second deletion may leave a container less time.
            Action::Stop { id, grace, .. } => {
                let before = self.observed.stops.get(id).map(|stop| stop.grace);
                let shorter = before.is_none_or(|before| *grace < before);
                assert!(shorter, "stopped twice: {:#?}", self.log);
                self.observed.stops.insert(id.clone(), Stop { grace: *grace });
                self.observed.stopped.insert(id.clone());
                if busy {
                    return;
                }
            }
            Action::Start {
                container,
                ended,
                kind,
                ..
            } => {
                self.check_start(container, *kind);
                if let Some(ended) = ended {
                    self.observed.note_restart(container, *ended, self.now);
                }
            }
            _ => {}
        }
        assert!(!busy, "{op:?} is under way already: {:#?}", self.log);
        self.observed.busy.insert(op);
        self.flying.push(action);
    }

    fn check_start(&self, name: &str, kind: ContainerKind) {
        let stage = stage(&self.pod, &self.observed, self.now);
        assert_eq!(
            stage,
            Stage::Active,
            "{name} starts in a pod that ends: {:#?}",
            self.log
        );
        let mut running = self.observed.running();
        assert!(
            running.all(|one| one.name != name),
            "{name} runs already: {:#?}",
            self.log
        );
        if kind != ContainerKind::Main {
            return;
        }
        for init in self.pod.init_containers() {
            let record = self.observed.current(&init.name);
            let has_run = record.is_some_and(|record| match crate::pod::init_kind(init) {
                ContainerKind::Sidecar => true,
                _ => record.succeeded(),
            });
            let began_before = self.observed.restarts.contains_key(name)
                || self.observed.containers.iter().any(|one| {
                    self.pod
                        .main_containers()
                        .iter()
                        .any(|main| main.name == one.name)
                });
            assert!(
                has_run || began_before,
                "{name} starts before {}: {:#?}",
                init.name,
                self.log
            );
        }
    }

    /// Something that is under way ends, well or badly.
    fn land(&mut self, may_fail: bool) {
        let index = usize::try_from(self.dice.next(self.flying.len() as u64)).unwrap();
        let action = self.flying.swap_remove(index);
        self.observed.busy.remove(&op(&action));
        let fails = may_fail && self.dice.one_in(4);
        let retry = after(self.now, 1);
        match action {
            Action::MountVolumes if fails => {
                self.observed.volumes = VolumeState::Failed {
                    retry_at: retry,
                    failures: 0,
                };
            }
            Action::MountVolumes => self.observed.volumes = VolumeState::Ready { refresh_at: None },
            Action::RunSandbox { .. } if fails => self.observed.sandbox_retry = Some((retry, 1)),
            Action::RunSandbox { attempt } => {
                self.observed.sandbox_retry = None;
                self.observed.put_sandbox(Sandbox {
                    id: format!("s{attempt}"),
                    attempt,
                    ready: true,
                    ips: Vec::new(),
                    created_at: self.now,
                });
            }
            Action::Start { container, .. } if fails => {
                let wait = Wait {
                    reason: "CreateContainerError".to_owned(),
                    message: String::new(),
                    since: self.now,
                    visible_from: self.now,
                    until: retry,
                    about: String::new(),
                    failures: 0,
                    previous: None,
                };
                self.observed.waits.insert(container, wait);
            }
            Action::Start {
                container,
                attempt,
                sandbox_id,
                ..
            } => {
                self.observed.waits.remove(&container);
                let record = self.record(&container, attempt, sandbox_id);
                self.observed.put_container(record);
            }
            Action::Stop { id, .. } => {
                self.observed.stops.remove(&id);
                self.end(&id, 137);
            }
            Action::StopSandbox { id } if !fails => self.lose_sandbox(&id),
            Action::RemoveContainer { id } if !fails => self.observed.forget_container(&id),
            Action::RemoveSandbox { id } if !fails => {
                self.observed.sandboxes.retain(|sandbox| sandbox.id != id);
            }
            Action::Release { .. } | Action::Delete if fails => self.observed.end_retry = Some(retry),
            Action::Release { all } => {
                self.observed.released = Some(all);
                self.observed.volumes = VolumeState::Missing;
            }
            Action::Delete => self.observed.removed = true,
            _ => {}
        }
    }

    fn record(&self, name: &str, attempt: u32, sandbox_id: String) -> ContainerRecord {
        let is_init = self
            .pod
            .init_containers()
            .iter()
            .any(|one| one.name == name && one.restart_policy.is_none());
        let state = if is_init {
            ContainerState::Exited
        } else {
            ContainerState::Running
        };
        let (_, container) = self.pod.container(name).unwrap();
        ContainerRecord {
            id: format!("{sandbox_id}-{name}-{attempt}"),
            name: name.to_owned(),
            sandbox_id,
            attempt,
            state,
            created_at: self.now,
            started_at: Some(self.now),
            finished_at: is_init.then_some(self.now),
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            image: String::new(),
            image_id: String::new(),
            hash: crate::spec::hash::container(&container),
            log_path: String::new(),
            user: None,
        }
    }

    fn end(&mut self, id: &str, code: i32) {
        let known = self.observed.by_id(id).cloned();
        if let Some(mut record) = known.filter(|record| record.state == ContainerState::Running) {
            record.state = ContainerState::Exited;
            record.exit_code = code;
            record.finished_at = Some(self.now);
            self.observed.put_container(record);
        }
    }

    fn lose_sandbox(&mut self, id: &str) {
        let mut all = self.observed.sandboxes.iter_mut();
        if let Some(sandbox) = all.find(|sandbox| sandbox.id == id) {
            sandbox.ready = false;
        }
    }

    /// Something happens that nobody has planned.
    fn happen(&mut self) {
        match self.dice.next(12) {
            0..=3 => {
                let ids: Vec<String> = self.observed.running().map(|one| one.id.clone()).collect();
                if !ids.is_empty() {
                    let at = usize::try_from(self.dice.next(ids.len() as u64)).unwrap();
                    let code = i32::try_from(self.dice.next(2)).unwrap();
                    self.log.push(format!("{} ends with {code}", ids[at]));
                    self.end(&ids[at], code);
                }
            }
            4 => {
                if let Some(id) = self.observed.ready_sandbox().map(|sandbox| sandbox.id.clone()) {
                    self.log.push(format!("{id} is lost"));
                    self.lose_sandbox(&id);
                    let ids: Vec<String> = self.observed.running().map(|one| one.id.clone()).collect();
                    ids.iter().for_each(|id| self.end(id, 137));
                }
            }
            5..=9 => {
                let seconds = i64::try_from(self.dice.next(30)).unwrap();
                self.now = after(self.now, seconds);
            }
            10 if self.dice.one_in(4) => self.delete(),
            11 if self.dice.one_in(8) => {
                self.log.push("evicted".to_owned());
                self.observed.evicted.get_or_insert(Eviction {
                    message: String::new(),
                    grace: 1,
                    for_others: true,
                    cause: Default::default(),
                });
            }
            _ => {}
        }
    }

    fn delete(&mut self) {
        self.log.push("deleted".to_owned());
        let grace = i64::try_from(self.dice.next(30)).unwrap();
        let shorter = self.pod.metadata.deletion_grace_period_seconds;
        self.pod.metadata.deletion_timestamp = Some(Time(self.now));
        self.pod.metadata.deletion_grace_period_seconds =
            Some(shorter.map_or(grace, |before| before.min(grace)));
    }

    /// Nothing goes wrong any more: what is under way ends, and time passes until nothing is left to do.
    fn settle(&mut self) {
        for step in 0.. {
            assert!(
                step < 400,
                "it does not come to rest: {:#?}",
                &self.log[self.log.len().saturating_sub(30)..]
            );
            self.observed.reported = true;
            self.advance();
            if self.finished {
                return;
            }
            if !self.flying.is_empty() {
                self.land(false);
            } else if let Some(wake) = self.wake {
                assert!(
                    wake > self.now,
                    "it wakes at a time that has passed: {:#?}",
                    self.log
                );
                self.now = wake;
            } else {
                return;
            }
        }
    }
}

fn op(action: &Action) -> Op {
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

/// Where a pod should be that nobody has told to end.
fn is_where_it_should_be(world: &World) -> bool {
    let observed = &world.observed;
    let failed = world.pod.init_containers().iter().any(|init| {
        let record = observed.latest(&init.name);
        record.is_some_and(|record| record.state == ContainerState::Exited && record.exit_code != 0)
    });
    world.pod.main_containers().iter().all(|container| {
        observed.latest(&container.name).is_some_and(|record| {
            let policy = world.pod.policy_after(container, record.exit_code);
            record.state == ContainerState::Running || done_for_good(policy, record)
        })
    }) || failed
}

fn histories(policy: &str, inits: &[&str]) {
    let mut ends = BTreeSet::new();
    for seed in 0..400 {
        let mut world = World::new(seed, pod(policy, inits));
        for _ in 0..world.dice.next(80) {
            world.observed.reported = !world.dice.one_in(3);
            world.advance();
            if world.finished {
                break;
            }
            match world.flying.is_empty() || world.dice.one_in(3) {
                true => world.happen(),
                false => world.land(true),
            }
        }
        world.settle();
        let told = world.pod.is_deleted();
        ends.insert((told, world.finished));
        if told {
            assert!(world.finished, "seed {seed}: {:#?}", world.log);
            assert!(world.observed.running().next().is_none(), "seed {seed}");
        } else if world.observed.evicted.is_some() {
            assert!(world.observed.running().next().is_none(), "seed {seed}");
        } else {
            let mut where_it_should = is_where_it_should_be(&world);
            // What has ended for good, as a whole, has been let go of.
            where_it_should |= stage(&world.pod, &world.observed, world.now) == Stage::Ended;
            assert!(
                where_it_should,
                "seed {seed}: {:#?} {:#?}",
                world.observed.containers, world.log
            );
        }
    }
    assert!(
        ends.contains(&(true, true)) && ends.contains(&(false, false)),
        "{ends:?}"
    );
}

#[test]
fn any_history_of_a_pod_that_always_runs_converges() {
    histories("Always", &[]);
    histories("Always", &["one", "side", "two"]);
}

#[test]
fn any_history_of_a_pod_that_runs_to_its_end_converges() {
    histories("OnFailure", &["one"]);
    histories("Never", &["side"]);
}
