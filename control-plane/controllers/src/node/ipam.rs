//! Each node gets a subnet of each pod range (upstream: pkg/controller/nodeipam, RangeAllocator).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use knode_client::{Api, ObjectKey};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::error::{api, stale};
use crate::runner::{Next, Reconcile, Shared, feed, work};
use crate::{Error, PodRange, Result};

struct Controller {
    shared: Shared,
    /// Given out, and maybe not yet to be seen in the cache.
    given: Mutex<HashMap<String, Vec<IpNet>>>,
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
fn first_free(range: IpNet, mask: u8, used: &BTreeSet<IpNet>) -> Option<IpNet> {
    let overlaps = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
    range
        .subnets(mask)
        .ok()?
        .find(|candidate| !used.iter().any(|u| overlaps(u, candidate)))
}

/// A free subnet of each range, or the range that has none left.
fn choose(ranges: &[PodRange], used: &BTreeSet<IpNet>) -> std::result::Result<Vec<IpNet>, IpNet> {
    let free = |range: &PodRange| first_free(range.cidr, range.node_mask, used).ok_or(range.cidr);
    ranges.iter().map(free).collect()
}

fn pod_cidrs(node: &Node) -> Vec<IpNet> {
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
    /// Chooses a subnet of each range and notes them, so that no other worker chooses them too.
    fn choose(&self, node: &str) -> Result<Vec<IpNet>> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chosen) = given.get(node) {
            return Ok(chosen.clone());
        }
        let nodes = self.shared.nodes.list();
        let used = nodes
            .iter()
            .flat_map(|n| pod_cidrs(n))
            .chain(given.values().flatten().copied())
            .collect();
        let chosen = choose(&self.shared.config.pod_ranges, &used).map_err(|pod_cidr| Error::NoSubnet {
            node: node.to_owned(),
            pod_cidr,
        })?;
        given.insert(node.to_owned(), chosen.clone());
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
        let subnets = self.choose(&key.name)?;
        let patch = json!({"spec": {"podCIDR": subnets.first(), "podCIDRs": subnets}});
        let nodes = Api::<Node>::all(self.shared.client.clone());
        match nodes
            .patch(&key.name, &PatchParams::default(), &Patch::Strategic(patch))
            .await
        {
            Err(e) if stale(&e) => self.forget(&key.name),
            Err(e) => return Err(api(format!("give node {} the subnets {subnets:?}", key.name))(e)),
            Ok(_) => tracing::info!(node = key.name, ?subnets, "node has its subnets"),
        }
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_subnet_is_taken_and_none_twice() {
        let range: IpNet = "10.1.0.0/22".parse().unwrap();
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

    #[test]
    fn a_node_gets_one_subnet_of_each_range_in_their_order() {
        let range = |cidr: &str, node_mask| PodRange {
            cidr: cidr.parse().unwrap(),
            node_mask,
        };
        let ranges = [range("fd00:30::/48", 64), range("172.30.0.0/23", 24)];
        let mut used = BTreeSet::new();
        for wanted in [
            ["fd00:30::/64", "172.30.0.0/24"],
            ["fd00:30:0:1::/64", "172.30.1.0/24"],
        ] {
            let chosen = choose(&ranges, &used).unwrap();
            assert_eq!(chosen.iter().map(ToString::to_string).collect::<Vec<_>>(), wanted);
            used.extend(chosen);
        }
        assert_eq!(
            choose(&ranges, &used),
            Err(ranges[1].cidr),
            "no node gets half of it"
        );
    }
}
