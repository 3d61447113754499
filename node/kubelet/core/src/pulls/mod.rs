//! Who may use the images that are here: those that could pull them (upstream: `pkg/kubelet/images/pullmanager`,
//! KEP 2535). Whatever the kubelet pulls is written down with the credentials that it was pulled with.

mod decide;
mod merge;
mod policy;
mod record;
mod store;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use knode_cri::Image;

use crate::image::{full_name, repository};
use decide::Known;
pub(crate) use decide::{Look, Match, PodCredentials, compare};
pub(crate) use merge::Source;
pub use policy::{ImageList, PullVerification, VerificationError};
use record::PulledRecord;
pub(crate) use record::{PullAccount, PullSecret};
pub use store::RecordsError;
use store::{Store, file_name};

/// The records, in memory and on the disk. What is in memory decides; what is on the disk is read at the start.
#[derive(Debug)]
pub(crate) struct PullRecords {
    policy: PullVerification,
    store: Store,
    state: Mutex<State>,
    /// Held while files change, so that they change in the order in which the memory does.
    disk: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// By the image's id.
    records: BTreeMap<String, PulledRecord>,
    /// Names of files among the records that cannot be read.
    unreadable: BTreeSet<String>,
    /// Pulls of images, as containers name them.
    intents: HashMap<String, Begun>,
}

/// Pulls of one image.
#[derive(Debug, Default, Clone, Copy)]
struct Begun {
    /// How many are under way.
    count: usize,
    /// Whether one may go on that nobody waits for any more.
    abandoned: bool,
}

impl PullRecords {
    /// Reads what is below the kubelet's `root`. Blocks.
    ///
    /// # Errors
    /// A directory that cannot be made or read.
    pub(crate) fn open(root: &Path, policy: PullVerification) -> Result<Self, RecordsError> {
        let store = Store::open(root)?;
        let (records, unreadable) = store.records()?;
        let (intents, _) = store.intents()?;
        // Pulls of a kubelet that has ended have ended with it.
        let over = Begun::default();
        let state = State {
            records: records
                .into_iter()
                .map(|one| (one.image_ref.clone(), one))
                .collect(),
            unreadable: unreadable.into_iter().collect(),
            intents: intents.into_iter().map(|one| (one.image, over)).collect(),
        };
        Ok(Self {
            policy,
            store,
            state: Mutex::new(state),
            disk: tokio::sync::Mutex::default(),
        })
    }

    /// Whether anything is being pulled, or was when the last kubelet ended.
    pub(crate) fn has_begun(&self) -> bool {
        !self.state().intents.is_empty()
    }

    /// What pods must have to use the image with the id `image_ref` that a container calls `image`.
    pub(crate) fn look(&self, image: &str, image_ref: &str) -> Look {
        let state = self.state();
        let known = match state.records.get(image_ref) {
            Some(record) => Known::Record(record),
            None if state.unreadable.contains(&file_name(image_ref)) => Known::Unreadable,
            None if state.intents.contains_key(image) => Known::Begun,
            None => Known::Nothing,
        };
        decide::look(&self.policy, image, known)
    }

    /// Writes down that `image` is about to be pulled.
    ///
    /// # Errors
    /// If that cannot be written; the image must not be pulled then.
    pub(crate) async fn begin(self: &Arc<Self>, image: &str) -> Result<Pull, RecordsError> {
        let _turn = self.disk.lock().await;
        let known = self.state().intents.contains_key(image);
        if !known {
            let name = image.to_owned();
            self.write(move |store| store.write_intent(&name)).await?;
        }
        self.state().intents.entry(image.to_owned()).or_default().count += 1;
        Ok(Pull {
            records: self.clone(),
            image: image.to_owned(),
            ended: false,
        })
    }

    /// Writes down that `source` is good for an image. A failure is logged: who has nothing else is asked again.
    pub(crate) async fn learn(&self, image: &str, image_ref: &str, source: Source, now: Timestamp) -> bool {
        self.note(image, image_ref, Some(source), now).await
    }

    /// Makes records of pulls that were under way when the last kubelet ended, as far as their images are here:
    /// whoever wants them is verified. `images` are all that the runtime has.
    pub(crate) async fn adopt(&self, images: &[Image], now: Timestamp) {
        let begun: Vec<String> = self.state().intents.keys().cloned().collect();
        for wanted in begun {
            let full = full_name(&wanted);
            let is_it = |image: &&Image| {
                let mut names = image.repo_digests.iter().chain(&image.repo_tags);
                names.any(|name| *name == wanted || *name == full)
            };
            let Some(image) = images.iter().find(is_it) else {
                continue;
            };
            if self.note(&wanted, &image.id, None, now).await {
                let _turn = self.disk.lock().await;
                self.end_intent(&wanted).await;
            }
        }
    }

    /// Forgets images that are not among `present`, the ids of all that the runtime had at `asked` or later.
    pub(crate) async fn prune(&self, present: &BTreeSet<String>, asked: Timestamp) {
        let _turn = self.disk.lock().await;
        let gone: Vec<String> = {
            let mut state = self.state();
            let is_gone =
                |(id, record): &(&String, &PulledRecord)| !present.contains(*id) && is_older(record, asked);
            let gone = state.records.iter().filter(is_gone);
            let gone: Vec<String> = gone.map(|(id, _)| id.clone()).collect();
            state.records.retain(|id, _| !gone.contains(id));
            gone
        };
        for id in gone {
            if let Err(error) = self.write(move |store| store.remove_record(&id)).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot remove the record of an image"
                );
            }
        }
    }

    /// Adds to the record of an image; whether it is on the disk.
    async fn note(&self, image: &str, image_ref: &str, source: Option<Source>, now: Timestamp) -> bool {
        let _turn = self.disk.lock().await;
        let Some(record) = self.changed(image, image_ref, source, now) else {
            return true;
        };
        let written = record.clone();
        match self.write(move |store| store.write_record(&written)).await {
            Ok(()) => {
                let mut state = self.state();
                state.unreadable.remove(&file_name(image_ref));
                state.records.insert(image_ref.to_owned(), record);
                true
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot write the record of a pull"
                );
                false
            }
        }
    }

    /// The record with `source` in it; none if nothing is to be written. That the image was seen counts in any case: who
    /// forgets those that are gone may have looked before it came back.
    fn changed(
        &self,
        image: &str,
        image_ref: &str,
        source: Option<Source>,
        now: Timestamp,
    ) -> Option<PulledRecord> {
        let mut state = self.state();
        let known = state.records.get_mut(image_ref);
        let is_new = known.is_none();
        let second = Timestamp::from_second(now.as_second()).ok();
        let mut record = match known {
            Some(known) => {
                known.last_updated_time = second;
                known.clone()
            }
            None => PulledRecord::new(image_ref),
        };
        record.last_updated_time = second;
        let added = source.is_some_and(|source| merge::add(&mut record, &repository(image), source));
        (is_new || added).then_some(record)
    }

    /// Takes back that `image` is being pulled.
    async fn end_intent(&self, image: &str) {
        let name = image.to_owned();
        match self.write(move |store| store.remove_intent(&name)).await {
            Ok(()) => drop(self.state().intents.remove(image)),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot remove the record of a pull"
                );
            }
        }
    }

    async fn write(
        &self,
        write: impl FnOnce(&Store) -> Result<(), RecordsError> + Send + 'static,
    ) -> Result<(), RecordsError> {
        let store = self.store.clone();
        let task = tokio::task::spawn_blocking(move || write(&store));
        task.await.unwrap_or_else(|_| Err(RecordsError::Lost))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a record was last written before `asked`. It says the second only.
fn is_older(record: &PulledRecord, asked: Timestamp) -> bool {
    let latest = record.last_updated_time.map(|time| time + Duration::from_secs(1));
    latest.is_none_or(|latest| latest <= asked)
}

/// A pull under way. Dropped before its end it may go on in the runtime, so that it stays written down.
#[derive(Debug)]
pub(crate) struct Pull {
    records: Arc<PullRecords>,
    image: String,
    ended: bool,
}

impl Pull {
    /// It brought the image with the id `image_ref`, with what `source` had.
    pub(crate) async fn succeeded(self, image_ref: &str, source: Source, now: Timestamp) {
        // What is not written stays as it is: a pull that began, after which everybody is verified.
        if self.records.note(&self.image, image_ref, Some(source), now).await {
            self.end(|begun| begun.count == 0).await;
        }
    }

    /// It brought nothing.
    pub(crate) async fn failed(self) {
        self.end(|begun| begun.count == 0 && !begun.abandoned).await;
    }

    async fn end(mut self, is_over: impl FnOnce(Begun) -> bool) {
        let records = self.records.clone();
        let _turn = records.disk.lock().await;
        self.ended = true;
        let left = records.leave(&self.image, false);
        if is_over(left) {
            records.end_intent(&self.image).await;
        }
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        if !self.ended {
            self.records.leave(&self.image, true);
        }
    }
}

impl PullRecords {
    /// One pull of `image` less.
    fn leave(&self, image: &str, abandoned: bool) -> Begun {
        let mut state = self.state();
        let begun = state.intents.entry(image.to_owned()).or_default();
        begun.count = begun.count.saturating_sub(1);
        begun.abandoned |= abandoned;
        *begun
    }
}
