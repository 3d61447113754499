//! What an entry's name means. Pure.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::UnpackError;

/// The meaning of one entry's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// The root of the layer itself.
    Root,
    /// `.wh..wh..opq` in the directory: what lower layers have in it is hidden.
    Opaque(PathBuf),
    /// `.wh.NAME` in the directory: NAME of lower layers is hidden.
    Whiteout(PathBuf, OsString),
    /// Bookkeeping of the old aufs driver, not content.
    Aufs,
    /// A file of any kind in a directory.
    File(PathBuf, OsString),
}

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const AUFS: &[u8] = b".wh..wh.";

/// Takes `/`, `.` and doubled separators away and refuses `..`.
pub(super) fn clean(raw: &[u8]) -> Result<PathBuf, UnpackError> {
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(raw)).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(UnpackError::Escape(String::from_utf8_lossy(raw).into_owned()));
            }
        }
    }
    Ok(path)
}

/// Reads the name of an entry.
pub(super) fn parse(raw: &[u8]) -> Result<Name, UnpackError> {
    let path = clean(raw)?;
    let Some(last) = path.file_name().map(OsStr::to_owned) else {
        return Ok(Name::Root);
    };
    let dir = path.parent().map(Path::to_owned).unwrap_or_default();
    let bytes = last.as_bytes();
    if bytes == OPAQUE {
        return Ok(Name::Opaque(dir));
    }
    if bytes.starts_with(AUFS) {
        return Ok(Name::Aufs);
    }
    match bytes.strip_prefix(WHITEOUT) {
        Some(b"" | b"." | b"..") => Err(UnpackError::Escape(path.display().to_string())),
        Some(hidden) => Ok(Name::Whiteout(dir, OsString::from_vec(hidden.to_vec()))),
        None => Ok(Name::File(dir, last)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_the_specification_says() {
        assert_eq!(parse(b"./").unwrap(), Name::Root);
        assert_eq!(parse(b"/a//./b").unwrap(), Name::File("a".into(), "b".into()));
        assert_eq!(parse(b"a/.wh.b").unwrap(), Name::Whiteout("a".into(), "b".into()));
        assert_eq!(parse(b".wh..wh..opq").unwrap(), Name::Opaque("".into()));
        assert_eq!(
            parse(b".wh..wh.plnk/1.2").unwrap(),
            Name::File(".wh..wh.plnk".into(), "1.2".into())
        );
        assert_eq!(parse(b".wh..wh.aufs").unwrap(), Name::Aufs);
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        for name in [&b"../a"[..], b"a/../../b", b"a/..", b".wh...", b".wh.", b".wh.."] {
            assert!(
                matches!(parse(name), Err(UnpackError::Escape(_))),
                "{}",
                String::from_utf8_lossy(name)
            );
        }
    }
}
