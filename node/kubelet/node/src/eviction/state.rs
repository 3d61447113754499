//! Which limits are met, since when, and which is acted upon. Pure.

use std::time::Duration;

use super::observe::Observations;
use super::signal::Signal;
use super::threshold::{EvictionConfig, Threshold};
use crate::status::{Pressure, PressureState};

/// Remembers what was met before.
#[derive(Clone, Debug, Default)]
pub struct EvictionState {
    /// Limits that are met, with the time since when, in the configuration's order.
    met: Vec<(Threshold, Duration)>,
    pressure: PressureState,
}

/// What follows from a look.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What the node reports as scarce.
    pub pressure: Pressure,
    /// Limits to act upon, the most urgent first.
    pub reclaim: Vec<Threshold>,
}

impl EvictionState {
    /// Takes in what was observed at `now` (monotonic).
    pub fn step(&mut self, config: &EvictionConfig, seen: &Observations, now: Duration) -> Step {
        let since = |one: &Threshold| {
            let before = self.met.iter().find(|(met, _)| met == one);
            before.map(|(_, since)| *since)
        };
        let mut met = Vec::new();
        for threshold in &config.thresholds {
            let before = since(threshold);
            // Once its time is over a limit counts until some more than it is free again.
            let acted_upon = before.is_some_and(|since| is_due(threshold, since, now));
            if is_met(threshold, seen, acted_upon) {
                met.push((*threshold, before.unwrap_or(now)));
            }
        }
        self.met = met;
        let mut reclaim: Vec<Threshold> = self
            .met
            .iter()
            .filter(|(threshold, since)| is_due(threshold, *since, now))
            .map(|(threshold, _)| *threshold)
            .collect();
        reclaim.sort_by_key(|threshold| (threshold.signal, threshold.grace.is_some()));
        let scarce = pressure(self.met.iter().map(|(threshold, _)| threshold.signal));
        Step {
            pressure: self.pressure.observe(scarce, now, config.transition),
            reclaim,
        }
    }
}

fn is_due(threshold: &Threshold, since: Duration, now: Duration) -> bool {
    threshold
        .grace
        .is_none_or(|grace| now.saturating_sub(since) >= grace)
}

/// Whether less is available than the limit, or than the limit and what is to be freed beyond it.
pub(super) fn is_met(threshold: &Threshold, seen: &Observations, with_reclaim: bool) -> bool {
    let Some(observed) = seen.get(&threshold.signal) else {
        return false;
    };
    let more = threshold.min_reclaim.filter(|_| with_reclaim);
    let more = more.map_or(0, |more| more.of(observed.capacity));
    observed.available < threshold.value.of(observed.capacity).saturating_add(more)
}

fn pressure(signals: impl Iterator<Item = Signal>) -> Pressure {
    let mut all = Pressure::default();
    for signal in signals {
        match signal {
            Signal::MemoryAvailable | Signal::AllocatableMemoryAvailable => all.memory = true,
            Signal::PidAvailable => all.pid = true,
            _ => all.disk = true,
        }
    }
    all
}
