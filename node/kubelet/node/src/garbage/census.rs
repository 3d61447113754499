//! Which images are there, since when, and when they were last used. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use knode_linux::filewatch::FileSystemUsage;

use super::ImageGcPolicy;

/// An image as the runtime lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// Size in bytes.
    pub size: u64,
    /// The runtime needs it.
    pub pinned: bool,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    /// None: it was there before this kubelet.
    detected: Option<Timestamp>,
    used: Option<Timestamp>,
    size: u64,
    kept: bool,
}

/// An image that may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: String,
    /// Size in bytes.
    pub size: u64,
}

/// Remembers images between looks.
#[derive(Clone, Debug, Default)]
pub struct Census {
    records: BTreeMap<String, Record>,
    /// When the first look was.
    begun: Option<Timestamp>,
}

impl Census {
    /// Takes in what there is now; `in_use` are ids and names that containers refer to.
    pub fn take(&mut self, images: &[Listed], in_use: &BTreeSet<String>, now: Timestamp) {
        let ids: BTreeSet<&String> = images.iter().map(|image| &image.id).collect();
        self.records.retain(|id, _| ids.contains(id));
        let detected = self.begun.map(|_| now);
        for image in images {
            let used = in_use.contains(&image.id) || image.names.iter().any(|name| in_use.contains(name));
            let record = self.records.entry(image.id.clone()).or_insert(Record {
                detected,
                used: None,
                size: 0,
                kept: false,
            });
            record.size = image.size;
            record.kept = used || image.pinned;
            if used {
                record.used = Some(now);
            }
        }
        self.begun.get_or_insert(now);
    }

    /// Images that may go, the one that was last used longest ago first.
    pub fn candidates(&self, min_age: Duration, now: Timestamp) -> Vec<Candidate> {
        let min_age = SignedDuration::try_from(min_age).unwrap_or(SignedDuration::MAX);
        let old = |record: &Record| {
            record
                .detected
                .is_none_or(|detected| now.duration_since(detected) >= min_age)
        };
        let mut all: Vec<_> = self
            .records
            .iter()
            .filter(|(_, record)| !record.kept && old(record))
            .collect();
        all.sort_by_key(|(_, record)| (record.used, record.detected));
        all.into_iter().map(candidate).collect()
    }

    /// Images that nobody has used for longer than that, counted from their first use or look at the earliest. None
    /// before so much time has passed since the first look, as nobody knows what was before it.
    pub fn outdated(&self, max_age: Duration, now: Timestamp) -> Vec<Candidate> {
        let max_age = SignedDuration::try_from(max_age).unwrap_or(SignedDuration::MAX);
        let Some(begun) = self.begun.filter(|_| !max_age.is_zero()) else {
            return Vec::new();
        };
        let old = |record: &Record| {
            let last = record.used.or(record.detected).unwrap_or(begun);
            now.duration_since(last.max(begun)) > max_age
        };
        let all = self.records.iter();
        all.filter(|(_, record)| !record.kept && old(record))
            .map(candidate)
            .collect()
    }

    /// Takes in that an image is gone.
    pub fn forget(&mut self, id: &str) {
        self.records.remove(id);
    }
}

fn candidate((id, record): (&String, &Record)) -> Candidate {
    Candidate {
        id: id.clone(),
        size: record.size,
    }
}

/// Bytes to free, and the percentage in use that calls for it; none below the upper mark.
pub fn to_free(policy: &ImageGcPolicy, usage: &FileSystemUsage) -> Option<(u64, u8)> {
    let available = usage.available.min(usage.capacity);
    let share = |percentage: u8| u128::from(usage.capacity) * u128::from(percentage) / 100;
    let free = (u128::from(available) * 100).checked_div(u128::from(usage.capacity))?;
    let used = 100 - u8::try_from(free).unwrap_or(100);
    if used < policy.high || policy.high >= 100 {
        return None;
    }
    let wanted = share(100_u8.saturating_sub(policy.low)).saturating_sub(u128::from(available));
    Some((u64::try_from(wanted).unwrap_or(u64::MAX), used))
}
