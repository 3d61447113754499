use std::fmt;
use std::time::Duration;

use super::Verdict;
use crate::print::hex;
use crate::wire::{Attrs, Writer};

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_SET_ELEM_TIMEOUT: u16 = 4;
const NFTA_SET_ELEM_EXPIRATION: u16 = 5;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFT_SET_ELEM_INTERVAL_END: u32 = 1;

/// What an element of a map leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Data {
    /// A value of the map's data type.
    Value(Vec<u8>),
    /// A verdict.
    Verdict(Verdict),
}

/// An element of a set or map; keys and values are the bytes that the kernel compares.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Element {
    /// The key, or the first key of a range.
    pub key: Vec<u8>,
    /// The last key of a range, in an interval set.
    pub end: Option<Vec<u8>>,
    /// What it leads to, in a map.
    pub data: Option<Data>,
    /// How long it lives, if not as long as the set says.
    pub timeout: Option<Duration>,
    /// How long it still lives; only in dumps.
    pub expires: Option<Duration>,
}

impl Element {
    /// An element of a plain set.
    pub fn key(key: impl Into<Vec<u8>>) -> Self {
        Self {
            key: key.into(),
            end: None,
            data: None,
            timeout: None,
            expires: None,
        }
    }

    /// An element of an interval set: from `first` to `last`, both inside.
    pub fn range(first: impl Into<Vec<u8>>, last: impl Into<Vec<u8>>) -> Self {
        Self {
            end: Some(last.into()),
            ..Self::key(first)
        }
    }

    /// An element of a map.
    pub fn value(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self {
            data: Some(Data::Value(value.into())),
            ..Self::key(key)
        }
    }

    /// An element of a verdict map.
    pub fn verdict(key: impl Into<Vec<u8>>, verdict: Verdict) -> Self {
        Self {
            data: Some(Data::Verdict(verdict)),
            ..Self::key(key)
        }
    }

    /// Writes it as one list entry, or as two where it is a range.
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.nest(NFTA_LIST_ELEM, |out| {
            out.nest(NFTA_SET_ELEM_KEY, |out| out.attr(NFTA_DATA_VALUE, &self.key));
            match &self.data {
                None => {}
                Some(Data::Value(value)) => {
                    out.nest(NFTA_SET_ELEM_DATA, |out| out.attr(NFTA_DATA_VALUE, value));
                }
                Some(Data::Verdict(verdict)) => out.nest(NFTA_SET_ELEM_DATA, |out| {
                    out.nest(NFTA_DATA_VERDICT, |out| verdict.encode(out));
                }),
            }
            if let Some(timeout) = self.timeout {
                out.be64(NFTA_SET_ELEM_TIMEOUT, timeout.as_millis() as u64);
            }
        });
        if let Some(after) = self.end.as_deref().and_then(successor) {
            out.nest(NFTA_LIST_ELEM, |out| {
                out.nest(NFTA_SET_ELEM_KEY, |out| out.attr(NFTA_DATA_VALUE, &after));
                out.be32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
            });
        }
    }

    /// The element and whether it only marks where a range has ended.
    pub(crate) fn decode(attrs: Attrs<'_>) -> Option<(Self, bool)> {
        let key = attrs.nested(NFTA_SET_ELEM_KEY)?.get(NFTA_DATA_VALUE)?.to_vec();
        let data = attrs
            .nested(NFTA_SET_ELEM_DATA)
            .and_then(|data| match data.nested(NFTA_DATA_VERDICT) {
                Some(verdict) => Verdict::decode(verdict).map(Data::Verdict),
                None => data.get(NFTA_DATA_VALUE).map(|value| Data::Value(value.to_vec())),
            });
        let millis = |kind| attrs.be64(kind).map(Duration::from_millis);
        let (timeout, expires) = (millis(NFTA_SET_ELEM_TIMEOUT), millis(NFTA_SET_ELEM_EXPIRATION));
        let flags = attrs.be32(NFTA_SET_ELEM_FLAGS).unwrap_or_default();
        Some((
            Self {
                key,
                end: None,
                data,
                timeout,
                expires,
            },
            flags & NFT_SET_ELEM_INTERVAL_END != 0,
        ))
    }
}

/// The number after this one, read as big-endian; `None` after the highest.
fn successor(key: &[u8]) -> Option<Vec<u8>> {
    let mut next = key.to_vec();
    for byte in next.iter_mut().rev() {
        let (value, carried) = byte.overflowing_add(1);
        *byte = value;
        if !carried {
            return Some(next);
        }
    }
    None
}

/// The number before this one, read as big-endian; wraps at zero.
fn predecessor(key: &[u8]) -> Vec<u8> {
    let mut previous = key.to_vec();
    for byte in previous.iter_mut().rev() {
        let (value, borrowed) = byte.overflowing_sub(1);
        *byte = value;
        if !borrowed {
            break;
        }
    }
    previous
}

/// Joins the starts and ends that an interval set is stored as.
pub(crate) fn pair_intervals(mut entries: Vec<(Element, bool)>) -> Vec<Element> {
    entries.sort_by(|(a, a_end), (b, b_end)| a.key.cmp(&b.key).then(b_end.cmp(a_end)));
    let mut ranges: Vec<Element> = Vec::new();
    for (element, is_end) in entries {
        match ranges.last_mut() {
            Some(open) if open.end.is_none() && is_end => open.end = Some(predecessor(&element.key)),
            _ if is_end => {}
            _ => ranges.push(element),
        }
    }
    for open in ranges.iter_mut().filter(|range| range.end.is_none()) {
        open.end = Some(vec![0xff; open.key.len()]);
    }
    ranges
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.key))?;
        if let Some(end) = &self.end {
            write!(f, "-{}", hex(end))?;
        }
        match &self.data {
            None => Ok(()),
            Some(Data::Value(value)) => write!(f, " : {}", hex(value)),
            Some(Data::Verdict(verdict)) => write!(f, " : {verdict}"),
        }
    }
}
