//! From a claim and its PersistentVolume to what is mounted. Pure.

use std::collections::BTreeMap;

use knode_api::volume;
use serde_json::Value;

use crate::drivers::{DriverVolume, SecretName, Size};
use crate::error::VolumeError;

/// A volume that is mounted by its PersistentVolume.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Persistent {
    /// The PersistentVolume's name.
    pub name: String,
    /// What it is made of.
    pub source: Source,
    /// A device, and not a file system.
    pub block: bool,
    /// For reading alone.
    pub read_only: bool,
    /// Options of the mount.
    pub mount_options: Vec<String>,
}

/// What a PersistentVolume is made of, as far as it is implemented.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    HostPath {
        path: String,
        check: String,
    },
    /// A directory or a device; the file system's type, if one is named.
    Local {
        path: String,
        kind: Option<String>,
    },
    Nfs {
        server: String,
        path: String,
    },
    Driver(Box<DriverVolume>),
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The volume that a claim is bound to.
///
/// # Errors
/// With upstream's words, why the claim has none that this pod may use.
pub(crate) fn bound<'a>(claim: &'a Value, own_of: Option<&str>) -> Result<&'a str, VolumeError> {
    let refused = |why: &str| Err(processing(claim, why));
    if let Some(uid) = own_of {
        let owners = claim["metadata"]["ownerReferences"].as_array();
        let mut owners = owners.into_iter().flatten();
        if !owners.any(|owner| owner["controller"] == true && owner["uid"] == uid) {
            return refused("PVC is not owned by pod");
        }
    }
    if claim["metadata"]["deletionTimestamp"].is_string() {
        return refused("PVC is being deleted");
    }
    let name = text(claim, "/spec/volumeName");
    match claim["status"]["phase"] == "Bound" && !name.is_empty() {
        true => Ok(name),
        false => refused("PVC is not bound"),
    }
}

/// An error about a claim, in upstream's words.
pub(crate) fn processing(claim: &Value, why: &str) -> VolumeError {
    let (namespace, name) = (text(claim, "/metadata/namespace"), text(claim, "/metadata/name"));
    VolumeError::Claim(format!("error processing PVC {namespace}/{name}: {why}"))
}

/// What is mounted for a claim that is bound to `volume`; `asked` is the pod's wish for reading alone.
///
/// # Errors
/// A volume of another claim, or of a type that is not implemented.
pub(crate) fn resolve(claim: &Value, volume: &Value, asked: bool) -> Result<Persistent, VolumeError> {
    let name = text(volume, "/metadata/name");
    let (kept, uid) = (text(volume, "/spec/claimRef/uid"), text(claim, "/metadata/uid"));
    if kept != uid {
        let why = format!("PV {name} spec.claimRef.uid {kept} does not match pvc.UID {uid}");
        return Err(processing(claim, &why));
    }
    let spec = &volume["spec"];
    let block = volume::mode(volume) == "Block";
    let options = strings(&spec["mountOptions"]);
    let (source, read_only) = if let Some(path) = spec["hostPath"]["path"].as_str() {
        let check = text(spec, "/hostPath/type").to_owned();
        let path = path.to_owned();
        (Source::HostPath { path, check }, asked)
    } else if let Some(path) = spec["local"]["path"].as_str() {
        (
            Source::Local {
                path: path.to_owned(),
                kind: spec["local"]["fsType"].as_str().map(ToOwned::to_owned),
            },
            asked,
        )
    } else if spec["nfs"].is_object() {
        let (server, path) = (
            text(spec, "/nfs/server").to_owned(),
            text(spec, "/nfs/path").to_owned(),
        );
        (
            Source::Nfs { server, path },
            asked || spec["nfs"]["readOnly"] == true,
        )
    } else if spec["csi"].is_object() {
        let own = driver(claim, volume, asked);
        let read_only = own.read_only;
        (Source::Driver(Box::new(own)), read_only)
    } else {
        return Err(unsupported(spec));
    };
    Ok(Persistent {
        name: name.to_owned(),
        source,
        block,
        read_only,
        mount_options: options,
    })
}

fn unsupported(spec: &Value) -> VolumeError {
    let known = [
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeMode",
    ];
    let fields = spec.as_object().into_iter().flatten();
    let other = fields
        .map(|(key, _)| key)
        .find(|key| !known.contains(&key.as_str()));
    VolumeError::Unsupported {
        what: format!("PersistentVolume of {}", other.map_or("nothing", String::as_str)),
    }
}

fn driver(claim: &Value, volume: &Value, asked: bool) -> DriverVolume {
    let spec = &volume["spec"];
    let csi = &spec["csi"];
    let own = |field: &str| csi[field].as_str().unwrap_or_default().to_owned();
    let secret = |field: &str| secret_name(&csi[field], "");
    DriverVolume {
        driver: own("driver"),
        handle: own("volumeHandle"),
        name: text(volume, "/metadata/name").to_owned(),
        persistent: true,
        read_only: asked || csi["readOnly"] == true,
        block: volume::mode(volume) == "Block",
        fs_type: own("fsType"),
        attributes: map(&csi["volumeAttributes"]),
        mount_options: strings(&spec["mountOptions"]),
        access_modes: strings(&spec["accessModes"]),
        stage_secret: secret("nodeStageSecretRef"),
        publish_secret: secret("nodePublishSecretRef"),
        expand_secret: secret("nodeExpandSecretRef"),
        size: Some(Size {
            namespace: text(claim, "/metadata/namespace").to_owned(),
            claim: text(claim, "/metadata/name").to_owned(),
            capacity: text(spec, "/capacity/storage").to_owned(),
            wanted: volume::bytes(volume, "/spec/capacity/storage"),
            had: volume::bytes(claim, "/status/capacity/storage"),
        }),
    }
}

/// A secret that is named; its namespace unless it names one.
pub(crate) fn secret_name(reference: &Value, namespace: &str) -> Option<SecretName> {
    let name = reference["name"].as_str().filter(|name| !name.is_empty())?;
    let own = reference["namespace"].as_str().unwrap_or(namespace);
    Some((own.to_owned(), name.to_owned()))
}

fn strings(list: &Value) -> Vec<String> {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|one| one.as_str().map(ToOwned::to_owned))
        .collect()
}

pub(crate) fn map(object: &Value) -> BTreeMap<String, String> {
    let all = object.as_object().into_iter().flatten();
    all.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claim(change: Value) -> Value {
        let mut claim = json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"}, "spec": {"volumeName": "pv"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
        knode_api_merge(&mut claim, &change);
        claim
    }

    fn knode_api_merge(into: &mut Value, from: &Value) {
        match from.as_object() {
            Some(fields) => fields
                .iter()
                .for_each(|(key, value)| knode_api_merge(&mut into[key], value)),
            None => *into = from.clone(),
        }
    }

    #[test]
    fn only_a_bound_claim_of_one_s_own_is_used() {
        let why = |change: Value, own: Option<&str>| {
            let found = claim(change);
            bound(&found, own).map(drop).map_err(|why| why.to_string())
        };
        assert_eq!(bound(&claim(json!({})), None).unwrap(), "pv");
        let prefix = "error processing PVC n/c: ";
        for (change, own, expected) in [
            (json!({"status": {"phase": "Pending"}}), None, "PVC is not bound"),
            (json!({"spec": {"volumeName": ""}}), None, "PVC is not bound"),
            (
                json!({"metadata": {"deletionTimestamp": "t"}}),
                None,
                "PVC is being deleted",
            ),
            (json!({}), Some("p"), "PVC is not owned by pod"),
        ] {
            assert_eq!(why(change, own), Err(format!("{prefix}{expected}")));
        }
        let owner = json!({"metadata": {"ownerReferences": [{"controller": true, "uid": "p"}]}});
        assert!(bound(&claim(owner), Some("p")).is_ok());
    }

    #[test]
    fn each_source_is_what_it_says() {
        let volume = |spec: Value| {
            let mut volume = json!({"metadata": {"name": "pv"}, "spec": {"claimRef": {"uid": "u"},
                "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"]}});
            knode_api_merge(&mut volume, &json!({"spec": spec}));
            volume
        };
        let source = |spec: Value| resolve(&claim(json!({})), &volume(spec), false).map(|found| found.source);
        assert_eq!(
            source(json!({"hostPath": {"path": "/a", "type": "Directory"}})).unwrap(),
            Source::HostPath {
                path: "/a".into(),
                check: "Directory".into()
            }
        );
        assert_eq!(
            source(json!({"local": {"path": "/b"}})).unwrap(),
            Source::Local {
                path: "/b".into(),
                kind: None
            }
        );
        let error = source(json!({"iscsi": {"lun": 1}})).unwrap_err().to_string();
        assert_eq!(error, "unsupported volume: PersistentVolume of iscsi");
        let csi = json!({"csi": {"driver": "d", "volumeHandle": "h", "readOnly": true,
            "nodeStageSecretRef": {"name": "s", "namespace": "x"}}, "volumeMode": "Block"});
        let Source::Driver(driver) = source(csi).unwrap() else {
            panic!()
        };
        assert!(driver.read_only && driver.block && driver.persistent);
        assert_eq!(driver.stage_secret, Some(("x".into(), "s".into())));
        let size = driver.size.unwrap();
        assert_eq!((size.wanted, size.had), (2 << 30, 1 << 30));
        let other = resolve(
            &claim(json!({"metadata": {"uid": "v"}})),
            &volume(json!({})),
            false,
        );
        assert!(
            other
                .unwrap_err()
                .to_string()
                .contains("does not match pvc.UID v")
        );
    }
}
