//! Ending: one signal that every part can wait for.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Resolves for every holder once the end has been asked for.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// Asks for the end.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// A signal that has not been given yet.
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Asks for the end.
    pub fn end(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Waits until the end is asked for, or until nobody can ask any more.
    pub async fn requested(mut self) {
        // An error means that the trigger is gone: the process is ending.
        let _ = self.0.wait_for(|ended| *ended).await;
    }
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// When the handlers can't be installed.
pub async fn asked_by_signal() -> std::io::Result<&'static str> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    })
}
