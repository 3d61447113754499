//! Quality-of-service class and resource sums of a pod (upstream: `pkg/apis/core/v1/helper/qos`,
//! `component-helpers/resource`). Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use knode_api::quantity::Quantity;

use crate::pod::{ContainerKind, PodExt, init_kind};

/// Quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// Limits equal requests for cpu and memory everywhere.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl Qos {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// Resources by name.
pub type Amounts = BTreeMap<String, Quantity>;

/// The class of a pod: the one the API server settled, or computed.
pub fn class(pod: &Pod) -> Qos {
    match pod.api_status().and_then(|status| status.qos_class.as_deref()) {
        Some("Guaranteed") => Qos::Guaranteed,
        Some("Burstable") => Qos::Burstable,
        Some("BestEffort") => Qos::BestEffort,
        _ => computed(pod),
    }
}

fn computed(pod: &Pod) -> Qos {
    let (mut any, mut guaranteed) = (false, true);
    for (_, container) in pod.all_containers() {
        let (requests, limits) = (amounts(container, false), amounts(container, true));
        for name in ["cpu", "memory"] {
            let request = requests.get(name).filter(|amount| !amount.is_zero());
            let limit = limits.get(name).filter(|amount| !amount.is_zero());
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

/// A container's limits or requests; a request that is missing is the limit.
pub fn amounts(container: &Container, limits: bool) -> Amounts {
    let resources = container.resources.as_ref();
    let read = |list: Option<&BTreeMap<String, ApiQuantity>>| -> Amounts {
        let all = list.into_iter().flatten();
        all.filter_map(|(name, text)| Some((name.clone(), Quantity::parse(&text.0).ok()?)))
            .collect()
    };
    let limit = read(resources.and_then(|resources| resources.limits.as_ref()));
    if limits {
        return limit;
    }
    let mut all = limit;
    all.extend(read(resources.and_then(|resources| resources.requests.as_ref())));
    all
}

/// What the pod as a whole requests or may use: its containers and sidecars together, or the largest init
/// container with the sidecars before it, whichever is more; and the overhead.
pub fn pod_total(pod: &Pod, limits: bool) -> Amounts {
    let mut running = Amounts::new();
    let mut starting = Amounts::new();
    let mut sidecars = Amounts::new();
    for container in pod.main_containers() {
        add(&mut running, &amounts(container, limits));
    }
    for container in pod.init_containers() {
        let own = amounts(container, limits);
        let mut peak = sidecars.clone();
        add(&mut peak, &own);
        if init_kind(container) == ContainerKind::Sidecar {
            add(&mut sidecars, &own);
        }
        larger(&mut starting, &peak);
    }
    add(&mut running, &sidecars);
    larger(&mut running, &starting);
    let overhead = pod.spec().and_then(|spec| spec.overhead.as_ref());
    for (name, text) in overhead.into_iter().flatten() {
        if let (Ok(more), Some(sum)) = (Quantity::parse(&text.0), running.get_mut(name)) {
            sum.add(more);
        }
    }
    running
}

/// Adds `more` to `sum`.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        sum.entry(name.clone())
            .and_modify(|have| have.add(*amount))
            .or_insert(*amount);
    }
}

fn larger(of: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let have = of.entry(name.clone()).or_insert(*amount);
        if *have < *amount {
            *have = *amount;
        }
    }
}

/// As the API writes it.
pub fn to_api(amounts: &Amounts) -> BTreeMap<String, ApiQuantity> {
    amounts
        .iter()
        .map(|(name, amount)| (name.clone(), ApiQuantity(amount.to_string())))
        .collect()
}
