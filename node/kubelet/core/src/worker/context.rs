//! What all workers share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use knode_cri as cri;
use knode_volumes::{PodFields, Volumes};
use tokio::sync::{Notify, Semaphore};

use super::{Pins, message};
use crate::api::PodApi;
use crate::config::KubeletConfig;
use crate::error::ConfigError;
use crate::kubelet::Shared;
use crate::model::{ContainerRecord, Observed, container_record, pod_ips};
use crate::pod::PodExt;
use crate::pulls::PullRecords;
use crate::spec::dns::{ClusterDns, Resolver};
use crate::status::NodeFacts;
use crate::users::Users;

/// What the runtime can do for pods without a handler of their own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Features {
    /// Mounts that are read-only with all below them.
    pub recursive_read_only: bool,
    /// Pods with users of their own.
    pub user_namespaces: bool,
}

impl Features {
    /// What the runtime says.
    pub(crate) fn of(status: &cri::StatusResponse) -> Self {
        let mut handlers = status.runtime_handlers.iter();
        let usual = handlers.find(|handler| handler.name.is_empty());
        let features = usual.and_then(|handler| handler.features).unwrap_or_default();
        Self {
            recursive_read_only: features.recursive_read_only_mounts,
            user_namespaces: features.user_namespaces,
        }
    }
}

pub(crate) struct Context {
    pub config: KubeletConfig,
    pub api: Arc<dyn PodApi>,
    pub volumes: Volumes,
    pub facts: NodeFacts,
    pub dns: ClusterDns,
    pub pulls: Semaphore,
    /// Who may use the images that are here.
    pub pulled: Arc<PullRecords>,
    /// What other pods have.
    pub shared: Arc<Shared>,
    /// What the runtime can do.
    pub features: Features,
    /// Users of pods that have their own.
    pub users: Users,
    /// Held while resources are granted.
    pub resizes: Mutex<()>,
    /// Where containers run.
    pub pins: Pins,
    /// Told when pods come, go, or are given other resources.
    pub classes: Notify,
}

impl Context {
    pub(crate) fn new(
        config: KubeletConfig,
        api: Arc<dyn PodApi>,
        volumes: Volumes,
        pulled: PullRecords,
        shared: Arc<Shared>,
        runtime_name: String,
        features: Features,
    ) -> Self {
        Self {
            facts: NodeFacts {
                host_ips: config.node_ips.clone(),
                runtime_name,
                recursive_read_only: features.recursive_read_only,
            },
            features,
            users: Users::open(volumes.paths().pods()),
            dns: ClusterDns {
                servers: config.cluster_dns.clone(),
                domain: config.cluster_domain.clone(),
            },
            pulls: Semaphore::new(config.image_pulls.clamp(1, Semaphore::MAX_PERMITS)),
            pulled: Arc::new(pulled),
            shared,
            resizes: Mutex::default(),
            pins: Pins::default(),
            classes: Notify::new(),
            config,
            api,
            volumes,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.config.clock.now()
    }

    /// The users of a pod that has its own.
    ///
    /// # Errors
    /// [`ConfigError`] where it cannot have them.
    pub(crate) fn users_of(&self, pod: &Pod) -> Result<Option<cri::UserNamespace>, ConfigError> {
        if pod.spec().and_then(|spec| spec.host_users) != Some(false) {
            return Ok(None);
        }
        if !self.features.user_namespaces {
            let what = "hostUsers: false: the container runtime does not support user namespaces";
            return Err(ConfigError::Unsupported(what));
        }
        self.users.of(pod.uid()).map(Some)
    }

    /// Time left until `at`.
    pub(crate) fn until(&self, at: Timestamp) -> Duration {
        let left = at.duration_since(self.now());
        Duration::try_from(left).unwrap_or(Duration::ZERO)
    }

    pub(crate) fn runtime(&self) -> &dyn cri::RuntimeService {
        self.config.runtime.as_ref()
    }

    /// The node's own resolver; an unreadable file is an empty one.
    pub(crate) fn host_resolver(&self) -> Resolver {
        match std::fs::read_to_string(&self.config.resolv_conf) {
            Ok(text) => Resolver::parse(&text),
            Err(error) => {
                tracing::debug!(path = %self.config.resolv_conf.display(), %error, "no resolver of the node");
                Resolver::default()
            }
        }
    }

    /// A record with its termination message.
    pub(crate) fn record(&self, status: &cri::ContainerStatus, sandbox_id: &str) -> ContainerRecord {
        let mut record = container_record(status, sandbox_id);
        message::fill_in(&mut record, status);
        record
    }

    /// Asks the runtime about a container; `Ok(None)` if it has none of that id.
    pub(crate) async fn look(
        &self,
        id: &str,
        sandbox_id: &str,
    ) -> Result<Option<ContainerRecord>, cri::CriError> {
        let request = cri::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        match self.runtime().container_status(request).await {
            Ok(answer) => Ok(answer.status.map(|status| self.record(&status, sandbox_id))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What downward fields are taken from, kept alive for a call.
pub(crate) struct FieldSource {
    pod_ips: Vec<String>,
    host_ips: Vec<String>,
    allocatable: BTreeMap<String, Quantity>,
}

impl FieldSource {
    pub(crate) fn new(context: &Context, pod: &Pod, observed: &Observed) -> Self {
        let host_ips = &context.facts.host_ips;
        let pod_ips = match (pod.host_network(), observed.ready_sandbox()) {
            (true, _) => host_ips.clone(),
            (false, Some(sandbox)) => pod_ips(&sandbox.ips, host_ips),
            (false, None) => Vec::new(),
        };
        Self {
            pod_ips,
            host_ips: host_ips.clone(),
            allocatable: context.config.node.allocatable(),
        }
    }

    pub(crate) fn fields<'a>(&'a self, pod: &'a Pod) -> PodFields<'a> {
        PodFields {
            pod,
            pod_ips: &self.pod_ips,
            host_ips: &self.host_ips,
            allocatable: &self.allocatable,
        }
    }

    pub(crate) fn pod_ips(&self) -> &[String] {
        &self.pod_ips
    }

    /// The node's memory in bytes; what is allocatable where the capacity is not known.
    pub(crate) fn node_memory(&self) -> i64 {
        let memory = self.allocatable.get("memory");
        let memory = memory.and_then(|text| knode_api::quantity::Quantity::parse(&text.0).ok());
        memory.map_or(0, |memory| memory.value())
    }
}
