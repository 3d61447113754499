//! What the node reports as scarce, and for how long, pure.

use std::time::Duration;

/// What is scarce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Memory.
    pub memory: bool,
    /// Disk space or inodes.
    pub disk: bool,
    /// Process numbers.
    pub pid: bool,
}

/// Remembers when each pressure was last seen.
#[derive(Clone, Debug, Default)]
pub struct PressureState {
    memory: Option<Duration>,
    disk: Option<Duration>,
    pid: Option<Duration>,
}

impl PressureState {
    /// Takes in what was seen at `now` (monotonic): a pressure is reported at once and for as long as it has been seen
    /// within the last `transition`.
    pub fn observe(&mut self, seen: Pressure, now: Duration, transition: Duration) -> Pressure {
        let held = |last: &mut Option<Duration>, seen: bool| {
            if seen {
                *last = Some(now);
            }
            last.is_some_and(|last| seen || now.saturating_sub(last) < transition)
        };
        Pressure {
            memory: held(&mut self.memory, seen.memory),
            disk: held(&mut self.disk, seen.disk),
            pid: held(&mut self.pid, seen.pid),
        }
    }
}
