//! Which container runtime the kubelet uses: the engine in this process, or another one behind its CRI socket.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use knode_cni::Loaded;
use knode_cri::client::{RemoteRuntime, connect};
use knode_cri::{
    Code, CriError, ImageService, ListImagesRequest, Observed, RuntimeConfigRequest, RuntimeService,
    VersionRequest,
};
use knode_dbus::systemd;
use knode_engine::CgroupDriver;
use knode_kubelet_metrics::Metrics;
use tokio::sync::watch;

use crate::progress::Progress;

/// What a runtime answers as the version of the API (upstream: `kubeRuntimeAPIVersion`).
const API_VERSION: &str = "0.1.0";
/// How long a runtime that does not answer yet is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const PACE: Duration = Duration::from_millis(200);
/// How often a runtime is asked for its configuration, and the pause between.
const CONFIG_ATTEMPTS: u32 = 3;
const CONFIG_PACE: Duration = Duration::from_secs(2);

/// A container runtime's unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(PathBuf);

/// An endpoint that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("{0:?}: only unix sockets are supported, as in unix:///run/containerd/containerd.sock")]
    Scheme(String),
    #[error("{0:?}: the path of a socket is absolute, as in unix:///run/containerd/containerd.sock")]
    Relative(String),
}

impl Endpoint {
    /// The socket.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unix://{}", self.0.display())
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Takes `unix:///path` and, as upstream still does, a path alone.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let path = match text.split_once(':') {
            Some(("unix", rest)) => rest.strip_prefix("//").unwrap_or(rest),
            Some((scheme, _)) if !scheme.contains('/') => {
                return Err(EndpointError::Scheme(text.to_owned()));
            }
            _ => text,
        };
        if path.starts_with('/') {
            Ok(Self(path.into()))
        } else {
            Err(EndpointError::Relative(text.to_owned()))
        }
    }
}

/// Which container runtime is used.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// The socket of another container runtime (CRI v1), such as unix:///run/containerd/containerd.sock, to be used
    /// instead of the built-in engine. Its pods get their network by CNI: without a configuration in its directory one
    /// is put there that calls this binary.
    #[arg(long, value_name = "unix://SOCKET")]
    pub container_runtime_endpoint: Option<Endpoint>,
    /// The socket that serves the runtime's images, where that is another one.
    #[arg(long, value_name = "unix://SOCKET", requires = "container_runtime_endpoint")]
    pub image_service_endpoint: Option<Endpoint>,
    /// Have the built-in engine label the processes and files of containers for SELinux, as containerd's `enable_selinux`. The policy must have
    /// contexts for containers (`lxc_contexts`, as container-selinux has), and may let this program make them: label it
    /// container_runtime_exec_t, and images in the data directory container_ro_file_t.
    #[arg(long, conflicts_with = "container_runtime_endpoint")]
    pub selinux: bool,
}

/// The runtime as the kubelet uses it.
#[derive(Clone)]
pub struct Runtime {
    pub service: Arc<dyn RuntimeService>,
    pub images: Arc<dyn ImageService>,
    /// Tells when its network configurations change, where it uses them itself in this process.
    pub networks: Option<watch::Receiver<Arc<Loaded>>>,
    /// Who makes the control groups.
    pub cgroup_driver: CgroupDriver,
}

impl Runtime {
    /// The same, with each call counted.
    pub fn counted(self, metrics: &Arc<Metrics>) -> Self {
        Self {
            service: Arc::new(Observed::new(self.service, metrics.clone())),
            images: Arc::new(Observed::new(self.images, metrics.clone())),
            networks: self.networks,
            cgroup_driver: self.cgroup_driver,
        }
    }
}

/// Why a runtime cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("validate CRI v1 {api} API for endpoint \"{endpoint}\"")]
    Unusable {
        api: &'static str,
        endpoint: String,
        source: CriError,
    },
    #[error("runtime api version is not supported: {0:?} at {1}")]
    Version(String, String),
    #[error(
        "the runtime at {endpoint} has its control groups made by systemd, and none runs here ({socket} is missing)"
    )]
    NoSystemd { endpoint: String, socket: &'static str },
    #[error("ask the runtime at {endpoint} for its cgroup driver")]
    Config { endpoint: String, source: CriError },
}

impl RuntimeOptions {
    /// Connects with the runtime that is named; none if that is the engine of this process. `driver` counts where the
    /// runtime does not say its own.
    ///
    /// # Errors
    /// [`RuntimeError`]; a runtime that does not answer is one only after a minute.
    pub async fn connect(
        &self,
        driver: CgroupDriver,
        progress: &Progress,
    ) -> Result<Option<Runtime>, RuntimeError> {
        let Some(endpoint) = &self.container_runtime_endpoint else {
            return Ok(None);
        };
        let service = reach(endpoint, "runtime", progress, async |cri: &RemoteRuntime| {
            cri.version(VersionRequest {
                version: API_VERSION.into(),
            })
            .await
        });
        let (service, version) = service.await?;
        if version.version != API_VERSION {
            return Err(RuntimeError::Version(version.version, endpoint.to_string()));
        }
        let at = self.image_service_endpoint.as_ref().unwrap_or(endpoint);
        let images = reach(at, "image", progress, async |cri: &RemoteRuntime| {
            cri.list_images(ListImagesRequest::default()).await
        });
        let (images, _) = images.await?;
        let cgroup_driver = driver_of(&service, endpoint, driver).await?;
        progress.done(format!(
            "the container runtime {} {} answers",
            version.runtime_name, version.runtime_version
        ));
        Ok(Some(Runtime {
            service: Arc::new(service),
            images: Arc::new(images),
            networks: None,
            cgroup_driver,
        }))
    }
}

/// Connects and asks, again and again until something answers.
async fn reach<T>(
    endpoint: &Endpoint,
    api: &'static str,
    progress: &Progress,
    ask: impl AsyncFn(&RemoteRuntime) -> Result<T, CriError>,
) -> Result<(RemoteRuntime, T), RuntimeError> {
    let started = tokio::time::Instant::now();
    loop {
        let answer = async {
            let cri = connect(endpoint.path()).await?;
            let answer = ask(&cri).await?;
            Ok((cri, answer))
        };
        match answer.await {
            Ok(both) => return Ok(both),
            Err(source) if is_starting(&source) && started.elapsed() < PATIENCE => {
                progress.waiting(format!("the container runtime at {endpoint}: {source}"));
                tokio::time::sleep(PACE).await;
            }
            Err(source) => {
                return Err(RuntimeError::Unusable {
                    api,
                    endpoint: endpoint.to_string(),
                    source,
                });
            }
        }
    }
}

/// Whether a runtime may answer in a moment: nobody listens yet, or its CRI part is not ready (containerd).
fn is_starting(error: &CriError) -> bool {
    error.code == Code::Unavailable || error.message.contains("not initialized yet")
}

/// Who makes the control groups of this runtime's containers, and so those of pods, too. One that is too old to say
/// (containerd before 2.0) leaves it to the configuration; what else goes wrong is tried again first, as upstream does.
async fn driver_of(
    cri: &RemoteRuntime,
    endpoint: &Endpoint,
    configured: CgroupDriver,
) -> Result<CgroupDriver, RuntimeError> {
    let mut asked = cri.runtime_config(RuntimeConfigRequest::default()).await;
    for _ in 1..CONFIG_ATTEMPTS {
        if !asked
            .as_ref()
            .is_err_and(|error| error.code != Code::Unimplemented)
        {
            break;
        }
        tokio::time::sleep(CONFIG_PACE).await;
        asked = cri.runtime_config(RuntimeConfigRequest::default()).await;
    }
    let told = match asked {
        Ok(answer) => answer.linux.map(|linux| linux.cgroup_driver()),
        Err(error) if error.code == Code::Unimplemented => {
            tracing::info!(driver = ?configured, "the runtime does not tell its cgroup driver: the kubelet's is taken");
            None
        }
        Err(source) => {
            return Err(RuntimeError::Config {
                endpoint: endpoint.to_string(),
                source,
            });
        }
    };
    let driver = decide(told, configured);
    match driver {
        CgroupDriver::Systemd if !systemd::listens(Path::new(systemd::PRIVATE)) => {
            Err(RuntimeError::NoSystemd {
                endpoint: endpoint.to_string(),
                socket: systemd::PRIVATE,
            })
        }
        driver => Ok(driver),
    }
}

/// The runtime's word goes before the kubelet's configuration.
fn decide(told: Option<knode_cri::CgroupDriver>, configured: CgroupDriver) -> CgroupDriver {
    match told {
        None => configured,
        Some(knode_cri::CgroupDriver::Cgroupfs) => CgroupDriver::Cgroupfs,
        Some(knode_cri::CgroupDriver::Systemd) => CgroupDriver::Systemd,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtimes_word_goes_before_the_configuration() {
        use CgroupDriver::{Cgroupfs, Systemd};
        for (told, configured, expected) in [
            (None, Systemd, Systemd),
            (None, Cgroupfs, Cgroupfs),
            (Some(knode_cri::CgroupDriver::Systemd), Cgroupfs, Systemd),
            (Some(knode_cri::CgroupDriver::Cgroupfs), Systemd, Cgroupfs),
        ] {
            assert_eq!(decide(told, configured), expected, "{told:?} {configured:?}");
        }
    }

    #[test]
    fn endpoints_are_unix_sockets() {
        let path = |text: &str| text.parse::<Endpoint>().map(|e| e.to_string());
        let shown = "unix:///run/containerd/containerd.sock";
        for text in [
            shown,
            "unix:/run/containerd/containerd.sock",
            "/run/containerd/containerd.sock",
        ] {
            assert_eq!(path(text).unwrap(), shown);
        }
        assert!(matches!(
            "tcp://localhost:1".parse::<Endpoint>(),
            Err(EndpointError::Scheme(_))
        ));
        assert!(matches!(
            "npipe:////./pipe/x".parse::<Endpoint>(),
            Err(EndpointError::Scheme(_))
        ));
        assert!(matches!(
            "run/c.sock".parse::<Endpoint>(),
            Err(EndpointError::Relative(_))
        ));
    }
}
