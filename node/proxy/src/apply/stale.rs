use std::collections::HashMap;
use std::net::IpAddr;

use knode_nft::{Error as NftError, Socket, conntrack};

use crate::model::{Endpoint, Protocol};
use crate::plan::{Changes, Frontend, Place, Plan};

/// UDP has no end of a connection: flows to an endpoint that is gone, or that began before there was any
/// endpoint, would go on for ever. Here are the frontends whose flows are to be looked at.
#[derive(Debug, Default)]
pub(super) struct StaleFlows {
    frontends: HashMap<Frontend, Before>,
}

/// What led somewhere before.
#[derive(Debug)]
enum Before {
    /// Unknown: an earlier run may have sent flows anywhere.
    Unknown,
    /// These endpoints.
    Endpoints(Vec<Endpoint>),
}

impl StaleFlows {
    /// Those that a change may have left.
    pub fn of(changes: &Changes) -> Self {
        let udp = changes
            .frontends
            .iter()
            .filter(|change| change.frontend.protocol == Protocol::Udp);
        let before = |change: &crate::plan::Change| {
            let endpoints = change
                .old
                .as_ref()
                .map(|target| target.endpoints().copied().collect());
            (change.frontend, Before::Endpoints(endpoints.unwrap_or_default()))
        };
        Self {
            frontends: udp.map(before).collect(),
        }
    }

    /// Those that an earlier run may have left.
    pub fn all(plan: &Plan) -> Self {
        let udp = plan
            .targets()
            .filter(|(frontend, _)| frontend.protocol == Protocol::Udp);
        Self {
            frontends: udp.map(|(frontend, _)| (*frontend, Before::Unknown)).collect(),
        }
    }

    /// Deletes them, so that the next packet of each finds a living endpoint.
    pub fn delete(&self, socket: &mut Socket, plan: &Plan) -> Result<(), NftError> {
        if self.frontends.is_empty() {
            return Ok(());
        }
        let proto = Protocol::Udp.number();
        let stale = conntrack::flows(socket, plan.family().into(), proto, |flow| {
            self.is_stale(plan, flow)
        })?;
        for flow in stale {
            conntrack::delete(socket, &flow)?;
        }
        Ok(())
    }

    fn is_stale(&self, plan: &Plan, flow: &conntrack::Flow) -> bool {
        let (to, from) = (&flow.original, &flow.reply);
        let frontend = |place| Frontend {
            place,
            protocol: Protocol::Udp,
            port: to.dst_port,
        };
        let places = match plan.get(&frontend(Place::Address(to.dst))).is_some()
            || self.frontends.contains_key(&frontend(Place::Address(to.dst)))
        {
            true => vec![Place::Address(to.dst)],
            false => vec![Place::Node],
        };
        let leads_to = (from.src, from.src_port);
        let mut now = places
            .iter()
            .filter_map(|place| plan.get(&frontend(*place)))
            .flat_map(|target| target.endpoints());
        if leads_to == (to.dst, to.dst_port) {
            let untouched = from.dst == to.src && from.dst_port == to.src_port;
            return now.next().is_some() && untouched && self.knows_any(&places, to.dst_port);
        }
        if now.any(|endpoint| (endpoint.ip, endpoint.port) == leads_to) {
            return false;
        }
        places
            .iter()
            .any(|place| self.led_there(&frontend(*place), leads_to))
    }

    fn knows_any(&self, places: &[Place], port: u16) -> bool {
        let known = |place: &Place| {
            let frontend = Frontend {
                place: *place,
                protocol: Protocol::Udp,
                port,
            };
            self.frontends.contains_key(&frontend)
        };
        places.iter().any(known)
    }

    fn led_there(&self, frontend: &Frontend, endpoint: (IpAddr, u16)) -> bool {
        match self.frontends.get(frontend) {
            None => false,
            Some(Before::Unknown) => true,
            Some(Before::Endpoints(endpoints)) => endpoints.iter().any(|old| (old.ip, old.port) == endpoint),
        }
    }
}
