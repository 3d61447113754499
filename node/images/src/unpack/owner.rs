//! Owner, mode, times and attributes of what is unpacked.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, chmodat, chownat, utimensat};

/// What an entry's headers say of the file.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timespec,
    pub xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Attributes {
    /// Reads the header and its extensions.
    pub(super) fn of<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Self> {
        let header = entry.header();
        let mut found = Self {
            mode: header.mode()? & 0o7777,
            uid: id(header.uid()?)?,
            gid: id(header.gid()?)?,
            mtime: Timespec {
                tv_sec: header.mtime()?.try_into().unwrap_or(i64::MAX),
                tv_nsec: 0,
            },
            xattrs: Vec::new(),
        };
        if let Some(extensions) = entry.pax_extensions()? {
            for extension in extensions {
                let extension = extension?;
                found.extend(extension.key_bytes(), extension.value_bytes())?;
            }
        }
        Ok(found)
    }

    fn extend(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let text = || std::str::from_utf8(value).map_err(|_| bad(key));
        match key {
            b"mtime" => self.mtime = time(text()?).ok_or_else(|| bad(key))?,
            b"uid" => self.uid = text()?.parse().map_err(|_| bad(key))?,
            b"gid" => self.gid = text()?.parse().map_err(|_| bad(key))?,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.").filter(|name| is_allowed(name)) {
                    self.xattrs
                        .push((OsString::from_vec(name.to_vec()), value.to_vec()));
                }
            }
        }
        Ok(())
    }

    /// Applies everything to `name` in `dir`. Owner first, because changing it clears setuid and capabilities.
    pub(super) fn apply(&self, dir: BorrowedFd<'_>, name: &OsStr, is_link: bool) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if !is_link {
            chmodat(dir, name, Mode::from_raw_mode(self.mode), AtFlags::empty())?;
        }
        for (key, value) in &self.xattrs {
            set_xattr(dir, name, key, value)?;
        }
        set_times(dir, name, self.mtime)
    }
}

/// Sets both times of `name` in `dir`.
pub(super) fn set_times(dir: BorrowedFd<'_>, name: &OsStr, time: Timespec) -> io::Result<()> {
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    Ok(utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// An attribute that this file system does not have is left out, as upstream does.
fn set_xattr(dir: BorrowedFd<'_>, name: &OsStr, key: &OsStr, value: &[u8]) -> io::Result<()> {
    match knode_linux::xattr::set_at(dir, Path::new(name), key, value) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => {
            tracing::debug!(?name, ?key, "the file system has no such attribute");
            Ok(())
        }
        other => other,
    }
}

/// An image must not speak to overlayfs: its attributes are the unpacker's own.
fn is_allowed(name: &[u8]) -> bool {
    !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay.")
}

fn id(raw: u64) -> io::Result<u32> {
    raw.try_into()
        .map_err(|_| io::Error::other(format!("owner {raw} is out of range")))
}

fn bad(key: &[u8]) -> io::Error {
    io::Error::other(format!(
        "extended header {:?} has a bad value",
        String::from_utf8_lossy(key)
    ))
}

/// Seconds with an optional fraction, as pax headers carry them.
fn time(text: &str) -> Option<Timespec> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let tv_sec: i64 = seconds.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: i64 = digits.parse().ok()?;
    Some(match seconds.starts_with('-') && nanoseconds > 0 {
        true => Timespec {
            tv_sec: tv_sec - 1,
            tv_nsec: 1_000_000_000 - nanoseconds,
        },
        false => Timespec {
            tv_sec,
            tv_nsec: nanoseconds,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_of_seconds_are_kept() {
        let parts = |text| time(text).map(|time| (time.tv_sec, time.tv_nsec));
        assert_eq!(parts("12"), Some((12, 0)));
        assert_eq!(parts("12.5"), Some((12, 500_000_000)));
        assert_eq!(parts("12.0000000019"), Some((12, 1)));
        assert_eq!(parts("-2.25"), Some((-3, 750_000_000)));
        assert_eq!(parts("x"), None);
    }
}
