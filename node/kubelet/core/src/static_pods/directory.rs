//! The manifests of a directory, followed by inotify.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Pod;
use knode_client::Clock;
use knode_linux::filewatch::FileWatch;

use super::manifest::parse;
use crate::pod::PodExt;

/// How often the directory is looked at although nothing was seen to change (upstream: `fileCheckFrequency`).
const LOOK: Duration = Duration::from_secs(20);
/// Time for a writer to get to its end.
const SETTLE: Duration = Duration::from_millis(100);

/// What a file looked like when it was read.
type Stamp = (Option<SystemTime>, u64);

struct Entry {
    stamp: Stamp,
    /// The pod of the last manifest that could be read.
    pod: Option<Arc<Pod>>,
}

/// Manifests of a directory, or of one file.
pub(super) struct Directory {
    path: PathBuf,
    node_name: String,
    clock: Arc<dyn Clock>,
    files: BTreeMap<PathBuf, Entry>,
    watch: Option<FileWatch>,
}

impl Directory {
    pub(super) fn new(path: &Path, node_name: &str, clock: Arc<dyn Clock>) -> Self {
        Self {
            path: path.to_owned(),
            node_name: node_name.to_owned(),
            clock,
            files: BTreeMap::new(),
            watch: None,
        }
    }

    /// The pods there are now. Of two with one name the file that comes first in the alphabet counts.
    pub(super) fn scan(&mut self) -> Vec<Arc<Pod>> {
        // The watch comes first, so that nothing falls between the two.
        self.watch();
        let paths = self.paths().unwrap_or_else(|error| {
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!(path = %self.path.display(), %error, "cannot read the static pods' directory");
            }
            Vec::new()
        });
        self.files.retain(|path, _| paths.contains(path));
        for path in paths {
            if let Err(error) = self.read(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot read a static pod's manifest");
            }
        }
        let mut names = BTreeSet::new();
        let mut all = Vec::new();
        for (path, entry) in &self.files {
            let Some(pod) = &entry.pod else { continue };
            match names.insert((pod.ns().to_owned(), pod.pod_name().to_owned())) {
                true => all.push(pod.clone()),
                false => {
                    tracing::warn!(path = %path.display(), pod = pod.pod_name(), "two static pods have one name");
                }
            }
        }
        all
    }

    /// Waits until there may be something new.
    pub(super) async fn changed(&mut self) {
        let look = self.clock.sleep(LOOK);
        let Some(watch) = &self.watch else {
            return look.await;
        };
        let failed = tokio::select! {
            changed = watch.changed() => changed.err(),
            () = look => return,
        };
        if let Some(error) = failed {
            tracing::warn!(path = %self.path.display(), %error, "cannot watch the static pods' directory");
            self.watch = None;
        }
        self.clock.sleep(SETTLE).await;
    }

    /// A directory that was removed and made again is watched anew at the next look.
    fn watch(&mut self) {
        let of_file = || self.path.parent().map(Path::to_owned).unwrap_or_default();
        let watched = if self.path.is_file() {
            of_file()
        } else {
            self.path.clone()
        };
        if self.watch.is_none() {
            self.watch = FileWatch::new()
                .inspect_err(|error| tracing::warn!(%error, "static pods are not watched, only looked at"))
                .ok();
        }
        let added = self.watch.as_ref().map(|watch| watch.add_directory(&watched));
        if let Some(Err(error)) = added {
            tracing::debug!(path = %watched.display(), %error, "static pods' directory is not there to watch");
            self.watch = None;
        }
    }

    fn paths(&self) -> io::Result<Vec<PathBuf>> {
        if self.path.is_file() {
            return Ok(vec![self.path.clone()]);
        }
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if !hidden && entry.path().is_file() {
                all.push(entry.path());
            }
        }
        Ok(all)
    }

    /// Reads a file that is new or has changed. One that cannot be used leaves in place what it said before.
    fn read(&mut self, path: &Path) -> io::Result<()> {
        let found = fs::metadata(path)?;
        let stamp = (found.modified().ok(), found.len());
        if self.files.get(path).is_some_and(|entry| entry.stamp == stamp) {
            return Ok(());
        }
        let text = fs::read(path)?;
        let before = self.files.remove(path).and_then(|entry| entry.pod);
        let pod = match parse(&text, path, &self.node_name, self.clock.now()) {
            // Only a change counts: the time at which the pod was first seen stays.
            Ok(pod) if before.as_ref().is_some_and(|before| before.uid() == pod.uid()) => before,
            Ok(pod) => Some(Arc::new(pod)),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(path = %path.display(), error, "a static pod's manifest is not taken");
                before
            }
        };
        self.files.insert(path.to_owned(), Entry { stamp, pod });
        Ok(())
    }
}
