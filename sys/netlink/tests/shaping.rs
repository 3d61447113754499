//! Queues, announcements and waiting, against the running kernel, each test in namespaces of its own. Needs root.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv6Addr};
use std::process::Command;
use std::time::Duration;

use knode_netlink::*;

/// Two namespaces with a cable between them, both ends up with an address.
struct Cable {
    here: Netns,
    there: Netns,
    handle: Handle,
    other: Handle,
}

const HERE: &str = "fd00::1/64";
const THERE: &str = "fd00::2/64";
const BOUND: Duration = Duration::from_secs(10);

impl Cable {
    fn new() -> Self {
        let here = Netns::anonymous().expect("these tests need root (CAP_SYS_ADMIN)");
        let there = Netns::anonymous().unwrap();
        let (handle, other) = (Handle::open_in(&here).unwrap(), Handle::open_in(&there).unwrap());
        let spec = VethSpec {
            name: "one",
            mtu: 1450,
            master: None,
            peer_name: "two",
            peer_mac: None,
            peer_netns: Some(&there),
        };
        handle.execute(add_veth(&spec)).unwrap();
        let up = LinkChange {
            up: Some(true),
            ..LinkChange::default()
        };
        for (handle, link, net) in [(&handle, "one", HERE), (&other, "two", THERE)] {
            let index = handle.link(link).unwrap().unwrap().index;
            let net = net.parse().unwrap();
            let requests = vec![change_link(index, &up), add_address(&Address { index, net })];
            handle.execute_each(requests).unwrap();
        }
        Self {
            here,
            there,
            handle,
            other,
        }
    }

    fn one(&self) -> u32 {
        self.handle.link("one").unwrap().unwrap().index
    }

    fn tc(&self, arguments: &str) -> String {
        let run = || Command::new("tc").args(arguments.split(' ')).output();
        let output = self.here.run(run).unwrap().expect("these tests need tc");
        assert!(output.status.success(), "tc {arguments}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn a_bucket_is_what_was_asked_for() {
    let cable = Cable::new();
    let bucket = TokenBucket {
        rate: 1_250_000,
        burst: 65_536,
        limit: 100_000,
    };
    cable
        .handle
        .execute(set_token_bucket(cable.one(), bucket))
        .unwrap();
    let shown = cable.tc("qdisc show dev one root");
    assert!(
        shown.contains("tbf 1: ") && shown.contains("rate 10Mbit burst 64Kb"),
        "{shown}"
    );
    let faster = TokenBucket {
        rate: 10_000_000_000,
        ..bucket
    };
    cable
        .handle
        .execute(set_token_bucket(cable.one(), faster))
        .unwrap();
    let shown = cable.tc("qdisc show dev one root");
    assert!(shown.contains("rate 80Gbit"), "more than 32 bits: {shown}");
}

#[test]
fn what_is_received_goes_through_another_link() {
    let cable = Cable::new();
    cable.handle.execute(add_ifb("waiting", 1450)).unwrap();
    let ifb = cable.handle.link("waiting").unwrap().unwrap();
    assert_eq!(
        (ifb.kind, ifb.up, ifb.mtu),
        (LinkKind::Other("ifb".into()), true, 1450)
    );
    let requests = vec![add_ingress(cable.one()), redirect_ingress(cable.one(), ifb.index)];
    cable.handle.execute_each(requests).unwrap();
    let to: Ipv6Addr = "fd00::1".parse().unwrap();
    let settled = || settle(&cable.handle, &[to], BOUND);
    cable.here.run(settled).unwrap().unwrap();
    let socket = cable
        .here
        .run(|| std::net::UdpSocket::bind((to, 5000)).unwrap())
        .unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    let send = || {
        let from = std::net::UdpSocket::bind("[::]:0").unwrap();
        from.send_to(b"hello", (to, 5000)).unwrap();
    };
    cable.there.run(send).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(socket.recv(&mut buffer).unwrap(), 5, "it still arrives");
    let statistics = cable.tc("-s qdisc show dev one ingress");
    assert!(!statistics.contains("Sent 0 bytes"), "{statistics}");
    let again = cable.handle.execute(add_ingress(cable.one())).unwrap_err();
    assert!(again.is_already_exists(), "{again}");
}

#[test]
fn an_announcement_changes_what_others_remember() {
    let cable = Cable::new();
    let two = cable.other.link("two").unwrap().unwrap().index;
    let known = |ip: &str, mac: MacAddr| Neighbour {
        index: two,
        ip: ip.parse().unwrap(),
        mac: Some(mac),
        permanent: false,
    };
    let (old, new) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    let ips = ["fd00::9", "10.0.0.9"];
    let own = Address {
        index: two,
        net: "10.0.0.2/24".parse().unwrap(),
    };
    cable.other.execute(add_address(&own)).unwrap();
    for ip in ips {
        cable.other.execute(add_neighbour(&known(ip, old))).unwrap();
    }
    let addresses: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    let one = cable.one();
    let tell = || {
        settle_link(&cable.handle, "one", BOUND).unwrap();
        announce(one, new, &addresses).unwrap();
    };
    cable.here.run(tell).unwrap();
    for ip in &addresses {
        let neighbours = cable.other.neighbours(two).unwrap();
        let mac = neighbours.iter().find(|n| n.ip == *ip).and_then(|n| n.mac);
        assert_eq!(mac, Some(new), "{ip}");
    }
}

#[test]
fn waiting_ends_at_its_bound() {
    let cable = Cable::new();
    let nobody: Ipv6Addr = "fd00::77".parse().unwrap();
    let wait = || settle(&cable.handle, &[nobody], Duration::from_millis(50));
    let error = cable.here.run(wait).unwrap().unwrap_err();
    let timed_out =
        matches!(&error, Error::Socket { source, .. } if source.kind() == std::io::ErrorKind::TimedOut);
    assert!(timed_out, "{error:?}");
    let gone = cable
        .here
        .run(|| settle_link(&cable.handle, "nobody", BOUND))
        .unwrap();
    assert!(gone.unwrap_err().is_not_found());
}
