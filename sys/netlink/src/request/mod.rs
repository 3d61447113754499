//! Changes as values.

mod address;
mod link;
mod neighbour;
mod route;
mod rule;
mod tc;
mod tunnel;

use std::fmt;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::RouteNetlinkMessage;

use crate::netns::Netns;

pub(crate) use address::dump_addresses;
pub use address::{add_address, delete_address, replace_address};
pub use link::{
    BridgeSpec, LinkChange, LinkRef, VethSpec, add_bridge, add_veth, add_vxlan, change_link, delete_group,
    delete_link,
};
pub(crate) use link::{dump_links, get_link};
pub use neighbour::{add_fdb, add_neighbour, delete_fdb, delete_neighbour, replace_fdb, replace_neighbour};
pub(crate) use neighbour::{dump_fdb, dump_neighbours};
pub use route::{add_route, delete_route, replace_route};
pub(crate) use route::{dump_blackholes, dump_routes, get_route};
pub(crate) use rule::dump_rules;
pub use rule::{add_rule, delete_rule};
pub use tc::{TokenBucket, add_ifb, add_ingress, redirect_ingress, set_token_bucket};
pub(crate) use tc::{discipline_of, dump_disciplines};
pub use tunnel::{add_ipip, add_wireguard};

/// Must be new.
const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;
/// New, or in place of the old.
const PUT: u16 = NLM_F_CREATE | NLM_F_REPLACE;

/// One change, ready to be executed. Printed as operation and object.
#[derive(Debug, Clone)]
pub struct Request {
    pub(crate) op: &'static str,
    pub(crate) object: String,
    pub(crate) message: RouteNetlinkMessage,
    pub(crate) flags: u16,
    /// Kept open while the message carries its descriptor's number.
    pub(crate) netns: Option<Netns>,
}

impl Request {
    fn new(op: &'static str, object: impl fmt::Display, message: RouteNetlinkMessage, flags: u16) -> Self {
        Self {
            op,
            object: object.to_string(),
            message,
            flags,
            netns: None,
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.op, self.object)
    }
}
