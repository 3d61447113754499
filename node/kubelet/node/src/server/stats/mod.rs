//! `/stats/summary`, `/metrics/resource` and `/metrics/cadvisor`: what node, pods and containers use.

mod cadvisor;
mod collect;
mod pods;
mod pressure;
mod resource;
mod storage;
mod summary;
#[cfg(test)]
mod tests;
mod text;
mod volumes;

use http::StatusCode;

use super::Kubelet;
use super::body::{Answer, METRICS, full, json, runtime_error};

pub(super) use storage::Held;
pub(crate) use volumes::Volumes;

pub(super) async fn summary(kubelet: &Kubelet) -> Answer {
    match collect::with_storage(kubelet).await {
        Ok(usage) => json(&summary::render(&usage)),
        Err(error) => runtime_error(&error),
    }
}

pub(super) async fn resource_metrics(kubelet: &Kubelet) -> Answer {
    match collect::usage(kubelet).await {
        Ok(usage) => full(StatusCode::OK, METRICS, resource::render(&usage)),
        Err(error) => runtime_error(&error),
    }
}

pub(super) async fn cadvisor_metrics(kubelet: &Kubelet) -> Answer {
    match collect::usage(kubelet).await {
        Ok(usage) => full(StatusCode::OK, METRICS, cadvisor::render(&usage)),
        Err(error) => runtime_error(&error),
    }
}
