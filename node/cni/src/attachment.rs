//! One container's attachment to one network.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// What is attached, and what the plugins are told about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Attachment {
    /// The container's (in Kubernetes the sandbox's) id.
    pub container_id: String,
    /// File that holds its network namespace.
    pub netns: PathBuf,
    /// The interface to be made in it.
    pub interface: String,
    /// `CNI_ARGS`, in order.
    pub args: Vec<(String, String)>,
    /// What plugins with these capabilities get as `runtimeConfig`.
    pub capabilities: Map<String, Value>,
}

impl Attachment {
    /// Refuses what upstream's library refuses, before anything is executed (`pkg/utils/utils.go`).
    ///
    /// # Errors
    /// [`Error::Attachment`].
    pub(crate) fn validate(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Attachment(what));
        if !is_name(&self.container_id) {
            return wrong(format!("{:?} is not a container's id", self.container_id));
        }
        if !is_interface(&self.interface) {
            return wrong(format!("{:?} is not an interface's name", self.interface));
        }
        match self
            .args
            .iter()
            .find(|(k, v)| k.contains([';', '=']) || v.contains(';'))
        {
            Some((key, value)) => wrong(format!("{key}={value} cannot stand in CNI_ARGS")),
            None => Ok(()),
        }
    }
}

/// Whether it can name a network or a container, and so be part of a file's name.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// Whether the kernel takes it for an interface: at most 15 bytes, no slash, colon or white space.
fn is_interface(name: &str) -> bool {
    !name.is_empty()
        && name.len() < 16
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(container: &str, interface: &str, value: &str) -> Attachment {
        Attachment {
            container_id: container.to_owned(),
            netns: "/run/netns/x".into(),
            interface: interface.to_owned(),
            args: vec![("K".to_owned(), value.to_owned())],
            capabilities: Map::new(),
        }
    }

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        attachment("c1_a.b-2", "eth0", "v").validate().unwrap();
        for bad in ["", "-a", "../x", "a/b", "a b"] {
            assert!(attachment(bad, "eth0", "v").validate().is_err(), "{bad:?}");
        }
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "sixteen-letters-"] {
            assert!(attachment("c", bad, "v").validate().is_err(), "{bad:?}");
        }
        let refused = attachment("c", "eth0", "v;K8S_POD_NAME=other").validate();
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .contains("K=v;K8S_POD_NAME=other")
        );
    }
}
