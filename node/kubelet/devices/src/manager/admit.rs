//! Giving devices to pods and containers.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use knode_cri::CriError;
use tokio::time::timeout;
use tonic::{Response, Status};

use super::{Devices, DevicesError, Rejected};
use crate::asked::{Asked, Part};
use crate::table::{Question, RunOptions};
use crate::v1beta1::{
    AllocateRequest, ContainerAllocateRequest, ContainerPreferredAllocationRequest, PreStartContainerRequest,
    PreferredAllocationRequest,
};

/// How long a plugin may take to give devices. Upstream waits for ever, and with it every other pod.
const ALLOCATE: Duration = Duration::from_secs(60);

/// How long it may take before a container starts (upstream: `KubeletPreStartContainerRPCTimeoutInSecs`).
const PRE_START: Duration = Duration::from_secs(30);

impl Devices {
    /// Gives the pod the devices that it asks for. What it has is kept, and what was set aside by the decision on NUMA
    /// nodes is asked for.
    ///
    /// # Errors
    /// [`Rejected`]: the pod has none then.
    pub async fn admit(&self, pod: &Pod) -> Result<(), Rejected> {
        let asked = Asked::of(pod);
        if asked.parts.iter().all(|part| part.requests.is_empty()) {
            return Ok(());
        }
        let _one = self.asking.lock().await;
        let mut given = Ok(());
        for part in &asked.parts {
            given = self.give(&asked, part).await;
            if given.is_err() {
                break;
            }
        }
        if given.is_err() {
            self.lock().table.release(&asked.uid);
        }
        self.remember(&self.lock());
        given.map_err(Rejected::from)
    }

    /// Sets aside what the container asks for and asks the plugins for it.
    async fn give(&self, asked: &Asked, part: &Part) -> Result<(), DevicesError> {
        self.lock().table.reserve(asked, part, None)?;
        let pending = self.lock().table.pending(&asked.uid, &part.name);
        for resource in pending {
            let question = self.lock().table.question(asked, part, &resource);
            if let Some(question) = question {
                let preferred = self.preferred(&resource, question).await?;
                let mut state = self.lock();
                state
                    .table
                    .prefer(asked, part, &resource, &preferred.into_iter().collect());
            }
            self.allocate_one(asked, part, &resource).await?;
        }
        Ok(())
    }

    async fn preferred(&self, resource: &str, question: Question) -> Result<Vec<String>, DevicesError> {
        let request = PreferredAllocationRequest {
            container_requests: vec![ContainerPreferredAllocationRequest {
                available_device_i_ds: question.available.into_iter().collect(),
                must_include_device_i_ds: question.must_include.into_iter().collect(),
                allocation_size: i32::try_from(question.size).unwrap_or(i32::MAX),
            }],
        };
        let mut client = self.client(resource)?;
        let asked = client.get_preferred_allocation(request);
        let answer = within(ALLOCATE, asked).await.map_err(DevicesError::Preferred)?;
        let first = answer.container_responses.into_iter().next();
        Ok(first.map(|one| one.device_i_ds).unwrap_or_default())
    }

    async fn allocate_one(&self, asked: &Asked, part: &Part, resource: &str) -> Result<(), DevicesError> {
        let held = self.of_container(&asked.uid, &part.name);
        let ids = held.get(resource).map(|held| held.devices.keys().cloned());
        let request = AllocateRequest {
            container_requests: vec![ContainerAllocateRequest {
                devices_ids: ids.into_iter().flatten().collect(),
            }],
        };
        let mut client = self.client(resource)?;
        let answer = within(ALLOCATE, client.allocate(request)).await;
        let answer = answer.map_err(DevicesError::Allocate)?;
        let Some(response) = answer.container_responses.into_iter().next() else {
            return Err(DevicesError::Nothing(resource.to_owned()));
        };
        let mut state = self.lock();
        state.table.answered(&asked.uid, &part.name, resource, response);
        Ok(())
    }

    /// What a container is given to use its devices; asked before each time that it is made. Its plugins are told
    /// that it starts, where they want to be.
    ///
    /// # Errors
    /// [`DevicesError`]: the container must not start without.
    pub async fn run_options(&self, pod: &Pod, container: &Container) -> Result<RunOptions, DevicesError> {
        let asked = Asked::of(pod);
        let Some(part) = asked
            .part(&container.name)
            .filter(|part| !part.requests.is_empty())
        else {
            return Ok(RunOptions::default());
        };
        if self.lacks(&asked, part) {
            // What was given was forgotten, as when the checkpoint was lost.
            let _one = self.asking.lock().await;
            self.give(&asked, part).await?;
            self.remember(&self.lock());
        }
        let calls = self.lock().table.pre_start(&asked.uid, &part.name);
        for (resource, devices_ids) in calls {
            let mut client = self.client(&resource)?;
            let request = PreStartContainerRequest { devices_ids };
            let answer = within(PRE_START, client.pre_start_container(request)).await;
            answer.map_err(DevicesError::PreStart)?;
        }
        Ok(self.lock().table.run_options(&asked.uid, &part.name))
    }

    /// Whether the container has not everything that plugins offer and it asks for.
    fn lacks(&self, asked: &Asked, part: &Part) -> bool {
        let state = self.lock();
        let held = state.table.of_container(&asked.uid, &part.name);
        let mut offered = part.requests.keys().filter(|name| state.table.knows(name));
        offered.any(|name| {
            let held = held.and_then(|held| held.get(name));
            held.is_none_or(|held| held.response.is_none())
        })
    }
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CriError> {
    match timeout(limit, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(CriError::deadline("context deadline exceeded")),
    }
}
