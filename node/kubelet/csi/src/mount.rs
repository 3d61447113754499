//! Attached, staged, published, as large as wanted (upstream: `pkg/volume/csi/csi_attacher.go`, `csi_mounter.go`,
//! `csi_block.go`, `expander.go`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use knode_linux::overlay::is_mount_point;
use knode_volumes::{DriverMount, DriverVolume, Phase, SecretName, Size, TokenQuery, VolumeError};
use serde_json::{Value, json};

use crate::client::{Driver, answer, timed};
use crate::csi::Csi;
use crate::layout::{VolumeData, digest};
use crate::plan::{DriverRules, capability, pod_info};
use crate::v1::{
    CapacityRange, NodeExpandVolumeRequest, NodePublishVolumeRequest, NodeStageVolumeRequest,
    VolumeCapability,
};

/// How long an attachment is waited for before the pod's events tell of it, and between two looks.
const ATTACHED: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(500);

type Map = BTreeMap<String, String>;

/// One volume for one pod, with all that its calls need.
struct Job<'a> {
    csi: &'a Csi,
    volume: &'a DriverVolume,
    pod: &'a Pod,
    driver: Driver,
    rules: DriverRules,
    data: VolumeData,
    group: Option<u32>,
    context: Map,
}

impl Csi {
    pub(crate) async fn mount_for(
        &self,
        volume: &DriverVolume,
        pod: &Pod,
    ) -> Result<DriverMount, VolumeError> {
        let mut job = Job::new(self, volume, pod).await?;
        let _alone = self.alone_with(&job.data).await;
        job.run().await
    }

    async fn secret(&self, name: Option<&SecretName>) -> Result<Map, String> {
        let Some((namespace, name)) = name else {
            return Ok(Map::new());
        };
        let found = self.config.objects.secret(namespace, name).await;
        let found =
            found.map_err(|error| format!("failed to get secret from {namespace:?}/{name:?}: {error}"))?;
        let found = found.ok_or_else(|| {
            format!("failed to get secret from {namespace:?}/{name:?}: secrets {name:?} not found")
        })?;
        let data = found.data.iter().flatten();
        Ok(data
            .map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned()))
            .collect())
    }

    async fn rules(&self, driver: &str) -> Result<DriverRules, String> {
        let path = format!("/apis/storage.k8s.io/v1/csidrivers/{driver}");
        let found = self
            .config
            .objects
            .object(&path)
            .await
            .map_err(|error| error.to_string())?;
        Ok(DriverRules::of(found.as_ref()))
    }
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn is_mounted(path: &Path) -> bool {
    // What cannot be asked is not mounted: the driver is called once more.
    is_mount_point(path).unwrap_or(false)
}

impl<'a> Job<'a> {
    async fn new(csi: &'a Csi, volume: &'a DriverVolume, pod: &'a Pod) -> Result<Self, VolumeError> {
        let failed = |message: String| VolumeError::in_phase(Phase::NewMounter, &volume.name, message);
        let driver = csi.driver(&volume.driver).map_err(failed)?;
        let rules = csi.rules(&volume.driver).await.map_err(failed)?;
        if let Some(why) = rules.refusal(volume) {
            return Err(failed(why));
        }
        let handle = match volume.persistent {
            true => volume.handle.clone(),
            // Upstream's `makeVolumeHandle`.
            false => format!("csi-{}", digest(&format!("{}{}", uid(pod), volume.name))),
        };
        let attachment = digest(&format!("{handle}{}{}", volume.driver, csi.config.node_name));
        let data = VolumeData {
            attachment_id: match volume.persistent {
                true if rules.attach => format!("csi-{attachment}"),
                _ => String::new(),
            },
            driver_name: volume.driver.clone(),
            node_name: csi.config.node_name.clone(),
            spec_name: volume.name.clone(),
            volume_handle: handle,
            volume_lifecycle_mode: if volume.persistent {
                "Persistent"
            } else {
                "Ephemeral"
            }
            .to_owned(),
        };
        let security = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
        let group = security.and_then(|context| u32::try_from(context.fs_group?).ok());
        Ok(Self {
            csi,
            volume,
            pod,
            driver,
            rules,
            data,
            group,
            context: Map::new(),
        })
    }

    fn failed(&self, phase: Phase) -> impl Fn(String) -> VolumeError {
        let name = self.volume.name.clone();
        move |message| VolumeError::in_phase(phase, &name, message)
    }

    fn capability(&self) -> VolumeCapability {
        capability(self.volume, self.driver.abilities, self.group)
    }

    /// Waits for the attachment; what the attacher says of it.
    async fn attached(&self) -> Result<Map, VolumeError> {
        let failed = self.failed(Phase::WaitForAttach);
        let (id, handle) = (&self.data.attachment_id, &self.data.volume_handle);
        let path = format!("/apis/storage.k8s.io/v1/volumeattachments/{id}");
        let mut waited = Duration::ZERO;
        loop {
            let found = self.csi.config.objects.object(&path).await;
            let why = match found {
                Ok(Some(found)) if found["status"]["attached"] == true => {
                    let told = found["status"]["attachmentMetadata"]
                        .as_object()
                        .into_iter()
                        .flatten();
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    return Ok(told.map(|(key, value)| (key.clone(), text(value))).collect());
                }
                Ok(Some(found)) => match found["status"]["attachError"]["message"].as_str() {
                    Some(message) => return Err(failed(message.to_owned())),
                    None => {
                        format!("volume {handle} is not attached yet: waiting for volume attachment {id}")
                    }
                },
                Ok(None) => format!(
                    "volume {handle} has GET error for volume attachment {id}: volumeattachments.storage.k8s.io \
                     {id:?} not found"
                ),
                Err(error) => format!("volume {handle} has GET error for volume attachment {id}: {error}"),
            };
            if waited >= ATTACHED {
                return Err(failed(why));
            }
            tokio::time::sleep(LOOK).await;
            waited += LOOK;
        }
    }

    async fn run(&mut self) -> Result<DriverMount, VolumeError> {
        let block = self.volume.block;
        let own = self.csi.layout.pod(uid(self.pod), block).join(&self.volume.name);
        let target = match block {
            true => self.csi.layout.device(&self.volume.name, uid(self.pod)),
            false => own.join("mount"),
        };
        // Before anything is asked of the driver: whoever comes after knows what to take back.
        self.note(&own)?;
        if !self.data.attachment_id.is_empty() {
            self.csi.tell_in_use().await;
            self.context = self.attached().await?;
        }
        if self.driver.abilities.stage && self.volume.persistent {
            self.stage().await?;
        }
        let published = is_mounted(&target);
        if !published || self.rules.republish {
            self.publish(&target).await?;
        }
        let group = self.rules.group(self.volume, self.group);
        if let Some(group) = group.filter(|_| !published && !self.driver.abilities.mount_group) {
            let (path, pod, read_only) = (target.clone(), self.pod.clone(), self.volume.read_only);
            let given =
                tokio::task::spawn_blocking(move || knode_volumes::own(&path, &pod, group, read_only));
            given
                .await
                .map_err(|error| self.failed(Phase::SetUp)(error.to_string()))??;
        }
        let grown = self.grow(&target).await?;
        Ok(DriverMount { path: target, grown })
    }

    fn note(&self, directory: &Path) -> Result<(), VolumeError> {
        let failed = |error: std::io::Error| VolumeError::Io {
            operation: "write the data of",
            path: directory.to_owned(),
            source: error,
        };
        match VolumeData::read(directory).is_some_and(|known| known == self.data) {
            true => Ok(()),
            false => self.data.write(directory).map_err(failed),
        }
    }

    /// Stages it, unless that was done since the daemon began or is to be seen: to stage twice does no harm.
    async fn stage(&self) -> Result<(), VolumeError> {
        let block = self.volume.block;
        let failed = self.failed(if block {
            Phase::MapVolume
        } else {
            Phase::MountDevice
        });
        let staging = self.csi.layout.staging(&self.data, block);
        let directory = match block {
            true => self.csi.layout.device_data(&self.data),
            false => self.csi.layout.staged(&self.data),
        };
        if self.csi.is_staged(&self.data) || is_mounted(&staging) {
            return Ok(());
        }
        self.note(&directory)?;
        let made = fs::create_dir_all(&staging);
        made.map_err(|error| failed(format!("mkdir {}: {error}", staging.display())))?;
        let request = NodeStageVolumeRequest {
            volume_id: self.data.volume_handle.clone(),
            publish_context: self.context.clone(),
            staging_target_path: staging.display().to_string(),
            volume_capability: Some(self.capability()),
            secrets: self
                .csi
                .secret(self.volume.stage_secret.as_ref())
                .await
                .map_err(&failed)?,
            volume_context: self.volume.attributes.clone(),
        };
        let told = self.driver.calls().node_stage_volume(timed(request)).await;
        answer(told).map_err(&failed)?;
        self.csi.set_staged(&self.data, true);
        Ok(())
    }

    fn staging(&self) -> String {
        match self.driver.abilities.stage && self.volume.persistent {
            true => self
                .csi
                .layout
                .staging(&self.data, self.volume.block)
                .display()
                .to_string(),
            false => String::new(),
        }
    }

    async fn publish(&self, target: &Path) -> Result<(), VolumeError> {
        let failed = self.failed(if self.volume.block {
            Phase::MapVolume
        } else {
            Phase::SetUp
        });
        let parent: PathBuf = target.parent().map(Path::to_owned).unwrap_or_default();
        fs::create_dir_all(&parent)
            .map_err(|error| failed(format!("mkdir {}: {error}", parent.display())))?;
        let mut secrets = self
            .csi
            .secret(self.volume.publish_secret.as_ref())
            .await
            .map_err(&failed)?;
        let mut context = self.volume.attributes.clone();
        if self.rules.pod_info {
            context.extend(pod_info(self.pod, !self.volume.persistent));
        }
        if !self.rules.tokens.is_empty() {
            let tokens = self.tokens().await.map_err(&failed)?;
            let into = if self.rules.tokens_in_secrets {
                &mut secrets
            } else {
                &mut context
            };
            into.insert("csi.storage.k8s.io/serviceAccount.tokens".to_owned(), tokens);
        }
        let request = NodePublishVolumeRequest {
            volume_id: self.data.volume_handle.clone(),
            publish_context: self.context.clone(),
            staging_target_path: self.staging(),
            target_path: target.display().to_string(),
            volume_capability: Some(self.capability()),
            readonly: self.volume.read_only,
            secrets,
            volume_context: context,
        };
        let told = self.driver.calls().node_publish_volume(timed(request)).await;
        answer(told).map(drop).map_err(failed)
    }

    /// The pod's tokens for the driver, by audience.
    async fn tokens(&self) -> Result<String, String> {
        let metadata = &self.pod.metadata;
        let spec = self.pod.spec.as_ref();
        let account = spec.and_then(|spec| spec.service_account_name.clone());
        let mut all = serde_json::Map::new();
        for (audience, seconds) in &self.rules.tokens {
            let query = TokenQuery {
                namespace: metadata.namespace.clone().unwrap_or_default(),
                service_account: account.clone().unwrap_or_else(|| "default".to_owned()),
                pod_name: metadata.name.clone().unwrap_or_default(),
                pod_uid: uid(self.pod).to_owned(),
                audiences: Some(audience.clone())
                    .filter(|one| !one.is_empty())
                    .into_iter()
                    .collect(),
                expiration_seconds: *seconds,
            };
            let token = self.csi.config.objects.token(&query).await;
            let token = token.map_err(|error| format!("failed to fetch service account token: {error}"))?;
            all.insert(
                audience.clone(),
                json!({"token": token.token, "expirationTimestamp": token.expires.to_string()}),
            );
        }
        Ok(Value::Object(all).to_string())
    }

    /// Makes the volume as large as it has become, and says so in the claim's status. True if it has grown.
    async fn grow(&self, target: &Path) -> Result<bool, VolumeError> {
        let Some(size) = self.volume.size.as_ref().filter(|size| size.wanted > size.had) else {
            return Ok(false);
        };
        let failed = self.failed(Phase::Expand);
        if self.driver.abilities.expand {
            let secrets = self.csi.secret(self.volume.expand_secret.as_ref()).await;
            let request = NodeExpandVolumeRequest {
                volume_id: self.data.volume_handle.clone(),
                volume_path: target.display().to_string(),
                capacity_range: Some(CapacityRange {
                    required_bytes: size.wanted,
                    limit_bytes: 0,
                }),
                staging_target_path: self.staging(),
                volume_capability: Some(self.capability()),
                secrets: secrets.map_err(&failed)?,
            };
            let told = self.driver.calls().node_expand_volume(timed(request)).await;
            answer(told).map_err(&failed)?;
        }
        self.tell_size(size).await.map_err(failed)?;
        Ok(true)
    }

    async fn tell_size(&self, size: &Size) -> Result<(), String> {
        let path = format!(
            "/api/v1/namespaces/{}/persistentvolumeclaims/{}",
            size.namespace, size.claim
        );
        let objects = &self.csi.config.objects;
        let claim = objects.object(&path).await.map_err(|error| error.to_string())?;
        let claim = claim.unwrap_or_default();
        let conditions = claim["status"]["conditions"].as_array().into_iter().flatten();
        let resizing = |one: &&Value| {
            matches!(
                one["type"].as_str(),
                Some("Resizing" | "FileSystemResizePending" | "ControllerResizeError" | "NodeResizeError")
            )
        };
        let conditions: Vec<&Value> = conditions.filter(|one| !resizing(one)).collect();
        let patch = json!({"status": {"capacity": {"storage": size.capacity}, "conditions": conditions,
            "allocatedResourceStatuses": null}});
        objects
            .merge(&format!("{path}/status"), &patch)
            .await
            .map_err(|error| error.to_string())
    }
}
