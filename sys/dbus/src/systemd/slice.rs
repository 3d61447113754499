//! Slices: their names and the properties that limit what is in them. Pure.
//!
//! Names follow systemd.slice(5), and upstream's kubelet where it names groups for systemd (`CgroupName.ToSystemd` in
//! `pkg/kubelet/cm`); properties are those of libcontainer's systemd drivers.

use std::path::{Component, Path, PathBuf};

use super::Property;

/// Longest name of a unit, in bytes.
const MAX_UNIT: usize = 255;
const SUFFIX: &str = ".slice";
const ROOT: &str = "-.slice";
/// What no limit is written as.
const INFINITY: u64 = u64::MAX;
/// The parts of a second's processor time that systemd's quotas are made of (one hundredth), in microseconds.
const HUNDREDTH: u64 = 10_000;
const SECOND: u64 = 1_000_000;

/// A slice and its place among the slices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    unit: String,
    parent: String,
    path: PathBuf,
}

/// What is no name of a slice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SliceError {
    /// A part that no unit's name can have.
    #[error("the control group {group:?} cannot be a slice: {problem}")]
    Group {
        /// What was to be named.
        group: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Slice {
    /// The slice for a group that is named by a path, such as `/kubepods/burstable/pod<uid>`: every part is a slice in
    /// that of the part before, and a dash within a part is an underscore.
    ///
    /// # Errors
    /// [`SliceError`] for a path that leads upwards, or whose parts have other characters than units' names.
    pub fn of_group(group: &Path) -> Result<Self, SliceError> {
        let refuse = |problem| SliceError::Group {
            group: group.to_owned(),
            problem,
        };
        let mut parts = Vec::new();
        for component in group.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return Err(refuse("it leads upwards")),
                Component::Normal(part) => {
                    let part = part.to_str().ok_or_else(|| refuse("it is not of UTF-8"))?;
                    parts.push(part.replace('-', "_"));
                }
            }
        }
        Self::of_parts(&parts).map_err(refuse)
    }

    /// The slice that a configuration names, as `/system.slice` or `/a.slice/a-b.slice`; as upstream, its last part
    /// alone counts, and the suffix may be missing.
    ///
    /// # Errors
    /// [`SliceError`] for what names no slice.
    pub fn named(name: &Path) -> Result<Self, SliceError> {
        let refuse = |problem| SliceError::Group {
            group: name.to_owned(),
            problem,
        };
        let last = name.file_name().unwrap_or_default();
        let last = last.to_str().ok_or_else(|| refuse("it is not of UTF-8"))?;
        let front = last.strip_suffix(SUFFIX).unwrap_or(last);
        let parts: Vec<String> = match front {
            "" | "-" => Vec::new(),
            _ => front.split('-').map(str::to_owned).collect(),
        };
        Self::of_parts(&parts).map_err(refuse)
    }

    fn of_parts(parts: &[String]) -> Result<Self, &'static str> {
        let mut slice = Self {
            unit: ROOT.to_owned(),
            parent: ROOT.to_owned(),
            path: "/".into(),
        };
        let mut front = String::new();
        for part in parts {
            if part.is_empty() {
                return Err("a part of it is empty");
            }
            if !part.chars().all(of_units) {
                return Err("it has a character that names of units have not");
            }
            if !front.is_empty() {
                front.push('-');
            }
            front.push_str(part);
            slice.parent = std::mem::replace(&mut slice.unit, format!("{front}{SUFFIX}"));
            slice.path.push(&slice.unit);
        }
        if slice.unit.len() > MAX_UNIT {
            return Err("its name is too long");
        }
        Ok(slice)
    }

    /// Name of the unit.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// Its group, all slices above it named: what upstream's kubelet gives runtimes as a pod's `cgroup_parent`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The properties that it begins with, beside its limits. Slices have no `Delegate`: systemd refuses it.
    pub fn properties(&self, version: Version) -> Vec<Property> {
        let blocks = match version {
            Version::V1 => "BlockIOAccounting",
            Version::V2 => "IOAccounting",
        };
        let accounted = ["MemoryAccounting", "CPUAccounting", "TasksAccounting", blocks];
        let mut all = vec![
            Property::text("Description", format!("knode's control group {}", self.unit)),
            Property::texts("Wants", vec![self.parent.clone()]),
            Property::bool("DefaultDependencies", false),
        ];
        all.extend(accounted.map(|name| Property::bool(name, true)));
        all
    }
}

/// Whether names of units may have this character. The backslash of systemd's own escapes is left out: nothing here
/// makes them.
fn of_units(one: char) -> bool {
    one.is_ascii_alphanumeric() || matches!(one, ':' | '_' | '.')
}

/// Which version of control groups the controllers are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy a controller.
    V1,
    /// One for all.
    V2,
}

/// Most processor time in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Microseconds; without, as much as there is.
    pub time: Option<u64>,
    /// Microseconds, more than 0.
    pub period: u64,
}

/// Limits that systemd holds; what is none stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Share of the processors where they are short: in version 1 shares (2 to 262144), in version 2 a weight (1 to
    /// 10000).
    pub share: Option<u64>,
    /// Most processor time.
    pub quota: Option<Quota>,
    /// Most memory, in bytes.
    pub memory: Option<u64>,
    /// Most processes and threads; [`u64::MAX`] for as many as they will.
    pub tasks: Option<u64>,
}

impl Limits {
    /// The properties that set them.
    pub fn properties(&self, version: Version) -> Vec<Property> {
        let (share, memory) = match version {
            Version::V1 => ("CPUShares", "MemoryLimit"),
            Version::V2 => ("CPUWeight", "MemoryMax"),
        };
        let named = [
            (share, self.share),
            (memory, self.memory),
            ("TasksMax", self.tasks),
            ("CPUQuotaPeriodUSec", self.quota.map(|quota| quota.period)),
            ("CPUQuotaPerSecUSec", self.quota.map(Quota::per_second)),
        ];
        let set = named.into_iter();
        set.filter_map(|(name, value)| Some(Property::number(name, value?)))
            .collect()
    }
}

impl Quota {
    /// Microseconds in a second, up to the next whole hundredth: systemd knows no parts of it, and less than what was
    /// asked for would be too little.
    fn per_second(self) -> u64 {
        let Some(time) = self.time else {
            return INFINITY;
        };
        let exact = time.saturating_mul(SECOND) / self.period.max(1);
        exact.div_ceil(HUNDREDTH).saturating_mul(HUNDREDTH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::Value;

    fn path_of(group: &str) -> String {
        let slice = Slice::of_group(Path::new(group)).unwrap();
        assert!(
            slice.path().ends_with(slice.unit()) || slice.unit() == ROOT,
            "{group}"
        );
        slice.path().display().to_string()
    }

    #[test]
    fn groups_are_named_as_upstream_names_them() {
        for (group, expected) in [
            ("/", "/"),
            ("", "/"),
            ("/kubepods", "/kubepods.slice"),
            ("/kubepods/burstable", "/kubepods.slice/kubepods-burstable.slice"),
            (
                "/kubepods/besteffort/pod6e81-22a0",
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod6e81_22a0.slice",
            ),
            // A guaranteed pod's is in that of all pods.
            ("/kubepods/pod1-2-3", "/kubepods.slice/kubepods-pod1_2_3.slice"),
            // A root of the node's own whose name has a dash.
            (
                "/knode/node-1/kubepods",
                "/knode.slice/knode-node_1.slice/knode-node_1-kubepods.slice",
            ),
        ] {
            assert_eq!(path_of(group), expected, "{group}");
        }
    }

    #[test]
    fn names_in_configurations_are_taken_by_their_last_part() {
        for (name, expected) in [
            ("/system.slice", "/system.slice"),
            ("system", "/system.slice"),
            ("/a.slice/a-b.slice", "/a.slice/a-b.slice"),
            ("/a-b_c.slice", "/a.slice/a-b_c.slice"),
            ("-.slice", "/"),
            ("/", "/"),
        ] {
            let slice = Slice::named(Path::new(name)).unwrap();
            assert_eq!(slice.path(), Path::new(expected), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_a_slice_is_refused() {
        let long = format!("/{}", "a".repeat(250));
        for group in ["/a/../b", "/a b", "/a\\x2db", "/a@b", "/\u{e9}", long.as_str()] {
            assert!(Slice::of_group(Path::new(group)).is_err(), "{group}");
        }
        for name in ["a--b.slice", "-a.slice", "a-.slice", "a/b c.slice"] {
            assert!(Slice::named(Path::new(name)).is_err(), "{name}");
        }
        let error = Slice::of_group(Path::new("/a b")).unwrap_err().to_string();
        assert!(error.contains("/a b"), "{error}");
    }

    #[test]
    fn a_slice_wants_the_one_above_and_counts_everything() {
        let slice = Slice::of_group(Path::new("/kubepods/burstable")).unwrap();
        let of = |version| slice.properties(version);
        for version in [Version::V1, Version::V2] {
            let all = of(version);
            assert!(all.contains(&Property::texts("Wants", vec!["kubepods.slice".into()])));
            assert!(all.contains(&Property::bool("DefaultDependencies", false)));
            assert!(all.contains(&Property::bool("MemoryAccounting", true)));
            assert!(
                !all.iter()
                    .any(|one| one.name == "Delegate" || one.name == "Slice")
            );
        }
        assert!(of(Version::V1).contains(&Property::bool("BlockIOAccounting", true)));
        assert!(of(Version::V2).contains(&Property::bool("IOAccounting", true)));
        let top = Slice::of_group(Path::new("/kubepods")).unwrap();
        let wants = Property::texts("Wants", vec!["-.slice".into()]);
        assert!(top.properties(Version::V1).contains(&wants));
    }

    fn shown(limits: Limits, version: Version) -> Vec<(&'static str, u64)> {
        let number = |one: Property| match one.value {
            Value::Number(value) => (one.name, value),
            other => panic!("{}: {other:?}", one.name),
        };
        limits.properties(version).into_iter().map(number).collect()
    }

    #[test]
    fn limits_have_the_names_of_their_version() {
        let limits = Limits {
            share: Some(100),
            quota: Some(Quota {
                time: Some(50_000),
                period: 100_000,
            }),
            memory: Some(1 << 20),
            tasks: Some(64),
        };
        let rest = [
            ("TasksMax", 64),
            ("CPUQuotaPeriodUSec", 100_000),
            ("CPUQuotaPerSecUSec", 500_000),
        ];
        let v1 = [("CPUShares", 100), ("MemoryLimit", 1 << 20)];
        assert_eq!(shown(limits, Version::V1), [&v1[..], &rest].concat());
        let v2 = [("CPUWeight", 100), ("MemoryMax", 1 << 20)];
        assert_eq!(shown(limits, Version::V2), [&v2[..], &rest].concat());
        assert!(shown(Limits::default(), Version::V2).is_empty());
    }

    #[test]
    fn quotas_are_whole_hundredths_and_never_less() {
        let of = |time, period| Quota { time, period }.per_second();
        for (time, period, expected) in [
            (Some(26_000), 100_000, 260_000),
            (Some(26_100), 100_000, 270_000),
            (Some(1), 100_000, 10_000),
            (Some(400_000), 100_000, 4_000_000),
            (Some(5_000), 10_000, 500_000),
            (None, 100_000, u64::MAX),
        ] {
            assert_eq!(of(time, period), expected, "{time:?} of {period}");
        }
    }
}
