use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoData, InfoKind, LinkAttribute, LinkInfo};

use super::link::named;
use super::{NEW, Request};
use crate::model::IpTunnel;

/// Creates a tunnel of IPv4 in IPv4, down. Its MTU is set afterwards: the kernel derives one of its own at creation.
pub fn add_ipip(name: &str, tunnel: &IpTunnel) -> Request {
    let mut message = named(name);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::IpIp),
        LinkInfo::Data(InfoData::IpTunnel(tunnel.infos())),
    ]));
    Request::new("add ipip", name, RouteNetlinkMessage::NewLink(message), NEW)
}

/// Creates a WireGuard device, down and without keys; [`crate::generic::wireguard`] gives them.
pub fn add_wireguard(name: &str, mtu: u32) -> Request {
    let mut message = named(name);
    message.attributes.push(LinkAttribute::Mtu(mtu));
    message
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Wireguard)]));
    Request::new("add wireguard", name, RouteNetlinkMessage::NewLink(message), NEW)
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::Emitable;

    use super::*;

    /// The bytes after `struct ifinfomsg`.
    fn attributes(request: &Request) -> Vec<u8> {
        let RouteNetlinkMessage::NewLink(message) = &request.message else {
            panic!("{request}")
        };
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes.split_off(16)
    }

    #[test]
    fn ipip_is_as_iproute2_sends_it() {
        let tunnel = IpTunnel {
            local: Some([192, 0, 2, 1].into()),
            remote: None,
        };
        let want = [
            &[17, 0, 3, 0][..], // IFLA_IFNAME
            b"flannel.ipip\0\0\0\0",
            &[28, 0, 18, 0], // IFLA_LINKINFO
            &[9, 0, 1, 0],   // IFLA_INFO_KIND
            b"ipip\0\0\0\0",
            &[12, 0, 2, 0], // IFLA_INFO_DATA
            &[8, 0, 2, 0],  // IFLA_IPTUN_LOCAL
            &[192, 0, 2, 1],
        ]
        .concat();
        assert_eq!(attributes(&add_ipip("flannel.ipip", &tunnel)), want);
    }

    #[test]
    fn wireguard_is_as_iproute2_sends_it() {
        let want = [
            &[15, 0, 3, 0][..], // IFLA_IFNAME
            b"flannel-wg\0\0",
            &[8, 0, 4, 0], // IFLA_MTU
            &1420_u32.to_ne_bytes(),
            &[20, 0, 18, 0], // IFLA_LINKINFO
            &[14, 0, 1, 0],  // IFLA_INFO_KIND
            b"wireguard\0\0\0",
        ]
        .concat();
        assert_eq!(attributes(&add_wireguard("flannel-wg", 1420)), want);
    }
}
