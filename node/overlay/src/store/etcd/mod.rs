//! Leases in etcd v3, as upstream's `pkg/subnet/etcd` keeps them.

mod choice;
mod follow;
mod key;
mod listing;
mod renew;
mod view;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{LeaseStore, Previous, StoreError};
use crate::config::NetConf;
use crate::etcd::{Etcd, EtcdError, When};
use crate::lease::{Lease, LeaseAttributes, Leases};
use crate::subnet_file::SubnetFile;
use choice::{Choice, choose};
use renew::Held;
use view::{Record, View};

pub use key::{Prefix, SubnetKey};
pub use listing::{Listed, list_leases};

/// How leases are taken.
#[derive(Debug, Clone)]
pub struct EtcdConfig {
    /// Where in etcd the network lies.
    pub prefix: Prefix,
    /// The network.
    pub conf: NetConf,
    /// What an earlier start wrote: the subnet in it is taken again when it is free.
    pub subnet_file: PathBuf,
    /// How long a lease lasts (upstream: 24 hours).
    pub time_to_live: Duration,
    /// How long before its end it is renewed (upstream: 60 minutes).
    pub renew_margin: Duration,
}

/// Leases in etcd. Follows and renews them in tasks that end with it.
pub struct EtcdLeases {
    shared: Arc<Shared>,
    tasks: [AbortHandle; 2],
}

struct Shared {
    etcd: Etcd,
    config: EtcdConfig,
    view: Mutex<View>,
    leases: watch::Sender<Option<Arc<Leases>>>,
    held: watch::Sender<Option<Held>>,
}

impl EtcdConfig {
    /// Upstream's times.
    pub fn new(prefix: Prefix, conf: NetConf, subnet_file: PathBuf) -> Self {
        Self {
            prefix,
            conf,
            subnet_file,
            time_to_live: Duration::from_secs(24 * 3600),
            renew_margin: Duration::from_secs(3600),
        }
    }
}

impl EtcdLeases {
    /// Starts to follow the leases. Must be called within a tokio runtime.
    pub fn start(etcd: Etcd, config: EtcdConfig) -> Self {
        let shared = Arc::new(Shared {
            etcd,
            view: Mutex::new(View::new(config.prefix.clone())),
            config,
            leases: watch::Sender::new(None),
            held: watch::Sender::new(None),
        });
        let follower = tokio::spawn(follow::run(Arc::clone(&shared)));
        let renewer = tokio::spawn(renew::run(Arc::clone(&shared)));
        Self {
            shared,
            tasks: [follower.abort_handle(), renewer.abort_handle()],
        }
    }
}

impl Drop for EtcdLeases {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[async_trait]
impl LeaseStore for EtcdLeases {
    async fn previous(&self, public_ip: Ipv4Addr) -> Result<Previous, StoreError> {
        self.shared.change(|view| view.set_public_ip(public_ip));
        self.shared.list().await?;
        Ok(self.shared.look(View::previous))
    }

    async fn acquire(&self, attributes: &LeaseAttributes) -> Result<Lease, StoreError> {
        self.shared
            .change(|view| view.set_public_ip(attributes.public_ip));
        loop {
            self.shared.list().await?;
            if let Some(lease) = self.shared.try_acquire(attributes).await? {
                return Ok(lease);
            }
            tracing::info!("another node was faster; choosing again");
        }
    }

    fn leases(&self) -> watch::Receiver<Option<Arc<Leases>>> {
        self.shared.leases.subscribe()
    }

    /// There is nobody to tell.
    async fn announce_ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Shared {
    fn look<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the view and tells of it.
    fn change<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut view);
        // Told under the lock, so that older news never come after newer.
        if let Some(now) = view.leases() {
            self.leases.send_if_modified(|seen| {
                let changed = seen.as_deref() != Some(&now);
                if changed {
                    *seen = Some(Arc::new(now));
                }
                changed
            });
        }
        result
    }

    /// Lists the leases; the revision that they are of.
    async fn list(&self) -> Result<i64, StoreError> {
        let listed = self.etcd.list(&self.config.prefix.subnets()).await;
        let (keys, revision) = listed.map_err(failed("list the leases"))?;
        self.change(|view| view.list(&keys, revision));
        Ok(revision)
    }

    /// One attempt on what is known now; `None` when somebody else was faster.
    async fn try_acquire(&self, attributes: &LeaseAttributes) -> Result<Option<Lease>, StoreError> {
        let mine = self.look(|view| view.mine().first().map(|(k, r)| (*k, r.revision, r.lease)));
        if let Some((key, ..)) = mine
            && self.give_up_if_contested(key).await?
        {
            return Ok(None);
        }
        let (taken, held) = self.look(|view| (view.taken(), view.held()));
        let before = held.or_else(|| self.written_before());
        match choose(&self.config.conf, mine.map(|m| m.0), before, &taken, random) {
            Choice::Exhausted(network) => Err(StoreError::Exhausted {
                network,
                leases: taken.len(),
            }),
            Choice::Take(key) => self.take(key, attributes, &mine).await,
            Choice::Renew(_) => {
                let Some((key, revision, lease)) = mine else {
                    return Ok(None);
                };
                tracing::info!(
                    "Found lease ({}) for current IP ({}), reusing",
                    shown(key),
                    attributes.public_ip
                );
                self.write(key, attributes, lease == 0, When::Unchanged(revision))
                    .await
            }
        }
    }

    /// Takes free subnets. A lease that is this node's by its address but no longer fits the configuration is given up,
    /// as upstream does.
    async fn take(
        &self,
        key: SubnetKey,
        attributes: &LeaseAttributes,
        unfit: &Option<(SubnetKey, i64, i64)>,
    ) -> Result<Option<Lease>, StoreError> {
        let lease = self.write(key, attributes, false, When::Absent).await?;
        if lease.is_some() {
            self.list().await?;
            if self.give_up_if_contested(key).await? {
                return Ok(None);
            }
            tracing::info!(
                "Allocated lease ({}) to current node ({})",
                shown(key),
                attributes.public_ip
            );
            if let Some((old, ..)) = unfit.filter(|(old, ..)| *old != key) {
                tracing::info!(
                    "Lease ({}) does not fit the network any more; removing it",
                    shown(old)
                );
                let gone = self.etcd.delete(&self.config.prefix.subnet(old)).await;
                gone.map_err(failed("remove an old lease"))?;
            }
        }
        Ok(lease)
    }

    /// Removes this node's lease when an elder one has some of its addresses.
    async fn give_up_if_contested(&self, key: SubnetKey) -> Result<bool, StoreError> {
        let Some(elder) = self.look(|view| view.contested(key)) else {
            return Ok(false);
        };
        tracing::warn!(
            "Lease ({}) shares addresses with ({}), which is elder; giving it up",
            shown(key),
            shown(elder)
        );
        let gone = self.etcd.delete(&self.config.prefix.subnet(key)).await;
        gone.map_err(failed("remove a contested lease"))?;
        self.held.send_replace(None);
        self.change(|view| view.gave_up(key));
        Ok(true)
    }

    /// Writes the lease under a new grant; `None` when the key is not as expected.
    async fn write(
        &self,
        key: SubnetKey,
        attributes: &LeaseAttributes,
        reserved: bool,
        when: When,
    ) -> Result<Option<Lease>, StoreError> {
        let granted = if reserved { 0 } else { self.grant().await? };
        let from = Instant::now();
        let (name, value) = (self.config.prefix.subnet(key), attributes.to_json());
        let written = self.etcd.write(&name, &value, granted, when).await;
        let Some(revision) = written.map_err(failed("write the lease"))? else {
            self.give_back(granted).await;
            return Ok(None);
        };
        let created = match when {
            When::Absent => revision,
            When::Unchanged(_) => self.look(|view| view.created(key)).unwrap_or(revision),
        };
        let record = Record {
            attributes: Some(attributes.clone()),
            created,
            revision,
            lease: granted,
        };
        self.change(|view| view.wrote(key, record));
        self.held.send_replace((granted != 0).then(|| Held {
            key,
            attributes: attributes.clone(),
            revision,
            lease: granted,
            end: from + self.config.time_to_live,
        }));
        Ok(Some(Lease {
            subnet: key.ipv4,
            ipv6_subnet: key.ipv6,
            attributes: attributes.clone(),
        }))
    }

    async fn grant(&self) -> Result<i64, StoreError> {
        let seconds = i64::try_from(self.config.time_to_live.as_secs()).unwrap_or(i64::MAX);
        self.etcd.grant(seconds).await.map_err(failed("grant a lease"))
    }

    /// Ends a grant that nothing is under. It would end by itself.
    async fn give_back(&self, lease: i64) {
        if lease == 0 {
            return;
        }
        if let Err(error) = self.etcd.revoke(lease).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "an unused grant stays");
        }
    }

    fn written_before(&self) -> Option<SubnetKey> {
        let text = std::fs::read_to_string(&self.config.subnet_file).ok()?;
        let file = SubnetFile::parse(&text).ok()?;
        Some(SubnetKey {
            ipv4: file.subnet,
            ipv6: file.ipv6.map(|(_, subnet)| subnet),
        })
    }
}

/// A lease's subnets for the log.
fn shown(key: SubnetKey) -> String {
    match key.ipv6 {
        Some(ipv6) => format!("{} {ipv6}", key.ipv4),
        None => key.ipv4.to_string(),
    }
}

/// Reads the network's configuration; `None` when there is none.
///
/// # Errors
/// [`EtcdError`].
pub async fn read_config(etcd: &Etcd, prefix: &Prefix) -> Result<Option<String>, EtcdError> {
    let value = etcd.get(&prefix.config()).await?;
    Ok(value.map(|v| String::from_utf8_lossy(&v).into_owned()))
}

fn failed(op: &'static str) -> impl FnOnce(EtcdError) -> StoreError {
    move |source| StoreError::Etcd {
        op,
        source: Box::new(source),
    }
}

fn random(below: usize) -> usize {
    rand::random_range(0..below.max(1))
}
