//! Which objects a list request means.

use std::collections::HashMap;

use knode_cri::{
    Container, ContainerFilter, ContainerStatsFilter, PodSandbox, PodSandboxFilter, PodSandboxStatsFilter,
};

/// All labels asked for are there.
fn labels_match(labels: &HashMap<String, String>, wanted: &HashMap<String, String>) -> bool {
    wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// An empty id means any; the start of an id means that one.
fn id_matches(id: &str, wanted: &str) -> bool {
    id.starts_with(wanted)
}

pub(super) fn sandbox(object: &PodSandbox, filter: Option<&PodSandboxFilter>) -> bool {
    filter.is_none_or(|filter| {
        id_matches(&object.id, &filter.id)
            && filter
                .state
                .as_ref()
                .is_none_or(|wanted| wanted.state == object.state)
            && labels_match(&object.labels, &filter.label_selector)
    })
}

pub(super) fn container(object: &Container, filter: Option<&ContainerFilter>) -> bool {
    filter.is_none_or(|filter| {
        id_matches(&object.id, &filter.id)
            && id_matches(&object.pod_sandbox_id, &filter.pod_sandbox_id)
            && filter
                .state
                .as_ref()
                .is_none_or(|wanted| wanted.state == object.state)
            && labels_match(&object.labels, &filter.label_selector)
    })
}

pub(super) fn container_stats(object: &Container, filter: Option<&ContainerStatsFilter>) -> bool {
    filter.is_none_or(|filter| {
        id_matches(&object.id, &filter.id)
            && id_matches(&object.pod_sandbox_id, &filter.pod_sandbox_id)
            && labels_match(&object.labels, &filter.label_selector)
    })
}

pub(super) fn sandbox_stats(object: &PodSandbox, filter: Option<&PodSandboxStatsFilter>) -> bool {
    filter.is_none_or(|filter| {
        id_matches(&object.id, &filter.id) && labels_match(&object.labels, &filter.label_selector)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use knode_cri::{ContainerState, ContainerStateValue};

    #[test]
    fn every_part_of_a_filter_must_match() {
        let object = Container {
            id: "abcdef".into(),
            pod_sandbox_id: "sand".into(),
            state: ContainerState::ContainerRunning as i32,
            labels: [("app".to_string(), "web".to_string())].into(),
            ..Default::default()
        };
        let running = ContainerStateValue {
            state: ContainerState::ContainerRunning as i32,
        };
        let mut filter = ContainerFilter {
            id: "abc".into(),
            state: Some(running),
            ..Default::default()
        };
        assert!(container(&object, None));
        assert!(container(&object, Some(&filter)));
        filter.label_selector.insert("app".into(), "web".into());
        assert!(container(&object, Some(&filter)));
        filter.label_selector.insert("tier".into(), "x".into());
        assert!(!container(&object, Some(&filter)));
        let exited = ContainerStateValue {
            state: ContainerState::ContainerExited as i32,
        };
        assert!(!container(
            &object,
            Some(&ContainerFilter {
                state: Some(exited),
                ..Default::default()
            })
        ));
        let elsewhere = ContainerFilter {
            pod_sandbox_id: "other".into(),
            ..Default::default()
        };
        assert!(!container(&object, Some(&elsewhere)));
    }
}
