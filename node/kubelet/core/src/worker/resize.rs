//! Wishes for other resources, and their carrying out.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, ResourceRequirements};
use knode_client::EventKind;
use knode_cri as cri;

use super::context::Context;
use super::{Outcome, Worker};
use crate::model::{Op, after};
use crate::plan::{PodEvent, Stage, is_resizing, stage};
use crate::pod::PodExt;
use crate::qos::own_resources;
use crate::resize::{Verdict, Wish, judge, message, same, with_resources};
use crate::spec::resources;

/// Seconds until a wish that could not be granted is looked at again.
const JUDGE_AGAIN: i64 = 10;
/// Seconds until a change of limits that failed is tried again.
const RETRY: i64 = 10;

/// What a container was given.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    /// Its own resources.
    own: ResourceRequirements,
    /// Those of the pod as a whole at that time.
    whole: Option<ResourceRequirements>,
}

impl Worker {
    /// Before a restart of the kubelet the node may have granted less than the API asks for: the status says what
    /// containers run with.
    pub(super) fn restore_granted(&mut self, now: Timestamp) {
        let mut granted = Pod::clone(&self.pod);
        let spec = granted.spec.get_or_insert_default();
        for container in spec
            .init_containers
            .iter_mut()
            .flatten()
            .chain(&mut spec.containers)
        {
            let running = self
                .observed
                .running()
                .find(|record| record.name == container.name);
            if let Some(resources) = running.and_then(|record| self.reported(&record.id)) {
                container.resources = Some(resources);
            }
        }
        if let Some(whole) = self.reported_whole() {
            granted.spec.get_or_insert_default().resources = Some(whole);
        }
        self.observed.resizing = self.pod.api_status().and_then(|status| {
            let mut all = status.conditions.iter().flatten();
            let known = all.find(|one| one.type_ == "PodResizeInProgress" && one.status == "True");
            known.map(|one| one.observed_generation.unwrap_or_default())
        });
        if !same(&granted, &self.pod) {
            self.wish(self.pod.clone(), now);
            self.pod = Arc::new(granted);
        }
    }

    /// What the API says that the pod has as a whole, of what it asks for as a whole.
    fn reported_whole(&self) -> Option<ResourceRequirements> {
        let spec = self.pod.spec()?;
        // Overhead is in the sums, so that they do not say what the pod itself was granted.
        let mut whole = spec.resources.clone().filter(|_| spec.overhead.is_none())?;
        self.observed.running().next()?;
        let known = self.pod.api_status()?.resources.as_ref()?;
        let lists = [
            (&mut whole.limits, &known.limits),
            (&mut whole.requests, &known.requests),
        ];
        for (asked, granted) in lists {
            for (name, amount) in asked.iter_mut().flatten() {
                if let Some(held) = granted.as_ref().and_then(|all| all.get(name)) {
                    *amount = held.clone();
                }
            }
        }
        Some(whole)
    }

    /// What the API says that this very container runs with.
    fn reported(&self, id: &str) -> Option<ResourceRequirements> {
        self.api_status_of(id)?.resources.clone()
    }

    /// The API's status of this very container.
    pub(super) fn api_status_of(&self, id: &str) -> Option<&ContainerStatus> {
        let status = self.pod.api_status()?;
        let lists = [&status.init_container_statuses, &status.container_statuses];
        let mut all = lists.into_iter().flatten().flatten();
        all.find(|status| {
            status
                .container_id
                .as_deref()
                .is_some_and(|full| full.ends_with(id))
        })
    }

    fn wish(&mut self, pod: Arc<Pod>, now: Timestamp) {
        let known = self.observed.wish.take().filter(|wish| same(&wish.pod, &pod));
        if known.is_none() {
            self.observed.judge_at = Some(now);
        }
        let verdict = known.and_then(|wish| wish.verdict);
        self.observed.wish = Some(Wish { pod, verdict });
    }

    /// The pod with the resources that are granted; what it asks for beyond that becomes a wish.
    pub(super) fn granted(&mut self, pod: Arc<Pod>, now: Timestamp) -> Arc<Pod> {
        if same(&pod, &self.pod) {
            self.observed.wish = None;
            return pod;
        }
        let held = Arc::new(with_resources(&pod, &self.pod));
        self.wish(pod, now);
        held
    }

    /// Looks at a wish that is due. While a container is being started, with what was granted before, it waits.
    pub(super) fn judge(&mut self, now: Timestamp) {
        self.settle_resize();
        let due = self.observed.judge_at.is_some_and(|at| at <= now);
        let active = stage(&self.pod, &self.observed, now) == Stage::Active;
        let Some(wish) = self.observed.wish.clone() else {
            return;
        };
        if !due || !active || self.observed.starting() {
            return;
        }
        let context = self.context.clone();
        // Two pods must not be granted the same at once.
        let _turn = context
            .resizes
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let others = context.shared.pods_but(self.pod.uid());
        let allocatable = context.config.node.allocatable();
        let judged = || judge(&wish.pod, others.iter().map(AsRef::as_ref), &allocatable);
        let pinned = context.infeasible(&self.pod, &wish.pod);
        match pinned.unwrap_or_else(judged) {
            Verdict::Granted => {
                self.pod = wish.pod;
                self.observed.resizing = Some(self.pod.generation().unwrap_or_default());
                let event = PodEvent::pod(
                    EventKind::Normal,
                    "ResizeStarted",
                    message("started", &self.pod, None),
                );
                self.context.api.event(&self.pod, &event);
                self.observed.wish = None;
                self.observed.resize_failed = None;
                self.publish();
            }
            verdict => self.not_granted(wish, verdict, now),
        }
    }

    /// Says that what was granted is in force.
    fn settle_resize(&mut self) {
        if self.observed.resizing.is_none() || is_resizing(&self.pod, &self.observed) {
            return;
        }
        self.observed.resizing = None;
        let text = message("completed", &self.pod, None);
        let event = PodEvent::pod(EventKind::Normal, "ResizeCompleted", text);
        self.context.api.event(&self.pod, &event);
    }

    fn not_granted(&mut self, wish: Wish, verdict: Verdict, now: Timestamp) {
        let told = match &verdict {
            Verdict::Granted => None,
            Verdict::Deferred(why) => Some(("Deferred", why)),
            Verdict::Infeasible(why) => Some(("Infeasible", why)),
        };
        if let Some((what, why)) = told.filter(|_| wish.verdict.as_ref() != Some(&verdict)) {
            let text = message(what, &wish.pod, Some(why));
            let event = PodEvent::pod(EventKind::Warning, &format!("Resize{what}"), text);
            self.context.api.event(&self.pod, &event);
        }
        let later = matches!(verdict, Verdict::Deferred(_));
        self.observed.judge_at = later.then(|| after(now, JUDGE_AGAIN));
        self.observed.wish = Some(Wish {
            verdict: Some(verdict),
            ..wish
        });
    }

    /// Notes what each running container runs with.
    pub(super) fn track_resources(&mut self) {
        let running: Vec<(String, String)> = self
            .observed
            .running()
            .map(|record| (record.id.clone(), record.name.clone()))
            .collect();
        self.observed
            .applied
            .retain(|id, _| running.iter().any(|(one, _)| one == id));
        self.observed
            .applied_whole
            .retain(|id, _| running.iter().any(|(one, _)| one == id));
        for (id, name) in running {
            if self.observed.applied.contains_key(&id) {
                continue;
            }
            let own = self
                .pod
                .container(&name)
                .and_then(|(_, container)| container.resources.clone());
            let applied = self.reported(&id).or(own).unwrap_or_default();
            let whole = own_resources(&self.pod).cloned();
            self.observed.applied_whole.insert(id.clone(), whole);
            self.observed.applied.insert(id, applied);
        }
    }

    pub(super) fn resized(&mut self, id: &str, result: Result<Granted, String>, now: Timestamp) {
        self.observed.busy.remove(&Op::Resize(id.to_owned()));
        match result {
            Ok(Granted { own, whole }) => {
                self.observed.resize_failed = None;
                if let Some(known) = self.observed.applied_whole.get_mut(id) {
                    *known = whole;
                }
                if let Some(known) = self.observed.applied.get_mut(id) {
                    *known = own;
                }
            }
            Err(error) => {
                tracing::warn!(pod = %self.pod.full_name(), container = id, error, "cannot change the container's limits");
                let text = message("error", &self.pod, Some(&error));
                let event = PodEvent::pod(EventKind::Warning, "ResizeError", text);
                self.context.api.event(&self.pod, &event);
                self.observed.resize_failed = Some((after(now, RETRY), error));
            }
        }
    }
}

/// Changes the limits of the pod's cgroup and of the container. The group comes first where it grows and last where it
/// shrinks, so that at no time a part is larger than the whole.
pub(super) async fn run(
    context: Arc<Context>,
    pod: Arc<Pod>,
    id: String,
    name: String,
    memory: i64,
) -> Outcome {
    let result = change(&context, &pod, &id, &name, memory).await;
    Outcome::Resized { id, result }
}

async fn change(context: &Context, pod: &Pod, id: &str, name: &str, memory: i64) -> Result<Granted, String> {
    let Some((_, container)) = pod.container(name) else {
        return Err(format!("the pod has no container {name}"));
    };
    let parent = resources::cgroup_parent(&context.config.cgroup_root, pod);
    let limits = context.config.rules.of_pod(pod);
    let whole = || context.config.cgroups.apply(&parent, &limits);
    // A group that shrinks may refuse until its parts have: it is asked again below.
    if let Err(error) = whole() {
        tracing::debug!(pod = %pod.full_name(), %error, "the pod's cgroup is not changed yet");
    }
    let request = cri::UpdateContainerResourcesRequest {
        container_id: id.to_owned(),
        linux: Some(context.config.rules.of_container(pod, &container, memory)),
        ..cri::UpdateContainerResourcesRequest::default()
    };
    let updated = context.runtime().update_container_resources(request).await;
    updated.map_err(|error| error.to_string())?;
    whole().map_err(|error| format!("cgroup {parent}: {error}"))?;
    context.classes.notify_one();
    Ok(Granted {
        own: container.resources.clone().unwrap_or_default(),
        whole: own_resources(pod).cloned(),
    })
}
