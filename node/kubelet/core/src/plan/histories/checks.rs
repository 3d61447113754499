//! What must hold of each action at the moment it is planned, told apart from how the plan comes to it.

use k8s_openapi::api::core::v1::{Container, PodStatus};

use super::super::{Action, Stage, is_under_way, stage};
use super::world::{World, op};
use crate::model::{ContainerRecord, ContainerState, Op};
use crate::pod::{ContainerKind, PodExt, init_kind};
use crate::resize::{Way, way};

/// Seconds without trouble after which a container's end counts as its first.
const FORGIVEN_AFTER: i64 = 600;
const FIRST_DELAY: i64 = 10;
const LONGEST_DELAY: i64 = 300;

impl World {
    /// A pod that ends never goes on, and one that has ended stays so.
    pub(super) fn check_stage(&mut self) {
        let now = match stage(&self.pod, &self.observed, self.now) {
            Stage::Active => 0,
            Stage::Ending => 1,
            Stage::Ended => 2,
        };
        if now < self.stage {
            self.fault(format!("the pod's stage went from {} to {now}", self.stage));
        }
        if now == 0 && self.pod.is_terminal() {
            self.fault("a pod with its last phase goes on");
        }
        self.stage = now;
    }

    pub(super) fn check(&mut self, action: &Action) {
        let probe = matches!(action, Action::Probe { .. } | Action::WakeAt(_));
        if !probe && self.quiet_from.is_some_and(|from| self.now > from) {
            self.fault(format!(
                "still something to do when all is as it should be: {action:?}"
            ));
        }
        match action {
            Action::MountVolumes | Action::RunSandbox { .. } => self.check_active(action),
            Action::Start { .. } => self.check_start(action),
            Action::Stop { id, grace, .. } => self.check_stop(id, *grace),
            Action::StopSandbox { id } => self.check_stop_sandbox(id),
            Action::RemoveContainer { id } => self.check_remove(id),
            Action::RemoveSandbox { id } => {
                let used = self.machine.containers.iter().any(|one| one.sandbox_id == *id);
                let newest = self.observed.sandboxes.first().is_some_and(|one| one.id == *id);
                if used || newest || self.machine.is_ready(id) {
                    self.fault(format!("removes a sandbox that is needed: {id}"));
                }
            }
            Action::Wait { wait, .. } if wait.reason == "CrashLoopBackOff" => {
                let known = !self.told.insert((wait.about.clone(), wait.until));
                self.check_told(known, &format!("{} is waited for", wait.about));
            }
            Action::NoteDeadline => {
                let known = std::mem::replace(&mut self.deadline_told, true);
                self.check_told(known, "the deadline has passed");
            }
            Action::Resize { id, container } => self.check_resize(id, container),
            Action::Probe { id, .. } => {
                let ended = self.observed.by_id(id).is_none_or(ContainerRecord::is_down);
                if ended || self.observed.stops.contains_key(id) {
                    self.fault(format!("probes what has ended or ends: {id}"));
                }
            }
            Action::Release { .. } | Action::Delete | Action::Finish => self.check_end(action),
            _ => {}
        }
    }

    fn check_told(&mut self, known: bool, what: &str) {
        if known {
            self.fault(format!("says twice that {what}"));
        }
    }

    fn check_active(&mut self, action: &Action) {
        if stage(&self.pod, &self.observed, self.now) != Stage::Active {
            self.fault(format!("{action:?} for a pod that ends"));
        }
        if matches!(action, Action::RunSandbox { .. }) && self.observed.running().next().is_some() {
            self.fault("a second sandbox while containers of the first run");
        }
    }

    fn check_start(&mut self, action: &Action) {
        let Action::Start {
            container,
            kind,
            sandbox_id,
            ended,
            attempt,
        } = action
        else {
            return;
        };
        self.check_active(action);
        if self.observed.ready_sandbox().map(|one| &one.id) != Some(sandbox_id) {
            self.fault(format!("{container} starts in an old sandbox"));
        }
        if self.observed.running().any(|one| one.name == *container) {
            self.fault(format!("{container} runs already"));
        }
        if self.observed.busy.iter().any(|op| matches!(op, Op::Start(_))) {
            self.fault(format!("{container} starts while another does"));
        }
        let last = self.observed.latest(container).cloned();
        if last.as_ref().is_some_and(|last| *attempt != last.attempt + 1) {
            self.fault(format!("{container} has attempt {attempt} after {last:?}"));
        }
        self.check_order(container, *kind);
        self.check_delay(container, last.as_ref());
        let Some(ended) = *ended else { return };
        let delay = match self.delays.get(container) {
            Some((delay, since)) if ended.duration_since(*since).as_secs() <= FORGIVEN_AFTER => {
                (delay * 2).min(LONGEST_DELAY)
            }
            _ => FIRST_DELAY,
        };
        self.delays.insert(container.clone(), (delay, self.now));
    }

    /// Each start after an end waits twice as long as that before; an end that the kubelet brought about waits for
    /// nothing.
    fn check_delay(&mut self, name: &str, last: Option<&ContainerRecord>) {
        let Some(last) = last.filter(|last| !self.observed.stopped.contains(&last.id)) else {
            return;
        };
        let Some((delay, since)) = self.delays.get(name) else {
            return;
        };
        let ended = last.down_since();
        let forgiven = ended.duration_since(*since).as_secs() > FORGIVEN_AFTER;
        if !forgiven && self.since(ended) < *delay {
            let waited = self.since(ended);
            self.fault(format!("{name} starts after {waited} s instead of {delay}"));
        }
    }

    /// What comes before a container has run, or runs, in this sandbox; unless the pod was further already.
    fn check_order(&mut self, name: &str, kind: ContainerKind) {
        let mains = self.pod.main_containers();
        let further = mains
            .iter()
            .any(|main| self.observed.current(&main.name).is_some());
        if kind == ContainerKind::Ephemeral || further && kind != ContainerKind::Init {
            return;
        }
        if further && self.pod.init_containers().iter().any(|one| one.name == name) {
            return self.fault(format!("{name} runs again beside the pod's own containers"));
        }
        let before = self
            .pod
            .init_containers()
            .iter()
            .take_while(|one| one.name != name);
        let missing = before
            .filter(|one| !self.is_past(one))
            .map(|one| one.name.clone());
        if let Some(missing) = missing.last() {
            self.fault(format!("{name} starts before {missing}"));
        }
    }

    fn is_past(&self, init: &Container) -> bool {
        let Some(record) = self.observed.current(&init.name) else {
            return false;
        };
        match init_kind(init) {
            ContainerKind::Sidecar => {
                let probes = self.observed.probes.get(&record.id);
                record.state == ContainerState::Running && probes.is_none_or(|all| all.started())
            }
            _ => record.succeeded(),
        }
    }

    /// No container runs twice on the machine.
    pub(super) fn check_running(&mut self, name: &str) {
        if self.machine.running().any(|one| one.name == name) {
            self.fault(format!("{name} runs twice"));
        }
        if name == "debugger" && self.debugged > 0 {
            self.fault("a debugger is started again");
        }
    }

    fn check_stop(&mut self, id: &str, grace: i64) {
        let before = self.observed.stops.get(id).map(|stop| stop.grace);
        if before.is_some_and(|before| before <= grace) {
            self.fault(format!("{id} is stopped twice"));
        }
        let Some(record) = self.observed.by_id(id).cloned() else {
            return self.fault(format!("{id}, which is not known, is stopped"));
        };
        match stage(&self.pod, &self.observed, self.now) {
            Stage::Active if !self.is_due(&record) => self.fault(format!("{id} is stopped for nothing")),
            Stage::Ending => self.check_stop_order(&record),
            Stage::Ended => self.fault(format!("{id} is stopped in a pod that has ended")),
            Stage::Active => {}
        }
    }

    /// Whether there is a reason to stop a container of a pod that goes on.
    fn is_due(&self, record: &ContainerRecord) -> bool {
        if self.observed.ready_sandbox().is_none() {
            return true;
        }
        let Some((_, container)) = self.pod.container(&record.name) else {
            return false;
        };
        if is_under_way(&self.pod, &self.observed) {
            return true;
        }
        let changed = record.hash != crate::spec::hash::container(&container);
        let probes = self.observed.probes.get(&record.id);
        let failed = probes.is_some_and(|all| all.failed().is_some());
        let applied = self.observed.applied.get(&record.id);
        let anew = applied.is_some_and(|applied| way(&container, applied) == Way::Restart);
        changed || failed || anew
    }

    /// Sidecars outlive all others, and those that began earlier outlive the later ones.
    fn check_stop_order(&mut self, record: &ContainerRecord) {
        let place = |name: &str| {
            let mut inits = self.pod.init_containers().iter();
            inits.position(|one| one.name == name && init_kind(one) == ContainerKind::Sidecar)
        };
        let Some(own) = place(&record.name) else { return };
        let longer = self.observed.running().filter(|one| one.id != record.id);
        let early = longer.map(|one| (one.name.clone(), place(&one.name)));
        let early: Vec<String> = early
            .filter(|(_, place)| place.is_none_or(|place| place > own))
            .map(|(name, _)| name)
            .collect();
        if !early.is_empty() {
            self.fault(format!("{} is stopped before {early:?}", record.name));
        }
    }

    fn check_stop_sandbox(&mut self, id: &str) {
        let inside: Vec<String> = self
            .machine
            .running()
            .filter(|one| one.sandbox_id == id)
            .map(|one| one.id.clone())
            .collect();
        if !inside.is_empty() {
            self.fault(format!("the sandbox is stopped under {inside:?}"));
        }
        if stage(&self.pod, &self.observed, self.now) != Stage::Ending {
            self.fault("the sandbox of a pod that goes on is stopped");
        }
    }

    /// Of what runs and of the last two of a name nothing is removed.
    fn check_remove(&mut self, id: &str) {
        let record = self.observed.by_id(id).cloned();
        let Some(record) = record.filter(|_| !self.runs(id)) else {
            return self.fault(format!("{id} is removed, which runs or is not known"));
        };
        let of_name = self
            .observed
            .containers
            .iter()
            .filter(|one| one.name == record.name);
        let newer = of_name.take_while(|one| one.id != id).count();
        if newer < 2 && self.pod.container(&record.name).is_some() {
            self.fault(format!("{id} is removed, which is one of the last two"));
        }
    }

    fn check_resize(&mut self, id: &str, name: &str) {
        let wanted = self.pod.container(name).map(|(_, one)| one.into_owned());
        let applied = self.observed.applied.get(id);
        let needed = wanted
            .zip(applied)
            .is_some_and(|(one, applied)| way(&one, applied) == Way::Update);
        if !needed {
            self.fault(format!("{id} has the limits that it should have"));
        }
    }

    fn check_end(&mut self, action: &Action) {
        let running = self.machine.running().next().is_some();
        let held = running || self.machine.sandboxes.iter().any(|one| one.ready);
        let released = self.observed.released;
        let wrong = match action {
            Action::Release { all } => held || released == Some(true) || (!all && released.is_some()),
            Action::Delete => !self.pod.is_deleted() || released != Some(true) || !self.observed.reported,
            _ => !self.observed.removed || released != Some(true) || !self.machine.containers.is_empty(),
        };
        if wrong {
            self.fault(format!("{action:?}, released {released:?}, held {held}"));
        }
        if self.observed.busy.contains(&Op::Release) && matches!(action, Action::Release { .. }) {
            self.fault(format!("{:?} is under way already", op(action)));
        }
    }

    /// The last phase stays, and counts of restarts go up.
    pub(super) fn check_status(&mut self, new: &PodStatus) {
        let old = self.pod.status.clone().unwrap_or_default();
        let phase = |status: &PodStatus| status.phase.clone().unwrap_or_default();
        if self.pod.is_terminal() && phase(&old) != phase(new) {
            self.fault(format!("{} became {}", phase(&old), phase(new)));
        }
        let lists = |status: &PodStatus| {
            let both = [&status.init_container_statuses, &status.container_statuses];
            let all = both.into_iter().flatten().flatten();
            all.map(|one| (one.name.clone(), one.restart_count))
                .collect::<Vec<_>>()
        };
        let after = lists(new);
        for (name, count) in lists(&old) {
            let now = after.iter().find(|(one, _)| *one == name).map(|(_, now)| *now);
            if now.is_some_and(|now| now < count) {
                self.fault(format!("{name} was restarted {count} times, and then {now:?}"));
            }
        }
    }
}
