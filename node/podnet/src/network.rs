use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use knode_netlink::{
    Event, Events, Handle, Link, LinkChange, LinkKind, Tolerate, Topic, change_link, delete_link,
};
use tokio::sync::{Semaphore, watch};

use crate::attach::{self, Assigned, Attachment, Plan, natural_mac};
use crate::config::{AddRequest, Config, Subnet};
use crate::error::{Error, Result};
use crate::hostport::{self, HostPorts};
use crate::ipam::{self, Ipam};
use crate::leaving::Leaving;
use crate::{bridge, name};

/// Changes under way at a time. The kernel makes them one after the other; more would only hold threads.
const AT_ONCE: usize = 4;

/// Whether pods can be connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// They can, with addresses of this subnet.
    Ready(Subnet),
    /// They cannot, for this reason.
    NotReady(String),
}

/// The pod network of one node. Clones are the same network.
#[derive(Debug, Clone)]
pub struct PodNet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    handle: Handle,
    ipam: Mutex<Ipam>,
    subnet: watch::Receiver<Option<Subnet>>,
    slots: Semaphore,
    problem: Mutex<Option<String>>,
    /// What the bridge was last made fit for by this process.
    ensured: Mutex<Option<Subnet>>,
    /// Opened by the first pod that comes or goes.
    host_ports: Mutex<Option<HostPorts>>,
    leaving: Leaving,
}

impl PodNet {
    /// Opens the pod network of the calling thread's namespace and takes up the leases of an earlier process.
    /// The bridge is made when `subnet` is known, by [`PodNet::run`] or by the first pod.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::LeaseFile`], [`Error::Netlink`].
    pub fn open(config: Config, subnet: watch::Receiver<Option<Subnet>>) -> Result<Self> {
        let handle = Handle::open().map_err(Error::netlink("open the pod network"))?;
        let ipam = Mutex::new(Ipam::open(&config.data_dir)?);
        let (slots, problem) = (Semaphore::new(AT_ONCE), Mutex::new(None));
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                handle,
                ipam,
                subnet,
                slots,
                problem,
                ensured: Mutex::new(None),
                host_ports: Mutex::new(None),
                leaving: Leaving::default(),
            }),
        })
    }

    /// Makes the bridge as soon as the subnet is known and again whenever it is deleted. Ends when the subnet's
    /// sender is gone; to be cancelled by dropping.
    ///
    /// # Errors
    /// [`Error::Netlink`] when the kernel's notices cannot be read.
    pub async fn run(&self) -> Result<()> {
        let listen = || Error::netlink("watch the bridge");
        let mut events = Events::open(&[Topic::Links]).map_err(listen())?;
        let mut subnet = self.inner.subnet.clone();
        subnet.mark_changed();
        loop {
            tokio::select! {
                changed = subnet.changed() => match changed {
                    Ok(()) => self.maintain().await,
                    Err(_) => return Ok(()),
                },
                event = events.next() => match event.map_err(listen())? {
                    Event::Lost => self.maintain().await,
                    Event::LinkGone(link) if link.name == self.inner.config.bridge => {
                        tracing::warn!(bridge = link.name, "the pods' bridge was deleted; it is made again");
                        self.maintain().await;
                    }
                    _ => {}
                },
            }
        }
    }

    /// Connects a sandbox: address, cable, routes. A sandbox that is connected already keeps its address.
    ///
    /// # Errors
    /// [`Error::NotReady`] without a subnet, [`Error::Exhausted`], [`Error::Attach`] when a step failed; nothing of
    /// the try remains then.
    pub async fn add(&self, request: AddRequest) -> Result<Attachment> {
        self.blocking("connecting a sandbox", move |inner| inner.add(&request))
            .await
    }

    /// Disconnects a sandbox. Its namespace may be gone; an unknown sandbox is no error.
    ///
    /// # Errors
    /// [`Error::Netlink`], [`Error::LeaseFile`]; may be tried again.
    pub async fn remove(&self, sandbox_id: &str) -> Result<()> {
        let doing = "disconnecting a sandbox";
        let mut told = self.inner.leaving.join(sandbox_id);
        // Whoever comes while others are being removed waits, and goes with all that wait.
        let _turn = self.inner.leaving.turn().await;
        if let Ok(result) = told.try_recv() {
            return result;
        }
        let inner = Arc::clone(&self.inner);
        let work = move || inner.leaving.leave(|ids| inner.remove(ids));
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| Error::Stopped(doing))?;
        told.try_recv().map_err(|_| Error::Stopped(doing))?
    }

    /// Whether pods can be connected now.
    pub fn status(&self) -> Status {
        match (*self.inner.subnet.borrow(), lock(&self.inner.problem).clone()) {
            (_, Some(problem)) => Status::NotReady(problem),
            (None, None) => Status::NotReady(Error::NotReady.to_string()),
            (Some(subnet), None) => Status::Ready(subnet),
        }
    }

    /// Disconnects every sandbox but the living; returns the addresses that became free. To be called when nothing
    /// is being added, after a start.
    ///
    /// # Errors
    /// [`Error::Netlink`], [`Error::LeaseFile`].
    pub async fn gc(&self, live: HashSet<String>) -> Result<Vec<IpAddr>> {
        self.blocking("collecting garbage", move |inner| inner.gc(&live))
            .await
    }

    /// Addresses in use and whose they are.
    pub fn leases(&self) -> Vec<(IpAddr, String)> {
        lock(&self.inner.ipam)
            .owners()
            .map(|(ip, owner)| (ip, owner.to_owned()))
            .collect()
    }

    async fn maintain(&self) {
        let result = self.blocking("repairing the bridge", Inner::maintain).await;
        let problem = result.err().map(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the pod network cannot be set up"
            );
            describe(&error)
        });
        *lock(&self.inner.problem) = problem;
    }

    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        let _slot = self
            .inner
            .slots
            .acquire()
            .await
            .map_err(|_| Error::Stopped(doing))?;
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .map_err(|_| Error::Stopped(doing))?
    }
}

impl Inner {
    fn add(&self, request: &AddRequest) -> Result<Attachment> {
        let subnet = (*self.subnet.borrow()).ok_or(Error::NotReady)?;
        let ips = lock(&self.ipam).acquire(subnet, &request.sandbox_id, &request.ips)?;
        self.connect(request, subnet, &ips).map_err(|source| {
            if let Err(undo) = self.remove(std::slice::from_ref(&request.sandbox_id)) {
                tracing::warn!(
                    error = &undo as &dyn std::error::Error,
                    ?ips,
                    "a failed connection was not undone"
                );
            }
            Error::Attach {
                sandbox: request.sandbox_id.clone(),
                ips,
                source: Box::new(source),
            }
        })
    }

    fn connect(&self, request: &AddRequest, subnet: Subnet, ips: &[IpAddr]) -> Result<Attachment> {
        let host_link = name::host_link(&request.sandbox_id);
        let bridge = self.bridge(subnet)?;
        let addresses = assigned(subnet, ips)?;
        let natural = ips.first().map(|ip| natural_mac(subnet, *ip));
        let mac = request.mac.or(natural).ok_or(Error::NotReady)?;
        let unnatural = ips.iter().filter(|ip| natural_mac(subnet, **ip) != mac);
        let plan = Plan {
            host_link: &host_link,
            interface: &self.config.interface,
            bridge,
            mtu: subnet.mtu,
            addresses: &addresses,
            mac,
            announced: &unnatural.copied().collect::<Vec<_>>(),
            bandwidth: request.bandwidth,
        };
        attach::connect(&self.handle, &request.netns, &plan)?;
        if !request.port_mappings.is_empty() {
            let sandbox_of = |ip| self.sandbox_of(ip);
            let (bridge, mappings) = (&self.config.bridge, &request.port_mappings);
            self.host_ports(|ports| ports.add(bridge, ips, mappings, sandbox_of))?;
        }
        Ok(Attachment {
            ips: ips.to_vec(),
            gateways: addresses.iter().map(|a| a.gateway).collect(),
            host_link,
            mac,
        })
    }

    fn sandbox_of(&self, ip: IpAddr) -> Option<String> {
        let ipam = lock(&self.ipam);
        let owner = ipam.owners().find(|(taken, _)| *taken == ip)?.1;
        Some(owner.to_owned())
    }

    /// Index of the bridge, which is there unless somebody deleted it just now.
    fn bridge(&self, subnet: Subnet) -> Result<u32> {
        let name = &self.config.bridge;
        let known = self
            .handle
            .link(name.as_str())
            .map_err(Error::netlink("look for the bridge"))?;
        let seen = *lock(&self.ensured) == Some(subnet);
        match known.filter(|l| seen && l.kind == LinkKind::Bridge && l.up && l.mtu == subnet.mtu) {
            Some(link) => Ok(link.index),
            None => self.ensure(subnet),
        }
    }

    fn ensure(&self, subnet: Subnet) -> Result<u32> {
        let index = bridge::ensure(&self.handle, &self.config.bridge, subnet)?;
        *lock(&self.ensured) = Some(subnet);
        Ok(index)
    }

    fn remove(&self, sandboxes: &[String]) -> Result<()> {
        let gone = |owner: &str| sandboxes.iter().any(|id| id == owner);
        let ips: Vec<_> = lock(&self.ipam)
            .owners()
            .filter(|(_, owner)| gone(owner))
            .map(|(ip, _)| ip)
            .collect();
        if !ips.is_empty() {
            self.host_ports(|ports| ips.iter().try_for_each(|ip| ports.remove(*ip)))?;
        }
        // An address is free only when the interface that had it is gone.
        let links: Vec<_> = sandboxes.iter().map(|id| name::host_link(id)).collect();
        attach::remove(&self.handle, &links)?;
        sandboxes
            .iter()
            .try_for_each(|id| lock(&self.ipam).release(id).map(drop))
    }

    fn gc(&self, live: &HashSet<String>) -> Result<Vec<IpAddr>> {
        let keep: HashSet<String> = live.iter().map(|id| name::host_link(id)).collect();
        remove_cables(&self.handle, |link| !keep.contains(link))?;
        let living: HashSet<IpAddr> = lock(&self.ipam)
            .owners()
            .filter(|(_, owner)| live.contains(*owner))
            .map(|(ip, _)| ip)
            .collect();
        self.host_ports(|ports| ports.retain(&living))?;
        lock(&self.ipam).retain(live)
    }

    /// Works on the host ports, taking them up first when nobody did.
    fn host_ports<T>(&self, work: impl FnOnce(&mut HostPorts) -> Result<T>) -> Result<T> {
        let mut slot = lock(&self.host_ports);
        let ports = match &mut *slot {
            Some(ports) => ports,
            empty => empty.insert(HostPorts::open()?),
        };
        work(ports)
    }

    fn maintain(&self) -> Result<()> {
        let Some(subnet) = *self.subnet.borrow() else {
            return Ok(());
        };
        let bridge = self.ensure(subnet)?;
        let change = LinkChange {
            master: Some(bridge),
            hairpin: Some(true),
            ..LinkChange::default()
        };
        let plug = Error::netlink("plug the pods' cables in");
        let links = self.handle.links().map_err(plug)?;
        let owned: HashSet<String> = lock(&self.ipam)
            .owners()
            .map(|(_, owner)| name::host_link(owner))
            .collect();
        for link in links
            .iter()
            .filter(|l| owned.contains(&l.name) && l.master != Some(bridge))
        {
            let plug = Error::netlink(format!("plug {} into {}", link.name, self.config.bridge));
            // The port's own settings are known only once it is a port.
            let requests = [
                LinkChange {
                    hairpin: None,
                    ..change.clone()
                },
                LinkChange {
                    master: None,
                    ..change.clone()
                },
            ];
            let requests = requests.iter().map(|c| change_link(link.index, c)).collect();
            self.handle.execute_each(requests).or_gone().map_err(plug)?;
        }
        Ok(())
    }
}

/// Removes what the pod network left in the calling thread's namespace, and the leases: bridge, cables, files.
/// Goes on after errors and returns them.
pub fn teardown(config: &Config) -> Vec<Error> {
    let mut errors = Vec::new();
    match Handle::open() {
        Ok(handle) => {
            errors.extend(remove_cables(&handle, |_| true).err());
            let bridge = handle.execute(delete_link(config.bridge.as_str())).or_gone();
            errors.extend(bridge.err().map(Error::netlink("remove the bridge")));
        }
        Err(error) => errors.push(Error::netlink("open the pod network")(error)),
    }
    errors.extend(hostport::teardown().err());
    if config.data_dir.exists() {
        let released = Ipam::open(&config.data_dir).and_then(|mut ipam| ipam.retain(&HashSet::new()));
        errors.extend(released.err());
    }
    errors
}

/// Removes pods' links whose cable `gone` says so of.
fn remove_cables(handle: &Handle, gone: impl Fn(&str) -> bool) -> Result<()> {
    let links = handle.links().map_err(Error::netlink("look for cables"))?;
    let ours = |link: &Link| match &link.kind {
        LinkKind::Veth => true,
        LinkKind::Other(kind) => kind == "ifb",
        _ => false,
    };
    let cables = links
        .iter()
        .filter(|l| ours(l))
        .filter_map(|l| name::cable_of(&l.name));
    let cables: HashSet<_> = cables.filter(|cable| gone(cable)).collect();
    if cables.is_empty() {
        return Ok(());
    }
    attach::remove(handle, &cables.into_iter().collect::<Vec<_>>())
}

/// The addresses with their prefixes and routers.
fn assigned(subnet: Subnet, ips: &[IpAddr]) -> Result<Vec<Assigned>> {
    let assign = |(network, ip): (IpNet, &IpAddr)| {
        Ok(Assigned {
            net: IpNet::new_assert(*ip, network.prefix_len()),
            gateway: ipam::gateway(network)?,
        })
    };
    subnet.networks().zip(ips).map(assign).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each holder leaves the value whole before anything that could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with its causes in one line.
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
