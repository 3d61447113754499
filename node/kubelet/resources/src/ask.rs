//! What a pod asks for that can be exclusive.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use knode_api::quantity::Quantity;

/// When a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Before the others, to its end: what it had is the others' afterwards.
    Init,
    /// Beside the others.
    Beside,
    /// A sidecar: beside the others and the init containers after it.
    Sidecar,
}

/// A container's wishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerAsk {
    /// Its name.
    pub name: String,
    /// When it runs.
    pub kind: Kind,
    /// Processors of its own; 0 if it runs on the shared ones.
    pub cpus: usize,
    /// Bytes by resource (`memory`, `hugepages-2Mi`), if its memory is pinned.
    pub memory: BTreeMap<String, u64>,
}

/// A pod's wishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Its uid.
    pub uid: String,
    /// Init containers, then the others.
    pub containers: Vec<ContainerAsk>,
}

impl Ask {
    /// Reads a pod. Only a `guaranteed` one whose resources stand at its containers has things of its own.
    pub fn of(pod: &Pod, guaranteed: bool) -> Self {
        let spec = pod.spec.as_ref();
        let whole = spec.and_then(|spec| spec.resources.as_ref());
        let own = guaranteed && whole.is_none_or(|whole| whole.requests.is_none() && whole.limits.is_none());
        let of = |container: &Container, kind| ContainerAsk {
            name: container.name.clone(),
            kind,
            cpus: if own { whole_cpus(container) } else { 0 },
            memory: if own { memory(container) } else { BTreeMap::new() },
        };
        let init_kind = |container: &Container| match container.restart_policy.as_deref() {
            Some("Always") => Kind::Sidecar,
            _ => Kind::Init,
        };
        let inits = spec
            .into_iter()
            .flat_map(|spec| spec.init_containers.iter().flatten());
        let inits = inits.map(|container| of(container, init_kind(container)));
        let mains = spec.into_iter().flat_map(|spec| &spec.containers);
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            containers: inits
                .chain(mains.map(|container| of(container, Kind::Beside)))
                .collect(),
        }
    }

    /// The most that its containers have at any one time.
    pub fn peak(&self, of: impl Fn(&ContainerAsk) -> u64) -> u64 {
        let (mut sidecars, mut starting, mut running) = (0, 0, 0);
        for container in &self.containers {
            let own = of(container);
            match container.kind {
                Kind::Init => starting = starting.max(sidecars + own),
                Kind::Sidecar => sidecars += own,
                Kind::Beside => running += own,
            }
        }
        starting.max(running + sidecars)
    }
}

/// Requests are the limits where they are not set.
fn requests(container: &Container) -> BTreeMap<String, Quantity> {
    let resources = container.resources.as_ref();
    let lists = [
        resources.and_then(|resources| resources.limits.as_ref()),
        resources.and_then(|resources| resources.requests.as_ref()),
    ];
    let all = lists.into_iter().flatten().flatten();
    all.filter_map(|(name, text)| Some((name.clone(), Quantity::parse(&text.0).ok()?)))
        .collect()
}

fn whole_cpus(container: &Container) -> usize {
    let milli = requests(container).get("cpu").map_or(0, Quantity::milli_value);
    match milli % 1000 {
        0 => usize::try_from(milli / 1000).unwrap_or(0),
        _ => 0,
    }
}

fn memory(container: &Container) -> BTreeMap<String, u64> {
    let pinned = |name: &String| name == "memory" || name.starts_with("hugepages-");
    let all = requests(container).into_iter().filter(|(name, _)| pinned(name));
    all.map(|(name, amount)| (name, u64::try_from(amount.value()).unwrap_or(0)))
        .collect()
}
