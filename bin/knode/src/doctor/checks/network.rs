//! Ports, address ranges, packet sizes, and who must be reached.

use knode_overlay::check_overlap;

use crate::doctor::facts::{Facts, Links, Port, Taken};
use crate::doctor::finding::Finding;

/// What VXLAN adds to a packet, bytes.
const VXLAN: u32 = 50;
/// The smallest packet that IPv6 must be able to carry, bytes.
const SMALLEST: u32 = 1280;

pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut all: Vec<Finding> = facts.ports.iter().map(|port| taken(port, facts.daemon)).collect();
    all.push(ranges(facts));
    all.extend(mtu(&facts.links));
    all.extend(facts.reached.iter().map(|reached| {
        let check = format!("{} {}", reached.what, reached.address);
        match &reached.result {
            Ok(()) => Finding::ok(check, "answers"),
            Err(error) => Finding::fail(
                check,
                error,
                format!(
                    "is {} running there, and is the port open between here and there?",
                    reached.what
                ),
            ),
        }
    }));
    all
}

fn taken(port: &Port, daemon: Option<i32>) -> Finding {
    let check = format!("port {}/{} ({})", port.number, port.protocol.name(), port.what);
    match &port.taken {
        None => Finding::ok(check, "free"),
        Some(Taken::By(Some(holder))) if Some(holder.pid.cast_signed()) == daemon => {
            Finding::ok(check, "this knode's")
        }
        Some(Taken::By(Some(holder))) => Finding::fail(
            check,
            format!("taken by {holder}"),
            format!(
                "end process {} ({}), or let knode take another port",
                holder.pid, holder.name
            ),
        ),
        Some(Taken::By(None)) => Finding::fail(
            check,
            "taken by a process that can't be told",
            "ss --listening --processes, as root, names it",
        ),
        Some(Taken::Because(error)) => Finding::fail(check, error, "see above"),
    }
}

fn ranges(facts: &Facts) -> Finding {
    let (check, networks) = ("address ranges", &facts.networks);
    let routes = match &networks.routes {
        Ok(routes) => routes,
        Err(error) => return Finding::fail(check, error, "the routes must be readable"),
    };
    let mend = "choose others with --pod-cidr and --service-cidr when the cluster is made";
    for pods in &networks.pods {
        if let Err(overlap) = check_overlap(*pods, &networks.services, routes) {
            return Finding::fail(check, overlap.to_string(), mend);
        }
    }
    // A route to the services through our own bridge is meant.
    for services in &networks.services {
        let routed = routes.iter().filter(|route| route.destination != *services);
        let routed: Vec<_> = routed.cloned().collect();
        if let Err(overlap) = check_overlap(*services, &[], &routed) {
            let found = overlap.to_string().replacen("pod CIDR", "service CIDR", 1);
            return Finding::fail(check, found, mend);
        }
    }
    let both = networks
        .pods
        .iter()
        .chain(&networks.services)
        .map(ToString::to_string);
    Finding::ok(
        check,
        format!("{}: nobody else's", both.collect::<Vec<_>>().join(", ")),
    )
}

fn mtu(links: &Links) -> Option<Finding> {
    let check = "MTU";
    let (name, size) = match links.underlay.as_ref()? {
        Ok(found) => found,
        Err(error) => {
            let mend = "name the node's address with --node-ip";
            return Some(Finding::fail("way to other nodes", error, mend));
        }
    };
    if let Some((overlay, inner)) = &links.overlay
        && inner + VXLAN > *size
    {
        let found = format!(
            "{overlay} sends packets of {inner}, for which {name} ({size}) is {VXLAN} too small or less"
        );
        let mend = format!(
            "ip link set {overlay} mtu {}, or restart knode",
            size.saturating_sub(VXLAN)
        );
        return Some(Finding::fail(check, found, mend));
    }
    if *size < SMALLEST + VXLAN {
        let found = format!("{name} carries {size} bytes, pods {}", size.saturating_sub(VXLAN));
        let mend = format!("ip link set {name} mtu 1500 on every node, or no IPv6 in pods");
        return Some(Finding::warn(check, found, mend));
    }
    Some(Finding::ok(
        check,
        format!("{name} {size}, pods {}", size - VXLAN),
    ))
}
