//! Amounts of resources, and what a pod asks for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Amounts by resource name: `cpu` in thousandths, everything else in whole units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources(BTreeMap<String, i64>);

/// What a container without requests counts as in scores: a tenth of a core and 200 MB, as upstream.
const SCORED_CPU: i64 = 100;
const SCORED_MEMORY: i64 = 200 << 20;

impl Resources {
    /// Reads a list of quantities. What is no quantity counts as nothing; the API server lets none pass.
    pub fn of(list: Option<&BTreeMap<String, Quantity>>) -> Self {
        let amount = |(name, quantity): (&String, &Quantity)| {
            let parsed = knode_api::quantity::Quantity::parse(&quantity.0).ok()?;
            let amount = if name == "cpu" {
                parsed.milli_value()
            } else {
                parsed.value()
            };
            Some((name.clone(), amount))
        };
        Self(list.into_iter().flatten().filter_map(amount).collect())
    }

    /// The amount of one resource.
    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Every resource with its amount.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// Sets the amount of one resource.
    pub fn set(&mut self, name: &str, amount: i64) {
        self.0.insert(name.to_owned(), amount);
    }

    /// Adds amounts.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let sum = self.0.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    /// Takes amounts away.
    pub fn subtract(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let rest = self.0.entry(name.clone()).or_default();
            *rest = rest.saturating_sub(*amount);
        }
    }

    /// Raises each amount to at least that of `other`.
    fn raise_to(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let own = self.0.entry(name.clone()).or_default();
            *own = (*own).max(*amount);
        }
    }
}

/// What a pod asks for: its containers and sidecars together, or the greediest step of its initialization if that is
/// more; the pod's own requests where it has them; and the overhead of its runtime class.
pub(super) fn requests(spec: &PodSpec) -> Resources {
    total(spec, |container| container_requests(container.resources.as_ref()))
}

/// [`requests`], with an assumption for containers that ask for nothing.
pub(super) fn scored(spec: &PodSpec) -> Resources {
    total(spec, |container| {
        let mut requests = container_requests(container.resources.as_ref());
        requests.0.entry("cpu".to_owned()).or_insert(SCORED_CPU);
        requests.0.entry("memory".to_owned()).or_insert(SCORED_MEMORY);
        requests
    })
}

fn container_requests(resources: Option<&ResourceRequirements>) -> Resources {
    Resources::of(resources.and_then(|resources| resources.requests.as_ref()))
}

fn total(spec: &PodSpec, requests: impl Fn(&Container) -> Resources) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&requests(container));
    }
    let mut sidecars = Resources::default();
    let mut greediest = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let mut step = requests(container);
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&step);
            sidecars.add(&step);
            step = sidecars.clone();
        } else {
            step.add(&sidecars);
        }
        greediest.raise_to(&step);
    }
    running.raise_to(&greediest);
    for (name, amount) in container_requests(spec.resources.as_ref()).iter() {
        running.set(name, amount);
    }
    running.add(&Resources::of(spec.overhead.as_ref()));
    running
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn asked(spec: Value) -> (i64, i64) {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        let asked = requests(&spec);
        (asked.get("cpu"), asked.get("memory"))
    }

    fn container(cpu: &str) -> Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "1Mi"}}})
    }

    #[test]
    fn containers_add_up_and_initialization_counts_by_its_peak() {
        assert_eq!(
            asked(json!({"containers": [container("100m"), container("1")]})),
            (1100, 2 << 20)
        );
        let init =
            json!({"initContainers": [container("2"), container("500m")], "containers": [container("1")]});
        assert_eq!(asked(init), (2000, 1 << 20));
    }

    #[test]
    fn sidecars_run_beside_everything_after_them() {
        let mut sidecar = container("300m");
        sidecar["restartPolicy"] = json!("Always");
        let spec = json!({"initContainers": [container("1"), sidecar, container("900m")], "containers": [container("100m")]});
        assert_eq!(asked(spec), (1200, 2 << 20));
    }

    #[test]
    fn the_pod_s_own_requests_and_its_overhead_count() {
        let spec = json!({
            "containers": [container("100m")], "resources": {"requests": {"cpu": "3"}}, "overhead": {"cpu": "50m"},
        });
        assert_eq!(asked(spec), (3050, 1 << 20));
    }

    #[test]
    fn a_container_without_requests_still_counts_in_scores() {
        let spec: PodSpec = serde_json::from_value(json!({"containers": [{"name": "c"}]})).unwrap();
        assert_eq!(scored(&spec).get("memory"), 200 << 20);
        assert_eq!(requests(&spec), Resources::default());
    }
}
