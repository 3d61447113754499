//! Watches: the present if it is asked for, then every change, bookmarks, and an error when the past is gone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use knode_api::status::Status;
use knode_api::{encode, proto};
use knode_kinds::table;
use knode_store::{Change, Revision, Store};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Ask;
use super::list::{filter, present};
use super::render::{self, Shape, kept_prefix, view};
use crate::cache::{Event, Filter, Object, Past, Table, storage_key};
use crate::clock::now;
use crate::core::Core;
use crate::http::{Body, Form, Outcome, plain};
use crate::request::ListOptions;

/// Bookmarks come about this often.
const BOOKMARK: Duration = Duration::from_secs(60);
/// How long a watch that begins with the present waits for a revision that is yet to come.
const PATIENCE: Duration = Duration::from_secs(3);
/// Frames are handed on when they are this big together.
const CHUNK: usize = 64 << 10;
/// Without a time-out of the client's a watch ends after this long, up to twice as long.
const MIN_TIMEOUT: u64 = 1800;

/// The answer to a watch.
pub(crate) async fn watch(core: &Arc<Core>, ask: &Ask) -> Outcome {
    let (form, shape) = render::shape(ask)?;
    let options = ListOptions::parse(&ask.query, true)?;
    let filter = filter(ask, &options)?;
    let feed = Feed::start(core, filter, &options, Encoder::new(ask, form, shape)).await?;
    let stream = futures::stream::unfold(feed, |mut feed| async move {
        let chunk = feed.next().await?;
        Some((Ok(chunk), feed))
    });
    let content_type = match form {
        Form::Protobuf => proto::WATCH_MEDIA_TYPE,
        other => other.content_type(),
    };
    let mut response = plain(StatusCode::OK, content_type, Bytes::new());
    *response.body_mut() = Body::stream(stream);
    Ok(response)
}

/// One watcher: a place in the history and what it still has to be sent.
struct Feed {
    table: Arc<Table>,
    core: Arc<Core>,
    filter: Filter,
    encoder: Encoder,
    /// Objects that begin the watch.
    initial: VecDeque<Arc<Object>>,
    /// A bookmark that says that those were all.
    initial_end: bool,
    reached: Revision,
    changed: watch::Receiver<Revision>,
    closing: watch::Receiver<bool>,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    /// The last revision that a bookmark named.
    marked: Revision,
    finished: bool,
}

/// Why a waiting watch goes on.
enum Woken {
    Changed,
    Bookmark,
    Deadline,
    Closing,
}

impl Feed {
    async fn start(
        core: &Arc<Core>,
        filter: Filter,
        options: &ListOptions,
        encoder: Encoder,
    ) -> Result<Self, crate::http::Failure> {
        let table = core.table(filter.kind)?;
        let changed = table.subscribe();
        let from_present = match (options.send_initial_events, options.resource_version) {
            (Some(wanted), _) => wanted,
            (None, version) => version.unwrap_or(0) == 0,
        };
        if options.send_initial_events == Some(true) || options.resource_version.is_none() {
            core.settle().await?;
        }
        if let (true, Some(version)) = (from_present, options.resource_version)
            && !core.cache.reach(version, PATIENCE).await
        {
            return Err(Status::too_large_resource_version(version, core.cache.progress()).into());
        }
        let (initial, reached) = match from_present {
            true => present(core, &table, &filter).await?,
            false => (
                Vec::new(),
                options.resource_version.unwrap_or_else(|| core.cache.progress()),
            ),
        };
        let timeout = options.timeout.filter(|t| *t > 0);
        let timeout = timeout.unwrap_or_else(|| rand::rng().random_range(MIN_TIMEOUT..2 * MIN_TIMEOUT));
        let start = Instant::now();
        Ok(Self {
            table,
            core: core.clone(),
            filter,
            encoder,
            initial: initial.into(),
            initial_end: options.send_initial_events == Some(true) && options.bookmarks,
            reached,
            changed,
            closing: core.closing.subscribe(),
            bookmarks: options.bookmarks,
            next_bookmark: start + BOOKMARK,
            deadline: start + Duration::from_secs(timeout.min(u64::from(u32::MAX))),
            marked: 0,
            finished: false,
        })
    }

    /// The next bytes for the client; `None` ends the watch.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        loop {
            if self.finished {
                return None;
            }
            self.begin(&mut out);
            if out.len() < CHUNK {
                self.catch_up(&mut out).await;
            }
            if !out.is_empty() {
                return Some(out.into());
            }
            self.wait(&mut out).await;
            if !out.is_empty() {
                return Some(out.into());
            }
        }
    }

    /// What the watch begins with.
    fn begin(&mut self, out: &mut Vec<u8>) {
        while let Some(object) = self.initial.pop_front() {
            self.encoder.event(out, "ADDED", &object);
            if out.len() >= CHUNK {
                return;
            }
        }
        if std::mem::take(&mut self.initial_end) {
            self.encoder.bookmark(out, self.reached, true);
            self.marked = self.reached;
        }
    }

    /// Changes since.
    async fn catch_up(&mut self, out: &mut Vec<u8>) {
        if *self.changed.borrow_and_update() <= self.reached {
            return;
        }
        match self.table.after(self.reached) {
            Past::Events(events) => events.iter().for_each(|event| self.take(event, out)),
            Past::Stored { upto } => self.read_history(upto, out).await,
        }
    }

    fn take(&mut self, event: &Event, out: &mut Vec<u8>) {
        if event.revision > self.reached {
            self.reached = event.revision;
            self.encoder.change(out, event, &self.filter);
        }
    }

    /// Changes that memory has no more.
    async fn read_history(&mut self, upto: Revision, out: &mut Vec<u8>) {
        let Ok(storage) = self.core.storage(self.filter.kind) else {
            return;
        };
        let root = storage_key(storage, "");
        let mut history = self.core.store.watch(root.clone(), self.reached);
        while history.reached() < upto {
            let changes = match history.next().await {
                Ok(changes) => changes,
                Err(error) => return self.fail(&error, out),
            };
            for change in changes {
                match past_event(&self.core.store, &self.table, &root, &change).await {
                    Ok(Some(event)) => self.take(&event, out),
                    Ok(None) => {}
                    Err(error) => return self.fail(&error, out),
                }
            }
            if out.len() >= CHUNK {
                return;
            }
        }
        self.reached = self.reached.max(history.reached().min(upto));
    }

    /// The watch ends with an error event.
    fn fail(&mut self, error: &knode_store::Error, out: &mut Vec<u8>) {
        self.finished = true;
        let status = match error {
            knode_store::Error::Compacted { requested, oldest } => Status::too_old(*requested, *oldest),
            other => Status::internal(other),
        };
        self.encoder.error(out, &status);
        // `next` hands on what is in `out` first.
    }

    async fn wait(&mut self, out: &mut Vec<u8>) {
        let bookmark = async {
            match self.bookmarks {
                true => tokio::time::sleep_until(self.next_bookmark).await,
                false => std::future::pending().await,
            }
        };
        let woken = tokio::select! {
            changed = self.changed.changed() => if changed.is_ok() { Woken::Changed } else { Woken::Closing },
            () = bookmark => Woken::Bookmark,
            () = tokio::time::sleep_until(self.deadline) => Woken::Deadline,
            _ = self.closing.wait_for(|closing| *closing) => Woken::Closing,
        };
        match woken {
            Woken::Changed => {}
            Woken::Bookmark => {
                self.next_bookmark += BOOKMARK;
                self.mark(out);
            }
            Woken::Deadline => {
                self.mark(out);
                self.finished = true;
            }
            Woken::Closing => self.finished = true,
        }
    }

    /// A bookmark at the latest revision up to which nothing is missing.
    fn mark(&mut self, out: &mut Vec<u8>) {
        let progress = self.core.cache.progress();
        if !self.bookmarks || self.table.latest() > self.reached {
            return;
        }
        self.reached = self.reached.max(progress);
        if self.reached > self.marked {
            self.marked = self.reached;
            self.encoder.bookmark(out, self.reached, false);
        }
    }
}

/// An event out of the store's history; `None` if the object isn't readable.
async fn past_event(
    store: &Store,
    table: &Table,
    root: &str,
    change: &Change,
) -> Result<Option<Event>, knode_store::Error> {
    let key = change.key.strip_prefix(root).unwrap_or(&change.key);
    let previous = match change.previous {
        None => None,
        Some(revision) => store.at(revision).await?.and_then(|entry| {
            Object::new(table.kind, key, entry.revision, entry.value)
                .ok()
                .map(Arc::new)
        }),
    };
    let object = match &change.value {
        Some(value) => Object::new(table.kind, key, change.revision, value.clone()).ok(),
        None => previous.as_ref().map(|object| object.restamped(change.revision)),
    };
    Ok(object.map(|object| Event {
        revision: change.revision,
        object: Arc::new(object),
        previous,
        deleted: change.value.is_none(),
    }))
}

/// Writes events in the settled form and shape.
struct Encoder {
    kind: &'static knode_kinds::Kind,
    prefix: String,
    form: Form,
    shape: Shape,
    /// Tables name their columns in the first event only.
    columns: bool,
}

impl Encoder {
    fn new(ask: &Ask, form: Form, shape: Shape) -> Self {
        Self {
            kind: ask.kind,
            prefix: kept_prefix(ask.kind),
            form,
            shape,
            columns: true,
        }
    }

    /// A change as it looks through the selectors: what moves out of the selection is deleted.
    fn change(&mut self, out: &mut Vec<u8>, event: &Event, filter: &Filter) {
        let before = event
            .previous
            .as_ref()
            .is_some_and(|object| filter.matches(object));
        let after = !event.deleted && filter.matches(&event.object);
        match (before, after) {
            (false, false) => {}
            (false, true) => self.event(out, "ADDED", &event.object),
            (true, true) => self.event(out, "MODIFIED", &event.object),
            (true, false) if event.deleted => self.event(out, "DELETED", &event.object),
            (true, false) => {
                if let Some(previous) = &event.previous {
                    self.event(out, "DELETED", &previous.restamped(event.revision));
                }
            }
        }
    }

    fn event(&mut self, out: &mut Vec<u8>, kind: &str, object: &Object) {
        let kept = object.json.starts_with(self.prefix.as_bytes());
        if (self.form, self.shape) == (Form::Json, Shape::Object) && kept {
            return frame(out, kind, &object.json);
        }
        let value = self.shaped(view(self.kind, object));
        self.write(out, kind, &value);
    }

    fn shaped(&mut self, value: Value) -> Value {
        match self.shape {
            Shape::Object => value,
            Shape::Metadata => render::metadata_of(&value),
            Shape::Table(include) => {
                let metadata = json!({"resourceVersion": value["metadata"]["resourceVersion"]});
                let row = table::row(self.kind, &value, include, now());
                table::table(self.kind, metadata, vec![row], std::mem::take(&mut self.columns))
            }
        }
    }

    fn bookmark(&mut self, out: &mut Vec<u8>, revision: Revision, initial_end: bool) {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, version) = (self.kind.kind, self.kind.api_version());
        let value = match self.shape {
            Shape::Object => json!({"kind": kind, "apiVersion": version, "metadata": metadata}),
            Shape::Metadata => render::metadata_of(&json!({"metadata": metadata})),
            Shape::Table(_) => {
                let object = render::metadata_of(&json!({"metadata": metadata}));
                let rows = vec![json!({"cells": [], "object": object})];
                let metadata = json!({"resourceVersion": revision.to_string()});
                table::table(self.kind, metadata, rows, std::mem::take(&mut self.columns))
            }
        };
        self.write(out, "BOOKMARK", &value);
    }

    fn error(&self, out: &mut Vec<u8>, status: &Status) {
        self.write(out, "ERROR", &status.to_value());
    }

    fn write(&self, out: &mut Vec<u8>, kind: &str, value: &Value) {
        match self.form {
            Form::Json => frame(out, kind, &encode::object(value)),
            Form::Yaml => {
                let event = json!({"type": kind, "object": value});
                match serde_norway::to_string(&event) {
                    Ok(text) => out.extend_from_slice(format!("---\n{text}").as_bytes()),
                    Err(error) => tracing::error!(%error, "an event has no YAML form"),
                }
            }
            Form::Protobuf => match proto::encode_watch_event(kind, value) {
                Ok(bytes) => out.extend_from_slice(&bytes),
                Err(error) => tracing::error!(%error, "an event has no protobuf form"),
            },
        }
    }
}

/// One line of a watch in JSON.
fn frame(out: &mut Vec<u8>, kind: &str, json: &[u8]) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(json);
    out.extend_from_slice(b"}\n");
}
