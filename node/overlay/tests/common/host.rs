use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use knode_netlink::{
    Address, BridgeSpec, Handle, LinkChange, MacAddr, Netns, Route, VethSpec, add_address, add_bridge,
    add_route, add_veth, change_link, delete_address, sysctl,
};
use knode_overlay::{Config, LeaseStore, NetConf, Overlay, Rules, Subnet, SubnetFile, Wish};
use tokio::runtime::Handle as Runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

const UP: LinkChange<'static> = LinkChange {
    up: Some(true),
    mtu: None,
    mac: None,
    master: None,
    hairpin: None,
    promiscuous: None,
    name: None,
    netns: None,
    group: None,
};

/// A switch.
pub struct Fabric {
    _netns: Netns,
    handle: Handle,
    bridge: u32,
}

impl Fabric {
    /// Pulls host `n`'s plug, or puts it in again.
    pub fn plug(&self, n: u8, up: bool) {
        let change = LinkChange {
            up: Some(up),
            ..LinkChange::default()
        };
        let port = format!("port{n}");
        self.handle.execute(change_link(port.as_str(), &change)).unwrap();
    }

    /// Whether host `n` is plugged in at all.
    pub fn has(&self, n: u8) -> bool {
        let port = format!("port{n}");
        self.handle.link(port.as_str()).unwrap().is_some()
    }

    pub fn new() -> Self {
        let netns = Netns::anonymous().expect("these tests need root (CAP_SYS_ADMIN)");
        let handle = Handle::open_in(&netns).unwrap();
        handle
            .execute(add_bridge(&BridgeSpec {
                name: "switch",
                mac: None,
                mtu: 1500,
            }))
            .unwrap();
        let bridge = handle.link("switch").unwrap().unwrap().index;
        Self {
            _netns: netns,
            handle,
            bridge,
        }
    }
}

/// A machine on the switch with the addresses 192.0.2.n and 2001:db8::n. Everything in it ends with it.
pub struct Host {
    pub n: u8,
    pub netns: Netns,
    pub links: Handle,
    runtime: Runtime,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    pub directory: PathBuf,
    overlay: Option<JoinHandle<()>>,
}

impl Host {
    pub fn new(fabric: &Fabric, n: u8) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let netns = Netns::anonymous().unwrap();
        let links = Handle::open_in(&netns).unwrap();
        let port = format!("port{n}");
        let spec = VethSpec {
            name: &port,
            mtu: 1500,
            master: Some(fabric.bridge),
            peer_name: "eth0",
            // A machine's card stays the same when it starts again.
            peer_mac: Some(MacAddr([2, 0, 0, 0, 0, n])),
            peer_netns: Some(&netns),
        };
        fabric.handle.execute(add_veth(&spec)).unwrap();
        let eth0 = links.link("eth0").unwrap().unwrap().index;
        let net = IpNet::new(Ipv4Addr::new(192, 0, 2, n).into(), 24).unwrap();
        let six = Address {
            index: eth0,
            net: format!("2001:db8::{n:x}/64").parse().unwrap(),
        };
        let requests = vec![
            add_address(&six),
            change_link("lo", &UP),
            change_link("eth0", &UP),
            add_address(&Address { index: eth0, net }),
            add_route(&Route::via(
                "0.0.0.0/0".parse().unwrap(),
                "192.0.2.254".parse().unwrap(),
                eth0,
            )),
        ];
        links.execute_each(requests).unwrap();
        netns
            .run(|| {
                sysctl::set("ipv4/ip_forward", "1").unwrap();
                sysctl::set("ipv6/conf/all/forwarding", "1").unwrap();
            })
            .unwrap();
        let (runtime, stop, thread) = start_runtime(&netns);
        let name = format!(
            "knode-overlay-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let directory = std::env::temp_dir().join(name);
        Self {
            n,
            netns,
            links,
            runtime,
            stop: Some(stop),
            thread: Some(thread),
            directory,
            overlay: None,
        }
    }

    pub fn ip(&self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, self.n)
    }

    pub fn subnet_file(&self) -> PathBuf {
        self.directory.join("flannel/subnet.env")
    }

    pub fn config(&self, conf: NetConf) -> Config {
        Config {
            conf,
            wish: Wish::default(),
            masquerade: true,
            subnet_file: self.subnet_file(),
        }
    }

    /// Gives the interface another address in place of its own.
    pub fn readdress(&self, from: &str, to: &str) {
        let index = self.links.link("eth0").unwrap().unwrap().index;
        let address = |net: &str| Address {
            index,
            net: net.parse().unwrap(),
        };
        self.links.execute(delete_address(&address(from))).unwrap();
        self.links.execute(add_address(&address(to))).unwrap();
    }

    /// Runs something among the host's tasks.
    pub fn enter<T>(&self, run: impl FnOnce() -> T) -> T {
        let _inside = self.runtime.enter();
        run()
    }

    /// Starts the overlay; the channel tells of its subnet.
    pub fn start(&mut self, conf: NetConf, store: Arc<dyn LeaseStore>) -> watch::Receiver<Option<Subnet>> {
        self.start_with(self.config(conf), store)
    }

    /// Likewise with all that can be configured.
    pub fn start_with(
        &mut self,
        config: Config,
        store: Arc<dyn LeaseStore>,
    ) -> watch::Receiver<Option<Subnet>> {
        self.launch(config, store, |overlay| overlay)
    }

    fn launch(
        &mut self,
        config: Config,
        store: Arc<dyn LeaseStore>,
        adjust: impl FnOnce(Overlay) -> Overlay + Send + 'static,
    ) -> watch::Receiver<Option<Subnet>> {
        let (tell, told) = std::sync::mpsc::channel();
        self.overlay = Some(self.runtime.spawn(async move {
            let overlay = adjust(Overlay::open(config, store).unwrap());
            tell.send(overlay.subnet()).unwrap();
            overlay.run().await.unwrap();
        }));
        told.recv_timeout(Duration::from_secs(10))
            .expect("the overlay opens")
    }

    /// Likewise with rules that are otherwise than usual.
    pub fn start_ruled(
        &mut self,
        conf: NetConf,
        store: Arc<dyn LeaseStore>,
        rules: Rules,
    ) -> watch::Receiver<Option<Subnet>> {
        self.launch(self.config(conf), store, move |overlay| overlay.with_rules(rules))
    }

    /// Likewise with a blackhole for the subnet's addresses that nobody has; waits until it is ready.
    pub fn start_blackholed(&mut self, conf: NetConf, store: Arc<dyn LeaseStore>) -> Subnet {
        let subnet = self.launch(self.config(conf), store, |overlay| overlay.with_blackhole(true));
        self.ready(&subnet)
    }

    /// Starts the overlay and waits until it is ready.
    pub fn start_ready(&mut self, conf: NetConf, store: Arc<dyn LeaseStore>) -> Subnet {
        let subnet = self.start(conf, store);
        self.ready(&subnet)
    }

    fn ready(&self, subnet: &watch::Receiver<Option<Subnet>>) -> Subnet {
        let seen = || format!("{:?}; {:?}", subnet.borrow(), self.links.links().map(|l| l.len()));
        super::eventually("the subnet", Duration::from_secs(10), || *subnet.borrow(), seen)
    }

    /// Runs the overlay until it ends by itself, and says why.
    pub fn run_to_end(&self, conf: NetConf, store: Arc<dyn LeaseStore>) -> String {
        self.run_config_to_end(self.config(conf), store)
    }

    /// Likewise with all that can be configured.
    pub fn run_config_to_end(&self, config: Config, store: Arc<dyn LeaseStore>) -> String {
        let (tell, told) = std::sync::mpsc::channel();
        self.runtime.spawn(async move {
            let ended = match Overlay::open(config, store) {
                Ok(overlay) => overlay.run().await,
                Err(error) => Err(error),
            };
            tell.send(ended.map_or_else(|e| e.to_string(), |()| "no reason".into()))
                .unwrap();
        });
        told.recv_timeout(Duration::from_secs(10))
            .expect("the overlay ends")
    }

    /// Ends the overlay as a kill would: nothing is cleaned up.
    pub fn kill(&mut self) {
        let task = self.overlay.take().expect("an overlay runs");
        task.abort();
        super::eventually(
            "the end",
            Duration::from_secs(5),
            || task.is_finished().then_some(()),
            String::new,
        );
    }

    /// Connects a pod with the host's subnet's address `.last`.
    pub fn pod(&self, subnet: Subnet, last: u8) -> Pod {
        let address = |last: u8| Ipv4Addr::from(u32::from(subnet.ipv4.network()) + u32::from(last));
        let net = |last: u8| IpNet::new(address(last).into(), subnet.ipv4.prefix_len()).unwrap();
        let address6 = |last: u8| {
            let subnet = subnet.ipv6.expect("a subnet of both families");
            Ipv6Addr::from(u128::from(subnet.network()) + u128::from(last))
        };
        let net6 = |last: u8| IpNet::new(address6(last).into(), 64).unwrap();
        if self.links.link("cni0").unwrap().is_none() {
            self.links
                .execute(add_bridge(&BridgeSpec {
                    name: "cni0",
                    mac: None,
                    mtu: subnet.mtu,
                }))
                .unwrap();
            let index = self.links.link("cni0").unwrap().unwrap().index;
            self.links
                .execute(add_address(&Address { index, net: net(1) }))
                .unwrap();
            if let Some(net) = subnet.ipv6.map(|_| net6(1)) {
                self.links.execute(add_address(&Address { index, net })).unwrap();
            }
        }
        let bridge = self.links.link("cni0").unwrap().unwrap().index;
        let netns = Netns::anonymous().unwrap();
        let name = format!("pod{last}");
        let spec = VethSpec {
            name: &name,
            mtu: subnet.mtu,
            master: Some(bridge),
            peer_name: "eth0",
            peer_mac: None,
            peer_netns: Some(&netns),
        };
        self.links.execute(add_veth(&spec)).unwrap();
        let inside = Handle::open_in(&netns).unwrap();
        let index = inside.link("eth0").unwrap().unwrap().index;
        let requests = vec![
            change_link(index, &UP),
            add_address(&Address {
                index,
                net: net(last),
            }),
            add_route(&Route::via(
                "0.0.0.0/0".parse().unwrap(),
                address(1).into(),
                index,
            )),
        ];
        inside.execute_each(requests).unwrap();
        if subnet.ipv6.is_some() {
            let net = net6(last);
            let default = Route::via("::/0".parse().unwrap(), address6(1).into(), index);
            let requests = vec![add_address(&Address { index, net }), add_route(&default)];
            inside.execute_each(requests).unwrap();
        }
        Pod {
            netns,
            ip: address(last),
            ip6: subnet.ipv6.map(|_| address6(last)),
        }
    }

    /// The IPv4 destinations that go through a link.
    pub fn destinations(&self, link: &str) -> Vec<String> {
        self.routed(link, false)
    }

    /// The destinations of a family that go through a link, without those that the kernel makes itself.
    pub fn routed(&self, link: &str, ipv6: bool) -> Vec<String> {
        let Some(link) = self.links.link(link).unwrap() else {
            return Vec::new();
        };
        let routes = self.links.routes(Some(link.index)).unwrap();
        routes
            .iter()
            .filter(|r| r.destination.addr().is_ipv6() == ipv6)
            .filter(|r| !ipv6 || r.protocol != Route::PROTOCOL_KERNEL)
            .map(|r| r.destination.to_string())
            .collect()
    }

    /// What the overlay put into the kernel for IPv4, without the device's index.
    pub fn state(&self) -> Vec<String> {
        self.state_of("flannel.1", false)
    }

    /// What the overlay put into the kernel for IPv6.
    pub fn state_v6(&self) -> Vec<String> {
        self.state_of("flannel-v6.1", true)
    }

    fn state_of(&self, device: &str, ipv6: bool) -> Vec<String> {
        let Some(link) = self.links.link(device).unwrap() else {
            return Vec::new();
        };
        let ours = |ip: IpAddr| match ip {
            IpAddr::V4(_) => !ipv6,
            IpAddr::V6(ip) => ipv6 && !ip.is_unicast_link_local() && !ip.is_multicast(),
        };
        let mut state = vec![format!(
            "{:?} {:?} mtu {} up {}",
            link.kind, link.mac, link.mtu, link.up
        )];
        let addresses = self.links.addresses(Some(link.index)).unwrap().into_iter();
        state.extend(
            addresses
                .filter(|a| ours(a.net.addr()))
                .map(|a| a.net.to_string()),
        );
        let routes = self.links.routes(Some(link.index)).unwrap().into_iter();
        let routes = routes.filter(|r| ours(r.destination.addr()) && r.protocol != Route::PROTOCOL_KERNEL);
        state.extend(routes.map(|r| format!("{} via {:?} onlink {}", r.destination, r.gateway, r.onlink)));
        let fdb = self.links.fdb(link.index).unwrap().into_iter();
        state.extend(fdb.map(|e| format!("{} at {:?} {}", e.mac, e.remote, e.permanent)));
        let neighbours = self.links.neighbours(link.index).unwrap().into_iter();
        let permanent = neighbours.filter(|n| n.permanent && ours(n.ip));
        state.extend(permanent.map(|n| format!("{} is {:?}", n.ip, n.mac)));
        state
    }

    /// How many rules the overlay's table has.
    pub fn rules(&self) -> usize {
        self.rules_of(knode_nft::Family::Ip)
    }

    /// How many rules the overlay's table of a family has.
    pub fn rules_of(&self, family: knode_nft::Family) -> usize {
        let table = knode_nft::TableRef::new(family, knode_overlay::NFT_TABLE);
        let count = || {
            let mut socket = knode_nft::Socket::open().unwrap();
            let there = socket.has_table(&table).unwrap();
            if there {
                socket.rules(&table).unwrap().len()
            } else {
                0
            }
        };
        self.netns.run(count).unwrap()
    }

    pub fn subnet_env(&self) -> Option<SubnetFile> {
        SubnetFile::parse(&std::fs::read_to_string(self.subnet_file()).ok()?).ok()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by itself.
            let _ = thread.join();
        }
        // Nothing to remove where the test never got that far.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A pod.
pub struct Pod {
    pub netns: Netns,
    pub ip: Ipv4Addr,
    /// Where the network has both families.
    pub ip6: Option<Ipv6Addr>,
}

impl Pod {
    /// Its addresses.
    pub fn ips(&self) -> Vec<IpAddr> {
        let six = self.ip6.map(IpAddr::V6);
        [IpAddr::V4(self.ip)].into_iter().chain(six).collect()
    }
}

/// A runtime whose every thread is in the namespace.
fn start_runtime(netns: &Netns) -> (Runtime, oneshot::Sender<()>, std::thread::JoinHandle<()>) {
    let (netns, (stop, stopped)) = (netns.clone(), oneshot::channel::<()>());
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            tell.send(runtime.handle().clone()).unwrap();
            // Ends when the sender is dropped.
            let _ = runtime.block_on(stopped);
        };
        netns.run(run).unwrap();
    });
    (told.recv().unwrap(), stop, thread)
}
