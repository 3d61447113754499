//! `/stats/summary` and `/metrics/resource`: what node, pods and containers use.

mod collect;
mod resource;
mod summary;
#[cfg(test)]
mod tests;

use http::StatusCode;

use super::Kubelet;
use super::body::{Answer, METRICS, full, json, runtime_error};

pub(super) async fn summary(kubelet: &Kubelet) -> Answer {
    match collect::usage(kubelet).await {
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
