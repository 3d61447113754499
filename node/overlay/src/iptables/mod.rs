//! Forwarding on hosts whose iptables drop what they forward (dockerd sets that policy). No table of nftables can
//! overrule another's drop, so there, and only there, rules go into iptables too: upstream's (`pkg/trafficmngr`).

mod plan;
mod run;

pub(crate) use run::{accept, is_filter, remove};
