//! Which config maps and secrets a pod's volumes and environment refer to.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{ProjectedSource, VolumeKind, plan};

/// Names of objects in the pod's namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// Config maps.
    pub config_maps: BTreeSet<String>,
    /// Secrets, those for image pulls too.
    pub secrets: BTreeSet<String>,
}

/// Everything in `pod` that names a config map or secret.
pub fn references(pod: &Pod) -> References {
    let mut found = References::default();
    for (_, volume) in plan(pod) {
        if let Ok(volume) = volume {
            of_volume(&volume.kind, &mut found);
        }
    }
    let Some(spec) = &pod.spec else { return found };
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        of_environment(container, &mut found);
    }
    found.secrets.extend(
        spec.image_pull_secrets
            .iter()
            .flatten()
            .map(|secret| secret.name.clone()),
    );
    found
}

fn of_volume(kind: &VolumeKind, found: &mut References) {
    match kind {
        VolumeKind::ConfigMap(object) => drop(found.config_maps.insert(object.name.clone())),
        VolumeKind::Secret(object) => drop(found.secrets.insert(object.name.clone())),
        VolumeKind::Projected { sources } => {
            for source in sources {
                match source {
                    ProjectedSource::ConfigMap(object) => drop(found.config_maps.insert(object.name.clone())),
                    ProjectedSource::Secret(object) => drop(found.secrets.insert(object.name.clone())),
                    ProjectedSource::DownwardApi(_)
                    | ProjectedSource::Token { .. }
                    | ProjectedSource::TrustBundle { .. } => {}
                }
            }
        }
        _ => {}
    }
}

fn of_environment(container: &Container, found: &mut References) {
    for source in container.env_from.iter().flatten() {
        found
            .config_maps
            .extend(source.config_map_ref.iter().map(|object| object.name.clone()));
        found
            .secrets
            .extend(source.secret_ref.iter().map(|object| object.name.clone()));
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|variable| variable.value_from.as_ref())
    {
        found
            .config_maps
            .extend(source.config_map_key_ref.iter().map(|key| key.name.clone()));
        found
            .secrets
            .extend(source.secret_key_ref.iter().map(|key| key.name.clone()));
    }
}
