//! Questions to a pod object that many parts ask.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    Container, ContainerRestartRule, EphemeralContainer, Pod, PodSpec, PodStatus,
};

use crate::static_pods::{FILE, HTTP, SOURCE};

/// The lowest priority of what the cluster itself needs.
const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// What a rule says of an end that starts the whole pod anew in place.
pub(crate) const RESTART_ALL: &str = "RestartAllContainers";

/// Where in the pod a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContainerKind {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with restart policy Always: started in order, kept running.
    Sidecar,
    /// One of the pod's own containers.
    Main,
    /// Put into the running pod to look at it (`kubectl debug`); started once, never again.
    Ephemeral,
}

/// When ended containers are started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever their end was.
    Always,
    /// Only after a failure.
    OnFailure,
    /// Not at all.
    Never,
}

/// Accessors with the API server's defaults for what is absent.
pub trait PodExt {
    /// `metadata.uid`
    fn uid(&self) -> &str;
    /// `metadata.namespace`
    fn ns(&self) -> &str;
    /// `metadata.name`
    fn pod_name(&self) -> &str;
    /// The specification, if there is one.
    fn spec(&self) -> Option<&PodSpec>;
    /// The status, if there is one.
    fn api_status(&self) -> Option<&PodStatus>;
    /// `name_namespace(uid)`, upstream's `format.Pod`.
    fn full_name(&self) -> String {
        format!("{}_{}({})", self.pod_name(), self.ns(), self.uid())
    }
    /// The pod's restart policy.
    fn restart_policy(&self) -> RestartPolicy {
        match self.spec().and_then(|spec| spec.restart_policy.as_deref()) {
            Some("OnFailure") => RestartPolicy::OnFailure,
            Some("Never") => RestartPolicy::Never,
            _ => RestartPolicy::Always,
        }
    }
    /// The policy of one of the pod's own containers: its own, where it has one, before the pod's.
    fn policy_of(&self, container: &Container) -> RestartPolicy {
        match container.restart_policy.as_deref() {
            Some("Always") => RestartPolicy::Always,
            Some("OnFailure") => RestartPolicy::OnFailure,
            Some("Never") => RestartPolicy::Never,
            _ => self.restart_policy(),
        }
    }
    /// The policy that counts after an end with this exit code: a rule of the container that matches goes before
    /// everything else.
    fn policy_after(&self, container: &Container, exit_code: i32) -> RestartPolicy {
        match self.rule_after(container, exit_code) {
            Some("Restart" | RESTART_ALL) => RestartPolicy::Always,
            _ => self.policy_of(container),
        }
    }
    /// What the first of the container's rules that matches this exit code says.
    fn rule_after<'a>(&self, container: &'a Container, exit_code: i32) -> Option<&'a str> {
        let mut rules = container.restart_policy_rules.iter().flatten();
        let rule = rules.find(|rule| matches(rule, exit_code))?;
        Some(&rule.action)
    }
    /// Init containers and sidecars in order.
    fn init_containers(&self) -> &[Container] {
        self.spec()
            .and_then(|spec| spec.init_containers.as_deref())
            .unwrap_or_default()
    }
    /// The pod's own containers in order.
    fn main_containers(&self) -> &[Container] {
        self.spec()
            .map(|spec| spec.containers.as_slice())
            .unwrap_or_default()
    }
    /// All containers with their kind, in the order in which they start.
    fn all_containers(&self) -> impl Iterator<Item = (ContainerKind, &Container)> {
        let init = self
            .init_containers()
            .iter()
            .map(|container| (init_kind(container), container));
        init.chain(
            self.main_containers()
                .iter()
                .map(|container| (ContainerKind::Main, container)),
        )
    }
    /// Containers for debugging, in the shape of the others.
    fn ephemeral_containers(&self) -> Vec<Container> {
        let all = self.spec().and_then(|spec| spec.ephemeral_containers.as_ref());
        all.into_iter().flatten().map(plain).collect()
    }
    /// A container of whichever kind by name.
    fn container(&self, name: &str) -> Option<(ContainerKind, Cow<'_, Container>)> {
        let known = self
            .all_containers()
            .find(|(_, container)| container.name == name)
            .map(|(kind, container)| (kind, Cow::Borrowed(container)));
        known.or_else(|| {
            let ephemeral = self.ephemeral_containers().into_iter();
            let mut named = ephemeral.filter(|container| container.name == name);
            Some((ContainerKind::Ephemeral, Cow::Owned(named.next()?)))
        })
    }
    /// The container whose processes an ephemeral container is to see.
    fn target_of(&self, ephemeral: &str) -> Option<&str> {
        let all = self.spec().and_then(|spec| spec.ephemeral_containers.as_ref());
        let mut all = all.into_iter().flatten();
        let found = all.find(|one| one.name == ephemeral)?;
        found
            .target_container_name
            .as_deref()
            .filter(|name| !name.is_empty())
    }
    /// Whether the pod comes from a manifest on the node.
    fn is_static(&self) -> bool;
    /// Whether the pod stays when others are evicted (upstream: `IsCriticalPod`).
    fn is_critical(&self) -> bool {
        let priority = self.spec().and_then(|spec| spec.priority).unwrap_or(0);
        self.is_static() || priority >= CRITICAL_PRIORITY
    }
    /// Whether the pod uses the node's network.
    fn host_network(&self) -> bool {
        self.spec().and_then(|spec| spec.host_network).unwrap_or(false)
    }
    /// `status.phase` as the API has it.
    fn api_phase(&self) -> &str {
        self.api_status()
            .and_then(|status| status.phase.as_deref())
            .unwrap_or("Pending")
    }
    /// Whether the API says that the pod has ended for good.
    fn is_terminal(&self) -> bool {
        matches!(self.api_phase(), "Succeeded" | "Failed")
    }
    /// Seconds a container may take to end (upstream: `calculateEffectiveGracePeriod`; at least 1).
    fn grace_seconds(&self) -> i64;
    /// Whether the API server was asked to delete the pod.
    fn is_deleted(&self) -> bool;
    /// `metadata.generation`
    fn generation(&self) -> Option<i64>;
    /// When `activeDeadlineSeconds` ends, counted from `start`.
    fn deadline(&self, start: Timestamp) -> Option<Timestamp> {
        let seconds = self.spec()?.active_deadline_seconds?;
        start.checked_add(SignedDuration::from_secs(seconds)).ok()
    }
}

/// Whether an entry of `initContainers` is a sidecar.
pub fn init_kind(container: &Container) -> ContainerKind {
    match container.restart_policy.as_deref() {
        Some("Always") => ContainerKind::Sidecar,
        _ => ContainerKind::Init,
    }
}

impl PodExt for Pod {
    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    fn ns(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn pod_name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn spec(&self) -> Option<&PodSpec> {
        self.spec.as_ref()
    }

    fn api_status(&self) -> Option<&PodStatus> {
        self.status.as_ref()
    }

    fn grace_seconds(&self) -> i64 {
        let asked = self.metadata.deletion_grace_period_seconds;
        let own = self
            .spec
            .as_ref()
            .and_then(|spec| spec.termination_grace_period_seconds);
        asked.or(own).unwrap_or(30).max(1)
    }

    fn is_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    fn generation(&self) -> Option<i64> {
        self.metadata.generation
    }

    fn is_static(&self) -> bool {
        let annotations = self.metadata.annotations.as_ref();
        annotations
            .and_then(|all| all.get(SOURCE))
            .is_some_and(|source| source == FILE || source == HTTP)
    }
}

fn matches(rule: &ContainerRestartRule, exit_code: i32) -> bool {
    rule.exit_codes.as_ref().is_some_and(|codes| {
        let listed = codes
            .values
            .as_ref()
            .is_some_and(|values| values.contains(&exit_code));
        listed == (codes.operator == "In")
    })
}

/// An ephemeral container as any other; the API allows it no ports, probes and hooks.
fn plain(container: &EphemeralContainer) -> Container {
    let one = container.clone();
    Container {
        name: one.name,
        image: one.image,
        image_pull_policy: one.image_pull_policy,
        command: one.command,
        args: one.args,
        working_dir: one.working_dir,
        env: one.env,
        env_from: one.env_from,
        resources: one.resources,
        volume_mounts: one.volume_mounts,
        volume_devices: one.volume_devices,
        security_context: one.security_context,
        stdin: one.stdin,
        stdin_once: one.stdin_once,
        tty: one.tty,
        termination_message_path: one.termination_message_path,
        termination_message_policy: one.termination_message_policy,
        ..Container::default()
    }
}
