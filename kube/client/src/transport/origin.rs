//! Where credentials come from, so that they can be read again.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use knode_pki::kubeconfig::{Access, Kubeconfig, Material};

use crate::{Error, Result};

/// Where a client's credentials come from.
#[derive(Debug)]
pub(super) enum Origin {
    /// What was given; the text may stand in files.
    Given(Box<Access>),
    /// A kubeconfig, whose text may change as well as that of the files that it names.
    Kubeconfig(PathBuf),
}

impl Origin {
    pub(super) fn access(&self) -> Result<Cow<'_, Access>> {
        match self {
            Self::Given(access) => Ok(Cow::Borrowed(access)),
            Self::Kubeconfig(path) => {
                let access = Kubeconfig::load_access(path).map_err(Error::Credentials)?;
                Ok(Cow::Owned(access))
            }
        }
    }

    /// The authority's certificates, PEM.
    pub(super) fn authority(&self) -> Result<String> {
        let access = self.access()?;
        let ca = access.ca.as_ref();
        let ca = ca.ok_or_else(|| Error::NoAuthority(access.server.clone()))?;
        ca.read().map_err(Error::Credentials)
    }

    /// Client certificate and key, PEM, if there are any.
    pub(super) fn identity(&self) -> Result<Option<(String, String)>> {
        let access = self.access()?;
        let Some(cert) = &access.client_cert else {
            return Ok(None);
        };
        let cert_pem = cert.read().map_err(Error::Credentials)?;
        let key_pem = match &access.client_key {
            Some(key) if key != cert => key.read().map_err(Error::Credentials)?,
            _ => cert_pem.clone(),
        };
        Ok(Some((cert_pem, key_pem)))
    }

    /// The files behind it.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        if let Self::Kubeconfig(path) = self {
            files.push(path.clone());
        }
        if let Ok(access) = self.access() {
            let materials = [&access.ca, &access.client_cert, &access.client_key];
            let paths = materials.into_iter().flatten().filter_map(Material::path);
            files.extend(paths.map(Path::to_owned));
        }
        files
    }
}
