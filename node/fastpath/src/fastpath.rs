use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use knode_bpf::{Link as Hook, Program};
use knode_netlink::{Event, Events, Handle, Link, Topic, ethtool, sysctl};

use crate::conntrack::Trust;
use crate::error::{Error, Result};
use crate::packet::{self, cable, key};
use crate::pods::{Bridge, News, Station, is_uplink};
use crate::program::{self, Kernel, Pods};
use crate::table::Table;
use crate::tunnels::Tunnels;

/// Addresses of pods of one node; upstream's nodes have some hundreds.
const CAPACITY: u32 = 65_536;
/// Tunnels' devices of one node: the overlay's is one.
const DEVICES: u32 = 64;
/// No number of a namespace.
const NO_NAMESPACE: i32 = -1;
/// Connection tracking does not see every segment, so it must not judge by sequence numbers.
const LIBERAL: &str = "netfilter/nf_conntrack_tcp_be_liberal";
/// What a link has that nobody limits.
const NO_DISCIPLINE: &str = "noqueue";

/// The short cut of one network namespace, between a bridge's pods and the other interfaces. Ends when dropped.
#[derive(Debug)]
pub struct FastPath {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    handle: Handle,
    kernel: Kernel,
    name: String,
    map: Pods,
    peers: Table<{ packet::PEER }, { packet::WRAPPING }>,
    devices: Table<{ packet::ENDPOINT }, { packet::DEVICE }>,
    bridge: Bridge,
    tunnels: Tunnels,
    loaded: Option<Loaded>,
    /// The host's interfaces, by index.
    uplinks: HashMap<u32, Hook>,
    /// The pods' cables, by index; none at one that somebody limits.
    cables: HashMap<u32, Option<Hook>>,
    pods: BTreeMap<IpAddr, Station>,
}

/// Programs and what they are made for.
#[derive(Debug)]
struct Loaded {
    bridge: u32,
    trust: Trust,
    from_pod: Program,
    to_pod: Program,
}

impl FastPath {
    /// Prepares the short cut between pods on the bridge `bridge`, which need not be there yet, and the other interfaces
    /// of the calling thread's namespace, and tries it on the kernel. Nothing is attached yet.
    ///
    /// # Errors
    /// [`Error::Kernel`] where the kernel lacks what it takes (types that programs can read, functions for connection
    /// tracking, hooks of Linux 6.6), [`Error::Timeout`], [`Error::Netlink`].
    pub fn open(bridge: &str) -> Result<Self> {
        let inner = Inner {
            handle: Handle::open().map_err(Error::netlink("open the short cut"))?,
            kernel: Kernel::running().map_err(Error::kernel("read the kernel's types"))?,
            name: bridge.to_owned(),
            map: Pods::new("knode_pods", CAPACITY).map_err(Error::kernel("make the map of pods"))?,
            peers: Table::new("knode_peers", CAPACITY)?,
            devices: Table::new("knode_devices", DEVICES)?,
            bridge: Bridge::default(),
            tunnels: Tunnels::default(),
            loaded: None,
            uplinks: HashMap::new(),
            cables: HashMap::new(),
            pods: BTreeMap::new(),
        };
        inner.load(0, Trust::read()?)?;
        sysctl::set(LIBERAL, "1").map_err(Error::netlink("let connection tracking miss segments"))?;
        Ok(Self {
            inner: Arc::new(Mutex::new(inner)),
        })
    }

    /// Follows the host's interfaces and the bridge's pods. To be cancelled by dropping.
    ///
    /// # Errors
    /// [`Error::Netlink`] when the kernel's notices cannot be read.
    pub async fn run(&self) -> Result<()> {
        let listen = || Error::netlink("watch interfaces and pods");
        let mut events = Events::open(&[Topic::Links, Topic::Neighbours]).map_err(listen())?;
        self.take(Event::Lost).await;
        loop {
            let event = events.next().await.map_err(listen())?;
            self.take(event).await;
        }
    }

    async fn take(&self, event: Event) {
        let work: fn(&mut Inner) -> Result<()> = match lock(&self.inner).news(&event) {
            News::None => return,
            News::Pods => Inner::program_pods,
            News::Peers => Inner::program_tunnels,
            News::Links => Inner::survey,
        };
        let inner = Arc::clone(&self.inner);
        let work = move || work(&mut lock(&inner));
        // Only a runtime that ends cancels it.
        if let Ok(Err(error)) = tokio::task::spawn_blocking(work).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "packets between pods of different hosts go the long way"
            );
        }
    }
}

impl Inner {
    /// Takes in one change, and says what is to be done. Most changes of neighbours and links concern nothing here.
    fn news(&mut self, event: &Event) -> News {
        match self.bridge.take(event) {
            News::Links if !self.concerns(event) => News::None,
            News::None if self.tunnels.take(event) => News::Peers,
            news => news,
        }
    }

    /// Whether a link that is no port of the bridge changes anything.
    fn concerns(&self, event: &Event) -> bool {
        self.tunnels.concerns(event) || self.concerns_uplinks(event)
    }

    fn concerns_uplinks(&self, event: &Event) -> bool {
        match event {
            Event::Link(link) if link.name == self.name => link.index != self.bridge.index,
            Event::Link(link) => is_uplink(link, self.bridge.index) != self.uplinks.contains_key(&link.index),
            Event::LinkGone(link) => {
                link.index == self.bridge.index || self.uplinks.contains_key(&link.index)
            }
            _ => true,
        }
    }

    /// Reads everything anew and attaches what should be attached.
    fn survey(&mut self) -> Result<()> {
        let read = || Error::netlink("read interfaces and pods");
        let links = self.handle.links().map_err(read())?;
        self.bridge = Bridge::among(&links, &self.name).unwrap_or_default();
        if self.bridge.index != 0 {
            for neighbour in self.handle.neighbours(self.bridge.index).map_err(read())? {
                self.bridge.take(&Event::Neighbour(neighbour));
            }
            for port in self.bridge.ports().collect::<Vec<_>>() {
                for entry in self.handle.fdb(port).map_err(read())? {
                    self.bridge.take(&Event::Fdb(entry));
                }
            }
            self.renew()?;
        }
        self.read_tunnels(&links)?;
        self.program_tunnels()?;
        let uplinks = links.iter().filter(|l| is_uplink(l, self.bridge.index));
        self.attach_uplinks(&uplinks.map(|l| l.index).collect::<Vec<_>>())?;
        self.program_pods()
    }

    fn read_tunnels(&mut self, links: &[Link]) -> Result<()> {
        // One that can't be asked is left to the kernel.
        let sums = |link: &Link| ethtool::tx_checksum(&link.name).unwrap_or(false);
        self.tunnels = Tunnels::among(links, sums);
        for device in self.tunnels.devices() {
            let entries = self.handle.fdb(device);
            for entry in entries.map_err(Error::netlink("read a tunnel's peers"))? {
                self.tunnels.learn(&entry);
            }
        }
        Ok(())
    }

    fn program_tunnels(&mut self) -> Result<()> {
        self.devices.bring(self.tunnels.endpoints())?;
        self.peers.bring(self.tunnels.wrappings())
    }

    fn attach_uplinks(&mut self, wanted: &[u32]) -> Result<()> {
        let Some(loaded) = &self.loaded else { return Ok(()) };
        self.uplinks.retain(|index, _| wanted.contains(index));
        for index in wanted {
            if !self.uplinks.contains_key(index)
                && let Some(hook) = attach(&loaded.to_pod, *index)?
            {
                self.uplinks.insert(*index, hook);
            }
        }
        Ok(())
    }

    /// Brings map and cables to what is known of pods. Who leaves goes first.
    fn program_pods(&mut self) -> Result<()> {
        let wanted = self.bridge.pods();
        let left = self.pods.keys().filter(|ip| !wanted.contains_key(ip));
        for ip in left.copied().collect::<Vec<_>>() {
            self.forget(ip)?;
        }
        let ports: Vec<u32> = self.bridge.ports().collect();
        self.cables.retain(|index, _| ports.contains(index));
        for (ip, station) in wanted {
            if self.pods.get(&ip) != Some(&station) {
                self.remember(ip, station)?;
            }
        }
        Ok(())
    }

    fn forget(&mut self, ip: IpAddr) -> Result<()> {
        self.map.remove(&key(ip)).map_err(Error::kernel("forget a pod"))?;
        self.pods.remove(&ip);
        Ok(())
    }

    fn remember(&mut self, ip: IpAddr, station: Station) -> Result<()> {
        if !self.cables.contains_key(&station.port) {
            let hook = self.hook(station.port)?;
            self.cables.insert(station.port, hook);
        }
        if self.cables.get(&station.port).is_none_or(Option::is_none) {
            return self.forget(ip);
        }
        let namespace = self.bridge.namespace(station.port).unwrap_or(NO_NAMESPACE);
        let router = self.bridge.mac.map(|mac| mac.0).unwrap_or_default();
        self.map
            .insert(&key(ip), &cable(station.port, station.mac.0, router, namespace))
            .map_err(Error::kernel("remember a pod"))?;
        self.pods.insert(ip, station);
        Ok(())
    }

    /// Hooks a pod's cable, unless somebody limits what goes through it.
    fn hook(&mut self, port: u32) -> Result<Option<Hook>> {
        let disciplines = self
            .handle
            .disciplines(port)
            .map_err(Error::netlink("look for a pod's limits"))?;
        if disciplines.iter().any(|kind| kind != NO_DISCIPLINE) {
            return Ok(None);
        }
        self.renew()?;
        match &self.loaded {
            Some(loaded) => attach(&loaded.from_pod, port),
            None => Ok(None),
        }
    }

    /// Programs for the bridge and the timeouts of now.
    fn renew(&mut self) -> Result<()> {
        let (bridge, trust) = (self.bridge.index, Trust::read()?);
        let fits = |l: &Loaded| l.bridge == bridge && l.trust == trust;
        if self.loaded.as_ref().is_some_and(fits) {
            return Ok(());
        }
        let loaded = self.load(bridge, trust)?;
        for (index, hook) in &mut self.uplinks {
            if let Some(attached) = attach(&loaded.to_pod, *index)? {
                *hook = attached;
            }
        }
        for (index, hook) in &mut self.cables {
            if hook.is_some() {
                *hook = attach(&loaded.from_pod, *index)?;
            }
        }
        self.loaded = Some(loaded);
        Ok(())
    }

    fn load(&self, bridge: u32, trust: Trust) -> Result<Loaded> {
        let refused = || Error::kernel("load the short cut");
        let from_pod = program::from_pod(self.kernel, trust, bridge.cast_signed(), self.peers.map());
        let to_pod = program::to_pod(self.kernel, trust, &self.map, self.devices.map());
        Ok(Loaded {
            bridge,
            trust,
            from_pod: Program::load("knode_from_pod", from_pod).map_err(refused())?,
            to_pod: Program::load("knode_to_pod", to_pod).map_err(refused())?,
        })
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hooks a program to an interface, unless that went away.
fn attach(program: &Program, interface: u32) -> Result<Option<Hook>> {
    match Hook::ingress(program, interface) {
        Ok(hook) => Ok(Some(hook)),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(Error::kernel("attach the short cut")(error)),
    }
}
