//! Follows the directory, and carries out what the plan says.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use knode_cri::chain;
use knode_linux::filewatch::FileWatch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::handler::{Handler, Plugin};
use crate::plan::{Action, Known, Stamp, State, plan};
use crate::registration::{Registered, register};
use crate::scan::{Found, scan};

/// How often the directory is looked at although nothing was seen to change.
const LOOK: Duration = Duration::from_secs(60);

/// Why plugins are not looked for.
#[derive(Debug, thiserror::Error)]
pub enum WatcherError {
    /// The directory is not there and cannot be made, or cannot be watched.
    #[error("watching {} for plugins", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Follows a directory of plugins' sockets.
pub struct Watcher {
    directory: PathBuf,
    handlers: Arc<[Arc<dyn Handler>]>,
    watch: FileWatch,
    known: BTreeMap<PathBuf, Known>,
    /// Of the registered ones: what was given to whom.
    taken: BTreeMap<PathBuf, (Plugin, Arc<dyn Handler>)>,
    /// How often a socket that is being tried has failed before.
    failures: BTreeMap<PathBuf, u32>,
    tasks: JoinSet<(PathBuf, Outcome)>,
}

enum Outcome {
    Registered(Registered),
    Deregistered,
}

impl Watcher {
    /// Makes `directory` (upstream: `/var/lib/kubelet/plugins_registry`) if it is missing, and watches it for plugins
    /// of the `handlers`' kinds. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// See [`WatcherError`].
    pub fn new(directory: &Path, handlers: Vec<Arc<dyn Handler>>) -> Result<Self, WatcherError> {
        let failed = |source| WatcherError::Directory {
            path: directory.to_owned(),
            source,
        };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let watch = FileWatch::new().map_err(failed)?;
        watch.add_directory(directory).map_err(failed)?;
        Ok(Self {
            directory: directory.to_owned(),
            handlers: handlers.into(),
            watch,
            known: BTreeMap::new(),
            taken: BTreeMap::new(),
            failures: BTreeMap::new(),
            tasks: JoinSet::new(),
        })
    }

    /// Registers and deregisters plugins for as long as it is polled.
    pub async fn run(mut self) -> Infallible {
        loop {
            let found = self.look();
            let (actions, next) = plan(&found.sockets, &self.known, Instant::now());
            for action in actions {
                self.start(action, &found.sockets);
            }
            let look = Instant::now() + LOOK;
            let next = next.map_or(look, |next| next.min(look));
            tokio::select! {
                changed = self.watch.changed() => if let Err(error) = changed {
                    tracing::warn!(path = %self.directory.display(), %error, "cannot watch for plugins");
                    sleep_until(next).await;
                },
                Some(done) = self.tasks.join_next() => match done {
                    Ok((path, outcome)) => self.done(path, outcome),
                    Err(error) => tracing::error!(%error, "a plugin's handler panicked"),
                },
                () = sleep_until(next) => {}
            }
        }
    }

    /// Looks again after watching directories that are new: what was made in them before would go unseen.
    fn look(&mut self) -> Found {
        let mut watched = 0;
        loop {
            let found = scan(&self.directory).unwrap_or_else(|error| {
                tracing::warn!(path = %self.directory.display(), %error, "cannot look for plugins");
                Found::default()
            });
            if found.directories.len() <= watched {
                return found;
            }
            watched = found.directories.len();
            for directory in &found.directories {
                // One that is gone by now needs no watch.
                if let Err(error) = self.watch.add_directory(directory) {
                    tracing::debug!(path = %directory.display(), %error, "cannot watch for plugins");
                }
            }
        }
    }

    fn start(&mut self, action: Action, found: &BTreeMap<PathBuf, Stamp>) {
        match action {
            Action::Forget(path) => drop(self.known.remove(&path)),
            Action::Register(path) => {
                let Some(&stamp) = found.get(&path) else { return };
                let state = State::Busy;
                let before = self.known.insert(path.clone(), Known { stamp, state });
                let same = before.filter(|before| before.stamp == stamp);
                self.failures
                    .insert(path.clone(), same.map_or(0, |before| before.failures()));
                let handlers = self.handlers.clone();
                self.tasks.spawn(async move {
                    let outcome = register(&path, &handlers).await;
                    (path, Outcome::Registered(outcome))
                });
            }
            Action::Deregister(path) => {
                if let Some(known) = self.known.get_mut(&path) {
                    known.state = State::Busy;
                }
                let taken = self.taken.remove(&path);
                self.tasks.spawn(async move {
                    if let Some((plugin, handler)) = taken {
                        tracing::info!(plugin = plugin.name, socket = %path.display(), "a plugin has gone");
                        handler.deregister(&plugin).await;
                    }
                    (path, Outcome::Deregistered)
                });
            }
        }
    }

    fn done(&mut self, path: PathBuf, outcome: Outcome) {
        let failures = self.failures.remove(&path).unwrap_or_default();
        let Outcome::Registered(Registered { taken, error }) = outcome else {
            self.known.remove(&path);
            return;
        };
        let Some(known) = self.known.get_mut(&path) else {
            return;
        };
        if let Some(error) = &error {
            // A socket that is there before its plugin answers is nothing to worry about.
            let (error, socket) = (chain(error), path.display());
            match failures {
                0..4 => tracing::debug!(%socket, error, "a plugin is not registered yet"),
                _ => tracing::warn!(%socket, error, "a plugin is not registered"),
            }
        }
        match taken {
            Some(taken) => {
                tracing::info!(plugin = taken.0.name, socket = %path.display(), "a plugin is registered");
                known.state = State::Registered;
                self.taken.insert(path, taken);
            }
            None => *known = known.failed(failures, Instant::now()),
        }
    }
}
