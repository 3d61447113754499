//! A machine beside the host.

use std::net::{Ipv4Addr, Ipv6Addr};

use knode_netlink::{
    Address, Handle, LinkChange, Netns, Route, VethSpec, add_address, add_route, add_veth, change_link,
};

/// The host's addresses towards its neighbour, which has the next ones.
pub const OUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const OUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Makes the neighbour of the calling thread's namespace; its default routes lead to the host.
pub fn neighbour() -> Netns {
    let netns = Netns::anonymous().unwrap();
    let host = Handle::open().unwrap();
    let spec = VethSpec {
        name: "outer",
        mtu: 1500,
        master: None,
        peer_name: "eth0",
        peer_mac: None,
        peer_netns: Some(&netns),
    };
    host.execute(add_veth(&spec)).unwrap();
    give(&host, "outer", ["192.0.2.1/24", "2001:db8::1/64"]);
    let inside = Handle::open_in(&netns).unwrap();
    let index = give(&inside, "eth0", ["192.0.2.2/24", "2001:db8::2/64"]);
    let routes = vec![
        add_route(&Route::via("0.0.0.0/0".parse().unwrap(), OUTER.into(), index)),
        add_route(&Route::via("::/0".parse().unwrap(), OUTER6.into(), index)),
    ];
    inside.execute_each(routes).unwrap();
    netns
}

fn give(handle: &Handle, link: &str, addresses: [&str; 2]) -> u32 {
    let index = handle.link(link).unwrap().unwrap().index;
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    let mut requests = vec![change_link(index, &up)];
    requests.extend(addresses.map(|net| {
        let net = net.parse().unwrap();
        add_address(&Address { index, net })
    }));
    handle.execute_each(requests).unwrap();
    index
}
