use std::pin::Pin;
use std::time::Duration;

use knode_client::{Backoff, Retry};
use knode_netlink::{Event, Events, Readiness, Topic};
use knode_nft::{Monitor, Notice, TableRef};
use tokio::time::Instant;

use super::carrier::Carrier;
use super::{Overlay, Subnet, edge};
use crate::error::{Error, Result};
use crate::iptables;
use crate::lease::{Lease, LeaseAttributes, Leases};
use crate::masquerade::{self, Masquerade};
use crate::plan::Desired;
use crate::subnet_file::SubnetFile;
use crate::underlay::Underlay;

/// Changes come in swarms; they are answered together.
const SETTLE: Duration = Duration::from_millis(20);
/// After a failure: often enough to be back soon, seldom enough to cost nothing.
const AGAIN: Backoff = Backoff {
    initial: Duration::from_millis(200),
    max: Duration::from_secs(30),
    factor: 2.0,
    jitter: 0.2,
};

/// What woke the session.
enum Wake {
    Leases,
    Kernel,
    Underlay,
    Rules,
    Again,
    Renewed(Result<Lease>),
    Announced(Result<()>),
}

type Pending<'a, T> = Option<Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>>;

/// Serves a lease until dropped.
pub(super) async fn run(
    overlay: &Overlay,
    carrier: Carrier,
    attributes: LeaseAttributes,
    own: Lease,
) -> Result<()> {
    let topics = [Topic::Links, Topic::Addresses, Topic::Routes, Topic::Neighbours];
    let mut events = Events::open(&topics).map_err(Error::netlink("watch the network"))?;
    let mut rules = RuleWatch::open(overlay)?;
    let mut leases = overlay.store.leases();
    let mut session = Session {
        overlay,
        attributes,
        desired: Vec::new(),
        carrier,
        underlay: overlay.underlay.clone(),
        own,
        devices: Vec::new(),
        rules: false,
        filters: false,
        again: None,
        retry: Retry::new(AGAIN),
        renewal: None,
        renewals: Retry::new(Backoff::API),
        announcement: None,
    };
    loop {
        let now = leases.borrow_and_update().clone();
        session.step(now.as_deref()).await;
        let ended = || Error::store("follow the leases")(crate::StoreError::Ended);
        let wake = loop {
            let again = session.again;
            tokio::select! {
                changed = leases.changed() => break changed.map(|()| Wake::Leases).map_err(|_| ended())?,
                event = events.next() => {
                    let event = event.map_err(Error::netlink("watch the network"))?;
                    if session.underlay.concerned(&event) {
                        tokio::time::sleep(SETTLE).await;
                        break Wake::Underlay;
                    }
                    // After a failure the next try has its time: what the last one left half-done must not hasten it.
                    if again.is_none() && session.concerned(&event) {
                        tokio::time::sleep(SETTLE).await;
                        break Wake::Kernel;
                    }
                }
                touched = rules.touched() => match touched? {
                    Touched::Ours => break Wake::Rules,
                    Touched::Filters => {
                        tokio::time::sleep(SETTLE).await;
                        session.filters_changed().await;
                    }
                    Touched::Others => {}
                },
                () = sleep_until(again) => break Wake::Again,
                lease = poll(&mut session.renewal) => break Wake::Renewed(lease),
                done = poll(&mut session.announcement) => break Wake::Announced(done),
            }
        };
        if matches!(wake, Wake::Underlay) {
            session.follow().await;
        }
        session.woken(wake)?;
    }
}

struct Session<'a> {
    overlay: &'a Overlay,
    attributes: LeaseAttributes,
    own: Lease,
    underlay: Underlay,
    /// A value for each family.
    desired: Vec<Desired>,
    /// The tunnel device's index of each.
    devices: Vec<Option<u32>>,
    carrier: Carrier,
    /// The rules are in place.
    rules: bool,
    /// The host's own filters let the pods' packets pass.
    filters: bool,
    again: Option<Instant>,
    retry: Retry,
    renewal: Pending<'a, Lease>,
    /// Renewals in a row that the store did not keep.
    renewals: Retry,
    announcement: Pending<'a, ()>,
}

impl Session<'_> {
    fn woken(&mut self, wake: Wake) -> Result<()> {
        match wake {
            Wake::Leases | Wake::Kernel | Wake::Underlay => {}
            Wake::Again => self.again = None,
            Wake::Rules => {
                tracing::warn!(
                    table = masquerade::TABLE,
                    "somebody changed the overlay's rules; they are put back"
                );
                (self.rules, self.filters) = (false, false);
            }
            Wake::Renewed(lease) => {
                self.renewal = None;
                let lease = lease?;
                let of = |lease: &Lease| (lease.subnet, lease.ipv6_subnet);
                self.rules &= of(&lease) == of(&self.own);
                self.own = lease;
            }
            Wake::Announced(done) => {
                self.announcement = None;
                done?;
            }
        }
        Ok(())
    }

    /// Whether a change in the kernel may have undone something.
    fn concerned(&self, event: &Event) -> bool {
        let device = |side: usize| self.devices.get(side).copied().flatten();
        let mut sides = self.desired.iter().enumerate();
        sides.any(|(side, desired)| desired.concerned(device(side), event)) || self.carrier.concerned(event)
    }

    /// Brings everything to where it should be; what fails is tried again later.
    async fn step(&mut self, leases: Option<&Leases>) {
        self.desired = Desired::of(&self.overlay.config.conf, &self.underlay, &self.own, leases);
        if self.overlay.blackhole {
            let sides = std::mem::take(&mut self.desired).into_iter();
            self.desired = sides.map(|side| side.with_blackhole(&self.own)).collect();
        }
        self.renew(leases);
        match self.serve(leases).await {
            Ok(()) => {
                self.retry.succeeded();
                self.again = None;
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the overlay is not as it should be"
                );
                self.again = Some(Instant::now() + self.retry.failed());
            }
        }
    }

    /// Takes up what became of the interface; a new address is told to the others.
    async fn follow(&mut self) {
        let now = match self.overlay.edge.follow(&self.underlay).await {
            Ok(now) => now,
            Err(error) => {
                let again = Instant::now() + self.retry.failed();
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the interface is not followed"
                );
                self.again = Some(again);
                return;
            }
        };
        // Without an address there is nothing better than to wait for the old one.
        let wanted = |now: Underlay| Underlay {
            ipv6: match self.overlay.config.conf.ipv6 {
                Some(_) => now.ipv6.or(self.underlay.ipv6),
                None => self.underlay.ipv6,
            },
            ..now
        };
        let Some(now) = now.map(wanted).filter(|now| *now != self.underlay) else {
            return;
        };
        tracing::info!(interface = now.name, ip = %now.ip, mtu = now.mtu, "the interface to the other nodes changed");
        if self.attributes.public_ip == self.underlay.ip && self.overlay.config.wish.public_ip.is_none() {
            self.attributes.public_ip = now.ip;
        }
        let (old, new) = (
            self.underlay.ipv6.map(|net| net.addr()),
            now.ipv6.map(|net| net.addr()),
        );
        let told = self.attributes.public_ipv6;
        if told.is_some() && told == old && self.overlay.config.wish.public_ipv6.is_none() {
            self.attributes.public_ipv6 = new;
        }
        self.underlay = now;
    }

    async fn serve(&mut self, leases: Option<&Leases>) -> Result<()> {
        let overlay = self.overlay;
        let outcome = overlay.edge.reconcile(&self.desired).await?;
        self.devices = outcome.devices;
        for step in &outcome.steps {
            tracing::debug!(%step, "overlay");
        }
        if !self.rules {
            overlay.edge.masquerade(self.masquerade()).await?;
            self.rules = true;
        }
        let conf = &overlay.config.conf;
        self.carrier
            .serve(conf, &self.underlay, &self.own, leases)
            .await?;
        self.publish().await?;
        self.pass_filters().await
    }

    /// Somebody changed the host's own filters, which some do all the time: all else stays as it is.
    async fn filters_changed(&mut self) {
        self.filters = false;
        if let Err(error) = self.pass_filters().await {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the host's filters may drop pods' packets");
            self.again = Some(Instant::now() + self.retry.failed());
        }
    }

    async fn pass_filters(&mut self) -> Result<()> {
        if self.overlay.rules.forward && !self.filters {
            let networks = self.masquerade().iter().map(|rules| rules.network).collect();
            self.overlay.edge.accept(networks).await?;
            self.filters = true;
        }
        Ok(())
    }

    /// The rules of each family.
    fn masquerade(&self) -> Vec<Masquerade> {
        let config = &self.overlay.config;
        let rules = |network, subnet| Masquerade {
            network,
            subnet,
            enabled: config.masquerade,
            rules: self.overlay.rules,
        };
        let v4 = rules(config.conf.network.into(), self.own.subnet.into());
        let v6 = config.conf.ipv6.zip(self.own.ipv6_subnet);
        let v6 = v6.map(|(conf, subnet)| rules(conf.network.into(), subnet.into()));
        [v4].into_iter().chain(v6).collect()
    }

    /// Tells of the subnet: file, channel, cluster; once.
    async fn publish(&mut self) -> Result<()> {
        let mtu = self.carrier.mtu(&self.underlay);
        let subnet = Subnet::of(&self.overlay.config.conf, &self.desired, &self.own, mtu);
        if *self.overlay.subnet.borrow() == Some(subnet) {
            return Ok(());
        }
        let config = &self.overlay.config;
        let (network, path) = (config.conf.network, config.subnet_file.clone());
        let file = SubnetFile {
            network,
            subnet: subnet.ipv4,
            ipv6: config.conf.ipv6.map(|conf| conf.network).zip(subnet.ipv6),
            mtu: subnet.mtu,
            masquerade: config.masquerade,
        };
        edge::blocking("writing the subnet file", move || file.write(&path)).await?;
        self.overlay.subnet.send_replace(Some(subnet));
        let overlay = self.overlay;
        self.announcement = Some(Box::pin(overlay.announce()));
        Ok(())
    }

    /// Takes the lease again when the store no longer has it as it was taken.
    fn renew(&mut self, leases: Option<&Leases>) {
        let Some(recorded) = leases.map(|l| l.own.as_ref()) else {
            return;
        };
        let settled = recorded == Some(&self.own) && self.own.attributes == self.attributes;
        if settled {
            self.renewal = None;
            self.renewals.succeeded();
        }
        if settled || self.renewal.is_some() {
            return;
        }
        if recorded.is_none() {
            tracing::warn!(subnet = %self.own.subnet, "the store does not have this node's lease; it is taken again");
        }
        let (overlay, attributes, pause) = (self.overlay, self.attributes.clone(), self.renewals.failed());
        self.renewal = Some(Box::pin(async move {
            // The record of a lease just taken may still be on its way here.
            tokio::time::sleep(pause).await;
            overlay.acquire(&attributes).await
        }));
    }
}

async fn poll<T>(pending: &mut Pending<'_, T>) -> Result<T> {
    match pending {
        Some(future) => future.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Notices of others' changes to our rules.
struct RuleWatch {
    monitor: Monitor,
    readiness: Readiness,
}

impl RuleWatch {
    fn open(overlay: &Overlay) -> Result<Self> {
        let monitor = overlay.edge.monitor()?;
        let readiness = Readiness::of(&monitor).map_err(|_| Error::Stopped("watching the rules"))?;
        Ok(Self { monitor, readiness })
    }

    /// Waits for a change of rules by somebody else.
    async fn touched(&mut self) -> Result<Touched> {
        self.readiness
            .readable()
            .await
            .map_err(|_| Error::Stopped("watching the rules"))?;
        let notices = self.monitor.drain().map_err(Error::nft("watch the rules"))?;
        let of = |is: fn(&TableRef) -> bool| {
            notices.iter().any(|notice| match notice {
                Notice::Lost => true,
                Notice::Changed { table, .. } => is(table),
            })
        };
        Ok(if of(masquerade::is_ours) {
            Touched::Ours
        } else if of(iptables::is_filter) {
            Touched::Filters
        } else {
            Touched::Others
        })
    }
}

/// Whose rules somebody changed.
enum Touched {
    Ours,
    /// Those of the host's iptables.
    Filters,
    Others,
}
