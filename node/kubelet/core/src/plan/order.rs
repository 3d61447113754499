//! Which container starts next (upstream: `computePodActions`, `computeInitContainerActions`).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use knode_client::EventKind;

use super::action::{Action, PodEvent};
use super::stage::done_for_good;
use crate::model::{ContainerRecord, ContainerState, Observed, Op, Wait, after, go_duration};
use crate::pod::{ContainerKind, PodExt, init_kind};
use crate::spec::hash;

/// Upstream shows a container's end until its next sync, about a second later, and then why it waits.
const SETTLE_SECONDS: i64 = 1;

pub(super) fn plan(pod: &Pod, observed: &Observed, now: Timestamp, out: &mut Vec<Action>) {
    for wait in observed.waits.values().filter(|wait| wait.visible_from > now) {
        out.push(Action::WakeAt(wait.visible_from));
    }
    replace(pod, observed, out);
    let mut starts = Starts {
        pod,
        observed,
        now,
        out,
        begun: observed.starting(),
    };
    starts.ephemerals();
    if starts.init() {
        starts.mains();
    }
}

/// Stops containers that have to be replaced: a probe failed, or the definition has changed.
fn replace(pod: &Pod, observed: &Observed, out: &mut Vec<Action>) {
    for record in observed
        .running()
        .filter(|record| !observed.stops.contains_key(&record.id))
    {
        let Some((kind, container)) = pod.container(&record.name) else {
            continue;
        };
        let Some(message) = reason_to_replace(pod, observed, kind, &container, record) else {
            continue;
        };
        let grace = probe_grace(observed, &container, record).unwrap_or_else(|| pod.grace_seconds());
        out.push(Action::Stop {
            id: record.id.clone(),
            container: record.name.clone(),
            grace,
            message,
        });
    }
}

fn reason_to_replace(
    pod: &Pod,
    observed: &Observed,
    kind: ContainerKind,
    container: &Container,
    record: &ContainerRecord,
) -> Option<String> {
    let name = &container.name;
    let kept = matches!(kind, ContainerKind::Init | ContainerKind::Ephemeral);
    if !record.hash.is_empty() && record.hash != hash::container(container) && !kept {
        return Some(format!("Container {name} definition changed, will be restarted"));
    }
    let failed = observed.probes.get(&record.id)?.failed()?;
    let again = match pod.policy_of(container) {
        crate::pod::RestartPolicy::Never if kind != ContainerKind::Sidecar => "",
        _ => ", will be restarted",
    };
    Some(format!(
        "Container {name} failed {} probe{again}",
        failed.as_str().to_lowercase()
    ))
}

/// A probe's own grace period, which goes before the pod's.
fn probe_grace(observed: &Observed, container: &Container, record: &ContainerRecord) -> Option<i64> {
    let failed = observed.probes.get(&record.id)?.failed()?;
    failed.of(container)?.termination_grace_period_seconds
}

struct Starts<'a> {
    pod: &'a Pod,
    observed: &'a Observed,
    now: Timestamp,
    out: &'a mut Vec<Action>,
    begun: bool,
}

impl Starts<'_> {
    /// Containers for debugging come first, so that a pod whose init containers fail can be looked into.
    fn ephemerals(&mut self) {
        for container in self.pod.ephemeral_containers() {
            if self.observed.latest(&container.name).is_none() {
                self.start(ContainerKind::Ephemeral, &container);
            }
        }
    }

    /// Goes through init containers and sidecars; true if the pod's own containers may start.
    fn init(&mut self) -> bool {
        let mains = self.pod.main_containers();
        let initialized = mains
            .iter()
            .any(|main| self.observed.current(&main.name).is_some());
        for container in self.pod.init_containers() {
            let current = self.observed.current(&container.name);
            let next = match init_kind(container) {
                ContainerKind::Sidecar => self.sidecar(container, current) || initialized,
                _ => initialized || self.one_shot(container, current),
            };
            if !next {
                return false;
            }
        }
        true
    }

    fn one_shot(&mut self, container: &Container, current: Option<&ContainerRecord>) -> bool {
        match current {
            Some(record) if record.succeeded() => true,
            Some(record) if record.state == ContainerState::Running => false,
            _ => {
                self.start(ContainerKind::Init, container);
                false
            }
        }
    }

    /// Keeps a sidecar running; true once it has started.
    fn sidecar(&mut self, container: &Container, current: Option<&ContainerRecord>) -> bool {
        match current {
            Some(record) if record.state == ContainerState::Running => {
                let hook = self.observed.busy.contains(&Op::Start(container.name.clone()));
                !hook && has_started(self.observed, container, record)
            }
            _ => {
                self.start(ContainerKind::Sidecar, container);
                false
            }
        }
    }

    fn mains(&mut self) {
        for container in self.pod.main_containers() {
            let latest = self.observed.standing(&container.name);
            let current = self.observed.current(&container.name);
            let runs = current.is_some_and(|record| record.state == ContainerState::Running);
            if !runs && !latest.is_some_and(|record| self.is_done(container, record)) {
                self.start(ContainerKind::Main, container);
            }
        }
    }

    fn is_done(&self, container: &Container, record: &ContainerRecord) -> bool {
        done_for_good(self.pod.policy_after(container, record.exit_code), record)
    }

    /// Starts a container unless something holds it back.
    fn start(&mut self, kind: ContainerKind, container: &Container) {
        let name = &container.name;
        if self.observed.busy.contains(&Op::Start(name.clone())) || self.held_back(kind, container) {
            return;
        }
        let Some(sandbox) = self.observed.ready_sandbox() else {
            return;
        };
        if self.begun {
            return;
        }
        self.begun = true;
        let last = self.observed.latest(name);
        let failed = match last.filter(|last| self.is_spared(last)) {
            Some(_) => self.observed.previous(name),
            None => last,
        };
        self.out.push(Action::Start {
            container: name.clone(),
            kind,
            attempt: next_attempt(self.pod, name, last),
            sandbox_id: sandbox.id.clone(),
            ended: failed.map(ContainerRecord::down_since),
        });
    }

    /// Whether a container that the kubelet killed starts again at once. As upstream, which does both in one pass
    /// and so judges by the end before this one.
    fn is_spared(&self, record: &ContainerRecord) -> bool {
        let before = self.observed.previous(&record.name);
        let backoff = self.observed.restarts.get(&record.name);
        let held_until = before
            .zip(backoff)
            .and_then(|(before, backoff)| backoff.until(before.down_since()));
        self.observed.stopped.contains(&record.id)
            && held_until.is_none_or(|until| until <= record.down_since())
    }

    /// Whether a failed try or a crash is too recent.
    fn held_back(&mut self, kind: ContainerKind, container: &Container) -> bool {
        let wait = self.observed.waits.get(&container.name);
        if let Some(wait) = wait.filter(|wait| wait.until > self.now) {
            self.settle_pull(kind, container, wait);
            self.out.push(Action::WakeAt(wait.until));
            return true;
        }
        let Some(record) = self.observed.latest(&container.name) else {
            return false;
        };
        if self.is_spared(record) {
            return false;
        }
        let backoff = self.observed.restarts.get(&container.name);
        let until = backoff.and_then(|backoff| backoff.until(record.down_since()));
        let (Some(until), Some(backoff)) = (until.filter(|until| *until > self.now), backoff) else {
            return false;
        };
        self.out.push(Action::WakeAt(until));
        let known = wait.is_some_and(|wait| wait.reason == "CrashLoopBackOff" && wait.about == record.id);
        if !known {
            self.crash_loop(kind, container, record, until, &go_duration(backoff.delay));
        }
        true
    }

    fn crash_loop(
        &mut self,
        kind: ContainerKind,
        container: &Container,
        record: &ContainerRecord,
        until: Timestamp,
        delay: &str,
    ) {
        let (name, pod) = (&container.name, self.pod.full_name());
        let text = format!("Back-off restarting failed container {name} in pod {pod}");
        self.out.push(Action::Event(PodEvent::container(
            EventKind::Warning,
            "BackOff",
            text,
            kind,
            name,
        )));
        let before = self
            .observed
            .waits
            .get(name)
            .filter(|wait| wait.about == record.id);
        let wait = Wait {
            reason: "CrashLoopBackOff".into(),
            message: format!("back-off {delay} restarting failed container={name} pod={pod}"),
            since: self.now,
            visible_from: after(self.now, SETTLE_SECONDS),
            until,
            about: record.id.clone(),
            failures: 0,
            previous: before.map(|wait| (wait.reason.clone(), wait.message.clone())),
        };
        self.out.push(Action::WakeAt(wait.visible_from));
        self.out.push(Action::Wait {
            container: name.clone(),
            wait,
        });
    }

    /// A failed pull becomes a back-off a moment later.
    fn settle_pull(&mut self, kind: ContainerKind, container: &Container, wait: &Wait) {
        if wait.reason != "ErrImagePull" {
            return;
        }
        let settled = after(wait.since, SETTLE_SECONDS);
        if settled > self.now {
            return self.out.push(Action::WakeAt(settled));
        }
        let name = &container.name;
        let text = format!(
            "Back-off pulling image \"{}\"",
            container.image.as_deref().unwrap_or_default()
        );
        let message = format!("{text}: ErrImagePull: {}", wait.message);
        self.out.push(Action::Event(PodEvent::container(
            EventKind::Normal,
            "BackOff",
            text,
            kind,
            name,
        )));
        let error = "Error: ImagePullBackOff";
        self.out.push(Action::Event(PodEvent::container(
            EventKind::Warning,
            "Failed",
            error,
            kind,
            name,
        )));
        let wait = Wait {
            reason: "ImagePullBackOff".into(),
            message,
            ..wait.clone()
        };
        self.out.push(Action::Wait {
            container: name.clone(),
            wait,
        });
    }
}

/// Whether a running container counts as started.
pub(crate) fn has_started(observed: &Observed, container: &Container, record: &ContainerRecord) -> bool {
    match observed.probes.get(&record.id) {
        Some(probes) => probes.started(),
        None => container.startup_probe.is_none(),
    }
}

/// One more than the last time; if the runtime has forgotten that, one more than the API remembers.
fn next_attempt(pod: &Pod, name: &str, last: Option<&ContainerRecord>) -> u32 {
    if let Some(record) = last {
        return record.attempt + 1;
    }
    let status = pod.api_status();
    let lists = status
        .into_iter()
        .flat_map(|status| [&status.init_container_statuses, &status.container_statuses]);
    let known = lists.flatten().flatten().find(|status| status.name == name);
    let known = known.filter(|status| status.container_id.as_deref().is_some_and(|id| !id.is_empty()));
    known.map_or(0, |status| u32::try_from(status.restart_count).unwrap_or(0) + 1)
}
