//! What a disk holds, what is done with it, and how it is mounted (upstream: `k8s.io/mount-utils`, `formatAndMount`). Pure.

use nix::mount::MsFlags;

use super::DiskError;

/// What `blkid` found on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    FileSystem(String),
    /// Something else, in its words.
    Other(String),
}

/// What `blkid -p -o export` has said with this exit status.
pub(super) fn found(status: Option<i32>, said: &str) -> Result<Found, DiskError> {
    let value = |key: &str| {
        let mut lines = said.lines().filter_map(|line| line.split_once('='));
        lines
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.to_owned())
    };
    let filesystem = value("TYPE").filter(|_| value("PTTYPE").is_none());
    match (status, filesystem) {
        (Some(0), Some(kind)) => Ok(Found::FileSystem(kind)),
        (Some(0), None) => Ok(Found::Other(
            said.split_whitespace().collect::<Vec<_>>().join(" "),
        )),
        // Also what it says of a disk that it cannot read.
        (Some(2), _) => Ok(Found::Nothing),
        // 8: several things that exclude one another.
        _ => Err(DiskError::Probe {
            status,
            said: said.trim().to_owned(),
        }),
    }
}

/// What is done before a disk is mounted as the type named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// There is nothing on it: a file system is made.
    Format(String),
    /// There is such a file system.
    Check(String),
    /// There is another one, which is not touched, or nothing may be written.
    Mount(String),
}

impl Step {
    /// As what the disk is mounted.
    pub(super) fn kind(&self) -> &str {
        match self {
            Self::Format(kind) | Self::Check(kind) | Self::Mount(kind) => kind,
        }
    }
}

/// What is done with a disk; `wanted` is the type that the volume names.
pub(super) fn step(found: Found, wanted: Option<&str>, read_only: bool) -> Result<Step, DiskError> {
    if let Some(kind) = wanted.filter(|kind| !is_type(kind)) {
        return Err(DiskError::Type(kind.to_owned()));
    }
    match found {
        Found::Nothing if read_only => Err(DiskError::Unformatted),
        Found::Nothing => Ok(Step::Format(wanted.unwrap_or("ext4").to_owned())),
        Found::FileSystem(kind) => match wanted {
            Some(other) if other != kind => Ok(Step::Mount(other.to_owned())),
            _ if read_only => Ok(Step::Mount(kind)),
            _ => Ok(Step::Check(kind)),
        },
        Found::Other(what) => Err(DiskError::Foreign(what)),
    }
}

/// It becomes part of a program's name.
fn is_type(kind: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    !kind.is_empty() && kind.len() <= 32 && kind.chars().all(plain)
}

/// The words for `mkfs.<kind>` before the disk: all of it is for data, and it is not asked whether this is meant.
pub(super) fn mkfs_words(kind: &str) -> &'static [&'static str] {
    match kind {
        "ext3" | "ext4" => &["-F", "-m0"],
        "xfs" => &["-f"],
        _ => &[],
    }
}

/// Whether `fsck` leaves the disk usable: what it could not repair it says by 4.
pub(super) fn is_sound(status: Option<i32>) -> bool {
    status != Some(4)
}

/// The kernel's flags among options, and what is left for the file system.
pub(super) fn split(options: &[String]) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut rest = Vec::new();
    for option in options.iter().flat_map(|options| options.split(',')) {
        match flag(option) {
            Some((flag, on)) => flags.set(flag, on),
            None if option.is_empty() || option == "defaults" => {}
            None => rest.push(option),
        }
    }
    (flags, rest.join(","))
}

fn flag(option: &str) -> Option<(MsFlags, bool)> {
    Some(match option {
        "ro" => (MsFlags::MS_RDONLY, true),
        "rw" => (MsFlags::MS_RDONLY, false),
        "nosuid" => (MsFlags::MS_NOSUID, true),
        "suid" => (MsFlags::MS_NOSUID, false),
        "nodev" => (MsFlags::MS_NODEV, true),
        "dev" => (MsFlags::MS_NODEV, false),
        "noexec" => (MsFlags::MS_NOEXEC, true),
        "exec" => (MsFlags::MS_NOEXEC, false),
        "sync" => (MsFlags::MS_SYNCHRONOUS, true),
        "async" => (MsFlags::MS_SYNCHRONOUS, false),
        "dirsync" => (MsFlags::MS_DIRSYNC, true),
        "noatime" => (MsFlags::MS_NOATIME, true),
        "atime" => (MsFlags::MS_NOATIME, false),
        "nodiratime" => (MsFlags::MS_NODIRATIME, true),
        "diratime" => (MsFlags::MS_NODIRATIME, false),
        "relatime" => (MsFlags::MS_RELATIME, true),
        "norelatime" => (MsFlags::MS_RELATIME, false),
        "strictatime" => (MsFlags::MS_STRICTATIME, true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_surely_empty_is_formatted() {
        let table = "DEVNAME=/dev/x\nPTUUID=1\nPTTYPE=dos\n";
        let both = "TYPE=ext4\nPTTYPE=gpt\n";
        for (status, said, wanted, read_only, expected) in [
            (2, "", None, false, Ok(Step::Format("ext4".into()))),
            (2, "", Some("xfs"), false, Ok(Step::Format("xfs".into()))),
            (2, "", None, true, Err("read-only")),
            (2, "", Some("../../tmp/x"), false, Err("no type of file systems")),
            (2, "", Some(""), false, Err("no type of file systems")),
            (
                0,
                "DEVNAME=/dev/x\nTYPE=xfs\n",
                None,
                false,
                Ok(Step::Check("xfs".into())),
            ),
            (
                0,
                "TYPE=xfs\n",
                Some("ext4"),
                false,
                Ok(Step::Mount("ext4".into())),
            ),
            (0, "TYPE=ext4\n", None, true, Ok(Step::Mount("ext4".into()))),
            (
                0,
                table,
                None,
                false,
                Err("holds DEVNAME=/dev/x PTUUID=1 PTTYPE=dos"),
            ),
            (0, both, None, false, Err("PTTYPE=gpt")),
            (0, "", None, false, Err("holds")),
            (8, "ambivalent result", None, false, Err("ambivalent result")),
            (4, "", None, false, Err("status 4")),
        ] {
            let planned = found(Some(status), said).and_then(|found| step(found, wanted, read_only));
            match (planned, expected) {
                (Ok(step), Ok(expected)) => assert_eq!(step, expected, "{status} {said}"),
                (Err(error), Err(why)) => {
                    assert!(error.to_string().contains(why), "{status} {said}: {error}")
                }
                (planned, expected) => panic!("{status} {said}: {planned:?}, not {expected:?}"),
            }
        }
        let killed = found(None, "").unwrap_err().to_string();
        assert!(killed.contains("a signal"), "{killed}");
    }

    #[test]
    fn options_are_flags_or_the_file_systems() {
        let options = [
            "defaults,noatime".to_owned(),
            "ro".into(),
            "data=ordered".into(),
            "nodev,errors=panic".into(),
        ];
        let (flags, rest) = split(&options);
        assert_eq!(
            flags,
            MsFlags::MS_NOATIME | MsFlags::MS_RDONLY | MsFlags::MS_NODEV
        );
        assert_eq!(rest, "data=ordered,errors=panic");
        assert_eq!(
            split(&["ro".into(), "rw".into()]),
            (MsFlags::empty(), String::new())
        );
        assert!(is_sound(Some(0)) && is_sound(Some(1)) && is_sound(None) && !is_sound(Some(4)));
    }
}
