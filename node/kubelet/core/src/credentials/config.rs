//! `CredentialProviderConfig` (kubelet.config.k8s.io).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use knode_api::time::parse_go_duration;
use serde::Deserialize;

use super::attributes::{self, TokenAttributes};

/// Why credential providers cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvidersError {
    /// A file that cannot be read.
    #[error("cannot read credential provider configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error("cannot understand credential provider configuration {}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's reason.
        #[source]
        source: serde_norway::Error,
    },
    /// A field with a value that it cannot have.
    #[error("invalid credential provider {provider:?}: {reason}")]
    Invalid {
        /// The provider's name.
        provider: String,
        /// What is wrong.
        reason: String,
    },
    /// Something that may be asked for and that is not implemented.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// A plugin that is not there or not a program.
    #[error("plugin binary executable {} cannot be used", path.display())]
    Program {
        /// The plugin.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    providers: Vec<Raw>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    name: String,
    #[serde(default)]
    match_images: Vec<String>,
    default_cache_duration: Option<String>,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
    token_attributes: Option<attributes::Raw>,
}

/// A variable of a plugin's environment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Variable {
    pub name: String,
    pub value: String,
}

/// One plugin.
#[derive(Debug, Clone)]
pub(super) struct Provider {
    /// Its file's name.
    pub name: String,
    /// Patterns of images that it is asked for.
    pub match_images: Vec<String>,
    /// How long an answer is kept that does not say.
    pub default_cache_duration: Duration,
    /// The version of requests and answers.
    pub api_version: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Added to the kubelet's environment.
    pub env: Vec<Variable>,
    /// What it is told of pods' service accounts; none if nothing.
    pub attributes: Option<TokenAttributes>,
}

const FILE_VERSIONS: [&str; 3] = [
    "kubelet.config.k8s.io/v1",
    "kubelet.config.k8s.io/v1beta1",
    "kubelet.config.k8s.io/v1alpha1",
];
const REQUEST_VERSIONS: [&str; 3] = [
    "credentialprovider.kubelet.k8s.io/v1",
    "credentialprovider.kubelet.k8s.io/v1beta1",
    "credentialprovider.kubelet.k8s.io/v1alpha1",
];

/// The providers of a file, or of a directory's files in the order of their names.
pub(super) fn read(path: &Path) -> Result<Vec<Provider>, ProvidersError> {
    let failed = |source| ProvidersError::Read {
        path: path.to_owned(),
        source,
    };
    let mut files = vec![path.to_owned()];
    if std::fs::metadata(path).map_err(failed)?.is_dir() {
        files.clear();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            files.push(entry.map_err(failed)?.path());
        }
        let is_config = |file: &PathBuf| {
            let ending = file.extension().and_then(|ending| ending.to_str());
            matches!(ending, Some("json" | "yaml" | "yml"))
        };
        files.retain(is_config);
        files.sort();
    }
    let mut providers = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).map_err(|source| ProvidersError::Read {
            path: file.clone(),
            source,
        })?;
        providers.extend(parse(&text, file)?);
    }
    check_names(&providers)?;
    Ok(providers)
}

/// Reads and checks one file's text.
pub(super) fn parse(text: &str, path: &Path) -> Result<Vec<Provider>, ProvidersError> {
    let file: File = serde_norway::from_str(text).map_err(|source| ProvidersError::Syntax {
        path: path.to_owned(),
        source,
    })?;
    if file.kind != "CredentialProviderConfig" || !FILE_VERSIONS.contains(&file.api_version.as_str()) {
        let what = format!(
            "{} of {} as credential provider configuration",
            file.kind, file.api_version
        );
        return Err(ProvidersError::Unsupported(what));
    }
    if file.providers.is_empty() {
        return Err(invalid("", "at least one provider is required"));
    }
    file.providers.into_iter().map(check).collect()
}

fn check(raw: Raw) -> Result<Provider, ProvidersError> {
    let name = raw.name.as_str();
    let no_file = matches!(name, "" | "." | "..") || name.contains(|c: char| c == '/' || c.is_whitespace());
    if no_file {
        return Err(invalid(name, "name must be that of a file, without spaces"));
    }
    if raw.match_images.is_empty() {
        return Err(invalid(name, "matchImages is required"));
    }
    if let Some(pattern) = raw.match_images.iter().find(|pattern| !is_pattern(pattern)) {
        return Err(invalid(name, &format!("{pattern:?} is no pattern of images")));
    }
    if !REQUEST_VERSIONS.contains(&raw.api_version.as_str()) {
        let what = format!("apiVersion {:?} of credential provider {name:?}", raw.api_version);
        return Err(ProvidersError::Unsupported(what));
    }
    let kept = raw.default_cache_duration.as_deref();
    let kept = kept.ok_or_else(|| invalid(name, "defaultCacheDuration is required"))?;
    let kept = duration(kept).ok_or_else(|| invalid(name, "defaultCacheDuration is no duration"))?;
    let attributes = raw.token_attributes;
    let attributes = attributes.map(|written| attributes::check(written, &raw.api_version));
    let attributes = attributes.transpose().map_err(|why| invalid(name, &why))?;
    Ok(Provider {
        attributes,
        name: raw.name,
        match_images: raw.match_images,
        default_cache_duration: kept,
        api_version: raw.api_version,
        args: raw.args,
        env: raw.env,
    })
}

/// A duration of 0 or more in Go's words.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let nanoseconds = u64::try_from(parse_go_duration(text)?).ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

fn is_pattern(pattern: &str) -> bool {
    let (place, path) = pattern.split_once('/').unwrap_or((pattern, ""));
    !place.is_empty()
        && !path.contains('*')
        && !place
            .rsplit(':')
            .next()
            .is_some_and(|port| place.contains(':') && port.contains('*'))
}

fn check_names(providers: &[Provider]) -> Result<(), ProvidersError> {
    let mut seen = BTreeSet::new();
    match providers.iter().find(|provider| !seen.insert(&provider.name)) {
        Some(twice) => Err(invalid(&twice.name, "the name is there twice")),
        None => Ok(()),
    }
}

fn invalid(provider: &str, reason: &str) -> ProvidersError {
    ProvidersError::Invalid {
        provider: provider.to_owned(),
        reason: reason.to_owned(),
    }
}
