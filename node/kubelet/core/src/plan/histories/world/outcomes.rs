//! How what was begun ends: well, badly, or half-done.

use super::super::super::{Action, Timestamp};
use super::{Taken, Work, World, op};
use crate::model::{Op, ProbeKind, ProbeOutcome, VolumeState, Wait, after};
use crate::pod::PodExt;

impl World {
    pub(super) fn take_one(&mut self, pick: u64) {
        let Some(at) = Self::choose(&self.flying, pick) else {
            return;
        };
        if self.flying[at].taken.is_none()
            && let Work::Action(action) = &self.flying[at].work
        {
            let action = action.clone();
            self.flying[at].taken = self.take(&action);
        }
    }

    /// The effect of a start or a new sandbox on the machine, if it can have any.
    pub(super) fn take(&mut self, action: &Action) -> Option<Taken> {
        match action {
            Action::RunSandbox { attempt } => {
                let made = self.machine.run_sandbox(*attempt, self.now);
                Some(Taken::Sandbox(made))
            }
            Action::Start {
                container,
                attempt,
                sandbox_id,
                ..
            } if self.machine.is_ready(sandbox_id) => {
                self.check_running(container);
                let definition = self.pod.container(container);
                let hash = definition.map(|(_, one)| crate::spec::hash::container(&one));
                let hash = hash.unwrap_or_default();
                let now = self.now;
                let made = self.machine.start(container, *attempt, sandbox_id, hash, now);
                Some(Taken::Container(Box::new(made)))
            }
            _ => None,
        }
    }

    pub(super) fn land(&mut self, pick: u64, fails: bool) {
        let Some(at) = Self::choose(&self.flying, pick) else {
            return;
        };
        let flight = self.flying.remove(at);
        if !matches!(&flight.work, Work::Action(Action::Probe { .. })) {
            let what = match &flight.work {
                Work::Action(action) => format!("{:?}", op(action)),
                Work::Resize(id, _) => format!("Resize({id})"),
                Work::Status(_) => "Status".to_owned(),
            };
            self.note(format!("-- {what} {}", if fails { "fails" } else { "is done" }));
        }
        match flight.work {
            Work::Status(new) => {
                self.observed.busy.remove(&Op::Status);
                self.status_retry = fails.then(|| after(self.now, 1));
                if !fails && !self.observed.removed {
                    self.written(*new);
                }
            }
            Work::Resize(id, resources) => {
                self.observed.busy.remove(&Op::Resize(id.clone()));
                if fails {
                    self.observed.resize_failed = Some((after(self.now, 10), "no".to_owned()));
                } else if let Some(applied) = self.observed.applied.get_mut(&id) {
                    *applied = resources;
                    self.observed.resize_failed = None;
                }
            }
            Work::Action(action) => self.done(action, flight.taken, fails),
        }
    }

    fn done(&mut self, action: Action, taken: Option<Taken>, fails: bool) {
        self.observed.busy.remove(&op(&action));
        let retry = after(self.now, 1);
        match action {
            Action::MountVolumes => self.mounted(fails),
            Action::RunSandbox { .. } if fails && taken.is_none() => {
                self.observed.sandbox_retry = Some((retry, 1));
            }
            Action::RunSandbox { .. } => {
                let Some(Taken::Sandbox(made)) = taken.or_else(|| self.take(&action)) else {
                    return;
                };
                self.observed.sandbox_retry = None;
                self.observed.put_sandbox(made);
            }
            Action::Start { ref container, .. } => {
                let container = container.clone();
                // What has begun already can only be told to have failed after its start.
                let taken = match taken {
                    None if fails => None,
                    None => self.take(&action),
                    taken => taken,
                };
                self.started(&container, taken, fails);
            }
            Action::Stop { id, .. } => {
                self.observed.stops.remove(&id);
                if let Some(record) = self.machine.end(&id, 137, self.now) {
                    self.know(record);
                }
            }
            Action::StopSandbox { id } if !fails => {
                self.machine.end_sandbox(&id, self.now);
                self.lost(&id);
            }
            Action::RemoveContainer { id } if !fails => {
                self.machine.containers.retain(|one| one.id != id);
                self.observed.forget_container(&id);
            }
            Action::RemoveSandbox { id } if !fails => {
                self.machine.sandboxes.retain(|one| one.id != id);
                self.observed.sandboxes.retain(|one| one.id != id);
            }
            Action::Release { .. } | Action::Delete if fails => self.observed.end_retry = Some(retry),
            Action::Release { all } => {
                if all {
                    self.machine.containers.clear();
                    self.machine.sandboxes.clear();
                }
                (self.observed.released, self.observed.end_retry) = (Some(all), None);
                self.observed.volumes = VolumeState::Missing;
            }
            Action::Delete => self.observed.removed = true,
            Action::Probe { id, container, kind } => self.probed(&id, &container, kind, fails),
            _ => {}
        }
    }

    fn mounted(&mut self, fails: bool) {
        self.observed.volumes = match (fails, &self.observed.volumes) {
            (false, _) => VolumeState::Ready { refresh_at: None },
            (true, VolumeState::Ready { .. }) => VolumeState::Ready {
                refresh_at: Some(after(self.now, 60)),
            },
            (true, _) => VolumeState::Failed {
                retry_at: after(self.now, 1),
                failures: 0,
            },
        };
    }

    fn probed(&mut self, id: &str, container: &str, kind: ProbeKind, fails: bool) {
        let found = self.pod.container(container).map(|(_, one)| one.into_owned());
        let probes = self.observed.probes.get_mut(id);
        let outcome = match fails {
            true => ProbeOutcome::Failure("no".to_owned()),
            false => ProbeOutcome::Success,
        };
        if let (Some(found), Some(track)) = (found, probes.and_then(|all| all.track(kind))) {
            track.step(kind.of(&found).unwrap(), &outcome, self.now);
        }
    }

    fn started(&mut self, name: &str, taken: Option<Taken>, fails: bool) {
        let Some(Taken::Container(record)) = taken else {
            let wait = self.wait("CreateContainerError", after(self.now, 1), String::new());
            self.observed.waits.insert(name.to_owned(), wait);
            return;
        };
        self.debugged += u32::from(name == "debugger");
        if !fails {
            self.observed.waits.remove(name);
            return self.know(*record);
        }
        // The hook after the start fails, and the container is killed for that.
        let ended = self.machine.end(&record.id, 137, self.now);
        let wait = self.wait("PostStartHookError", self.now, record.id.clone());
        self.know(ended.unwrap_or(*record));
        self.observed.waits.insert(name.to_owned(), wait);
    }

    fn wait(&self, reason: &str, until: Timestamp, about: String) -> Wait {
        Wait {
            reason: reason.to_owned(),
            message: String::new(),
            since: self.now,
            visible_from: self.now,
            until,
            about,
            failures: 0,
            previous: None,
        }
    }
}
