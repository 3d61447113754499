//! User namespaces: which users of the host those of a pod are. Pure.

use knode_cri::{IdMapping, NamespaceMode, UserNamespace};
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};
use serde::{Deserialize, Serialize};

use super::SpecError;

/// Consecutive numbers in the pod that stand for as many on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First number on the host; in the pod it is 0.
    pub host: u32,
    /// How many.
    pub length: u32,
}

/// Users and groups of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// Users.
    pub uids: IdRange,
    /// Groups.
    pub gids: IdRange,
}

impl IdRange {
    /// As a line of `/proc/<pid>/uid_map`.
    pub fn line(self) -> String {
        format!("0 {} {}\n", self.host, self.length)
    }

    /// The host's number of one in the pod, `None` for one that is not mapped.
    pub fn to_host(self, id: u32) -> Option<u32> {
        (id < self.length).then(|| self.host.checked_add(id)).flatten()
    }

    pub(super) fn oci(self) -> Result<LinuxIdMapping, SpecError> {
        Ok(LinuxIdMappingBuilder::default()
            .container_id(0_u32)
            .host_id(self.host)
            .size(self.length)
            .build()?)
    }
}

/// Reads the user namespace options of a pod; `None` is the host's.
///
/// # Errors
/// [`SpecError::Users`], by the rules that CRI runtimes share: one range each, from 0.
pub fn of_pod(options: Option<&UserNamespace>) -> Result<Option<IdMaps>, SpecError> {
    let Some(options) = options else { return Ok(None) };
    match options.mode() {
        NamespaceMode::Pod if options.uids.is_empty() && options.gids.is_empty() => Ok(None),
        NamespaceMode::Pod => Ok(Some(IdMaps {
            uids: range(&options.uids)?,
            gids: range(&options.gids)?,
        })),
        NamespaceMode::Node if options.uids.is_empty() && options.gids.is_empty() => Ok(None),
        NamespaceMode::Node => Err(SpecError::Users("the host's users cannot be mapped")),
        NamespaceMode::Container | NamespaceMode::Target => {
            Err(SpecError::Users("the mode must be POD or NODE"))
        }
    }
}

/// The one range of a list.
///
/// # Errors
/// [`SpecError::Users`].
pub fn range(mappings: &[IdMapping]) -> Result<IdRange, SpecError> {
    let [only] = mappings else {
        return Err(SpecError::Users(
            "exactly one mapping of users and one of groups is needed",
        ));
    };
    if only.container_id != 0 {
        return Err(SpecError::Users("the mapping must start with 0 in the container"));
    }
    if only.length == 0 || only.host_id.checked_add(only.length).is_none() {
        return Err(SpecError::Users("the mapping has no numbers or too many"));
    }
    Ok(IdRange {
        host: only.host_id,
        length: only.length,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(container_id: u32, host_id: u32, length: u32) -> IdMapping {
        IdMapping {
            container_id,
            host_id,
            length,
        }
    }

    fn pod(mode: NamespaceMode, uids: Vec<IdMapping>) -> Result<Option<IdMaps>, SpecError> {
        of_pod(Some(&UserNamespace {
            mode: mode as i32,
            gids: uids.clone(),
            uids,
        }))
    }

    #[test]
    fn one_range_from_zero_is_a_user_namespace() {
        let maps = pod(NamespaceMode::Pod, vec![mapping(0, 1000, 100_000)])
            .unwrap()
            .unwrap();
        assert_eq!(maps.uids.line(), "0 1000 100000\n");
        assert_eq!(maps.uids.to_host(5), Some(1005));
        assert_eq!(maps.uids.to_host(100_000), None);
        assert_eq!(pod(NamespaceMode::Node, vec![]).unwrap(), None);
        assert_eq!(pod(NamespaceMode::Pod, vec![]).unwrap(), None);
        assert_eq!(of_pod(None).unwrap(), None);
    }

    #[test]
    fn anything_else_is_refused() {
        let twice = vec![mapping(0, 1000, 100), mapping(0, 2000, 100)];
        assert!(pod(NamespaceMode::Pod, twice).is_err());
        assert!(pod(NamespaceMode::Pod, vec![mapping(1, 1000, 100)]).is_err());
        assert!(pod(NamespaceMode::Pod, vec![mapping(0, u32::MAX, 100)]).is_err());
        assert!(pod(NamespaceMode::Pod, vec![mapping(0, 1000, 0)]).is_err());
        assert!(pod(NamespaceMode::Container, vec![]).is_err());
        assert!(pod(NamespaceMode::Target, vec![]).is_err());
        assert!(pod(NamespaceMode::Node, vec![mapping(0, 1, 1)]).is_err());
    }
}
