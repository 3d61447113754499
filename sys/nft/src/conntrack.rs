//! Tracked flows (ctnetlink): listed by protocol, deleted one by one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::Error;
use crate::object::Family;
use crate::socket::Socket;
use crate::wire::{Attrs, Message, Writer};

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = (NFNL_SUBSYS_CTNETLINK << 8) | 1;
const IPCTNL_MSG_CT_DELETE: u16 = (NFNL_SUBSYS_CTNETLINK << 8) | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
/// `CTA_FILTER_F_CTA_PROTO_NUM`.
const FILTER_PROTO: u32 = 1 << 3;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

/// One direction of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// `IPPROTO_*`.
    pub proto: u8,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

/// A tracked flow of a protocol with ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Flow {
    /// As its first packet was addressed.
    pub original: Tuple,
    /// As the answers are addressed: their source is where the flow was translated to.
    pub reply: Tuple,
    /// The conntrack zone, 0 unless one was set.
    pub zone: u16,
    /// The kernel's number for it, so that a successor with the same addresses is not meant.
    pub id: u32,
}

/// The flows of this protocol number for which `wanted` holds.
pub fn flows(
    socket: &mut Socket,
    family: Family,
    proto: u8,
    wanted: impl Fn(&Flow) -> bool,
) -> Result<Vec<Flow>, Error> {
    let found = std::cell::RefCell::new(Vec::new());
    let mut restart = || found.borrow_mut().clear();
    let mut seen = |message: &Message<'_>| {
        let flow = decode(message.attrs()).filter(|flow| flow.original.proto == proto && wanted(flow));
        found.borrow_mut().extend(flow);
    };
    socket.list(
        "tracked flows",
        IPCTNL_MSG_CT_GET,
        family.number(),
        |out| filter(out, proto),
        &mut restart,
        &mut seen,
    )?;
    Ok(found.into_inner())
}

/// Only flows of this protocol are wanted; kernels before 5.8 tell of all.
fn filter(out: &mut Writer, proto: u8) {
    out.nest(CTA_TUPLE_ORIG, |out| {
        out.nest(CTA_TUPLE_PROTO, |out| out.attr(CTA_PROTO_NUM, &[proto]));
    });
    out.nest(CTA_FILTER, |out| {
        out.attr(CTA_FILTER_ORIG_FLAGS, &FILTER_PROTO.to_ne_bytes());
    });
}

/// Deletes a flow; says whether it was still there.
pub fn delete(socket: &mut Socket, flow: &Flow) -> Result<bool, Error> {
    let family = if flow.original.src.is_ipv4() {
        Family::Ip
    } else {
        Family::Ip6
    };
    let fill = |out: &mut Writer| {
        out.nest(CTA_TUPLE_ORIG, |out| encode(&flow.original, out));
        out.be32(CTA_ID, flow.id);
        if flow.zone != 0 {
            out.attr(CTA_ZONE, &flow.zone.to_be_bytes());
        }
    };
    match socket.request(
        "a tracked flow to delete",
        IPCTNL_MSG_CT_DELETE,
        0,
        family.number(),
        fill,
        &mut |_| {},
    ) {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

fn encode(tuple: &Tuple, out: &mut Writer) {
    out.nest(CTA_TUPLE_IP, |out| {
        for (address, v4, v6) in [
            (tuple.src, CTA_IP_V4_SRC, CTA_IP_V6_SRC),
            (tuple.dst, CTA_IP_V4_DST, CTA_IP_V6_DST),
        ] {
            match address {
                IpAddr::V4(address) => out.attr(v4, &address.octets()),
                IpAddr::V6(address) => out.attr(v6, &address.octets()),
            }
        }
    });
    out.nest(CTA_TUPLE_PROTO, |out| {
        out.attr(CTA_PROTO_NUM, &[tuple.proto]);
        out.attr(CTA_PROTO_SRC_PORT, &tuple.src_port.to_be_bytes());
        out.attr(CTA_PROTO_DST_PORT, &tuple.dst_port.to_be_bytes());
    });
}

fn decode(attrs: Attrs<'_>) -> Option<Flow> {
    Some(Flow {
        original: decode_tuple(attrs.nested(CTA_TUPLE_ORIG)?)?,
        reply: decode_tuple(attrs.nested(CTA_TUPLE_REPLY)?)?,
        zone: attrs.get(CTA_ZONE).and_then(be16).unwrap_or_default(),
        id: attrs.be32(CTA_ID)?,
    })
}

fn decode_tuple(attrs: Attrs<'_>) -> Option<Tuple> {
    let (ip, proto) = (attrs.nested(CTA_TUPLE_IP)?, attrs.nested(CTA_TUPLE_PROTO)?);
    Some(Tuple {
        src: address(ip, CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
        dst: address(ip, CTA_IP_V4_DST, CTA_IP_V6_DST)?,
        proto: *proto.get(CTA_PROTO_NUM)?.first()?,
        src_port: proto.get(CTA_PROTO_SRC_PORT).and_then(be16)?,
        dst_port: proto.get(CTA_PROTO_DST_PORT).and_then(be16)?,
    })
}

fn address(ip: Attrs<'_>, v4: u16, v6: u16) -> Option<IpAddr> {
    if let Some(octets) = ip.get(v4) {
        return octets
            .first_chunk::<4>()
            .map(|octets| Ipv4Addr::from(*octets).into());
    }
    ip.get(v6)?
        .first_chunk::<16>()
        .map(|octets| Ipv6Addr::from(*octets).into())
}

fn be16(payload: &[u8]) -> Option<u16> {
    payload.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}
