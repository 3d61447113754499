//! Content of the volumes that come from the API.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{Volumes, fs_group, uid};
use crate::error::VolumeError;
use crate::fields::PodFields;
use crate::objects::{TokenQuery, TrustQuery};
use crate::payload::{Payload, PayloadFile, checked, of_config_map, of_secret};
use crate::plan::{DownwardSource, ObjectRef, ProjectedSource, VolumeKind, trust};

impl Volumes {
    /// All files of a content volume.
    pub(super) async fn content(
        &self,
        kind: &VolumeKind,
        fields: PodFields<'_>,
        now: Timestamp,
    ) -> Result<Payload, VolumeError> {
        match kind {
            VolumeKind::ConfigMap(object) => self.config_map(fields.pod, object).await,
            VolumeKind::Secret(object) => self.secret(fields.pod, object).await,
            VolumeKind::DownwardApi(source) => downward(source, fields),
            VolumeKind::Projected { sources } => self.projected(sources, fields, now).await,
            _ => Ok(Payload::new()),
        }
    }

    async fn projected(
        &self,
        sources: &[ProjectedSource],
        fields: PodFields<'_>,
        now: Timestamp,
    ) -> Result<Payload, VolumeError> {
        let mut all = Payload::new();
        let mut failed = Vec::new();
        for source in sources {
            let part = match source {
                ProjectedSource::ConfigMap(object) => self.config_map(fields.pod, object).await,
                ProjectedSource::Secret(object) => self.secret(fields.pod, object).await,
                ProjectedSource::DownwardApi(source) => downward(source, fields),
                ProjectedSource::TrustBundle {
                    query,
                    optional,
                    path,
                    mode,
                } => self.trust_bundle(query.as_ref(), *optional, path, *mode).await,
                ProjectedSource::Token {
                    audience,
                    expiration_seconds,
                    path,
                    mode,
                } => {
                    let query = query(fields.pod, audience.as_deref(), *expiration_seconds);
                    self.token(query, path, *mode, fields.pod, now).await
                }
            };
            match part {
                Ok(part) => all.extend(part),
                Err(error) => failed.push(error),
            }
        }
        match failed.len() {
            0 => Ok(all),
            1 => Err(failed.remove(0)),
            _ => Err(VolumeError::Several(failed)),
        }
    }

    async fn config_map(&self, pod: &Pod, object: &ObjectRef) -> Result<Payload, VolumeError> {
        let found = self
            .objects
            .config_map(namespace(pod), &object.name)
            .await
            .map_err(VolumeError::Object)?;
        match found {
            Some(map) => of_config_map(&map, &object.items),
            None if object.items.optional => Ok(Payload::new()),
            None => Err(VolumeError::NotFound {
                kind: "configmap",
                name: object.name.clone(),
            }),
        }
    }

    async fn secret(&self, pod: &Pod, object: &ObjectRef) -> Result<Payload, VolumeError> {
        let found = self
            .objects
            .secret(namespace(pod), &object.name)
            .await
            .map_err(VolumeError::Object)?;
        match found {
            Some(secret) => of_secret(&secret, &object.items),
            None if object.items.optional => Ok(Payload::new()),
            None => Err(VolumeError::NotFound {
                kind: "secret",
                name: object.name.clone(),
            }),
        }
    }

    async fn trust_bundle(
        &self,
        query: Option<&TrustQuery>,
        optional: bool,
        path: &str,
        mode: u32,
    ) -> Result<Payload, VolumeError> {
        let path = checked(path)?.to_owned();
        let found = match query {
            Some(query) => self
                .objects
                .trust_bundles(query)
                .await
                .map_err(VolumeError::Object)?,
            None => Vec::new(),
        };
        if found.is_empty() && !optional {
            return Err(trust::missing(query));
        }
        let text = trust::together(&found);
        Ok(Payload::from([(path, PayloadFile::new(text, mode))]))
    }

    async fn token(
        &self,
        query: TokenQuery,
        path: &str,
        mode: u32,
        pod: &Pod,
        now: Timestamp,
    ) -> Result<Payload, VolumeError> {
        let path = checked(path)?.to_owned();
        let token = self.token_from(&self.tokens.files, query, now).await;
        let token = token.map_err(VolumeError::Token)?;
        let owner = single_user(pod);
        let private = owner.is_some() || fs_group(pod).is_some();
        let mode = if private { 0o600 } else { mode };
        Ok(Payload::from([(
            path,
            PayloadFile {
                data: token.token.into_bytes(),
                mode,
                owner,
            },
        )]))
    }
}

fn downward(source: &DownwardSource, fields: PodFields<'_>) -> Result<Payload, VolumeError> {
    let mut payload = Payload::new();
    for item in &source.items {
        let text = match (&item.field, &item.resource) {
            (Some(field), _) => fields.field(field).map_err(VolumeError::Field)?,
            (None, Some(resource)) => fields.resource(resource, "").map_err(VolumeError::Field)?,
            (None, None) => {
                return Err(VolumeError::Unsupported {
                    what: "downwardAPI item without a field".into(),
                });
            }
        };
        let mode = item.mode.unwrap_or(source.default_mode);
        payload.insert(checked(&item.path)?.to_owned(), PayloadFile::new(text, mode));
    }
    Ok(payload)
}

fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

fn query(pod: &Pod, audience: Option<&str>, expiration_seconds: i64) -> TokenQuery {
    let account = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.clone());
    TokenQuery {
        namespace: namespace(pod).to_owned(),
        service_account: account
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "default".to_owned()),
        pod_name: pod.metadata.name.clone().unwrap_or_default(),
        pod_uid: uid(pod).to_owned(),
        audiences: audience.map(ToOwned::to_owned).into_iter().collect(),
        expiration_seconds,
    }
}

/// The one user all containers run as, who then owns the token (upstream: `util.FsUserFrom`).
fn single_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let shared = spec
        .security_context
        .as_ref()
        .and_then(|context| context.run_as_user);
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    let mut users = all.map(|one| {
        one.security_context
            .as_ref()
            .and_then(|context| context.run_as_user)
            .or(shared)
    });
    let first = users.next()??;
    users
        .all(|user| user == Some(first))
        .then(|| u32::try_from(first).ok())?
}
