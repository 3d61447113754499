//! Running probes and hooks against a container.

mod grpc;
mod http;
mod tcp;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use knode_cri as cri;

use crate::model::ProbeOutcome;

pub(crate) use http::{HttpTarget, get};

/// Output of a probe kept for events, in bytes.
const MAX_OUTPUT: usize = 10 * 1024;

/// Runs a probe once. `pod_ip` is where the container listens.
pub(crate) async fn run(
    runtime: &dyn cri::RuntimeService,
    container: &Container,
    container_id: &str,
    pod_ip: &str,
    probe: &Probe,
) -> ProbeOutcome {
    let timeout = Duration::from_secs(u64::from(
        probe.timeout_seconds.unwrap_or(1).max(1).unsigned_abs(),
    ));
    if let Some(action) = &probe.exec {
        return exec(
            runtime,
            container_id,
            action.command.clone().unwrap_or_default(),
            timeout,
        )
        .await;
    }
    if let Some(action) = &probe.http_get {
        return match http_target(action, container, pod_ip) {
            Some(target) => http::probe(&target, timeout).await,
            None => ProbeOutcome::Unknown(unknown_port(&action.port)),
        };
    }
    if let Some(action) = &probe.tcp_socket {
        let host = action
            .host
            .as_deref()
            .filter(|host| !host.is_empty())
            .unwrap_or(pod_ip);
        return match port_number(&action.port, container) {
            Some(port) => tcp::probe(host, port, timeout).await,
            None => ProbeOutcome::Unknown(unknown_port(&action.port)),
        };
    }
    match &probe.grpc {
        Some(action) => match u16::try_from(action.port) {
            Ok(port) => grpc::probe(pod_ip, port, action.service.as_deref().unwrap_or(""), timeout).await,
            Err(_) => ProbeOutcome::Unknown(format!("invalid port number: {}", action.port)),
        },
        None => ProbeOutcome::Unknown("missing probe handler".to_owned()),
    }
}

async fn exec(
    runtime: &dyn cri::RuntimeService,
    container_id: &str,
    cmd: Vec<String>,
    timeout: Duration,
) -> ProbeOutcome {
    let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
    let named = cmd.join(" ");
    let request = cri::ExecSyncRequest {
        container_id: container_id.to_owned(),
        cmd,
        timeout: seconds,
    };
    match runtime.exec_sync(request).await {
        Ok(answer) if answer.exit_code == 0 => ProbeOutcome::Success,
        Ok(answer) => {
            let mut output = answer.stdout.to_vec();
            output.extend_from_slice(&answer.stderr);
            output.truncate(MAX_OUTPUT);
            ProbeOutcome::Failure(String::from_utf8_lossy(&output).into_owned())
        }
        Err(error) if error.code == cri::Code::DeadlineExceeded => ProbeOutcome::Failure(format!(
            "command timed out: \"{named}\" timed out after {seconds}s"
        )),
        Err(error) => ProbeOutcome::Unknown(error.rpc_text()),
    }
}

fn unknown_port(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(port) => format!("invalid port number: {port}"),
        IntOrString::String(name) => format!("couldn't find port: {name}"),
    }
}

/// A port by number or by a name that the container gives it.
pub(crate) fn port_number(port: &IntOrString, container: &Container) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = container
                .ports
                .iter()
                .flatten()
                .find(|port| port.name.as_deref() == Some(name));
            match named {
                Some(port) => port.container_port,
                None => name.parse().ok()?,
            }
        }
    };
    u16::try_from(number).ok().filter(|port| *port > 0)
}

/// Where an HTTP action goes; `None` if its port has no number.
pub(crate) fn http_target(action: &HTTPGetAction, container: &Container, pod_ip: &str) -> Option<HttpTarget> {
    let host = action
        .host
        .clone()
        .filter(|host| !host.is_empty())
        .unwrap_or_else(|| pod_ip.to_owned());
    let headers = action.http_headers.iter().flatten();
    let path = action.path.clone().unwrap_or_default();
    Some(HttpTarget {
        https: action
            .scheme
            .as_deref()
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        host,
        port: port_number(&action.port, container)?,
        path: if path.starts_with('/') {
            path
        } else {
            format!("/{path}")
        },
        headers: headers
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect(),
    })
}
