//! The control plane: store, API server, scheduler and controllers.

mod discovery;
pub mod objects;
mod rotation;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use jiff::Timestamp;
use knode_apiserver::{ApiServer, ApiServerConfig, Credentials, TlsIdentity, UserInfo};
use knode_client::SystemClock;
use knode_controllers::{ControllersConfig, PodRange};
use knode_pki::kubeconfig::Kubeconfig;
use knode_pki::{ApiServerSans, BootstrapToken, CertificateAuthority, ControlPlanePki, IdentityFile, files};
use knode_store::Store;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::rotation::{Rotation, Written};
use crate::cli::ControlPlaneOptions;
use crate::dns::{self, ClusterDns};
use crate::dual::{Dual, Family};
use crate::layout::Layout;
use crate::preflight;
use crate::progress::Progress;
use crate::shutdown::Shutdown;
use crate::token;

/// A control plane that serves.
pub struct ControlPlane {
    tasks: JoinSet<()>,
    api: ApiServer,
}

/// What the control plane is to be.
pub struct Plan<'a> {
    pub layout: &'a Layout,
    pub options: &'a ControlPlaneOptions,
    /// The machine's addresses; that of the services' primary family is the one by which nodes and pods reach it.
    pub ips: Dual<IpAddr>,
    /// The machine's name, for the serving certificate.
    pub name: &'a str,
}

impl Plan<'_> {
    /// Refuses what can't work, before anything is made.
    pub fn check(&self) -> Result<(), preflight::Obstacle> {
        preflight::ranges(&self.options.pod_cidr, &self.options.service_cidr)?;
        self.pod_ranges()?;
        preflight::port(self.listen(), "API server")
    }

    /// Where the API server listens: all addresses of a machine are those of both families if it has both.
    fn listen(&self) -> SocketAddr {
        let listen = self.options.listen;
        if listen.ip().is_unspecified() && self.ips.v6().is_some() {
            return SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), listen.port());
        }
        listen
    }

    /// The address by which nodes and pods reach it.
    fn advertise(&self) -> SocketAddr {
        let family = Family::of(&self.options.service_cidr.primary());
        let ip = self.ips.of(family).unwrap_or(self.ips.primary());
        SocketAddr::new(ip, self.options.listen.port())
    }

    fn server_url(&self) -> String {
        format!("https://{}", self.advertise())
    }

    fn pod_ranges(&self) -> Result<Vec<PodRange>, preflight::Obstacle> {
        let options = self.options;
        let (ipv4, ipv6) = (options.node_cidr_mask_size_ipv4, options.node_cidr_mask_size_ipv6);
        let range = |cidr| {
            let node_mask = preflight::node_mask(cidr, ipv4, ipv6)?;
            Ok(PodRange { cidr, node_mask })
        };
        options.pod_cidr.iter().map(range).collect()
    }

    fn sans(&self) -> anyhow::Result<ApiServerSans> {
        let service_ip = knode_apiserver::kubernetes_address(self.options.service_cidr.primary())
            .context("the service range holds no address")?;
        let mut node_ips: Vec<IpAddr> = self.ips.iter().collect();
        if !self.options.listen.ip().is_unspecified() {
            node_ips.push(self.options.listen.ip());
        }
        Ok(ApiServerSans {
            service_ip,
            node_ips,
            dns: vec![self.name.to_owned()],
            cluster_domain: "cluster.local".into(),
        })
    }

    fn config(&self, pki: &ControlPlanePki) -> anyhow::Result<ApiServerConfig> {
        let range = self.options.node_port_range;
        let certificates = &self.options.certificates;
        Ok(ApiServerConfig {
            credentials: credentials(pki),
            node_bindings: certificates.node_bindings(),
            service_account_key: Arc::new(pki.service_account.clone()),
            issuer: "https://kubernetes.default.svc.cluster.local".into(),
            service_cidrs: self.options.service_cidr.iter().collect(),
            node_port_range: range.first..=range.last,
            advertise: self.advertise(),
            static_tokens: certificates.tokens()?,
        })
    }

    /// Starts everything; returns when the API answers and its kubeconfigs are written.
    pub async fn start(&self, progress: &Progress, shutdown: &Shutdown) -> anyhow::Result<ControlPlane> {
        let layout = self.layout;
        let ports = self.options.node_port_range;
        if let Some(warning) = preflight::node_ports(ports.first, ports.last) {
            tracing::warn!("{warning}");
        }
        let pki = self.certificates()?;
        progress.done("certificates are there");
        let config = self.config(&pki)?;
        let store = open_store(&layout.store_file()).await?;
        let listener = ApiServer::bind(self.listen()).await?;
        let api = ApiServer::start(config, store)
            .await
            .context("start the API server")?;
        progress.done(format!("the API server listens on {}", self.listen()));
        let mut tasks = JoinSet::new();
        let serving = api.clone();
        let end = shutdown.clone();
        tasks.spawn(async move { serving.serve(listener, end.requested()).await });
        let (authority, seen) = watch::channel(Arc::new(pki.ca.clone()));
        self.start_controllers(&api, seen, &mut tasks, shutdown)?;
        let written = self.write_kubeconfigs(&api, &pki).await?;
        progress.done(format!("kubeconfig: {}", self.options.write_kubeconfig.display()));
        self.start_dns(&api, &mut tasks, shutdown).await;
        let rotation = self.rotation(api.clone(), pki, authority, written)?;
        let end = shutdown.clone();
        tasks.spawn(async move {
            tokio::select! { () = rotation.run() => {}, () = end.requested() => {} }
        });
        Ok(ControlPlane { tasks, api })
    }

    /// Makes, or finds, what the control plane needs; renews what is near its end.
    fn certificates(&self) -> anyhow::Result<ControlPlanePki> {
        let dir = self.layout.pki_dir();
        files::create_private_dir(&dir)?;
        files::remove_leftovers(&dir)?;
        let terms = self.options.certificates.terms(0.0);
        ControlPlanePki::ensure_on(&dir, &self.sans()?, terms, Timestamp::now())
            .context("make the control plane's certificates")
    }

    /// The Service that pods ask for names, and its endpoints.
    async fn start_dns(&self, api: &ApiServer, tasks: &mut JoinSet<()>, end: &Shutdown) {
        let services = self.options.service_cidr;
        let dns = ClusterDns::settle(self.options.cluster_dns, &services);
        let client = knode_client::from_service(api.service(UserInfo::new("knode:dns", ["system:masters"])));
        // Nodes that start look for it; what goes wrong is told, and tried again.
        dns::prepare(&client, dns, &services).await;
        let end = end.clone();
        tasks.spawn(async move {
            tokio::select! { () = dns::publish(client, dns, services) => {}, () = end.requested() => {} }
        });
    }

    fn rotation(
        &self,
        api: ApiServer,
        pki: ControlPlanePki,
        authority: watch::Sender<Arc<CertificateAuthority>>,
        written: Written,
    ) -> anyhow::Result<Rotation> {
        Ok(Rotation {
            dir: self.layout.pki_dir(),
            sans: self.sans()?,
            certificates: self.options.certificates.clone(),
            api,
            pki,
            authority,
            written,
        })
    }

    fn start_controllers(
        &self,
        api: &ApiServer,
        authority: watch::Receiver<Arc<CertificateAuthority>>,
        tasks: &mut JoinSet<()>,
        end: &Shutdown,
    ) -> anyhow::Result<()> {
        let client =
            |user: &str| knode_client::from_service(api.service(UserInfo::new(user, [] as [&str; 0])));
        let accounts = api.clone();
        let config = ControllersConfig {
            client: client("system:kube-controller-manager"),
            clients: Arc::new(move |account| {
                knode_client::from_service(accounts.service(controller(account)))
            }),
            authority,
            signing_duration: self.options.certificates.cluster_signing_duration,
            pod_ranges: self.pod_ranges()?,
            clock: Arc::new(SystemClock::default()),
        };
        tasks.spawn(knode_controllers::run(config, end.clone().requested()));
        tasks.spawn(knode_scheduler::run(
            client("system:kube-scheduler"),
            end.clone().requested(),
        ));
        Ok(())
    }

    /// Grants nodes their rights, keeps a token with which they join, and writes the kubeconfigs.
    async fn write_kubeconfigs(&self, api: &ApiServer, pki: &ControlPlanePki) -> anyhow::Result<Written> {
        let admin =
            knode_client::from_service(api.service(UserInfo::new("kubernetes-admin", ["system:masters"])));
        let bootstrap = self.layout.bootstrap_kubeconfig();
        let token = kept_token(&bootstrap)?.unwrap_or_else(BootstrapToken::generate);
        let secret = token::secret::make(
            &token,
            None,
            "of this control plane's own bootstrap kubeconfig",
            Timestamp::now(),
        );
        objects::ensure(&admin, &secret).await?;
        tracing::debug!(token = token.id(), "bootstrap token ready");
        let path = &self.options.write_kubeconfig;
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        let written = Written {
            client: admin,
            server: self.server_url(),
            admin: path.clone(),
            bootstrap,
            token,
            pod_cidr: self.options.pod_cidr.to_string(),
            service_cidr: self.options.service_cidr.to_string(),
        };
        written.authority(pki).await?;
        written.admin(pki)?;
        Ok(written)
    }
}

/// What the API server shows, and whom it believes.
fn credentials(pki: &ControlPlanePki) -> Credentials {
    let tls = |f: &IdentityFile| TlsIdentity {
        cert_pem: f.identity.cert_pem.clone(),
        key_pem: f.identity.key_pem.clone(),
    };
    Credentials {
        tls: tls(&pki.apiserver),
        client_ca_pem: pki.ca.cert_pem().to_owned(),
        kubelet_client: tls(&pki.kubelet_client),
    }
}

/// A controller's service account.
fn controller(account: &str) -> UserInfo {
    let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
    UserInfo::new(format!("system:serviceaccount:kube-system:{account}"), groups)
}

/// The token that an earlier start has written, so that kubeconfigs handed out stay good.
fn kept_token(file: &Path) -> anyhow::Result<Option<BootstrapToken>> {
    if !file.exists() {
        return Ok(None);
    }
    let access = Kubeconfig::load_access(file).context("read the bootstrap kubeconfig")?;
    let Some(token) = access.token else {
        return Ok(None);
    };
    Ok(token.read()?.trim().parse().ok())
}

async fn open_store(path: &Path) -> anyhow::Result<Store> {
    if let Some(dir) = path.parent() {
        files::create_private_dir(dir).context("make the store's directory")?;
    }
    Store::open(path).await.context("open the store")
}

impl ControlPlane {
    /// Waits until every part has ended after a shutdown.
    pub async fn ended(mut self) {
        self.api.close();
        while let Some(part) = self.tasks.join_next().await {
            if let Err(error) = part {
                tracing::error!(%error, "a part of the control plane ended badly");
            }
        }
    }

    /// Resolves when a part ends by itself, which none should.
    pub async fn broken(&mut self) -> String {
        match self.tasks.join_next().await {
            Some(Ok(())) => "a part of the control plane ended".into(),
            Some(Err(error)) => format!("a part of the control plane ended badly: {error}"),
            None => std::future::pending().await,
        }
    }
}
