//! Which certificates lie in files and directories.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::certificate::{Certificate, pem_certificates};
use crate::key::{PrivateKey, pem_block};
use crate::kubeconfig::{Kubeconfig, Material};
use crate::{Error, Result, files};

/// A certificate that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The file in which it stands.
    pub file: PathBuf,
    /// Whether that is a kubeconfig.
    pub kubeconfig: bool,
    /// What it says.
    pub certificate: Certificate,
    /// The file of its key, if there is one.
    pub key: Option<PathBuf>,
    /// What is wrong with the key: its permissions, or that it is another certificate's.
    pub fault: Option<String>,
}

/// What was found, and what could not be read.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Certificates by file.
    pub found: Vec<Found>,
    /// Kubeconfigs, with a certificate in them or without.
    pub kubeconfigs: Vec<PathBuf>,
    /// Files that should hold certificates, with the reason why they don't.
    pub broken: Vec<(PathBuf, String)>,
}

/// Looks through files, and through directories with all that is below them: `.pem`, `.crt`, `.conf` and
/// `.kubeconfig` files, and those called `kubeconfig`. Of a kubelet's dated files only the one in use is taken.
///
/// # Errors
/// [`Error::Read`] if a path that was named cannot be listed.
pub fn scan(paths: &[PathBuf]) -> Result<Inventory> {
    let mut files = BTreeSet::new();
    for path in paths {
        if path.is_dir() {
            list(path, &mut files)?;
        } else {
            files.insert(path.clone());
        }
    }
    let mut inventory = Inventory::default();
    for file in files {
        match look(&file) {
            Ok(Looked::Certificates(found)) => inventory.found.extend(found),
            Ok(Looked::Kubeconfig(found)) => {
                inventory.found.extend(*found);
                inventory.kubeconfigs.push(file);
            }
            Ok(Looked::Other) => {}
            Err(error) => inventory.broken.push((file, with_causes(&error))),
        }
    }
    Ok(inventory)
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

fn list(dir: &Path, into: &mut BTreeSet<PathBuf>) -> Result<()> {
    let failed = |source| Error::Read {
        path: dir.to_owned(),
        source,
    };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
        if kind.is_dir() {
            list(&path, into)?;
        } else if is_candidate(&path) {
            into.insert(path);
        }
    }
    Ok(())
}

fn is_candidate(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let old = ["kubelet-client-2", "kubelet-server-2"]
        .iter()
        .any(|dated| name.starts_with(dated));
    let ending = path.extension().unwrap_or_default();
    let key = name.ends_with("-key.pem") || name == "key.pem" || name.starts_with('.');
    let named = ["pem", "crt", "conf", "kubeconfig"]
        .iter()
        .any(|one| ending == *one);
    (named || name == "kubeconfig") && !old && !key
}

/// What a file is.
enum Looked {
    Certificates(Vec<Found>),
    Kubeconfig(Box<Option<Found>>),
    Other,
}

fn look(file: &Path) -> Result<Looked> {
    let text = files::read(file)?;
    if text.contains("-----BEGIN ") {
        return certificates(file, &text).map(Looked::Certificates);
    }
    if text.contains("clusters:") || text.contains("\"clusters\"") {
        return Ok(Looked::Kubeconfig(Box::new(embedded(file)?)));
    }
    Ok(Looked::Other)
}

/// Of an authority's file every certificate counts, of another one the first: the others are its chain.
fn certificates(file: &Path, text: &str) -> Result<Vec<Found>> {
    if pem_block(text, crate::certificate::CERTIFICATE).is_none() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for der in pem_certificates(text)? {
        let certificate = Certificate::from_der(&der)?;
        let first = found.is_empty();
        if !first && !found.last().is_some_and(|last: &Found| last.certificate.is_ca) {
            break;
        }
        let key = first.then(|| key_of(file, text)).flatten();
        let fault = key.as_ref().and_then(|key| fault(key, &certificate));
        found.push(Found {
            file: file.to_owned(),
            kubeconfig: false,
            certificate,
            key,
            fault,
        });
    }
    Ok(found)
}

fn embedded(file: &Path) -> Result<Option<Found>> {
    let access = Kubeconfig::load_access(file)?;
    let Some(Material::Data(pem)) = &access.client_cert else {
        return Ok(None);
    };
    let certificate = Certificate::from_pem(pem)?;
    let mode = weak(file).map(|error| error.to_string());
    Ok(Some(Found {
        file: file.to_owned(),
        kubeconfig: true,
        certificate,
        key: Some(file.to_owned()),
        fault: mode,
    }))
}

/// The key beside a certificate: in the same file, or `X-key.pem` for `X.pem` and `X.key` for `X.crt`.
fn key_of(file: &Path, text: &str) -> Option<PathBuf> {
    if text.contains("PRIVATE KEY-----") {
        return Some(file.to_owned());
    }
    let stem = file.file_stem()?.to_string_lossy().into_owned();
    let beside = match file.extension()?.to_str()? {
        "pem" => file.with_file_name(format!("{stem}-key.pem")),
        _ => file.with_file_name(format!("{stem}.key")),
    };
    beside.exists().then_some(beside)
}

fn weak(key: &Path) -> Option<Error> {
    let mode = fs::metadata(key).ok()?.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then(|| Error::WeakPermissions {
        path: key.to_owned(),
        mode,
    })
}

fn fault(key: &Path, certificate: &Certificate) -> Option<String> {
    if let Some(error) = weak(key) {
        return Some(error.to_string());
    }
    let text = match files::read(key) {
        Ok(text) => text,
        Err(error) => return Some(with_causes(&error)),
    };
    // Keys of other kinds than our own are left unjudged.
    let own = PrivateKey::from_pem(&text)
        .and_then(|key| key.public_key_der())
        .ok()?;
    (own != certificate.public_key).then(|| format!("the key in {} is another certificate's", key.display()))
}
