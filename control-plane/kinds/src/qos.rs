//! Quality-of-service class of a pod (`pkg/apis/core/helper/qos`).
use std::collections::BTreeMap;

use knode_api::quantity::Quantity;
use serde_json::Value;

use crate::value::{list, map};

/// The two resources that count.
const COUNTED: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn class(pod: &Value) -> &'static str {
    if pod.pointer("/spec/resources").is_some_and(Value::is_object) {
        return of(std::iter::once(
            pod.pointer("/spec/resources").unwrap_or(&Value::Null),
        ));
    }
    let containers = list(pod, "/spec/containers")
        .iter()
        .chain(list(pod, "/spec/initContainers"));
    of(containers.map(|c| c.get("resources").unwrap_or(&Value::Null)))
}

type Amounts = BTreeMap<&'static str, Quantity>;

fn of<'a>(all: impl Iterator<Item = &'a Value>) -> &'static str {
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    let mut guaranteed = true;
    for resources in all {
        gather(resources, "/requests", &mut requests);
        let limited = gather(resources, "/limits", &mut limits);
        guaranteed &= limited == COUNTED.len();
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if guaranteed && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Adds up what is above zero; how many resources that were.
fn gather(resources: &Value, pointer: &str, sums: &mut Amounts) -> usize {
    let mut found = 0;
    for name in COUNTED {
        let text = map(resources, pointer)
            .and_then(|m| m.get(name))
            .and_then(Value::as_str);
        let Some(amount) = text.and_then(|t| Quantity::parse(t).ok()) else {
            continue;
        };
        if amount > Quantity::ZERO {
            sums.entry(name).or_insert(Quantity::ZERO).add(amount);
            found += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(resources: Value) -> Value {
        json!({"spec": {"containers": [{"resources": resources}]}})
    }

    #[test]
    fn classes() {
        assert_eq!(class(&pod(json!({}))), "BestEffort");
        assert_eq!(class(&pod(json!({"requests": {"cpu": "1"}}))), "Burstable");
        let full = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(
            class(&pod(json!({"requests": full, "limits": full}))),
            "Guaranteed"
        );
        let same = json!({"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": full});
        assert_eq!(class(&pod(same)), "Guaranteed");
        assert_eq!(
            class(&pod(json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}))),
            "Burstable"
        );
    }
}
