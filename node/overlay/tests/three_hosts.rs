//! Three hosts with pods, both families, real packets between all pairs through every backend that this kernel has.
//! Needs root and tcpdump.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::IpAddr;
use std::time::Duration;

use common::{
    Capture, Cluster, Fabric, Frame, Host, Pod, ask, datagram, eventually, ping, serve_tcp, serve_udp,
};
use knode_overlay::{Backend, NetConf, Subnet, VxlanConf};

const SOON: Duration = Duration::from_secs(5);
const BRIEF: Duration = Duration::from_millis(200);

fn network() -> NetConf {
    NetConf::vxlan("172.30.0.0/16".parse().unwrap()).with_ipv6("fd00::/48".parse().unwrap())
}

fn with(backend: Backend) -> NetConf {
    NetConf { backend, ..network() }
}

fn direct() -> NetConf {
    with(Backend::Vxlan(VxlanConf {
        direct_routing: true,
        ..VxlanConf::default()
    }))
}

struct Site {
    hosts: Vec<Host>,
    subnets: Vec<Subnet>,
    pods: Vec<Pod>,
    cluster: Cluster,
    fabric: Fabric,
    conf: NetConf,
}

impl Site {
    fn new(conf: &NetConf) -> Self {
        let mut site = Self {
            hosts: Vec::new(),
            subnets: Vec::new(),
            pods: Vec::new(),
            cluster: Cluster::default(),
            fabric: Fabric::new(),
            conf: conf.clone(),
        };
        (1..=3).for_each(|n| site.join(n));
        site
    }

    /// A node comes, with a pod.
    fn join(&mut self, n: u8) {
        self.cluster.set_subnet(n, Some(&format!("172.30.{n}.0/24")));
        self.boot(n);
    }

    /// A machine starts whose node the cluster knows.
    fn boot(&mut self, n: u8) {
        let mut host = Host::new(&self.fabric, n);
        let subnet = host.start_ready(self.conf.clone(), self.cluster.store(n));
        self.pods.push(host.pod(subnet, 2));
        self.subnets.push(subnet);
        self.hosts.push(host);
    }

    /// The machine at this place is no more.
    fn crash(&mut self, at: usize) -> u8 {
        let n = self.hosts.remove(at).n;
        self.subnets.remove(at);
        self.pods.remove(at);
        eventually(
            "the end of its port",
            SOON,
            || (!self.fabric.has(n)).then_some(()),
            String::new,
        );
        n
    }

    /// Pings between all pairs of pods in both families, with the largest packet that fits.
    fn all_reach_all(&self) {
        let size = self.subnets[0].mtu as usize;
        for here in &self.pods {
            for there in self.pods.iter().filter(|there| there.ip != here.ip) {
                assert_eq!(there.ips().len(), 2, "both families");
                for to in there.ips() {
                    self.reaches(here, to, size);
                }
            }
        }
    }

    fn reaches(&self, here: &Pod, to: IpAddr, size: usize) {
        let seen = || {
            let state = |h: &Host| format!("{:#?}{:#?}{:?}", h.state(), h.state_v6(), h.routed("eth0", true));
            let states: Vec<_> = self.hosts.iter().map(state).collect();
            format!("{} to {to}: {}", here.ip, states.join("\n"))
        };
        eventually("an answer", SOON, || ping(&here.netns, to, size, BRIEF), seen);
    }

    /// TCP and UDP from every pod to every other, in both families.
    fn all_talk_to_all(&self) {
        let size = self.subnets[0].mtu as usize;
        for there in &self.pods {
            let others = || self.pods.iter().filter(|here| here.ip != there.ip);
            let count = others().count() * 2;
            let (tcp, udp) = (
                serve_tcp(&there.netns, 80, count),
                serve_udp(&there.netns, 53, count),
            );
            for here in others() {
                for (from, to) in here.ips().into_iter().zip(there.ips()) {
                    assert_eq!(ask(&here.netns, (to, 80), 300_000), format!("{from} 300000"));
                    let bytes = size - if to.is_ipv4() { 28 } else { 48 };
                    let back = datagram(&here.netns, (to, 53), bytes, SOON);
                    assert_eq!(back, Some(bytes), "{from} to {to}");
                }
            }
            tcp.join().unwrap();
            udp.join().unwrap();
        }
    }
}

/// Pings from the first pod to the second with the largest packet that fits, while somebody listens on the wire at the
/// second host; what went over it from the first host, or from the first pod itself.
fn watched(site: &Site, v6: bool) -> Vec<Frame> {
    let capture = Capture::start(&site.hosts[1].netns, "eth0");
    let (here, there) = (&site.pods[0], &site.pods[1]);
    let to = there.ips()[usize::from(v6)];
    let size = site.subnets[0].mtu as usize;
    site.reaches(here, to, size);
    let host: IpAddr = if v6 {
        "2001:db8::1".parse().unwrap()
    } else {
        site.hosts[0].ip().into()
    };
    let pod = here.ips()[usize::from(v6)];
    let ours = |frame: &Frame| {
        let inner = frame.vxlan().map(|(_, inner)| inner);
        (frame.is_from(host) && inner.is_some()) || frame.is_from(pod)
    };
    let found = || {
        let frames: Vec<_> = capture.frames().into_iter().filter(|f| ours(f)).collect();
        frames.iter().any(|f| f.length() >= size).then_some(frames)
    };
    eventually("the packet on the wire", SOON, found, || {
        format!(
            "{:?}",
            capture.frames().iter().map(Frame::length).collect::<Vec<_>>()
        )
    })
}

#[test]
fn vxlan_carries_both_families() {
    let site = Site::new(&network());
    assert_eq!(site.subnets[0].mtu, 1430, "what fits over IPv6 too");
    assert_eq!(site.subnets[0].ipv6, Some("fd00:0:0:1::/64".parse().unwrap()));
    site.all_reach_all();
    site.all_talk_to_all();
}

#[test]
fn vxlan_wraps_whole_packets_in_both_families() {
    let site = Site::new(&network());
    site.all_reach_all();
    for (v6, wrapping) in [(false, 50), (true, 70)] {
        let frames = watched(&site, v6);
        assert!(frames.iter().all(|f| !f.is_fragment()), "no packet is cut");
        let (vni, inner) = frames.iter().find_map(Frame::vxlan).expect("a wrapped packet");
        assert_eq!(vni, 1);
        assert!(
            inner.is_from(site.pods[0].ips()[usize::from(v6)]),
            "from the pod itself"
        );
        assert_eq!(inner.length(), 1430);
        let longest = frames.iter().map(Frame::length).max().unwrap();
        assert_eq!(longest, 1430 + wrapping);
    }
}

#[test]
fn host_gw_routes_both_families_unwrapped() {
    let site = Site::new(&with(Backend::HostGw));
    assert_eq!(site.subnets[0].mtu, 1500);
    site.all_reach_all();
    site.all_talk_to_all();
    for v6 in [false, true] {
        let frames = watched(&site, v6);
        assert!(frames.iter().all(|f| f.vxlan().is_none() && !f.is_fragment()));
        assert_eq!(frames.iter().map(Frame::length).max(), Some(1500));
    }
}

#[test]
fn direct_routing_wraps_nothing_on_one_link() {
    let site = Site::new(&direct());
    site.all_reach_all();
    site.all_talk_to_all();
    for v6 in [false, true] {
        assert!(watched(&site, v6).iter().all(|f| f.vxlan().is_none()));
    }
    assert_eq!(site.hosts[0].routed("flannel.1", false), [""; 0]);
    assert_eq!(site.hosts[0].routed("flannel-v6.1", true), [""; 0]);
}

#[test]
fn nodes_come_go_and_come_again() {
    let mut site = Site::new(&network());
    site.all_reach_all();
    site.join(4);
    site.all_reach_all();

    let gone = site.crash(1);
    site.cluster.remove(gone);
    for host in &site.hosts {
        let lists = || (host.routed("flannel.1", false), host.routed("flannel-v6.1", true));
        let forgotten = || {
            let (v4, v6) = lists();
            (v4.len() == 2 && v6.len() == 2).then_some(())
        };
        eventually("the removal", SOON, forgotten, || format!("{:?}", lists()));
    }
    site.all_reach_all();
    site.join(gone);
    site.all_reach_all();
}

#[test]
fn a_rebooted_node_is_reached_as_before() {
    let mut site = Site::new(&network());
    site.all_reach_all();
    let known = site.cluster.attributes(2);
    let others = site.hosts[0].state_v6();
    let n = site.crash(1);
    assert_eq!(
        site.hosts[0].state_v6(),
        others,
        "nobody is forgotten for being away"
    );
    site.boot(n);
    assert_eq!(
        site.cluster.attributes(2),
        known,
        "the others know its stations still"
    );
    site.all_reach_all();
}

#[test]
fn a_partition_heals() {
    let site = Site::new(&network());
    site.all_reach_all();
    let states = || {
        site.hosts
            .iter()
            .map(|h| (h.state(), h.state_v6()))
            .collect::<Vec<_>>()
    };
    let before = states();
    site.fabric.plug(2, false);
    let (one, three) = (&site.pods[0], &site.pods[2]);
    for to in site.pods[1].ips() {
        assert_eq!(ping(&one.netns, to, 100, BRIEF), None, "{to} is cut off");
    }
    for to in three.ips() {
        site.reaches(one, to, 1430);
    }
    site.fabric.plug(2, true);
    site.all_reach_all();
    assert_eq!(states(), before);
}
