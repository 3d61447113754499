//! What callers hand in and get back.

use bytes::Bytes;

/// Position in the store's history: the number of writes up to and with this one. 0 is the empty store.
pub type Revision = u64;

/// The value of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// These bytes.
    Plain(Bytes),
    /// `head`, the decimal digits of the write's own revision, `tail`: for values that carry their revision.
    Stamped {
        /// Bytes before the revision.
        head: Bytes,
        /// Bytes after the revision.
        tail: Bytes,
    },
}

impl Value {
    /// The bytes to keep for a write at `revision`.
    pub(crate) fn resolve(&self, revision: Revision) -> Bytes {
        match self {
            Value::Plain(bytes) => bytes.clone(),
            Value::Stamped { head, tail } => {
                let digits = revision.to_string();
                let mut out = Vec::with_capacity(head.len() + digits.len() + tail.len());
                out.extend_from_slice(head);
                out.extend_from_slice(digits.as_bytes());
                out.extend_from_slice(tail);
                out.into()
            }
        }
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Self {
        Value::Plain(bytes)
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Value::Plain(bytes.into())
    }
}

/// The condition under which a write takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Whatever is there.
    Any,
    /// The key is not there.
    Absent,
    /// The key is there.
    Present,
    /// The key is there and its last write has this revision.
    Revision(Revision),
}

impl Expect {
    /// Whether a key whose last write has revision `current` (`None`: not there) satisfies the condition.
    pub fn holds(self, current: Option<Revision>) -> bool {
        match self {
            Expect::Any => true,
            Expect::Absent => current.is_none(),
            Expect::Present => current.is_some(),
            Expect::Revision(wanted) => current == Some(wanted),
        }
    }
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// Revision of the write that created the key (again, if it was deleted before).
    pub created: Revision,
    /// Revision of the last write.
    pub revision: Revision,
}

/// One write, as watches deliver it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Revision of the write.
    pub revision: Revision,
    /// The key.
    pub key: String,
    /// The new value; `None` is a deletion.
    pub value: Option<Bytes>,
    /// Revision at which the key was created: `revision` itself if this write created it.
    pub created: Revision,
    /// Revision of the write before, if the key was there. [`Store::at`](crate::Store::at) reads it.
    pub previous: Option<Revision>,
}

impl Change {
    /// Bytes this change holds in memory, about.
    pub(crate) fn size(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len) + std::mem::size_of::<Self>()
    }
}

/// What to read of a range of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Range {
    /// Keys that begin with this.
    pub prefix: String,
    /// Only keys after this one.
    pub after: Option<String>,
    /// At most this many; 0 is no limit.
    pub limit: usize,
    /// The state at this revision; `None` is the latest.
    pub revision: Option<Revision>,
}

/// A part of a range, ordered by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The revision of the state that was read.
    pub revision: Revision,
    /// Keys with their values.
    pub entries: Vec<Entry>,
    /// Whether the limit cut the range off.
    pub more: bool,
}
