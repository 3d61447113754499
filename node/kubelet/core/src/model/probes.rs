//! Probes as state machines (upstream: `pkg/kubelet/prober/worker.go`). Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Probe};

/// Which of the three probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Holds back the others until it succeeds.
    Startup,
    /// Its failure restarts the container.
    Liveness,
    /// Its failure takes the pod out of services.
    Readiness,
}

impl ProbeKind {
    /// As it is written in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    /// The probe of that kind.
    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

/// What one run of a probe gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// It succeeded.
    Success,
    /// It failed, with its output.
    Failure(String),
    /// It could not be run; counts for nothing but an event.
    Unknown(String),
}

/// What a series of runs means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeVerdict {
    /// No verdict yet.
    Pending,
    /// Good.
    Passed,
    /// Bad.
    Failed,
}

/// One probe of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeTrack {
    /// The verdict so far.
    pub verdict: ProbeVerdict,
    /// When to run next.
    pub next_at: Timestamp,
    streak: i32,
    last_good: Option<bool>,
}

impl ProbeTrack {
    fn new(verdict: ProbeVerdict, next_at: Timestamp) -> Self {
        Self {
            verdict,
            next_at,
            streak: 0,
            last_good: None,
        }
    }

    /// Takes in the result of a run that ended at `now`.
    pub fn step(&mut self, probe: &Probe, outcome: &ProbeOutcome, now: Timestamp) {
        self.next_at = next_tick(self.next_at, probe, now);
        let good = match outcome {
            ProbeOutcome::Success => true,
            ProbeOutcome::Failure(_) => false,
            ProbeOutcome::Unknown(_) => return,
        };
        self.streak = if self.last_good == Some(good) {
            self.streak.saturating_add(1)
        } else {
            1
        };
        self.last_good = Some(good);
        let threshold = match good {
            true => probe.success_threshold.unwrap_or(1),
            false => probe.failure_threshold.unwrap_or(3),
        };
        if self.streak >= threshold.max(1) {
            self.verdict = if good {
                ProbeVerdict::Passed
            } else {
                ProbeVerdict::Failed
            };
        }
    }
}

/// The first tick of the probe's period that is not past.
fn next_tick(last: Timestamp, probe: &Probe, now: Timestamp) -> Timestamp {
    let period = i64::from(probe.period_seconds.unwrap_or(10).max(1));
    let passed = now.duration_since(last).as_secs().max(0);
    let ticks = passed / period + 1;
    last.checked_add(SignedDuration::from_secs(ticks * period))
        .unwrap_or(now)
}

/// The probes of one running container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Probes {
    /// The startup probe.
    pub startup: Option<ProbeTrack>,
    /// The liveness probe.
    pub liveness: Option<ProbeTrack>,
    /// The readiness probe.
    pub readiness: Option<ProbeTrack>,
}

impl Probes {
    /// Probes of a container that runs since `started`, first seen at `now`. `was_started` and `was_ready`
    /// is what the API says about this very container from before a restart of the kubelet.
    pub fn new(
        container: &Container,
        started: Timestamp,
        now: Timestamp,
        was_started: bool,
        was_ready: bool,
    ) -> Self {
        let track = |probe: Option<&Probe>, verdict| {
            probe.map(|probe| {
                let delay = SignedDuration::from_secs(i64::from(probe.initial_delay_seconds.unwrap_or(0)));
                let first = started.checked_add(delay).unwrap_or(started);
                ProbeTrack::new(verdict, first.max(now))
            })
        };
        let known = |good| {
            if good {
                ProbeVerdict::Passed
            } else {
                ProbeVerdict::Pending
            }
        };
        Self {
            startup: track(container.startup_probe.as_ref(), known(was_started)),
            liveness: track(container.liveness_probe.as_ref(), ProbeVerdict::Pending),
            readiness: track(container.readiness_probe.as_ref(), known(was_ready)),
        }
    }

    /// Whether the container has started: there is no startup probe, or it has succeeded.
    pub fn started(&self) -> bool {
        self.startup
            .as_ref()
            .is_none_or(|track| track.verdict == ProbeVerdict::Passed)
    }

    /// Whether the container is ready.
    pub fn ready(&self) -> bool {
        self.started()
            && self
                .readiness
                .as_ref()
                .is_none_or(|track| track.verdict == ProbeVerdict::Passed)
    }

    /// The probe whose failure should restart the container.
    pub fn failed(&self) -> Option<ProbeKind> {
        let failed =
            |track: &Option<ProbeTrack>| track.as_ref().is_some_and(|t| t.verdict == ProbeVerdict::Failed);
        match (failed(&self.startup), failed(&self.liveness)) {
            (true, _) => Some(ProbeKind::Startup),
            (_, true) => Some(ProbeKind::Liveness),
            _ => None,
        }
    }

    /// Probes that should run now or later, with their time.
    pub fn due(&self) -> Vec<(ProbeKind, Timestamp)> {
        if self.failed().is_some() {
            return Vec::new();
        }
        let of = |kind, track: &Option<ProbeTrack>| track.as_ref().map(|track| (kind, track.next_at));
        if !self.started() {
            return of(ProbeKind::Startup, &self.startup).into_iter().collect();
        }
        let both = [
            of(ProbeKind::Liveness, &self.liveness),
            of(ProbeKind::Readiness, &self.readiness),
        ];
        both.into_iter().flatten().collect()
    }

    /// The track of that kind.
    pub fn track(&mut self, kind: ProbeKind) -> Option<&mut ProbeTrack> {
        match kind {
            ProbeKind::Startup => self.startup.as_mut(),
            ProbeKind::Liveness => self.liveness.as_mut(),
            ProbeKind::Readiness => self.readiness.as_mut(),
        }
    }
}

#[cfg(test)]
mod tests;
