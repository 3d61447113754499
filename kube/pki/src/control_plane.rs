//! The material of a one-machine control plane: made once, mended at every start.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::ca::{AuthorityFiles, CA_LIFETIME, CertificateAuthority, Identity, Profile};
use crate::certificate::{Certificate, SubjectAltNames};
use crate::jwt::ServiceAccountKey;
use crate::key::PrivateKey;
use crate::kubeconfig::{Access, Kubeconfig, Material};
use crate::{Error, Result, Subject, files, rotation};

/// What an authority is called.
pub const CA_NAME: &str = "kubernetes";
/// A year, as kubeadm has it.
pub const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long what a control plane makes lives, and when it is renewed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// The authority's life.
    pub ca: Duration,
    /// Life of everything else.
    pub certificates: Duration,
    /// In `[0, 1)`: where between 70 and 90 % of a life the renewal is due; see [`rotation::deadline`].
    pub random: f64,
}

impl Default for Terms {
    /// Ten years, one year, at 70 %.
    fn default() -> Self {
        Self {
            ca: CA_LIFETIME,
            certificates: LIFETIME,
            random: 0.0,
        }
    }
}

/// Under which names and addresses the API server is reached.
#[derive(Clone, Debug)]
pub struct ApiServerSans {
    /// The first address of the service network: what `kubernetes.default` resolves to.
    pub service_ip: IpAddr,
    /// The machine's own addresses.
    pub node_ips: Vec<IpAddr>,
    /// Further DNS names, such as the machine's.
    pub dns: Vec<String>,
    /// The cluster's domain, `cluster.local`.
    pub cluster_domain: String,
}

impl ApiServerSans {
    /// All names, those that every API server has included.
    pub fn names(&self) -> SubjectAltNames {
        let mut dns: Vec<String> = [
            "kubernetes".to_owned(),
            "kubernetes.default".to_owned(),
            "kubernetes.default.svc".to_owned(),
            format!("kubernetes.default.svc.{}", self.cluster_domain),
            "localhost".to_owned(),
        ]
        .into();
        dns.extend(self.dns.iter().cloned());
        let mut ips = vec![
            self.service_ip,
            Ipv4Addr::LOCALHOST.into(),
            Ipv6Addr::LOCALHOST.into(),
        ];
        ips.extend(&self.node_ips);
        SubjectAltNames::new(unique(dns), unique(ips))
    }
}

/// A certificate with its key, and the files that hold them.
#[derive(Clone, Debug)]
pub struct IdentityFile {
    /// The material itself.
    pub identity: Identity,
    /// The certificate's file.
    pub cert_path: PathBuf,
    /// The key's file.
    pub key_path: PathBuf,
}

/// All certificates and keys of the control plane.
#[derive(Clone, Debug)]
pub struct ControlPlanePki {
    /// The cluster's authority.
    pub ca: CertificateAuthority,
    /// The authority's certificate file.
    pub ca_path: PathBuf,
    /// What the API server shows its clients.
    pub apiserver: IdentityFile,
    /// With what the API server calls kubelets.
    pub kubelet_client: IdentityFile,
    /// The administrator.
    pub admin: IdentityFile,
    /// `system:kube-controller-manager`.
    pub controller_manager: IdentityFile,
    /// `system:kube-scheduler`.
    pub scheduler: IdentityFile,
    /// Signs service-account tokens.
    pub service_account: ServiceAccountKey,
}

impl ControlPlanePki {
    /// As [`ensure_on`](Self::ensure_on), with lives of ten years and of one. What interrupted writes have left goes.
    ///
    /// # Errors
    /// See there.
    pub fn ensure(dir: &Path, sans: &ApiServerSans, now: Timestamp) -> Result<Self> {
        files::create_private_dir(dir)?;
        files::remove_leftovers(dir)?;
        Self::ensure_on(dir, sans, Terms::default(), now)
    }

    /// Makes what is missing in `dir` and renews what is near its end, does not name all of `sans`, is broken, or is
    /// not signed by the authority. What is good stays as it is. Each file is written atomically and durably. An
    /// authority near its end is renewed with its own key.
    ///
    /// # Errors
    /// [`Error::CaExpired`] and others of [`crate::Error`]; what had been made before the error is whole and is taken
    /// up by the next call.
    pub fn ensure_on(dir: &Path, sans: &ApiServerSans, terms: Terms, now: Timestamp) -> Result<Self> {
        files::create_private_dir(dir)?;
        let place = AuthorityFiles::in_dir(dir);
        let ca = ensure_authority(&place, terms, now)?;
        let identity =
            |name: &str, profile: Profile| ensure_identity(dir, name, &ca, &profile, terms.random, now);
        let client = |name: &str, user: &str, groups: &[&str]| {
            identity(
                name,
                Profile::client(Subject::new(user, groups), terms.certificates),
            )
        };
        let server = Profile::server(
            Subject::new("kube-apiserver", &[]),
            sans.names(),
            terms.certificates,
        );
        Ok(Self {
            apiserver: identity("apiserver", server)?,
            kubelet_client: client(
                "apiserver-kubelet-client",
                "kube-apiserver-kubelet-client",
                &["system:masters"],
            )?,
            admin: client("admin", "kubernetes-admin", &["system:masters"])?,
            controller_manager: client("controller-manager", "system:kube-controller-manager", &[])?,
            scheduler: client("scheduler", "system:kube-scheduler", &[])?,
            service_account: ServiceAccountKey::load_or_create(&dir.join("sa-key.pem"))?,
            ca_path: place.cert,
            ca,
        })
    }

    /// When the first of them is to be renewed.
    ///
    /// # Errors
    /// [`Error::Pem`], [`Error::Asn1`].
    pub fn due(&self, random: f64) -> Result<Timestamp> {
        let own = self.ca.certificate();
        let mut due = rotation::deadline(own.not_before, own.not_after, random);
        let all = [
            &self.apiserver,
            &self.kubelet_client,
            &self.admin,
            &self.controller_manager,
            &self.scheduler,
        ];
        for file in all {
            let found = Certificate::from_pem(&file.identity.cert_pem)?;
            due = due.min(rotation::deadline(found.not_before, found.not_after, random));
        }
        Ok(due)
    }

    /// A kubeconfig with everything embedded, for `identity` at `server` (`https://host:port`).
    pub fn kubeconfig(&self, server: &str, identity: &IdentityFile) -> Kubeconfig {
        Kubeconfig::for_access(&Access {
            server: server.to_owned(),
            ca: Some(Material::Data(self.ca.cert_pem().to_owned())),
            client_cert: Some(Material::Data(identity.identity.cert_pem.clone())),
            client_key: Some(Material::Data(identity.identity.key_pem.clone())),
            ..Access::default()
        })
    }
}

/// The authority in these files, renewed if it is near its end.
fn ensure_authority(place: &AuthorityFiles, terms: Terms, now: Timestamp) -> Result<CertificateAuthority> {
    let ca = CertificateAuthority::load_or_create_files(place, CA_NAME, terms.ca, now)?;
    let own = ca.certificate();
    if now >= own.not_after {
        return Err(Error::CaExpired {
            cert: place.cert.clone(),
            end: own.not_after,
        });
    }
    match rotation::plan(own.not_before, own.not_after, terms.random, now) {
        rotation::Plan::Wait(_) => Ok(ca),
        rotation::Plan::Renew => {
            let renewed = ca.renewed(terms.ca, now)?;
            renewed.save(place)?;
            Ok(renewed)
        }
    }
}

fn ensure_identity(
    dir: &Path,
    name: &str,
    ca: &CertificateAuthority,
    profile: &Profile,
    random: f64,
    now: Timestamp,
) -> Result<IdentityFile> {
    let cert_path = dir.join(format!("{name}.pem"));
    let key_path = dir.join(format!("{name}-key.pem"));
    if let Some(identity) = usable(&cert_path, &key_path, ca, profile, random, now)? {
        return Ok(IdentityFile {
            identity,
            cert_path,
            key_path,
        });
    }
    let identity = ca.issue(profile, now)?;
    // Between the two writes the pair does not match; the next call finds that and makes a new pair.
    files::write_atomic(&key_path, identity.key_pem.as_bytes(), files::PRIVATE)?;
    files::write_atomic(&cert_path, identity.cert_pem.as_bytes(), files::PUBLIC)?;
    Ok(IdentityFile {
        identity,
        cert_path,
        key_path,
    })
}

/// The pair on disk, if it is whole, fits the profile and is not due for renewal.
fn usable(
    cert_path: &Path,
    key_path: &Path,
    ca: &CertificateAuthority,
    profile: &Profile,
    random: f64,
    now: Timestamp,
) -> Result<Option<Identity>> {
    let (Some(cert_pem), true) = (files::read_optional(cert_path)?, key_path.exists()) else {
        return Ok(None);
    };
    let key_pem = files::read_private(key_path)?;
    let (Ok(certificate), Ok(key)) = (Certificate::from_pem(&cert_pem), PrivateKey::from_pem(&key_pem))
    else {
        return Ok(None);
    };
    let due = rotation::deadline(certificate.not_before, certificate.not_after, random);
    let fits = key.public_key_der()? == certificate.public_key
        && ca.signed(&certificate)
        && certificate.subject == profile.subject
        && certificate.names.covers(&profile.names)
        && certificate.not_before <= now
        && now < due;
    Ok(fits.then_some(Identity { cert_pem, key_pem }))
}

fn unique<T: PartialEq>(items: Vec<T>) -> Vec<T> {
    let mut kept: Vec<T> = Vec::with_capacity(items.len());
    for item in items {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}
