use std::fmt;
use std::time::Duration;

use super::{KeyType, NFTA_TABLE, counter};
use crate::wire::{Attrs, Writer};

pub(crate) const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_DESC: u16 = 9;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_TIMEOUT: u16 = 11;
const NFTA_SET_EXPR: u16 = 17;
const NFTA_SET_DESC_SIZE: u16 = 1;

const NFT_SET_INTERVAL: u32 = 0x4;
const NFT_SET_MAP: u32 = 0x8;
const NFT_SET_TIMEOUT: u32 = 0x10;
const NFT_SET_EVAL: u32 = 0x20;
const NFT_DATA_VERDICT: u32 = 0xffff_ff00;
const VERDICT_LEN: u32 = 16;

/// What the elements of a set carry beside their key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SetData {
    /// Nothing: a plain set.
    None,
    /// A value: a map.
    Value(KeyType),
    /// A verdict: a verdict map.
    Verdict,
}

/// A named set or map.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// The type of its keys.
    pub key: KeyType,
    /// What its elements carry.
    pub data: SetData,
    /// Whether elements are ranges or prefixes (one-field keys only).
    pub interval: bool,
    /// Whether elements may time out.
    pub timeout: bool,
    /// The time-out of elements that name none, in whole milliseconds.
    pub default_timeout: Option<Duration>,
    /// Whether rules may add and delete elements.
    pub dynamic: bool,
    /// The most elements it may hold.
    pub size: Option<u32>,
    /// Whether each element counts the packets that were looked up and found it, for
    /// [`crate::Socket::counters`] to read.
    pub counter: bool,
}

impl Set {
    /// A plain set.
    pub fn plain(name: impl Into<String>, key: KeyType) -> Self {
        Self {
            name: name.into(),
            key,
            data: SetData::None,
            interval: false,
            timeout: false,
            default_timeout: None,
            dynamic: false,
            size: None,
            counter: false,
        }
    }

    /// A map to values.
    pub fn map(name: impl Into<String>, key: KeyType, value: KeyType) -> Self {
        Self {
            data: SetData::Value(value),
            ..Self::plain(name, key)
        }
    }

    /// A map to verdicts.
    pub fn verdict_map(name: impl Into<String>, key: KeyType) -> Self {
        Self {
            data: SetData::Verdict,
            ..Self::plain(name, key)
        }
    }

    fn flags(&self) -> u32 {
        let flag = |on: bool, bit: u32| if on { bit } else { 0 };
        flag(self.data != SetData::None, NFT_SET_MAP)
            | flag(self.interval, NFT_SET_INTERVAL)
            | flag(self.timeout, NFT_SET_TIMEOUT)
            | flag(self.dynamic, NFT_SET_EVAL)
    }

    pub(crate) fn encode(&self, out: &mut Writer, table: &str, id: u32) {
        out.text(NFTA_TABLE, table);
        out.text(NFTA_SET_NAME, &self.name);
        out.be32(NFTA_SET_FLAGS, self.flags());
        out.be32(NFTA_SET_KEY_TYPE, self.key.id());
        out.be32(NFTA_SET_KEY_LEN, self.key.len() as u32);
        match &self.data {
            SetData::None => {}
            SetData::Value(value) => {
                out.be32(NFTA_SET_DATA_TYPE, value.id());
                out.be32(NFTA_SET_DATA_LEN, value.len() as u32);
            }
            SetData::Verdict => {
                out.be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT);
                out.be32(NFTA_SET_DATA_LEN, VERDICT_LEN);
            }
        }
        if let Some(size) = self.size {
            out.nest(NFTA_SET_DESC, |out| out.be32(NFTA_SET_DESC_SIZE, size));
        }
        out.be32(NFTA_SET_ID, id);
        if let Some(timeout) = self.default_timeout {
            out.be64(NFTA_SET_TIMEOUT, timeout.as_millis() as u64);
        }
        if self.counter {
            out.nest(NFTA_SET_EXPR, counter::encode);
        }
    }

    /// `None` for a set of types that this crate does not model.
    pub(crate) fn decode(attrs: Attrs<'_>) -> Option<Self> {
        let flags = attrs.be32(NFTA_SET_FLAGS).unwrap_or_default();
        let data = match attrs.be32(NFTA_SET_DATA_TYPE) {
            _ if flags & NFT_SET_MAP == 0 => SetData::None,
            Some(NFT_DATA_VERDICT) => SetData::Verdict,
            Some(id) => SetData::Value(KeyType::from_id(id)?),
            None => return None,
        };
        Some(Self {
            name: attrs.text(NFTA_SET_NAME)?.to_owned(),
            key: KeyType::from_id(attrs.be32(NFTA_SET_KEY_TYPE)?)?,
            data,
            interval: flags & NFT_SET_INTERVAL != 0,
            timeout: flags & NFT_SET_TIMEOUT != 0,
            default_timeout: attrs.be64(NFTA_SET_TIMEOUT).map(Duration::from_millis),
            dynamic: flags & NFT_SET_EVAL != 0,
            size: attrs
                .nested(NFTA_SET_DESC)
                .and_then(|desc| desc.be32(NFTA_SET_DESC_SIZE)),
            counter: attrs.nested(NFTA_SET_EXPR).is_some_and(counter::is_counter),
        })
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {{ type {}", self.name, self.key)?;
        match &self.data {
            SetData::None => {}
            SetData::Value(value) => write!(f, " : {value}")?,
            SetData::Verdict => f.write_str(" : verdict")?,
        }
        for (on, name) in [
            (self.interval, "interval"),
            (self.timeout, "timeout"),
            (self.dynamic, "dynamic"),
        ] {
            if on {
                write!(f, "; flags {name}")?;
            }
        }
        if let Some(size) = self.size {
            write!(f, "; size {size}")?;
        }
        if self.counter {
            f.write_str("; counter")?;
        }
        f.write_str("; }")
    }
}
