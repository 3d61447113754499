//! What the kubelet can be told, in upstream's words: `knode node` and the role `kubelet` share one model
//! (`knode_kubelet_config`).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use k8s_openapi::api::core::v1::Taint;
use knode_client::Clock;
use knode_engine::CgroupDriver;
use knode_kubelet::{
    CredentialProviders, LogRotation, NodeCredentials, NodeFile, ProvidersError, PullVerification,
    VerificationError,
};
use knode_kubelet_config::{CommandLine, Effective, PriorityGrace, Settings, Sources};
use knode_kubelet_node::{
    EvictionConfig, GivenCertificate, ImageGcPolicy, ShutdownConfig, ShutdownGrace, ShutdownGraceError,
    ThresholdError, TlsOptions,
};
use knode_linux::cgroup::{self, Cgroups, Version};
use serde_json::{Map, Value, json};

use super::config_files::{self, ReadError};
use super::resources::{self, Reservations};
use super::runtime::{Endpoint, EndpointError, RuntimeOptions};

/// The kubelet's own options.
#[derive(Args, Clone, Debug, Default)]
pub struct KubeletOptions {
    /// A KubeletConfiguration (kubelet.config.k8s.io/v1beta1). The options below go before it.
    #[arg(long, value_name = "FILE")]
    pub kubelet_config: Option<PathBuf>,
    /// A directory of drop-ins `*.conf`, laid over the configuration in the order of their names.
    #[arg(long, value_name = "DIR")]
    pub kubelet_config_dir: Option<PathBuf>,
    /// A directory of manifests, or one manifest: this node runs their pods, with or without an API server, and
    /// shows them there as mirror pods. It is followed while running.
    #[arg(long, value_name = "PATH")]
    pub pod_manifest_path: Option<String>,
    /// When memory, disk and process numbers count as scarce: the node then says so, takes no new pods and ends some.
    /// Signals: memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, imagefs.inodesFree,
    /// pid.available; values: quantities or percentages. Signals that are not named keep their limits, 0% takes one
    /// away [default:
    /// memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%].
    #[arg(long, value_name = "SIGNAL<VALUE,...")]
    pub eviction_hard: Option<String>,
    /// Limits that must be met for some time before pods are ended, each with its time in
    /// --eviction-soft-grace-period.
    #[arg(long, value_name = "SIGNAL<VALUE,...")]
    pub eviction_soft: Option<String>,
    /// How long each limit of --eviction-soft must be met, such as memory.available=1m30s.
    #[arg(long, value_name = "SIGNAL=DURATION,...")]
    pub eviction_soft_grace_period: Option<String>,
    /// How much more than the limit must be free again once it was met, such as memory.available=200Mi.
    #[arg(long, value_name = "SIGNAL=VALUE,...")]
    pub eviction_minimum_reclaim: Option<String>,
    /// Seconds that a pod ended for a limit of --eviction-soft may take, at most; 0 leaves it its own time [default: 0].
    #[arg(long, value_name = "SECONDS")]
    pub eviction_max_pod_grace_period: Option<String>,
    /// How long a pressure must be gone before the node reports it gone [default: 5m0s].
    #[arg(long, value_name = "DURATION")]
    pub eviction_pressure_transition_period: Option<String>,
    /// Percentage of the images' file system in use from which on unused images are removed; 100 means never
    /// [default: 85].
    #[arg(long, value_name = "PERCENT")]
    pub image_gc_high_threshold: Option<String>,
    /// Percentage in use down to which unused images are removed [default: 80].
    #[arg(long, value_name = "PERCENT")]
    pub image_gc_low_threshold: Option<String>,
    /// How long an image has been known at least before it is removed as unused [default: 2m0s].
    #[arg(long, value_name = "DURATION")]
    pub minimum_image_ttl_duration: Option<String>,
    /// Size from which on a container's log is rotated [default: 10Mi].
    #[arg(long, value_name = "SIZE")]
    pub container_log_max_size: Option<String>,
    /// How many files a container's log may have; at least 2 [default: 5].
    #[arg(long, value_name = "COUNT")]
    pub container_log_max_files: Option<String>,
    /// How many pods may run here [default: 110].
    #[arg(long, value_name = "COUNT")]
    pub max_pods: Option<String>,
    /// How long a shutdown of the machine waits until the pods have ended, which needs systemd-logind; 0s does not
    /// wait [default: 0s].
    #[arg(long, value_name = "DURATION")]
    pub shutdown_grace_period: Option<String>,
    /// How much of --shutdown-grace-period is set aside for critical pods, which end last [default: 0s].
    #[arg(long, value_name = "DURATION")]
    pub shutdown_grace_period_critical_pods: Option<String>,
    /// How long the node asks its certificates to live, ten minutes at least; the cluster may give less [default: the
    /// cluster decides].
    #[arg(long, value_name = "DURATION", value_parser = crate::pki::parse_requested_life)]
    pub certificate_duration: Option<Duration>,
    /// Which programs give credentials for which images: a CredentialProviderConfig, or a directory of them.
    #[arg(long, value_name = "FILE", requires = "image_credential_provider_bin_dir")]
    pub image_credential_provider_config: Option<PathBuf>,
    /// Where the programs of --image-credential-provider-config are.
    #[arg(long, value_name = "DIR", requires = "image_credential_provider_config")]
    pub image_credential_provider_bin_dir: Option<PathBuf>,
    /// What a kubelet's own command line and files came to; goes before everything else.
    #[arg(skip)]
    pub settled: Option<Arc<Effective>>,
}

/// The same, read.
#[derive(Clone, Debug)]
pub struct KubeletSettings {
    pub eviction: EvictionConfig,
    pub image_gc: ImageGcPolicy,
    pub pull_verification: PullVerification,
    pub logs: LogRotation,
    pub shutdown: ShutdownConfig,
    /// What is set aside.
    pub reservations: Reservations,
    /// Everything else that is followed.
    pub all: Settings,
    /// Labels to register with.
    pub labels: BTreeMap<String, String>,
    /// What `/configz` shows.
    pub configz: Value,
    /// What `/flagz` shows.
    pub flags: BTreeMap<String, String>,
    /// What was accepted and has no effect.
    pub warnings: Vec<String>,
}

/// An option that cannot be read or does not fit another.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    #[error(transparent)]
    Config(#[from] knode_kubelet_config::Error),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{option}: {source}")]
    Value {
        option: &'static str,
        source: ThresholdError,
    },
    #[error(transparent)]
    Shutdown(#[from] ShutdownGraceError),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error("{0}")]
    Resources(String),
    #[error(transparent)]
    Verification(#[from] VerificationError),
    #[error("containerLogMaxSize {0:?} is not a size such as 10Mi")]
    LogSize(String),
}

fn of<T>(option: &'static str, read: Result<T, ThresholdError>) -> Result<T, OptionError> {
    read.map_err(|source| OptionError::Value { option, source })
}

impl KubeletOptions {
    /// Those of a kubelet with a command line of its own.
    pub fn settled(effective: Effective) -> Self {
        Self {
            settled: Some(Arc::new(effective)),
            ..Self::default()
        }
    }

    /// Reads all of them, and the files that they name.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub fn settings(&self) -> Result<KubeletSettings, OptionError> {
        let effective = match &self.settled {
            Some(effective) => effective.as_ref().clone(),
            None => self.effective()?,
        };
        let all = effective.settings;
        Ok(KubeletSettings {
            eviction: eviction(&all)?,
            image_gc: ImageGcPolicy {
                high: all.image_gc_high_threshold_percent,
                low: all.image_gc_low_threshold_percent,
                min_age: all.image_minimum_gc_age,
                max_age: all.image_maximum_gc_age,
                ..ImageGcPolicy::default()
            },
            pull_verification: PullVerification::new(
                &all.image_pull_credentials_verification_policy,
                &all.preloaded_images_verification_allowlist,
            )?,
            logs: logs(&all)?,
            shutdown: shutdown(&all)?,
            reservations: Reservations::read(&all.resources)
                .map_err(|error| OptionError::Resources(format!("{error:#}")))?,
            all,
            labels: effective.labels,
            configz: effective.document,
            flags: effective.flags,
            warnings: effective.warnings,
        })
    }

    /// The credentials that the node itself has for registries: those of `config.json` in the kubelet's directory or
    /// root's home, and those of the programs that are named.
    ///
    /// # Errors
    /// A configuration or program that can't be used.
    pub fn credentials(
        &self,
        root_dir: &Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<NodeCredentials>, ProvidersError> {
        let named = (
            &self.image_credential_provider_config,
            &self.image_credential_provider_bin_dir,
        );
        let providers = match named {
            (Some(config), Some(dir)) => Some(CredentialProviders::load(config, dir, clock)?),
            _ => None,
        };
        let file = NodeFile {
            paths: vec![root_dir.join("config.json"), "/root/.docker/config.json".into()],
        };
        Ok(Arc::new(NodeCredentials { file, providers }))
    }

    fn effective(&self) -> Result<Effective, OptionError> {
        let mut line = CommandLine::default();
        for (flag, text) in self.flags() {
            if let Some(text) = text {
                line.set(flag, text)?;
            }
        }
        // These are flags of ours alone.
        for (flag, path, text) in [
            (
                "shutdown-grace-period",
                "shutdownGracePeriod",
                &self.shutdown_grace_period,
            ),
            (
                "shutdown-grace-period-critical-pods",
                "shutdownGracePeriodCriticalPods",
                &self.shutdown_grace_period_critical_pods,
            ),
        ] {
            if let Some(text) = text {
                line.set_field(flag, path, text)?;
            }
        }
        let files = config_files::read(self.kubelet_config.as_deref(), self.kubelet_config_dir.as_deref())?;
        let sources = Sources {
            preset: preset(),
            files: &files,
        };
        Ok(knode_kubelet_config::settle(&line, sources)?)
    }

    fn flags(&self) -> [(&'static str, &Option<String>); 13] {
        [
            ("pod-manifest-path", &self.pod_manifest_path),
            ("eviction-hard", &self.eviction_hard),
            ("eviction-soft", &self.eviction_soft),
            ("eviction-soft-grace-period", &self.eviction_soft_grace_period),
            ("eviction-minimum-reclaim", &self.eviction_minimum_reclaim),
            (
                "eviction-max-pod-grace-period",
                &self.eviction_max_pod_grace_period,
            ),
            (
                "eviction-pressure-transition-period",
                &self.eviction_pressure_transition_period,
            ),
            ("image-gc-high-threshold", &self.image_gc_high_threshold),
            ("image-gc-low-threshold", &self.image_gc_low_threshold),
            ("minimum-image-ttl-duration", &self.minimum_image_ttl_duration),
            ("container-log-max-size", &self.container_log_max_size),
            ("container-log-max-files", &self.container_log_max_files),
            ("max-pods", &self.max_pods),
        ]
    }
}

/// Where knode's own node is not as upstream's kubelet without a configuration: swap is no obstacle, and a limit that is
/// set leaves the others.
fn preset() -> Map<String, Value> {
    Map::from_iter([
        ("clusterDomain".to_owned(), json!("cluster.local")),
        ("failSwapOn".to_owned(), json!(false)),
        ("mergeDefaultEvictionSettings".to_owned(), json!(true)),
    ])
}

impl KubeletSettings {
    /// Where the manifests of static pods lie, as an absolute path.
    pub fn static_pods(&self) -> Option<PathBuf> {
        path(&self.all.static_pod_path)
    }

    /// Where the logs of pods lie, if not where upstream has them.
    pub fn pod_logs_dir(&self) -> Option<PathBuf> {
        path(&self.all.pod_logs_dir).filter(|path| path != Path::new("/var/log/pods"))
    }

    /// Who may sign clients of the kubelet's API, if not the cluster's authority.
    pub fn client_ca(&self) -> Option<PathBuf> {
        path(&self.all.authentication.x509.client_ca_file)
    }

    /// How the kubelet's API speaks TLS.
    pub fn tls(&self) -> TlsOptions {
        let files = (
            path(&self.all.tls_cert_file),
            path(&self.all.tls_private_key_file),
        );
        let certificate = match files {
            (Some(cert), Some(key)) => Some(GivenCertificate { cert, key }),
            _ => None,
        };
        TlsOptions {
            certificate,
            cipher_suites: self.all.tls_cipher_suites.clone(),
            only_1_3: self.all.tls_min_version == "VersionTLS13",
        }
    }

    /// The group below which `kubepods` lies, if one is named.
    pub fn cgroup_root(&self) -> Option<String> {
        Some(self.all.cgroup_root.clone()).filter(|root| !root.is_empty())
    }

    /// Where the kubelet's API listens; `any` makes a port an address of the whole machine.
    pub fn listen(&self, any: impl Fn(u16) -> SocketAddr) -> SocketAddr {
        match self.all.address {
            address if address.is_unspecified() => any(self.all.port),
            address => SocketAddr::new(address, self.all.port),
        }
    }

    /// Where the kubelet's health is told.
    pub fn healthz(&self) -> Option<SocketAddr> {
        let address = SocketAddr::new(self.all.healthz_bind_address, self.all.healthz_port);
        (self.all.healthz_port != 0).then_some(address)
    }

    /// The cluster's name servers.
    pub fn cluster_dns(&self) -> Vec<String> {
        self.all.cluster_dns.iter().map(IpAddr::to_string).collect()
    }

    /// The cluster's domain, which a dot at its end doesn't change.
    pub fn cluster_domain(&self) -> String {
        self.all.cluster_domain.trim_end_matches('.').to_owned()
    }

    /// Refuses what the machine's control groups cannot do.
    ///
    /// # Errors
    /// A policy, a limit or an option that cannot be followed.
    pub fn check_resources(&self) -> Result<(), OptionError> {
        let cgroups = Cgroups::detect(Path::new(cgroup::DEFAULT_ROOT));
        let version = cgroups.map_or(Version::V2, |cgroups| cgroups.version());
        resources::check(&self.all, version).map_err(|error| OptionError::Resources(format!("{error:#}")))
    }

    /// Which container runtime is used: the one that is asked for, or that of the configuration.
    ///
    /// # Errors
    /// An endpoint that cannot be used.
    pub fn runtime(&self, asked: &RuntimeOptions) -> Result<RuntimeOptions, OptionError> {
        let endpoint = |asked: &Option<Endpoint>, text: &str| match asked {
            Some(asked) => Ok(Some(asked.clone())),
            None if text.is_empty() => Ok(None),
            None => text.parse().map(Some),
        };
        Ok(RuntimeOptions {
            container_runtime_endpoint: endpoint(
                &asked.container_runtime_endpoint,
                &self.all.container_runtime_endpoint,
            )?,
            image_service_endpoint: endpoint(
                &asked.image_service_endpoint,
                &self.all.image_service_endpoint,
            )?,
            selinux: asked.selinux,
        })
    }

    /// Who makes the control groups, where the runtime does not say.
    pub fn cgroup_driver(&self) -> CgroupDriver {
        match self.all.cgroup_driver.as_str() {
            "systemd" => CgroupDriver::Systemd,
            _ => CgroupDriver::Cgroupfs,
        }
    }

    /// Taints to register with.
    pub fn taints(&self) -> Vec<Taint> {
        let taint = |taint: &knode_kubelet_config::Taint| Taint {
            key: taint.key.clone(),
            value: Some(taint.value.clone()).filter(|value| !value.is_empty()),
            effect: taint.effect.clone(),
            time_added: None,
        };
        self.all.register_with_taints.iter().map(taint).collect()
    }
}

fn path(text: &str) -> Option<PathBuf> {
    let path = (!text.is_empty()).then(|| PathBuf::from(text))?;
    Some(std::path::absolute(&path).unwrap_or(path))
}

fn eviction(all: &Settings) -> Result<EvictionConfig, OptionError> {
    let none = EvictionConfig {
        thresholds: Vec::new(),
        ..EvictionConfig::default()
    };
    let hard = of("evictionHard", none.hard(&joined(&all.eviction_hard, '<')))?;
    let (soft, graces) = (&all.eviction_soft, &all.eviction_soft_grace_period);
    let both = hard.soft(&joined(soft, '<'), &joined(graces, '='));
    let reclaim = of("evictionSoft", both)?.minimum_reclaim(&joined(&all.eviction_minimum_reclaim, '='));
    Ok(EvictionConfig {
        max_pod_grace: i64::from(all.eviction_max_pod_grace_period),
        transition: all.eviction_pressure_transition_period,
        ..of("evictionMinimumReclaim", reclaim)?
    })
}

/// A map as one text, memory first: what is scarce is looked for in this order.
fn joined(map: &BTreeMap<String, String>, between: char) -> String {
    // As upstream, all of a thing is no limit either.
    let none = |value: &str| value == "100%";
    let pair = |(name, value): (&String, &String)| {
        let value = if none(value) { "0%" } else { value };
        format!("{name}{between}{value}")
    };
    let (memory, others): (Vec<_>, Vec<_>) = map.iter().partition(|(name, _)| name.starts_with("memory."));
    let all = memory.into_iter().chain(others).map(pair);
    all.collect::<Vec<_>>().join(",")
}

fn shutdown(all: &Settings) -> Result<ShutdownConfig, OptionError> {
    let groups = &all.shutdown_grace_period_by_pod_priority;
    let periods = (all.shutdown_grace_period, all.shutdown_grace_period_critical_pods);
    let grace = if groups.is_empty() {
        ShutdownGrace::periods(periods.0, periods.1)?
    } else if periods != (Duration::ZERO, Duration::ZERO) {
        let both = "shutdownGracePeriodByPodPriority goes with neither shutdownGracePeriod nor shutdownGracePeriodCriticalPods";
        return Err(knode_kubelet_config::Error::Together(both.into()).into());
    } else {
        let group = |one: &PriorityGrace| {
            (
                one.priority,
                Duration::from_secs(one.shutdown_grace_period_seconds),
            )
        };
        ShutdownGrace::by_priority(groups.iter().map(group).collect())?
    };
    Ok(ShutdownConfig {
        grace,
        ..ShutdownConfig::default()
    })
}

fn logs(all: &Settings) -> Result<LogRotation, OptionError> {
    let text = &all.container_log_max_size;
    let wrong = || OptionError::LogSize(text.clone());
    let size = knode_api::quantity::Quantity::parse(text).map_err(|_| wrong())?;
    let max_size = u64::try_from(size.value()).ok().filter(|size| *size > 0);
    Ok(LogRotation {
        max_size: max_size.ok_or_else(wrong)?,
        max_files: usize::try_from(all.container_log_max_files).unwrap_or(usize::MAX),
        interval: all.container_log_monitor_interval,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: KubeletOptions,
    }

    fn read(arguments: &[&str]) -> Result<KubeletSettings, String> {
        let line = Line::try_parse_from([&["kubelet"], arguments].concat());
        line.map_err(|error| error.to_string())?
            .options
            .settings()
            .map_err(|error| error.to_string())
    }

    #[test]
    fn without_options_everything_is_upstreams() {
        let settings = read(&[]).unwrap();
        let mut hard = settings.eviction.thresholds.clone();
        let mut upstreams = EvictionConfig::default().thresholds;
        hard.sort_by_key(|one| one.signal.to_string());
        upstreams.sort_by_key(|one| one.signal.to_string());
        assert_eq!(hard, upstreams);
        assert_eq!(settings.image_gc, ImageGcPolicy::default());
        assert_eq!(settings.logs, LogRotation::default());
        assert!(settings.shutdown.grace.is_off());
        assert_eq!(settings.pod_logs_dir(), None);
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        assert_eq!(settings.listen(any).to_string(), "0.0.0.0:10250");
        assert_eq!(settings.healthz().unwrap().to_string(), "127.0.0.1:10248");
        assert_eq!(settings.cluster_domain(), "cluster.local");
    }

    #[test]
    fn configz_shows_what_was_set() {
        let settings = read(&[
            "--pod-manifest-path=/etc/pods",
            "--eviction-hard=memory.available<1Gi",
        ])
        .unwrap();
        let shown = &settings.configz;
        assert_eq!(shown["staticPodPath"], "/etc/pods");
        assert_eq!(shown["evictionHard"]["memory.available"], "1Gi");
        assert_eq!(
            shown["evictionHard"]["nodefs.available"], "10%",
            "the others are kept"
        );
        assert!(shown.get("evictionSoft").is_none());
        assert_eq!(settings.static_pods(), Some("/etc/pods".into()));
    }

    #[test]
    fn a_certificate_of_ones_own_is_served() {
        let text = "{apiVersion: kubelet.config.k8s.io/v1beta1, kind: KubeletConfiguration, tlsCertFile: /a, \
                    tlsPrivateKeyFile: /b, tlsMinVersion: VersionTLS13}";
        let sources = Sources {
            preset: Map::new(),
            files: &[("kubelet.yaml".to_owned(), text.to_owned())],
        };
        let effective = knode_kubelet_config::settle(&CommandLine::default(), sources).unwrap();
        let settings = KubeletOptions::settled(effective).settings().unwrap();
        let tls = TlsOptions {
            certificate: Some(GivenCertificate {
                cert: "/a".into(),
                key: "/b".into(),
            }),
            cipher_suites: Vec::new(),
            only_1_3: true,
        };
        assert_eq!(settings.tls(), tls);
        assert_eq!(read(&[]).unwrap().tls(), TlsOptions::default());
    }

    #[test]
    fn all_of_a_thing_is_no_limit() {
        let settings = read(&["--eviction-hard=nodefs.available<100%,imagefs.available<0%"]).unwrap();
        let signals: Vec<String> = settings
            .eviction
            .thresholds
            .iter()
            .map(|t| t.signal.to_string())
            .collect();
        assert_eq!(
            signals,
            ["memory.available", "imagefs.inodesFree", "nodefs.inodesFree"]
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let wrong = |arguments: &[&str]| read(arguments).unwrap_err();
        assert!(wrong(&["--eviction-hard=cpu.available<1"]).contains("cpu.available"));
        assert!(wrong(&["--eviction-soft=memory.available<1Gi"]).contains("grace period"));
        assert!(wrong(&["--image-gc-high-threshold=80"]).contains("imageGCLowThresholdPercent 80"));
        assert!(wrong(&["--container-log-max-size=much"]).contains("much"));
        assert!(wrong(&["--container-log-max-files=1"]).contains("from 2"));
        assert!(wrong(&["--minimum-image-ttl-duration=soon"]).contains("minimum-image-ttl-duration"));
        assert!(wrong(&["--shutdown-grace-period-critical-pods=1s"]).contains("<= shutdownGracePeriod"));
        assert!(wrong(&["--kubelet-config=/no/such/file"]).contains("/no/such/file"));
    }
}
