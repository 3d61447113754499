//! List and watch as one endless stream.

use std::fmt::Debug;
use std::pin::Pin;

use futures::{Stream, StreamExt};
use kube::runtime::watcher::{self, Event, InitialListStrategy};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::{Backoff, Retry, status_code};

/// Why a watch was interrupted; it goes on by itself after a pause.
pub type WatchError = watcher::Error;

/// Which objects to follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchConfig {
    /// Label selector, empty for all.
    pub labels: String,
    /// Field selector, empty for all.
    pub fields: String,
}

impl WatchConfig {
    /// Objects with these labels.
    pub fn labels(selector: impl Into<String>) -> Self {
        Self {
            labels: selector.into(),
            ..Self::default()
        }
    }

    /// Objects with these fields.
    pub fn fields(selector: impl Into<String>) -> Self {
        Self {
            fields: selector.into(),
            ..Self::default()
        }
    }

    fn to_watcher(&self, strategy: InitialListStrategy) -> watcher::Config {
        let selector = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        watcher::Config {
            label_selector: selector(&self.labels),
            field_selector: selector(&self.fields),
            initial_list_strategy: strategy,
            ..watcher::Config::default()
        }
    }
}

/// What happened to the objects.
#[derive(Clone, Debug)]
pub enum Change<K> {
    /// All objects as they are now: whatever is not among them is gone. Comes first, and again after the watch had
    /// lost its place.
    Restarted(Vec<K>),
    /// An object was created or changed.
    Applied(K),
    /// An object was deleted; this is its last state.
    Deleted(K),
}

/// Follows objects for ever. Interruptions are passed on as errors (to be logged, or ignored); the stream then waits
/// (back-off with jitter) and goes on where it was, or starts over with [`Change::Restarted`].
///
/// The first list comes through the watch itself; a server that cannot do that is listed in pages.
pub fn watch<K>(
    api: Api<K>,
    config: WatchConfig,
) -> Pin<Box<dyn Stream<Item = Result<Change<K>, WatchError>> + Send>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let follower = Follower {
        events: start(&api, &config, InitialListStrategy::StreamingList),
        api,
        config,
        initial: None,
        retry: Retry::new(Backoff::API),
        pause: None,
    };
    Box::pin(futures::stream::unfold(follower, |mut follower| async {
        let change = follower.next().await;
        Some((change, follower))
    }))
}

type Events<K> = Pin<Box<dyn Stream<Item = Result<Event<K>, WatchError>> + Send>>;

struct Follower<K> {
    api: Api<K>,
    config: WatchConfig,
    events: Events<K>,
    /// Objects of a list that is not complete yet.
    initial: Option<Vec<K>>,
    retry: Retry,
    pause: Option<std::time::Duration>,
}

fn start<K>(api: &Api<K>, config: &WatchConfig, strategy: InitialListStrategy) -> Events<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    Box::pin(watcher::watcher(api.clone(), config.to_watcher(strategy)))
}

impl<K> Follower<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    async fn next(&mut self) -> Result<Change<K>, WatchError> {
        if let Some(pause) = self.pause.take() {
            tokio::time::sleep(pause).await;
        }
        loop {
            let event = match self.events.next().await {
                Some(Ok(event)) => event,
                Some(Err(error)) => return Err(self.failed(error)),
                // The watcher's stream is endless; should it end, it is begun again.
                None => {
                    self.events = start(&self.api, &self.config, InitialListStrategy::ListWatch);
                    continue;
                }
            };
            if let Some(change) = self.step(event) {
                self.retry.succeeded();
                return Ok(change);
            }
        }
    }

    fn step(&mut self, event: Event<K>) -> Option<Change<K>> {
        match event {
            Event::Init => self.initial = Some(Vec::new()),
            Event::InitApply(object) => self.initial.get_or_insert_default().push(object),
            Event::InitDone => return Some(Change::Restarted(self.initial.take().unwrap_or_default())),
            Event::Apply(object) => return Some(Change::Applied(object)),
            Event::Delete(object) => return Some(Change::Deleted(object)),
        }
        None
    }

    fn failed(&mut self, error: WatchError) -> WatchError {
        if is_streaming_refused(&error) {
            self.events = start(&self.api, &self.config, InitialListStrategy::ListWatch);
        } else {
            self.pause = Some(self.retry.failed());
        }
        if is_expired(&error) {
            // The watcher would ask for the same expired version again.
            self.events = start(&self.api, &self.config, InitialListStrategy::StreamingList);
        }
        error
    }
}

fn start_status(error: &WatchError) -> Option<u16> {
    match error {
        WatchError::WatchStartFailed(error) | WatchError::WatchFailed(error) => status_code(error),
        WatchError::WatchError(status) => Some(status.code),
        _ => None,
    }
}

/// Servers before 1.32 refuse `sendInitialEvents` as a bad request or as invalid.
fn is_streaming_refused(error: &WatchError) -> bool {
    matches!(error, WatchError::WatchStartFailed(_)) && matches!(start_status(error), Some(400 | 422))
}

fn is_expired(error: &WatchError) -> bool {
    start_status(error) == Some(410)
}
