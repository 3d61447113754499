//! The control plane's certificates while it runs: renewed in time, and taken up when somebody else has renewed them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use knode_apiserver::ApiServer;
use knode_client::Client;
use knode_linux::filewatch::FileWatch;
use knode_pki::kubeconfig::{Access, Kubeconfig, Material};
use knode_pki::{ApiServerSans, BootstrapToken, CertificateAuthority, ControlPlanePki};
use tokio::sync::watch;

use super::credentials;
use super::discovery::{self, Published};
use crate::pki::CertificateOptions;

/// A sleep is cut into pieces, so that a clock that was set is noticed.
const NAP: Duration = Duration::from_secs(3600);
/// Pause after a renewal that failed.
const PAUSE: Duration = Duration::from_secs(5);

/// Keeps the control plane's certificates fresh.
pub struct Rotation {
    pub dir: PathBuf,
    pub sans: ApiServerSans,
    pub certificates: CertificateOptions,
    pub api: ApiServer,
    /// What is in use.
    pub pki: ControlPlanePki,
    pub authority: watch::Sender<Arc<CertificateAuthority>>,
    pub written: Written,
}

/// What the control plane has written of its certificates elsewhere.
pub struct Written {
    /// With the administrator's rights.
    pub client: Client,
    pub server: String,
    pub admin: PathBuf,
    pub bootstrap: PathBuf,
    pub token: BootstrapToken,
    pub pod_cidr: String,
    pub service_cidr: String,
}

impl Rotation {
    /// Runs for ever.
    pub async fn run(mut self) {
        let watch = watch(&self.dir)
            .inspect_err(|error| tracing::warn!(%error, "certificates that others renew are taken up at the next start"))
            .ok();
        let mut random = rand::random::<f64>();
        loop {
            let pause = match self.turn(random).await {
                Ok(renewed) => {
                    if renewed {
                        random = rand::random();
                    }
                    self.left(random)
                }
                Err(error) => {
                    tracing::error!(
                        error = knode_client::brief(error.as_ref()),
                        "certificates not renewed"
                    );
                    PAUSE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = changed(watch.as_ref()) => {}
            }
        }
    }

    /// The time until something is due.
    fn left(&self, random: f64) -> Duration {
        let due = self.pki.due(random).unwrap_or(Timestamp::MIN);
        let left = Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default();
        // Certificates tell whole seconds.
        (left + Duration::from_millis(10)).min(NAP)
    }

    /// Renews what is due, and takes up what is not in use yet; whether there was anything.
    async fn turn(&mut self, random: f64) -> anyhow::Result<bool> {
        let terms = self.certificates.terms(random);
        let pki = ControlPlanePki::ensure_on(&self.dir, &self.sans, terms, Timestamp::now())?;
        let changed = |old: &knode_pki::IdentityFile, new: &knode_pki::IdentityFile| {
            old.identity.cert_pem != new.identity.cert_pem
        };
        let authority = pki.ca.cert_pem() != self.pki.ca.cert_pem()
            || pki.ca.public_key_hash() != self.pki.ca.public_key_hash();
        let server = changed(&self.pki.apiserver, &pki.apiserver);
        let kubelets = changed(&self.pki.kubelet_client, &pki.kubelet_client);
        let admin = changed(&self.pki.admin, &pki.admin);
        if authority || server || kubelets {
            self.api
                .renew(&credentials(&pki))
                .context("use the new certificates")?;
        }
        if authority {
            self.authority.send_replace(Arc::new(pki.ca.clone()));
            self.written.authority(&pki).await?;
        }
        if authority || admin {
            self.written.admin(&pki)?;
        }
        let any = authority || server || kubelets || admin;
        if any {
            tracing::info!(
                authority,
                server,
                kubelets,
                admin,
                "the control plane's certificates were renewed"
            );
        }
        self.pki = pki;
        Ok(any)
    }
}

fn watch(dir: &Path) -> std::io::Result<FileWatch> {
    let watch = FileWatch::new()?;
    watch.add_directory(dir)?;
    Ok(watch)
}

async fn changed(watch: Option<&FileWatch>) {
    match watch {
        Some(watch) => {
            if let Err(error) = watch.changed().await {
                tracing::warn!(%error, "cannot follow the certificates");
                std::future::pending().await
            }
        }
        None => std::future::pending().await,
    }
}

impl Written {
    /// The administrator's kubeconfig.
    pub fn admin(&self, pki: &ControlPlanePki) -> anyhow::Result<()> {
        pki.kubeconfig(&self.server, &pki.admin)
            .write(&self.admin)
            .context("write the administrator's kubeconfig")
    }

    /// The bootstrap kubeconfig, and what machines that join are told.
    pub async fn authority(&self, pki: &ControlPlanePki) -> anyhow::Result<()> {
        let ca_pem = pki.ca.cert_pem().to_owned();
        let kubeconfig = Kubeconfig::for_access(&Access {
            server: self.server.clone(),
            ca: Some(Material::Data(ca_pem.clone())),
            token: Some(Material::Data(self.token.to_string())),
            ..Access::default()
        });
        kubeconfig
            .write(&self.bootstrap)
            .context("write the bootstrap kubeconfig")?;
        let published = Published {
            server: self.server.clone(),
            ca_pem,
            pod_cidr: self.pod_cidr.clone(),
            service_cidr: self.service_cidr.clone(),
        };
        Ok(discovery::ensure(&self.client, &published).await?)
    }
}
