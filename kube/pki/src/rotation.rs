//! When to renew a certificate.

use jiff::{SignedDuration, Timestamp};

/// The instant at which a certificate shall be renewed: at a jittered 70–90 % of its lifetime, so that a fleet
/// started at once does not renew at once (`certificate_manager.go`, `jitteryDuration`).
///
/// `random` is in `[0, 1)`. An interval that ends before it begins is due at its beginning.
pub fn deadline(not_before: Timestamp, not_after: Timestamp, random: f64) -> Timestamp {
    let lifetime = not_after.duration_since(not_before).max(SignedDuration::ZERO);
    let share = 0.7 + 0.2 * random.clamp(0.0, 1.0);
    let offset = SignedDuration::try_from_secs_f64(lifetime.as_secs_f64() * share).unwrap_or(lifetime);
    not_before.saturating_add(offset).unwrap_or(not_after)
}

/// What to do about a certificate now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Look again at this instant.
    Wait(Timestamp),
    /// Ask for a new one.
    Renew,
}

/// Compares `now` with the [`deadline`].
pub fn plan(not_before: Timestamp, not_after: Timestamp, random: f64, now: Timestamp) -> Plan {
    let due = deadline(not_before, not_after, random);
    if now < due { Plan::Wait(due) } else { Plan::Renew }
}
