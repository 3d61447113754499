//! Room on the node.

use super::Refusal;
use crate::cluster::Occupied;
use crate::model::Pod;

/// What there is too little of.
pub(super) fn refusal(pod: &Pod, on: &Occupied) -> Option<Refusal> {
    let mut reasons = Vec::new();
    let mut resolvable = true;
    let room = &on.node.allocatable;
    if on.pods + 1 > room.get("pods") {
        reasons.push("Too many pods".to_owned());
    }
    for (name, asked) in pod.requests.iter().filter(|(_, asked)| *asked > 0) {
        if asked > room.get(name) - on.requested.get(name) {
            reasons.push(format!("Insufficient {name}"));
            // No other pod's leaving would make room.
            resolvable &= asked <= room.get(name);
        }
    }
    (!reasons.is_empty()).then_some(Refusal { reasons, resolvable })
}
