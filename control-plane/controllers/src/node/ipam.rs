//! Each node gets a subnet of the pod range (upstream: pkg/controller/nodeipam, RangeAllocator).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use knode_client::{Api, ObjectKey};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::error::{api, stale};
use crate::runner::{Next, Reconcile, Shared, feed, work};
use crate::{Error, Result};

struct Controller {
    shared: Shared,
    /// Given out, and maybe not yet to be seen in the cache.
    given: Mutex<HashMap<String, Ipv4Net>>,
}

/// Runs until its queue is closed.
pub(super) async fn run(shared: Shared) {
    let queue = shared.queue();
    feed(&shared.nodes, &queue, |d| vec![d.key()]);
    work(
        Controller {
            shared,
            given: Mutex::default(),
        },
        queue,
    )
    .await;
}

/// The first subnet of `range` with this prefix length that overlaps none of `used`.
fn first_free(range: Ipv4Net, mask: u8, used: &BTreeSet<Ipv4Net>) -> Option<Ipv4Net> {
    let overlaps = |a: &Ipv4Net, b: &Ipv4Net| a.contains(b) || b.contains(a);
    range
        .subnets(mask)
        .ok()?
        .find(|candidate| !used.iter().any(|u| overlaps(u, candidate)))
}

fn pod_cidrs(node: &Node) -> Vec<Ipv4Net> {
    let spec = node.spec.as_ref();
    let all = spec
        .and_then(|s| s.pod_cidrs.clone())
        .or_else(|| Some(vec![spec?.pod_cidr.clone()?]));
    all.unwrap_or_default()
        .iter()
        .filter_map(|c| c.parse().ok())
        .collect()
}

impl Controller {
    /// Chooses a subnet and notes it, so that no other worker chooses it too.
    fn choose(&self, node: &str) -> Result<Ipv4Net> {
        let config = &self.shared.config;
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chosen) = given.get(node) {
            return Ok(*chosen);
        }
        let nodes = self.shared.nodes.list();
        let used = nodes
            .iter()
            .flat_map(|n| pod_cidrs(n))
            .chain(given.values().copied())
            .collect();
        let chosen =
            first_free(config.pod_cidr, config.node_cidr_mask, &used).ok_or_else(|| Error::NoSubnet {
                node: node.to_owned(),
                pod_cidr: config.pod_cidr,
            })?;
        given.insert(node.to_owned(), chosen);
        Ok(chosen)
    }

    fn forget(&self, node: &str) {
        self.given
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(node);
    }
}

#[async_trait]
impl Reconcile for Controller {
    const NAME: &'static str = "node-ipam";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let node = self.shared.nodes.get_key(key);
        if node.as_ref().is_none_or(|n| !pod_cidrs(n).is_empty()) {
            self.forget(&key.name);
            return Ok(Next::Done);
        }
        let subnet = self.choose(&key.name)?;
        let patch = json!({"spec": {"podCIDR": subnet, "podCIDRs": [subnet]}});
        let nodes = Api::<Node>::all(self.shared.client.clone());
        match nodes
            .patch(&key.name, &PatchParams::default(), &Patch::Strategic(patch))
            .await
        {
            Err(e) if stale(&e) => self.forget(&key.name),
            Err(e) => return Err(api(format!("give node {} the subnet {subnet}", key.name))(e)),
            Ok(_) => tracing::info!(node = key.name, %subnet, "node has its subnet"),
        }
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_subnet_is_taken_and_none_twice() {
        let range: Ipv4Net = "10.1.0.0/22".parse().unwrap();
        let mut used = BTreeSet::from(["10.1.1.0/24".parse().unwrap()]);
        let mut got = Vec::new();
        while let Some(n) = first_free(range, 24, &used) {
            used.insert(n);
            got.push(n.to_string());
        }
        assert_eq!(got, ["10.1.0.0/24", "10.1.2.0/24", "10.1.3.0/24"]);
        let foreign = BTreeSet::from(["10.1.0.0/23".parse().unwrap()]);
        assert_eq!(
            first_free(range, 24, &foreign).unwrap().to_string(),
            "10.1.2.0/24"
        );
    }
}
