//! Traffic control: token buckets, and what a link receives led through another.

use rtnetlink::packet_core::DefaultNla;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirror, TcActionMirrorOption, TcActionOption, TcActionType,
    TcAttribute, TcFilterU32, TcFilterU32Option, TcHandle, TcMessage, TcMirror, TcMirrorActionType, TcOption,
    TcU32Key, TcU32Selector, TcU32SelectorFlags,
};

use super::{NEW, PUT, Request};

/// `TCA_TBF_PARMS`, `TCA_TBF_RATE64`, `TCA_TBF_BURST` of `linux/pkt_sched.h`.
const TBF_PARMS: u16 = 1;
const TBF_RATE64: u16 = 4;
const TBF_BURST: u16 = 6;
/// `TC_LINKLAYER_ETHERNET`: the kernel computes transmission times itself and needs no table.
const LINKLAYER_ETHERNET: u8 = 1;
/// Handle of the token bucket.
const BUCKET: TcHandle = TcHandle { major: 1, minor: 0 };
/// Handle of the ingress discipline, which the kernel prescribes.
const INGRESS: TcHandle = TcHandle {
    major: 0xffff,
    minor: 0,
};
/// `ETH_P_ALL`.
const ALL_PROTOCOLS: u16 = 3;

/// How much a link sends at most; see tc-tbf(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    /// Bytes per second, not 0.
    pub rate: u64,
    /// Bytes that may go at once; at least the largest packet.
    pub burst: u32,
    /// Bytes that may wait.
    pub limit: u32,
}

impl TokenBucket {
    /// `struct tc_tbf_qopt`: two rates, limit, buffer and size, the latter two given by attribute.
    fn parameters(&self) -> Vec<u8> {
        let mut rate = [0; 12];
        rate[1] = LINKLAYER_ETHERNET;
        let low = u32::try_from(self.rate).unwrap_or(u32::MAX);
        rate[8..].copy_from_slice(&low.to_ne_bytes());
        let mut bytes = rate.to_vec();
        bytes.extend([0; 12]);
        for field in [self.limit, self.burst, 0] {
            bytes.extend(field.to_ne_bytes());
        }
        bytes
    }
}

/// Queueing disciplines of all links.
pub(crate) fn dump_disciplines() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default())
}

/// The link's index and the name of its discipline.
pub(crate) fn discipline_of(message: &TcMessage) -> Option<(u32, String)> {
    let index = u32::try_from(message.header.index).ok()?;
    message.attributes.iter().find_map(|a| match a {
        TcAttribute::Kind(kind) => Some((index, kind.clone())),
        _ => None,
    })
}

/// Lets a link, by index, send no faster than the bucket; whatever queue it had is replaced.
pub fn set_token_bucket(link: u32, bucket: TokenBucket) -> Request {
    let option = |kind, bytes| TcOption::Other(DefaultNla::new(kind, bytes));
    let options = vec![
        option(TBF_PARMS, bucket.parameters()),
        option(TBF_RATE64, bucket.rate.to_ne_bytes().to_vec()),
        option(TBF_BURST, bucket.burst.to_ne_bytes().to_vec()),
    ];
    let mut message = discipline(link, "tbf", BUCKET, TcHandle::ROOT);
    message.attributes.push(TcAttribute::Options(options));
    let object = format!("{} bytes/s for link #{link}", bucket.rate);
    Request::new(
        "set token bucket",
        object,
        RouteNetlinkMessage::NewQueueDiscipline(message),
        PUT,
    )
}

/// Gives a link, by index, the place where what it receives can be filtered.
pub fn add_ingress(link: u32) -> Request {
    let message = discipline(link, "ingress", INGRESS, TcHandle::INGRESS);
    let message = RouteNetlinkMessage::NewQueueDiscipline(message);
    Request::new("add ingress discipline", format!("to link #{link}"), message, NEW)
}

/// Leads all that a link receives through another link, where it can wait. Needs [`add_ingress`].
pub fn redirect_ingress(link: u32, to: u32) -> Request {
    let mut message = discipline(link, TcFilterU32::KIND, TcHandle::UNSPEC, INGRESS);
    message.header.info = (1 << 16) | u32::from(ALL_PROTOCOLS.to_be());
    let everything = [
        TcFilterU32Option::Selector(everything()),
        TcFilterU32Option::Action(vec![redirect(to)]),
    ];
    message.attributes.push(TcAttribute::Options(
        everything.into_iter().map(TcOption::U32).collect(),
    ));
    let message = RouteNetlinkMessage::NewTrafficFilter(message);
    Request::new("redirect", format!("link #{link} through #{to}"), message, NEW)
}

/// Creates an intermediate functional block: a link whose queue holds what other links receive. It is up.
pub fn add_ifb(name: &str, mtu: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]),
    ];
    Request::new("add ifb", name, RouteNetlinkMessage::NewLink(message), NEW)
}

fn discipline(link: u32, kind: &str, handle: TcHandle, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::with_index(link.cast_signed());
    message.header.handle = handle;
    message.header.parent = parent;
    message.attributes = vec![TcAttribute::Kind(kind.to_owned())];
    message
}

/// A key that compares no bit.
fn everything() -> TcU32Selector {
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    selector.nkeys = 1;
    selector.keys = vec![TcU32Key::default()];
    selector
}

fn redirect(to: u32) -> TcAction {
    let mut mirror = TcMirror::default();
    mirror.generic.action = TcActionType::Stolen;
    mirror.eaction = TcMirrorActionType::EgressRedir;
    mirror.ifindex = to;
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror))]),
    ];
    action
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_laid_out_as_the_kernels() {
        let bucket = TokenBucket {
            rate: 5 << 30,
            burst: 65_536,
            limit: 1000,
        };
        let bytes = bucket.parameters();
        assert_eq!(bytes.len(), 36);
        assert_eq!(
            bytes[8..12],
            u32::MAX.to_ne_bytes(),
            "the rest is in the long rate"
        );
        assert_eq!(bytes[24..28], 1000_u32.to_ne_bytes());
    }
}
