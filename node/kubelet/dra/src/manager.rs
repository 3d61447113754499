//! Claims that are made ready here (upstream: `pkg/kubelet/cm/dra/manager.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::Value;

use crate::checkpoint::{Checkpoint, ClaimState, DeviceState};
use crate::claim::{Claim, PodClaim, claims_of, requests_of};
use crate::drivers::{AWAY, Client, Drivers, within};
use crate::error::ClaimsError;
use crate::v1;

const PREPARE: &str = "NodePrepareResources";
const UNPREPARE: &str = "NodeUnprepareResources";

/// What claims need of the API.
#[async_trait]
pub trait ClaimApi: Send + Sync + 'static {
    /// The ResourceClaim of this name.
    ///
    /// # Errors
    /// Why it cannot be had, for a person.
    async fn claim(&self, namespace: &str, name: &str) -> Result<Value, String>;

    /// Deletes the ResourceSlices that a driver has published for this node.
    ///
    /// # Errors
    /// Why that failed, for a person.
    async fn delete_slices(&self, driver: &str) -> Result<(), String>;
}

/// Claims and their drivers.
pub struct Claims {
    api: Arc<dyn ClaimApi>,
    checkpoint: Checkpoint,
    state: Mutex<State>,
    /// Held while drivers are asked: one pod after the other.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// By namespace and name.
    claims: BTreeMap<(String, String), ClaimState>,
    /// Uids of claims that are ready; after a restart drivers are asked again, to whom that is nothing new.
    ready: BTreeSet<String>,
    drivers: BTreeMap<String, Drivers>,
}

impl Claims {
    /// Reads what was made ready before from `checkpoint` (upstream: `/var/lib/kubelet/dra_manager_state`).
    ///
    /// # Errors
    /// [`ClaimsError::Read`]: what is to be taken back would be forgotten.
    pub fn open(checkpoint: PathBuf, api: Arc<dyn ClaimApi>) -> Result<Arc<Self>, ClaimsError> {
        let checkpoint = Checkpoint(checkpoint);
        let known = checkpoint.read()?.into_iter();
        let claims = known.map(|claim| ((claim.namespace.clone(), claim.name.clone()), claim));
        let state = State {
            claims: claims.collect(),
            ..State::default()
        };
        Ok(Arc::new(Self {
            api,
            checkpoint,
            state: Mutex::new(state),
            asking: tokio::sync::Mutex::default(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, state: &State) -> Result<(), ClaimsError> {
        self.checkpoint.write(state.claims.values())
    }

    /// Makes ready what the pod has claimed. Again for what is ready is fine.
    ///
    /// # Errors
    /// [`ClaimsError`]; what was made ready is taken back with the pod.
    pub async fn prepare(&self, pod: &Pod) -> Result<(), ClaimsError> {
        let claims = claims_of(pod)?;
        if claims.is_empty() {
            return Ok(());
        }
        let _one = self.asking.lock().await;
        let mut wanted: BTreeMap<String, Vec<v1::Claim>> = BTreeMap::new();
        for claim in claims {
            let claim = self.fetch(pod, claim).await?;
            for driver in self.begin(pod, &claim)? {
                wanted.entry(driver).or_default().push(message(&claim));
            }
        }
        // Before the drivers are asked, so that what they do is taken back even after a crash.
        self.remember(&self.lock())?;
        for (driver, claims) in &wanted {
            self.prepare_by(driver, claims).await?;
        }
        let mut state = self.lock();
        let ready = wanted.into_values().flatten().map(|claim| claim.uid);
        state.ready.extend(ready);
        self.remember(&state)
    }

    /// The claim's object, if the pod may use it.
    async fn fetch(&self, pod: &Pod, claim: PodClaim) -> Result<Claim, ClaimsError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let answer = self.api.claim(namespace, &claim.name).await;
        let object = answer.map_err(|why| ClaimsError::Fetch {
            name: claim.name,
            pod: pod.metadata.name.clone().unwrap_or_default(),
            why,
        })?;
        let found = Claim::of(&object);
        found.usable(pod, claim.own)?;
        Ok(found)
    }

    /// Notes that the pod uses the claim; the drivers that must make it ready.
    fn begin(&self, pod: &Pod, claim: &Claim) -> Result<Vec<String>, ClaimsError> {
        let mut state = self.lock();
        let key = (claim.namespace.clone(), claim.name.clone());
        let known = state.claims.entry(key).or_insert_with(|| ClaimState {
            uid: claim.uid.clone(),
            name: claim.name.clone(),
            namespace: claim.namespace.clone(),
            ..ClaimState::default()
        });
        if known.uid != claim.uid {
            return Err(ClaimsError::Replaced {
                name: claim.name.clone(),
                uid: known.uid.clone(),
            });
        }
        known.pods.extend(pod.metadata.uid.clone());
        for driver in claim.drivers.iter().flatten() {
            known.drivers.entry(driver.clone()).or_default();
        }
        let drivers = known.drivers.keys().cloned().collect();
        match state.ready.contains(&claim.uid) {
            true => Ok(Vec::new()),
            false => Ok(drivers),
        }
    }

    async fn prepare_by(&self, driver: &str, claims: &[v1::Claim]) -> Result<(), ClaimsError> {
        let mut client = self.client(driver)?;
        let request = v1::NodePrepareResourcesRequest {
            claims: claims.to_vec(),
        };
        let answer = within(client.node_prepare_resources(request)).await;
        let mut answer = answer.map_err(|source| ClaimsError::Call {
            call: PREPARE,
            source,
        })?;
        for claim in claims {
            let result = answer.claims.remove(&claim.uid);
            let error = result.as_ref().map(|result| result.error.clone());
            check(PREPARE, claim, error)?;
            let devices = result.unwrap_or_default().devices.into_iter().map(device);
            let mut state = self.lock();
            let key = (claim.namespace.clone(), claim.name.clone());
            if let Some(known) = state.claims.get_mut(&key) {
                known.drivers.insert(driver.to_owned(), devices.collect());
            }
        }
        Ok(())
    }

    /// Takes back what this pod alone has claimed.
    ///
    /// # Errors
    /// [`ClaimsError`]; what was not taken back is remembered.
    pub async fn unprepare(&self, uid: &str) -> Result<(), ClaimsError> {
        let uses = |claim: &ClaimState| claim.pods.contains(uid);
        if !self.lock().claims.values().any(uses) {
            return Ok(());
        }
        let _one = self.asking.lock().await;
        let claims: Vec<ClaimState> = self
            .lock()
            .claims
            .values()
            .filter(|one| uses(one))
            .cloned()
            .collect();
        for claim in claims {
            if claim.pods.len() == 1 {
                for driver in claim.drivers.keys() {
                    self.unprepare_by(driver, &claim).await?;
                }
            }
            let mut state = self.lock();
            let key = (claim.namespace, claim.name);
            if let Some(known) = state.claims.get_mut(&key) {
                known.pods.remove(uid);
                if known.pods.is_empty() {
                    state.claims.remove(&key);
                    state.ready.remove(&claim.uid);
                }
            }
            self.remember(&state)?;
        }
        Ok(())
    }

    async fn unprepare_by(&self, driver: &str, claim: &ClaimState) -> Result<(), ClaimsError> {
        let mut client = self.client(driver)?;
        let message = v1::Claim {
            namespace: claim.namespace.clone(),
            uid: claim.uid.clone(),
            name: claim.name.clone(),
        };
        let request = v1::NodeUnprepareResourcesRequest {
            claims: vec![message.clone()],
        };
        let answer = within(client.node_unprepare_resources(request)).await;
        let mut answer = answer.map_err(|source| ClaimsError::Call {
            call: UNPREPARE,
            source,
        })?;
        let result = answer.claims.remove(&message.uid);
        check(UNPREPARE, &message, result.map(|result| result.error))
    }

    /// Pods that have claims here and are not among these.
    pub fn strangers(&self, uids: &BTreeSet<String>) -> BTreeSet<String> {
        let state = self.lock();
        let pods = state.claims.values().flat_map(|claim| &claim.pods);
        pods.filter(|uid| !uids.contains(*uid)).cloned().collect()
    }

    /// What a container uses: each claim with the devices of it that are for the container.
    ///
    /// # Errors
    /// [`ClaimsError::NotPrepared`], [`ClaimsError::NotCreated`].
    pub fn of_container(&self, pod: &Pod, container: &Container) -> Result<Vec<ClaimState>, ClaimsError> {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let state = self.lock();
        let mut used = Vec::new();
        for claim in claims_of(pod)? {
            let requests = requests_of(container, &claim.local);
            if requests.is_empty() {
                continue;
            }
            let key = (namespace.clone(), claim.name);
            let Some(known) = state.claims.get(&key) else {
                return Err(ClaimsError::NotPrepared {
                    name: key.1,
                    namespace: key.0,
                });
            };
            let mut known = known.clone();
            for devices in known.drivers.values_mut() {
                devices.retain(|device| requests.iter().any(|request| is_for(device, request)));
            }
            used.push(known);
        }
        Ok(used)
    }

    fn client(&self, driver: &str) -> Result<Client, ClaimsError> {
        let state = self.lock();
        let newest = state.drivers.get(driver).and_then(Drivers::newest);
        newest.ok_or_else(|| ClaimsError::NoDriver(driver.to_owned()))
    }

    pub(crate) fn connected(&self, driver: &str, socket: PathBuf, client: Client) {
        let mut state = self.lock();
        state
            .drivers
            .entry(driver.to_owned())
            .or_default()
            .put(socket, client);
    }

    /// What the driver has published is taken away unless it is back soon.
    pub(crate) fn disconnected(self: &Arc<Self>, driver: &str, socket: &Path) {
        if let Some(drivers) = self.lock().drivers.get_mut(driver) {
            drivers.take(socket);
        }
        let (claims, driver) = (Arc::downgrade(self), driver.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(AWAY).await;
            let Some(claims) = claims.upgrade() else { return };
            if claims.client(&driver).is_ok() {
                return;
            }
            if let Err(error) = claims.api.delete_slices(&driver).await {
                tracing::warn!(
                    driver,
                    error,
                    "cannot delete what a driver that is gone has published"
                );
            }
        });
    }
}

fn message(claim: &Claim) -> v1::Claim {
    v1::Claim {
        namespace: claim.namespace.clone(),
        uid: claim.uid.clone(),
        name: claim.name.clone(),
    }
}

fn device(device: v1::Device) -> DeviceState {
    DeviceState {
        pool_name: device.pool_name,
        device_name: device.device_name,
        request_names: device.request_names,
        cdi_device_ids: device.cdi_device_ids,
    }
}

/// Whether a device is for this request; an empty name is all of them. Of a request with alternatives the device
/// names which one it became (`request/alternative`).
fn is_for(device: &DeviceState, request: &str) -> bool {
    let base = |name: &str| name.split('/').next().unwrap_or_default() == request;
    request.is_empty()
        || device.request_names.is_empty()
        || device.request_names.iter().any(|name| base(name))
}

/// What a driver said about one claim: none where it said nothing.
fn check(call: &'static str, claim: &v1::Claim, error: Option<String>) -> Result<(), ClaimsError> {
    let name = claim.name.clone();
    match error {
        None => Err(ClaimsError::LeftOut { call, name }),
        Some(why) if !why.is_empty() => Err(ClaimsError::Claim { call, name, why }),
        Some(_) => Ok(()),
    }
}
