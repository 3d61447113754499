//! Where the running kernel keeps things: its own description of its types (`Documentation/bpf/btf.rst`).

use std::fs;

use crate::error::{Error, Result};

const KERNEL: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
const STRUCT: u32 = 4;
const FUNC: u32 = 12;

/// The types of a kernel. Megabytes: to be asked and dropped.
#[derive(Debug)]
pub struct Btf {
    types: Vec<u8>,
    strings: Vec<u8>,
}

/// A function of the kernel that programs may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function(pub(crate) i32);

/// A type as it stands in the description.
struct Type<'a> {
    id: i32,
    kind: u32,
    name: u32,
    /// Whether a member's offset has a bit field's width in its upper byte.
    wide: bool,
    members: &'a [u8],
}

impl Btf {
    /// Of the running kernel.
    ///
    /// # Errors
    /// [`Error::Types`], [`Error::Malformed`].
    pub fn kernel() -> Result<Self> {
        let bytes = fs::read(KERNEL).map_err(|source| Error::Types { path: KERNEL, source })?;
        Self::parse(&bytes)
    }

    /// Reads a description in the byte order of this machine.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.get(..2) != Some(&MAGIC.to_ne_bytes()) {
            return Err(Error::Malformed("no magic number"));
        }
        let field = |at| word(bytes, at).ok_or(Error::Malformed("the header ends early"));
        let header = field(4)?;
        let section = |offset: u32, length: u32| {
            let start = (header as usize).checked_add(offset as usize);
            let end = start.and_then(|start| start.checked_add(length as usize));
            start
                .zip(end)
                .and_then(|(start, end)| bytes.get(start..end))
                .map(<[u8]>::to_vec)
                .ok_or(Error::Malformed("a section ends early"))
        };
        Ok(Self {
            types: section(field(8)?, field(12)?)?,
            strings: section(field(16)?, field(20)?)?,
        })
    }

    /// A function that programs may call.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Malformed`].
    pub fn function(&self, name: &str) -> Result<Function> {
        self.find(FUNC, name, |found| Some(Function(found.id)))
    }

    /// Where a member stands in a structure, bytes.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Malformed`].
    pub fn offset(&self, structure: &str, member: &str) -> Result<i16> {
        self.find(STRUCT, structure, |found| {
            let (entries, _) = found.members.as_chunks::<12>();
            let entry = entries
                .iter()
                .find(|e| word(*e, 0).is_some_and(|name| self.is_named(name, member)))?;
            let mask = if found.wide { 0xff_ffff } else { u32::MAX };
            i16::try_from((word(entry, 8)? & mask) / 8).ok()
        })
        .map_err(|error| match error {
            Error::Missing(_) => Error::Missing(format!("{structure}.{member}")),
            other => other,
        })
    }

    fn find<T>(&self, kind: u32, name: &str, take: impl Fn(&Type<'_>) -> Option<T>) -> Result<T> {
        let (mut at, mut id) = (0, 1);
        while at < self.types.len() {
            let (found, next) = self
                .type_at(at, id)
                .ok_or(Error::Malformed("a type ends early"))?;
            if found.kind == kind
                && self.is_named(found.name, name)
                && let Some(taken) = take(&found)
            {
                return Ok(taken);
            }
            (at, id) = (next, id + 1);
        }
        Err(Error::Missing(name.to_owned()))
    }

    fn type_at(&self, at: usize, id: i32) -> Option<(Type<'_>, usize)> {
        let info = word(&self.types, at + 4)?;
        let (kind, count) = (info >> 24 & 0x1f, info as usize & 0xffff);
        let start = at + 12;
        let end = start + trailing(kind, count)?;
        let found = Type {
            id,
            kind,
            name: word(&self.types, at)?,
            wide: info >> 31 == 1,
            members: self.types.get(start..end)?,
        };
        Some((found, end))
    }

    fn is_named(&self, offset: u32, name: &str) -> bool {
        let text = self.strings.get(offset as usize..).unwrap_or_default();
        text.strip_prefix(name.as_bytes())
            .is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// Bytes behind a type's first twelve; none of a kind that is not known.
fn trailing(kind: u32, count: usize) -> Option<usize> {
    match kind {
        // integers, variables, tags of declarations
        1 | 14 | 17 => Some(4),
        // arrays
        3 => Some(12),
        // structures, unions, sections, enumerations of 64 bits
        4 | 5 | 15 | 19 => Some(12 * count),
        // enumerations, functions' signatures
        6 | 13 => Some(8 * count),
        // pointers, forward declarations, names, qualifiers, functions, floats, tags of types
        2 | 7..=12 | 16 | 18 => Some(0),
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}
