//! Where containers run, and who has to be told when the shared processors change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use knode_cri as cri;
use tokio::sync::Notify;

use super::context::Context;
use crate::model::Rejection;
use crate::pod::PodExt;
use crate::qos::{Qos, class, pod_total};
use crate::resize::Verdict;
use crate::sysctls;

/// What containers were told of their processors.
#[derive(Default)]
pub(crate) struct Pins {
    told: Mutex<BTreeMap<String, Told>>,
    wake: Notify,
}

/// A container, and the processors it was told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub uid: String,
    pub container: String,
    /// As the runtime was told; empty if that is not known.
    pub cpus: String,
}

impl Pins {
    /// Told containers by id.
    pub(crate) fn told(&self) -> MutexGuard<'_, BTreeMap<String, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets everybody be told what has changed.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for a change.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }
}

/// The processors that a request asks for.
pub(super) fn cpus_of(request: &cri::CreateContainerRequest) -> String {
    let linux = request.config.as_ref().and_then(|config| config.linux.as_ref());
    let resources = linux.and_then(|linux| linux.resources.as_ref());
    resources
        .map(|resources| resources.cpuset_cpus.clone())
        .unwrap_or_default()
}

impl Context {
    /// Whether containers run on processors that are chosen.
    pub(crate) fn pins_cpus(&self) -> bool {
        let managers = self.config.rules.managers.as_ref();
        managers.is_some_and(|managers| managers.pins_cpus())
    }

    /// The processors on which a container is to run now.
    pub(crate) fn cpus(&self, uid: &str, container: &str) -> String {
        let managers = self.config.rules.managers.as_ref();
        managers
            .map(|managers| managers.pin(uid, container).cpus)
            .unwrap_or_default()
    }

    /// Whether the pod may set its kernel parameters, and can be given what it asks for.
    pub(crate) fn admit_resources(&self, pod: &Pod) -> Option<Rejection> {
        let rules = &self.config.rules;
        let rejection = sysctls::forbidden(pod, &rules.unsafe_sysctls).or_else(|| rules.admit(pod));
        self.changed();
        rejection
    }

    /// Lets a pod that has begun have what it has, also where the state files do not say so.
    pub(crate) fn keep_resources(&self, pod: &Pod) {
        if pod.is_terminal() {
            return;
        }
        if let Some(rejection) = self.config.rules.admit(pod) {
            tracing::warn!(pod = %pod.full_name(), reason = rejection.reason, message = rejection.message,
                "the pod runs without processors or memory of its own");
        }
    }

    /// Takes back what pods have that are not on this node.
    pub(crate) fn retain_resources(&self, uids: &BTreeSet<String>) {
        self.config.rules.retain(uids);
        self.changed();
    }

    /// Takes back what a pod has that has ended.
    pub(crate) fn release_resources(&self, uid: &str) {
        let managers = self.config.rules.managers.as_ref();
        if managers.is_some_and(|managers| managers.release(uid)) {
            self.changed();
        }
    }

    /// Why a guaranteed pod cannot get other amounts while it runs: what it has for itself stays as it is.
    pub(super) fn infeasible(&self, now: &Pod, wanted: &Pod) -> Option<Verdict> {
        let managers = self.config.rules.managers.as_ref()?;
        let changed = |name: &str| pod_total(now, false).get(name) != pod_total(wanted, false).get(name);
        let manager = match () {
            () if class(wanted) != Qos::Guaranteed => return None,
            () if managers.pins_cpus() && changed("cpu") => "CPU",
            () if managers.pins_memory() && changed("memory") => "Memory",
            () => return None,
        };
        let text =
            format!("Resize is infeasible for Guaranteed Pods alongside {manager} Manager static policy");
        Some(Verdict::Infeasible(text))
    }

    fn changed(&self) {
        if self.pins_cpus() {
            self.pins.wake();
        }
    }

    /// Remembers what a new container was told; what has changed meanwhile it is told at once.
    pub(super) fn note_pin(&self, id: &str, pod: &Pod, container: &str, cpus: String) {
        if !self.pins_cpus() {
            return;
        }
        let told = Told {
            uid: pod.uid().to_owned(),
            container: container.to_owned(),
            cpus,
        };
        let current = told.cpus == self.cpus(&told.uid, &told.container);
        self.pins.told().insert(id.to_owned(), told);
        if !current {
            self.pins.wake();
        }
    }
}
