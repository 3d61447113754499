//! What is done about which socket (upstream: `pkg/kubelet/pluginmanager/reconciler`), pure.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// The first wait after a failed registration, which doubles with each further one.
const RETRY_FIRST: Duration = Duration::from_millis(100);

/// The longest wait (upstream: `exponentialbackoff`, two minutes and two seconds).
const RETRY_LAST: Duration = Duration::from_secs(122);

/// Tells a socket from another that took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The inode's number.
    pub inode: u64,
    /// When the socket was made.
    pub made: Option<SystemTime>,
}

/// What became of a socket that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// An action about it is under way.
    Busy,
    /// Its plugin is registered.
    Registered,
    /// Its plugin could not be registered.
    Failed {
        /// How often.
        failures: u32,
        /// When it is tried again.
        retry_at: Instant,
    },
}

/// A socket that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which one.
    pub stamp: Stamp,
    /// What became of it.
    pub state: State,
}

impl Known {
    /// The socket after one more failed registration at `now`.
    pub fn failed(self, failures_before: u32, now: Instant) -> Self {
        let wait = RETRY_FIRST.saturating_mul(1 << failures_before.min(16));
        let state = State::Failed {
            failures: failures_before + 1,
            retry_at: now + wait.min(RETRY_LAST),
        };
        Self { state, ..self }
    }

    /// How often the registration has failed in a row.
    pub fn failures(&self) -> u32 {
        match self.state {
            State::Failed { failures, .. } => failures,
            State::Busy | State::Registered => 0,
        }
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the socket, and register what it presents.
    Register(PathBuf),
    /// Take back what the socket presented.
    Deregister(PathBuf),
    /// Nothing came of this socket, and it is gone.
    Forget(PathBuf),
}

/// What to do now, and when to look again although nothing changed. Nothing is done about a socket that is busy.
pub fn plan(
    found: &BTreeMap<PathBuf, Stamp>,
    known: &BTreeMap<PathBuf, Known>,
    now: Instant,
) -> (Vec<Action>, Option<Instant>) {
    let mut actions = Vec::new();
    let mut next: Option<Instant> = None;
    for (path, known) in known {
        let same = found.get(path) == Some(&known.stamp);
        let action = match known.state {
            State::Busy => continue,
            State::Registered if same => continue,
            State::Registered => Action::Deregister(path.clone()),
            State::Failed { .. } if !found.contains_key(path) => Action::Forget(path.clone()),
            State::Failed { retry_at, .. } if same && retry_at > now => {
                next = Some(next.map_or(retry_at, |next| next.min(retry_at)));
                continue;
            }
            State::Failed { .. } => Action::Register(path.clone()),
        };
        actions.push(action);
    }
    let new = found.keys().filter(|path| !known.contains_key(*path));
    actions.extend(new.cloned().map(Action::Register));
    (actions, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(inode: u64) -> Stamp {
        Stamp { inode, made: None }
    }

    fn found(inode: Option<u64>) -> BTreeMap<PathBuf, Stamp> {
        inode
            .map(|inode| (PathBuf::from("/a"), stamp(inode)))
            .into_iter()
            .collect()
    }

    fn known(state: State) -> BTreeMap<PathBuf, Known> {
        let known = Known {
            stamp: stamp(1),
            state,
        };
        BTreeMap::from([("/a".into(), known)])
    }

    #[tokio::test(start_paused = true)]
    async fn each_socket_has_its_action() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let failed = |retry_at| State::Failed {
            failures: 1,
            retry_at,
        };
        let register = vec![Action::Register("/a".into())];
        let deregister = vec![Action::Deregister("/a".into())];
        for (there, state, actions, next) in [
            (Some(1), None, register.clone(), None),
            (Some(1), Some(State::Busy), vec![], None),
            (None, Some(State::Busy), vec![], None),
            (Some(1), Some(State::Registered), vec![], None),
            (Some(2), Some(State::Registered), deregister.clone(), None),
            (None, Some(State::Registered), deregister, None),
            (Some(1), Some(failed(later)), vec![], Some(later)),
            (Some(1), Some(failed(now)), register.clone(), None),
            (Some(2), Some(failed(later)), register, None),
            (None, Some(failed(later)), vec![Action::Forget("/a".into())], None),
        ] {
            let known = state.map(known).unwrap_or_default();
            assert_eq!(
                plan(&found(there), &known, now),
                (actions, next),
                "{there:?} {state:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_a_limit() {
        let now = Instant::now();
        let mut one = Known {
            stamp: stamp(1),
            state: State::Busy,
        };
        let mut waits = Vec::new();
        for _ in 0..14 {
            one = one.failed(one.failures(), now);
            let State::Failed { retry_at, .. } = one.state else {
                panic!("not failed: {one:?}");
            };
            waits.push(retry_at - now);
        }
        assert_eq!(waits[..3], [1, 2, 4].map(|one| RETRY_FIRST * one));
        assert_eq!(waits.last(), Some(&RETRY_LAST));
    }
}
