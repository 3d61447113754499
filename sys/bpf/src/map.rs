//! Maps that a program and this process share.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::error::{Error, Result};
use crate::syscall::{self, Attributes, Command};

const BPF_MAP_TYPE_HASH: u32 = 1;
/// Memory for an entry is taken when it comes.
const BPF_F_NO_PREALLOC: u32 = 1;

/// A hash map of fixed sizes; keys and values are what they are in memory.
#[derive(Debug)]
pub struct HashMap<const K: usize, const V: usize> {
    name: &'static str,
    fd: OwnedFd,
    sizes: PhantomData<([u8; K], [u8; V])>,
}

#[repr(C)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

// SAFETY: as the kernel's for BPF_MAP_CREATE, without addresses.
unsafe impl Attributes for Create {}

#[repr(C)]
struct Element {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

// SAFETY: as the kernel's for BPF_MAP_*_ELEM; `HashMap` fills in addresses of arrays of the map's own sizes.
unsafe impl Attributes for Element {}

impl<const K: usize, const V: usize> HashMap<K, V> {
    /// Makes an empty map for `capacity` entries.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn new(name: &'static str, capacity: u32) -> Result<Self> {
        let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let mut create = Create {
            map_type: BPF_MAP_TYPE_HASH,
            key_size: size(K),
            value_size: size(V),
            max_entries: capacity,
            map_flags: BPF_F_NO_PREALLOC,
            inner_map_fd: 0,
            numa_node: 0,
            map_name: syscall::name(name),
        };
        let fd = syscall::open(Command::MapCreate, &mut create).map_err(failed("make", name))?;
        Ok(Self {
            name,
            fd,
            sizes: PhantomData,
        })
    }

    /// Puts or replaces an entry.
    ///
    /// # Errors
    /// [`Error::Map`], `E2BIG` in it when the map is full.
    pub fn insert(&self, key: &[u8; K], value: &[u8; V]) -> Result<()> {
        let mut element = self.element(key, value.as_ptr().expose_provenance() as u64);
        syscall::run(Command::MapUpdate, &mut element).map_err(failed("change", self.name))
    }

    /// Removes an entry; returns whether there was one.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn remove(&self, key: &[u8; K]) -> Result<bool> {
        match syscall::run(Command::MapDelete, &mut self.element(key, 0)) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(failed("change", self.name)(error)),
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.fd.as_fd()
    }

    fn element(&self, key: &[u8; K], value: u64) -> Element {
        Element {
            map_fd: self.fd.as_raw_fd().cast_unsigned(),
            padding: 0,
            key: key.as_ptr().expose_provenance() as u64,
            value,
            flags: 0,
        }
    }
}

fn failed(op: &'static str, name: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Map { op, name, source }
}
