//! From command line and files to what holds.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::defaults::complete;
use crate::flags::{CommandLine, Own};
use crate::merge::{get, merge, set};
use crate::validate::check;
use crate::{Error, Result, Settings, file};

/// Upstream's hard limits on Linux (`pkg/kubelet/eviction/defaults_linux.go`).
const HARD: &[(&str, &str)] = &[
    ("memory.available", "100Mi"),
    ("nodefs.available", "10%"),
    ("nodefs.inodesFree", "5%"),
    ("imagefs.available", "15%"),
    ("imagefs.inodesFree", "5%"),
];

/// Images pulled at once where nothing is said: upstream's kubelet pulls one after the other.
const PULLS: i64 = 4;

/// Everything that says how the kubelet is to be.
#[derive(Clone, Debug, Default)]
pub struct Sources<'a> {
    /// Fields of the caller's own, which files and flags go before.
    pub preset: Map<String, Value>,
    /// Name and text of `--config`, then those of the drop-ins in their order.
    pub files: &'a [(String, String)],
}

/// What holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// What is followed.
    pub settings: Settings,
    /// All of it as `/configz` shows it. Fields without effect are left out.
    pub document: Value,
    /// The flags that mean something, by name, as they hold: as `/flagz` shows them.
    pub flags: BTreeMap<String, String>,
    /// Labels to register with.
    pub labels: BTreeMap<String, String>,
    /// What was accepted and has no effect, or means something else than it says.
    pub warnings: Vec<String>,
}

/// Puts the sources over one another: defaults, files, drop-ins, flags.
///
/// # Errors
/// [`Error`], naming the file or flag and the field.
pub fn settle(line: &CommandLine, sources: Sources<'_>) -> Result<Effective> {
    let mut document = sources.preset;
    let mut setters: BTreeMap<String, String> = BTreeMap::new();
    for (name, text) in sources.files {
        let read = file::read(name, text)?;
        note(&read, "", name, &mut setters);
        merge(&mut document, read);
    }
    for (path, (value, flag)) in &line.fields {
        put(&mut document, path, value.clone());
        setters.insert(path.clone(), format!("--{flag}"));
    }
    let mut warnings = line.warnings.clone();
    let origin = |path: &str| setters.get(path).cloned().unwrap_or_else(|| "default".into());
    complete(&mut document, &origin, &mut warnings)?;
    evictions(&mut document);
    pulls(&mut document);
    let mut document = shown(document);
    let unusable = |error| Error::Together(format!("the configuration can't be used: {error}"));
    let mut settings: Settings = serde_json::from_value(document.clone()).map_err(unusable)?;
    settings.resources = serde_json::from_value(document.clone()).map_err(unusable)?;
    check(&settings, &origin)?;
    // As upstream, they may be secret.
    if let Some(Value::Object(headers)) = document.get_mut("staticPodURLHeader") {
        headers
            .values_mut()
            .for_each(|values| *values = json!(["<masked>"]));
    }
    Ok(Effective {
        settings,
        flags: line.shown(&document),
        document,
        labels: labels(line.own(Own::NodeLabels).unwrap_or_default())?,
        warnings,
    })
}

/// A flag's value takes the place of what files say, except that feature gates are put to theirs.
fn put(document: &mut Map<String, Value>, path: &str, value: Value) {
    match (path, value) {
        ("featureGates", value @ Value::Object(_)) => {
            merge(document, Map::from_iter([(path.to_owned(), value)]));
        }
        (path, value) => set(document, path, value),
    }
}

/// Remembers which file says what.
fn note(fields: &Map<String, Value>, at: &str, file: &str, setters: &mut BTreeMap<String, String>) {
    for (name, value) in fields {
        let path = format!("{at}{name}");
        if let Value::Object(below) = value {
            note(below, &format!("{path}."), file, setters);
        }
        setters.insert(path, file.to_owned());
    }
}

/// Hard limits: the defaults where none is set, or where they are to be merged. 0 % and 100 % take a limit away.
fn evictions(document: &mut Map<String, Value>) {
    let merged = document.get("mergeDefaultEvictionSettings") == Some(&Value::Bool(true));
    let mut limits = match document.remove("evictionHard") {
        Some(Value::Object(limits)) => limits,
        _ => Map::new(),
    };
    if limits.is_empty() || merged {
        for (signal, limit) in HARD {
            limits.entry(*signal).or_insert_with(|| json!(limit));
        }
    }
    document.insert("evictionHard".into(), limits.into());
}

/// Upstream's defaults of the two where one of them is set; where neither is, pulls run side by side.
fn pulls(document: &mut Map<String, Value>) {
    let serial = document.get("serializeImagePulls").and_then(Value::as_bool);
    let most = document.get("maxParallelImagePulls").and_then(Value::as_i64);
    if (serial, most) == (None, None) {
        document.insert("maxParallelImagePulls".into(), PULLS.into());
    }
    let serial = serial.unwrap_or(most == Some(1));
    document.insert("serializeImagePulls".into(), serial.into());
}

fn shown(mut document: Map<String, Value>) -> Value {
    document.insert("kind".into(), "KubeletConfiguration".into());
    document.insert("apiVersion".into(), "kubelet.config.k8s.io/v1beta1".into());
    if get(&document, "authentication.x509") == Some(&json!({})) {
        set(&mut document, "authentication.x509", Value::Null);
    }
    document.into()
}

/// Of Kubernetes' own labels a kubelet may only set these (`pkg/kubelet/apis/well_known_labels.go`).
const OWN_LABELS: &[&str] = &[
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const OWN_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

fn labels(text: &str) -> Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let wrong = |problem: &str| Error::FlagValue {
            flag: "node-labels".into(),
            value: part.to_owned(),
            problem: problem.to_owned(),
        };
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| wrong("not of the form KEY=VALUE"))?;
        if !may_label(key) {
            return Err(wrong("a node may not set this label of Kubernetes itself"));
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(labels)
}

fn may_label(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else {
        return true;
    };
    let within = |of: &str| domain == of || domain.strip_suffix(of).is_some_and(|front| front.ends_with('.'));
    let reserved = within("kubernetes.io") || within("k8s.io");
    !reserved || OWN_LABELS.contains(&key) || OWN_DOMAINS.iter().any(|own| within(own))
}

#[cfg(test)]
mod tests;
