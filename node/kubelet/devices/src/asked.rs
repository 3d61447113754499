//! What the containers of a pod ask for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use knode_api::quantity::Quantity;

/// How much of which extended resource.
pub type Requests = BTreeMap<String, usize>;

/// One container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Whether it has ended before the pod's own containers start, so that they may have its devices.
    pub is_init: bool,
    /// What it asks for.
    pub requests: Requests,
}

/// A pod's wishes for extended resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The pod's uid.
    pub uid: String,
    /// Its containers in the order in which they start.
    pub parts: Vec<Part>,
}

impl Asked {
    /// Those of `pod`.
    pub fn of(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let init = spec.and_then(|spec| spec.init_containers.as_deref());
        let init = init.unwrap_or_default().iter().map(|container| Part {
            name: container.name.clone(),
            is_init: container.restart_policy.as_deref() != Some("Always"),
            requests: requests(container),
        });
        let own = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
        let own = own.iter().map(|container| Part {
            name: container.name.clone(),
            is_init: false,
            requests: requests(container),
        });
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            parts: init.chain(own).collect(),
        }
    }

    /// The container of this name.
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// What the pod needs at most at one time: init containers run one after the other, all else together.
    pub fn together(&self) -> Requests {
        let (mut running, mut most) = (Requests::new(), Requests::new());
        for part in &self.parts {
            for (name, count) in &part.requests {
                let beside = running.entry(name.clone()).or_default();
                let sum = *beside + count;
                if !part.is_init {
                    *beside = sum;
                }
                let peak = most.entry(name.clone()).or_default();
                *peak = sum.max(*peak);
            }
        }
        most
    }
}

/// Limits of extended resources, which are their requests too.
fn requests(container: &Container) -> Requests {
    let limits = container.resources.as_ref().and_then(|all| all.limits.as_ref());
    let amount = |text: &str| usize::try_from(Quantity::parse(text).ok()?.value()).ok();
    let all = limits.into_iter().flatten();
    all.filter(|(name, _)| is_extended(name))
        .filter_map(|(name, text)| Some((name.clone(), amount(&text.0)?)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// Whether this can be the name of a resource that plugins offer (upstream: `IsExtendedResourceName`).
pub fn is_extended(name: &str) -> bool {
    let Some((domain, rest)) = name.split_once('/') else {
        return false;
    };
    let word = |text: &str, max: usize| {
        let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        text.len() <= max && end(text.chars().next()) && end(text.chars().last()) && text.chars().all(inner)
    };
    let label = |text: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !text.is_empty() && !text.starts_with('-') && !text.ends_with('-') && text.chars().all(inner)
    };
    // `requests.` is put before the name in quotas.
    let domain_fits = domain.len() + "requests.".len() <= 253 && domain.split('.').all(label);
    !name.contains("kubernetes.io/") && !name.starts_with("requests.") && domain_fits && word(rest, 63)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_extended_resources() {
        for good in ["example.com/gpu", "a/b", "vendor.example.com/Type_1.x"] {
            assert!(is_extended(good), "{good}");
        }
        for bad in [
            "cpu",
            "example.com/",
            "/gpu",
            "kubernetes.io/gpu",
            "sub.kubernetes.io/gpu",
            "requests.example.com/gpu",
            "Example.com/gpu",
            "example.com/a/b",
            "example.com/-gpu",
        ] {
            assert!(!is_extended(bad), "{bad}");
        }
    }

    #[test]
    fn init_containers_ask_before_the_others_and_sidecars_beside_them() {
        let container = |name: &str, count: u32, restart: Option<&str>| {
            json!({"name": name, "restartPolicy": restart, "resources": {
                "limits": {"example.com/a": count.to_string(), "cpu": "1"}}})
        };
        let pod = serde_json::from_value(json!({
            "metadata": {"uid": "u"},
            "spec": {
                "initContainers": [container("i1", 4, None), container("s", 1, Some("Always")), container("i2", 2, None)],
                "containers": [container("a", 1, None), container("b", 1, None)],
            },
        }));
        let asked = Asked::of(&pod.unwrap());
        assert_eq!(
            asked.together(),
            Requests::from([("example.com/a".to_owned(), 4)])
        );
        let kinds: Vec<bool> = asked.parts.iter().map(|part| part.is_init).collect();
        assert_eq!(kinds, [true, false, true, false, false]);
    }
}
