//! The environment of a container (upstream: `makeEnvironmentVariables` in `pkg/kubelet/kubelet_pods.go`).
//! Pure: what it needs of the API comes in.

mod expand;
pub(crate) mod file;
mod services;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, FileKeySelector, Secret};
use knode_volumes::PodFields;

use crate::error::ConfigError;
use crate::pod::PodExt;

pub use expand::expand;
pub use services::{ServiceLink, ServicePort, service_variables};

/// Variables in order, each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: Vec<(String, String)>,
}

impl Environment {
    /// Sets a variable; one that is there keeps its place.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.variables.iter_mut().find(|(have, _)| *have == name) {
            Some((_, old)) => *old = value,
            None => self.variables.push((name, value)),
        }
    }

    /// A variable's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .iter()
            .find(|(have, _)| have == name)
            .map(|(_, value)| value.as_str())
    }

    /// These variables, and those of `first` before them that are not among them.
    pub fn over(self, first: &[(String, String)]) -> Self {
        if first.is_empty() {
            return self;
        }
        let mut all = Self::default();
        for (name, value) in first.iter().chain(&self.variables) {
            all.set(name, value);
        }
        all
    }

    /// All variables.
    pub fn iter(&self) -> impl Iterator<Item = &(String, String)> {
        self.variables.iter()
    }
}

/// Objects that a container's environment refers to, read beforehand; `None` for those that do not exist.
#[derive(Debug, Clone, Default)]
pub struct EnvObjects {
    /// Config maps by name.
    pub config_maps: BTreeMap<String, Option<Arc<ConfigMap>>>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Option<Arc<Secret>>>,
    /// Files of variables by volume and path, or why they cannot be read.
    pub files: BTreeMap<(String, String), Result<String, String>>,
}

/// Volumes and paths of the files that a container's environment is taken from.
pub fn files_of(container: &Container) -> impl Iterator<Item = (&str, &str)> {
    let sources = container.env.iter().flatten();
    let refs = sources.filter_map(|variable| variable.value_from.as_ref()?.file_key_ref.as_ref());
    refs.map(|file| (file.volume_name.as_str(), file.path.as_str()))
}

/// Names of the config maps and secrets that a container's environment refers to.
pub fn objects_of(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    for source in container.env_from.iter().flatten() {
        maps.extend(source.config_map_ref.iter().map(|object| object.name.clone()));
        secrets.extend(source.secret_ref.iter().map(|object| object.name.clone()));
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|variable| variable.value_from.as_ref())
    {
        maps.extend(source.config_map_key_ref.iter().map(|key| key.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|key| key.name.clone()));
    }
    (maps, secrets)
}

/// Builds the environment.
///
/// # Errors
/// Missing objects and keys that are not optional, unknown fields.
pub fn environment(
    container: &Container,
    fields: PodFields<'_>,
    objects: &EnvObjects,
    services: &[ServiceLink],
) -> Result<Environment, ConfigError> {
    let links = service_variables(services);
    let mut all = Environment::default();
    env_from(container, objects, &mut all)?;
    let mut own = Environment::default();
    for variable in container.env.iter().flatten() {
        let name = &variable.name;
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) if !value.is_empty() => expand::with(value, |name| {
                own.get(name).or_else(|| links.get(name)).map(ToOwned::to_owned)
            }),
            (_, Some(source)) => match value_from(container, source, fields, objects)? {
                Some(value) => value,
                None => continue,
            },
            _ => String::new(),
        };
        own.set(name, &value);
        all.set(name, value);
    }
    for (name, value) in links.iter() {
        if all.get(name).is_none() {
            all.set(name, value);
        }
    }
    Ok(all)
}

fn env_from(container: &Container, objects: &EnvObjects, all: &mut Environment) -> Result<(), ConfigError> {
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(wanted) = &source.config_map_ref {
            match objects.config_maps.get(&wanted.name).and_then(Option::as_ref) {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        all.set(format!("{prefix}{key}"), value);
                    }
                }
                None if wanted.optional == Some(true) => {}
                None => {
                    return Err(ConfigError::NotFound {
                        kind: "configmap",
                        name: wanted.name.clone(),
                    });
                }
            }
        }
        if let Some(wanted) = &source.secret_ref {
            match objects.secrets.get(&wanted.name).and_then(Option::as_ref) {
                Some(secret) => {
                    for (key, ByteString(value)) in secret.data.iter().flatten() {
                        all.set(format!("{prefix}{key}"), String::from_utf8_lossy(value));
                    }
                }
                None if wanted.optional == Some(true) => {}
                None => {
                    return Err(ConfigError::NotFound {
                        kind: "secret",
                        name: wanted.name.clone(),
                    });
                }
            }
        }
    }
    Ok(())
}

/// The value of a `valueFrom`; `None` if it is optional and missing.
fn value_from(
    container: &Container,
    source: &EnvVarSource,
    fields: PodFields<'_>,
    objects: &EnvObjects,
) -> Result<Option<String>, ConfigError> {
    if let Some(field) = &source.field_ref {
        return fields.field(field).map(Some).map_err(ConfigError::Field);
    }
    if let Some(resource) = &source.resource_field_ref {
        return fields
            .resource(resource, &container.name)
            .map(Some)
            .map_err(ConfigError::Field);
    }
    let namespace = fields.pod.ns();
    if let Some(wanted) = &source.config_map_key_ref {
        let map = objects.config_maps.get(&wanted.name).and_then(Option::as_ref);
        let found = map.map(|map| map.data.as_ref().and_then(|data| data.get(&wanted.key)).cloned());
        let names = ("configmap", "ConfigMap", wanted.name.as_str());
        return key(found, names, &wanted.key, namespace, wanted.optional);
    }
    if let Some(wanted) = &source.secret_key_ref {
        let secret = objects.secrets.get(&wanted.name).and_then(Option::as_ref);
        let found = secret.map(|secret| {
            let value = secret.data.as_ref().and_then(|data| data.get(&wanted.key));
            value.map(|ByteString(value)| String::from_utf8_lossy(value).into_owned())
        });
        let names = ("secret", "Secret", wanted.name.as_str());
        return key(found, names, &wanted.key, namespace, wanted.optional);
    }
    if let Some(wanted) = &source.file_key_ref {
        return of_file(wanted, objects);
    }
    Err(ConfigError::Unsupported("env source"))
}

/// The value of a key in a file of a volume.
fn of_file(wanted: &FileKeySelector, objects: &EnvObjects) -> Result<Option<String>, ConfigError> {
    let known = objects
        .files
        .get(&(wanted.volume_name.clone(), wanted.path.clone()));
    let text = match known {
        Some(Ok(text)) => text,
        Some(Err(why)) => return Err(ConfigError::EnvFile(why.clone())),
        None => {
            return Err(ConfigError::EnvFile(format!(
                "cannot find the volume {:?} referenced by FileKeyRef",
                wanted.volume_name
            )));
        }
    };
    let found = file::value(text, &wanted.key).map_err(ConfigError::EnvFile)?;
    match found {
        None if wanted.optional != Some(true) => Err(ConfigError::EnvFile(format!(
            "environment variable key {:?} not found in file {:?}",
            wanted.key, wanted.path
        ))),
        found => Ok(found),
    }
}

fn key(
    found: Option<Option<String>>,
    (lower, kind, name): (&'static str, &'static str, &str),
    key: &str,
    namespace: &str,
    optional: Option<bool>,
) -> Result<Option<String>, ConfigError> {
    match found {
        Some(Some(value)) => Ok(Some(value)),
        _ if optional == Some(true) => Ok(None),
        None => Err(ConfigError::NotFound {
            kind: lower,
            name: name.to_owned(),
        }),
        Some(None) => Err(ConfigError::MissingKey {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            key: key.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
