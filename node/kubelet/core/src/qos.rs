//! Quality-of-service class and resource sums of a pod (upstream: `pkg/apis/core/v1/helper/qos`,
//! `component-helpers/resource`). Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
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
    let own = own_resources(pod);
    let containers = pod.all_containers().map(|(_, one)| one.resources.as_ref());
    // Of a pod with resources as a whole its containers' do not count.
    let all: Vec<_> = match own {
        Some(own) => vec![Some(own)],
        None => containers.collect(),
    };
    for resources in all {
        let (requests, limits) = (amounts_in(resources, false), amounts_in(resources, true));
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

/// Resources that the pod has as a whole (`spec.resources`).
pub fn own_resources(pod: &Pod) -> Option<&ResourceRequirements> {
    pod.spec().and_then(|spec| spec.resources.as_ref())
}

/// A container's limits or requests; a request that is missing is the limit.
pub fn amounts(container: &Container, limits: bool) -> Amounts {
    amounts_in(container.resources.as_ref(), limits)
}

/// Limits or requests; a request that is missing is the limit.
pub fn amounts_in(resources: Option<&ResourceRequirements>, limits: bool) -> Amounts {
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
/// container with the sidecars before it, whichever is more; what the pod has as a whole goes before both; and the
/// overhead.
pub fn pod_total(pod: &Pod, limits: bool) -> Amounts {
    let mut total = total_without_overhead(pod, limits);
    let overhead = pod.spec().and_then(|spec| spec.overhead.as_ref());
    for (name, text) in overhead.into_iter().flatten() {
        let Ok(more) = Quantity::parse(&text.0) else {
            continue;
        };
        match total.get_mut(name) {
            Some(sum) => sum.add(more),
            // What has no limit gets none by the overhead.
            None if limits => {}
            None => drop(total.insert(name.clone(), more)),
        }
    }
    total
}

/// [`pod_total`] without the overhead.
pub fn total_without_overhead(pod: &Pod, limits: bool) -> Amounts {
    let mut total = containers_total(pod, limits);
    if let Some(own) = own_resources(pod) {
        total.extend(amounts_in(Some(own), limits));
    }
    total
}

/// What the containers alone request or may use.
pub fn containers_total(pod: &Pod, limits: bool) -> Amounts {
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn total(pod: &Pod, limits: bool) -> String {
        let all = pod_total(pod, limits);
        let all = all.iter().map(|(name, amount)| format!("{name}={amount}"));
        all.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn overhead_adds_to_requests_and_to_limits_that_are_there() {
        let limited = json!({"limits": {"cpu": "1"}});
        let pod = pod(json!({"containers": [{"name": "c", "resources": limited}],
            "overhead": {"cpu": "250m", "memory": "64Mi"}}));
        assert_eq!(total(&pod, false), "cpu=1250m memory=64Mi");
        assert_eq!(total(&pod, true), "cpu=1250m");
    }

    #[test]
    fn what_a_pod_has_as_a_whole_goes_before_its_containers() {
        let of = |resources: Value| {
            json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}}}],
            "resources": resources})
        };
        let even = json!({"cpu": "1", "memory": "1Gi"});
        let whole = pod(of(json!({"requests": even, "limits": even})));
        assert_eq!(
            (total(&whole, false), class(&whole)),
            ("cpu=1 memory=1Gi".to_owned(), Qos::Guaranteed)
        );
        let part = pod(of(json!({"requests": {"memory": "1Gi"}})));
        assert_eq!(
            (total(&part, false), class(&part)),
            ("cpu=100m memory=1Gi".to_owned(), Qos::Burstable)
        );
    }
}
