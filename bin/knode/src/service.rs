//! What the service manager is told (sd_notify). Without one nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

/// The work has begun.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The end has begun.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// What is being waited for.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the service manager was not told"
        );
    }
}

/// Tells the service manager for ever that this process lives, twice in each period that it asks for (WatchdogSec=); waits
/// for ever where it asks for none.
pub async fn watchdog() {
    let Some(period) = sd_notify::watchdog_enabled().filter(|period| !period.is_zero()) else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval(pause(period));
    loop {
        ticks.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn pause(period: Duration) -> Duration {
    (period / 2).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_never_late() {
        assert_eq!(pause(Duration::from_secs(30)), Duration::from_secs(15));
        assert_eq!(pause(Duration::from_nanos(1)), Duration::from_millis(1));
    }
}
