//! What the runtime lists, by pod, and which pods it differs for since the last look. Pure.

use std::collections::{BTreeMap, HashMap};

use knode_cri as cri;

use crate::model::ContainerState;
use crate::spec::labels;

/// What the runtime has of one pod, in the order in which it was listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Present {
    /// Sandboxes with whether they are ready.
    pub(super) sandboxes: Vec<(String, bool)>,
    /// Containers with their sandbox and state.
    pub(super) containers: Vec<(String, String, ContainerState)>,
}

/// One look at everything, by uid.
pub(super) type Listing = BTreeMap<String, Present>;

/// Sorts what was listed by the pods it belongs to.
pub(super) fn by_pod(sandboxes: Vec<cri::PodSandbox>, containers: Vec<cri::Container>) -> Listing {
    let uid = |tags: &HashMap<String, String>| tags.get(labels::POD_UID).cloned().unwrap_or_default();
    let mut all = Listing::new();
    for sandbox in sandboxes {
        let ready = sandbox.state() == cri::PodSandboxState::SandboxReady;
        let entry = all.entry(uid(&sandbox.labels)).or_default();
        entry.sandboxes.push((sandbox.id, ready));
    }
    for container in containers {
        let state = state(container.state());
        let entry = all.entry(uid(&container.labels)).or_default();
        entry
            .containers
            .push((container.id, container.pod_sandbox_id, state));
    }
    for present in all.values_mut() {
        present.sandboxes.sort();
        present
            .containers
            .sort_by(|(one, ..), (other, ..)| one.cmp(other));
    }
    all
}

fn state(state: cri::ContainerState) -> ContainerState {
    match state {
        cri::ContainerState::ContainerCreated => ContainerState::Created,
        cri::ContainerState::ContainerRunning => ContainerState::Running,
        cri::ContainerState::ContainerExited => ContainerState::Exited,
        cri::ContainerState::ContainerUnknown => ContainerState::Unknown,
    }
}

/// Whether a pod is to be told what there is of it: in full each time, or only when that is not what it was before.
pub(super) fn is_news(uid: &str, before: Option<&Listing>, now: &Listing) -> bool {
    before.is_none_or(|before| before.get(uid) != now.get(uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, uid: &str, state: cri::ContainerState) -> cri::Container {
        cri::Container {
            id: id.to_owned(),
            pod_sandbox_id: format!("s-{uid}"),
            state: state.into(),
            labels: [(labels::POD_UID.to_owned(), uid.to_owned())].into(),
            ..cri::Container::default()
        }
    }

    fn sandbox(uid: &str) -> cri::PodSandbox {
        cri::PodSandbox {
            id: format!("s-{uid}"),
            labels: [(labels::POD_UID.to_owned(), uid.to_owned())].into(),
            ..cri::PodSandbox::default()
        }
    }

    #[test]
    fn a_pod_hears_only_what_is_new() {
        use cri::ContainerState::{ContainerExited, ContainerRunning};
        let both = vec![sandbox("a"), sandbox("b")];
        let first = by_pod(
            both.clone(),
            vec![
                container("2", "a", ContainerRunning),
                container("1", "a", ContainerRunning),
            ],
        );
        assert_eq!(first["a"].containers[0].0, "1");
        assert!(is_news("a", None, &first) && is_news("c", None, &first));
        let other_order = by_pod(
            vec![sandbox("b"), sandbox("a")],
            vec![
                container("1", "a", ContainerRunning),
                container("2", "a", ContainerRunning),
            ],
        );
        assert!(!is_news("a", Some(&first), &other_order));
        let ended = by_pod(
            both,
            vec![
                container("1", "a", ContainerRunning),
                container("2", "a", ContainerExited),
            ],
        );
        assert!(is_news("a", Some(&first), &ended) && !is_news("b", Some(&first), &ended));
        assert!(
            is_news("b", Some(&ended), &Listing::new()),
            "what is gone is news"
        );
    }
}
